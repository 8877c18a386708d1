"use strict";
// Figures, the words for them, and elements. Names are only ever set as text.
const F = JSON.parse(document.getElementById("figures").textContent);
const ROLES = ["activation", "spilled", "weights", "scratch", "input", "output", "host"];
const ROLE_WORDS = {
  activation: "activation", spilled: "spilled activation", weights: "constants of operations",
  scratch: "tiles of operands in DRAM", input: "input", output: "output", host: "shared with a host task",
};
const byId = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
const number = (n) => n.toLocaleString("en-US");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part < whole / 1000 ? 2 : 1)} %` : "0 %");
const clamp = (n, low, high) => Math.max(low, Math.min(high, n));
const role = (buffer) => (buffer.spilled ? "spilled" : buffer.role);
const kind = (buffer) => `${buffer.dtype}[${buffer.shape.join(",")}]`;
const hex = (n) => `0x${n.toString(16).toUpperCase()}`;

function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit < 3) { n /= 1024; unit += 1; }
  const digits = unit === 0 || n === Math.round(n) ? 0 : n < 10 ? 2 : 1;
  return `${n.toFixed(digits)} ${["B", "KiB", "MiB", "GiB"][unit]}`;
}

function duration(cycles) {
  const micro = (cycles / F.clock) * 1e6;
  if (micro < 1) return `${(micro * 1e3).toFixed(0)} ns`;
  return micro < 1000 ? `${micro.toFixed(micro < 10 ? 2 : 1)} µs` : `${(micro / 1000).toFixed(3)} ms`;
}

/** The end of a name, which says most; of names joined by ";" that of the first. */
function brief(name, length) {
  const first = name.split(";")[0];
  return first.length <= length ? first : `…${first.slice(first.length - length + 1)}`;
}

function operator(step) {
  const [name] = step.operators[0];
  return step.operators.length === 1 ? name : `${name} and ${step.operators.length - 1} more`;
}

const origin = (step) => step.operators.map(([, source]) => source).join("+");

function limitOf(step) {
  const pe = Math.max(...step.pes);
  if (step.cycles === 0) return "";
  return step.transfer > pe + step.exchange ? "DRAM" : pe >= step.exchange ? "PEs" : "exchange";
}

/** An element with properties (`class`, `text`, `on...` or an attribute) and children. */
function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Parts of a whole side by side: [class, part]. */
function meter(parts, whole) {
  const bar = make("span", { class: "meter" });
  for (const [name, part] of parts) {
    const piece = make("span", { class: name });
    piece.style.width = `${whole ? (100 * part) / whole : 0}%`;
    bar.append(piece);
  }
  return bar;
}

const key = (name, text) => make("span", { class: "key" }, make("span", { class: `swatch ${name}` }), text);

function fields(pairs) {
  const list = make("dl", { class: "fields" });
  for (const [name, value] of pairs) {
    if (value === null) continue;
    list.append(make("dt", { text: name }), make("dd", {}, ...[value].flat()));
  }
  return list;
}

const span = (first, last) => (first === last ? `step ${first}` : `steps ${first} to ${last}`);

function aboutBuffer(index, link = (step) => String(step)) {
  const b = F.buffers[index];
  const [start, end] = [EDGES.cycles[b.first], EDGES.cycles[b.last + 1]];
  const users = b.users.slice(0, 12).flatMap((n, i) => [i ? ", " : "", link(n), ` ${operator(F.steps[n])}`]);
  if (b.users.length > 12) users.push(` and ${b.users.length - 12} more`);
  return [
    make("div", { class: "heading" }, make("span", { class: `swatch ${role(b)}` }), make("span", { text: b.name })),
    fields([
      ["Role", ROLE_WORDS[role(b)]],
      ["Type", kind(b)],
      ["Size", `${bytes(b.bytes)} (${number(b.bytes)} bytes)`],
      ["Address", `${b.space.toUpperCase()} ${hex(b.offset)} to ${hex(b.offset + b.bytes)}`],
      ["Shares the bytes of", b.alias === null ? null : F.buffers[b.alias].name],
      ["Lifetime", `${span(b.first, b.last)}, cycles ${number(start)} to ${number(end)} (${duration(end - start)})`],
      ["Used by step", users.length ? users : "none"],
    ]),
  ];
}

function aboutStep(index) {
  const s = F.steps[index];
  const tiling = [s.tiles > 1 ? `${number(s.tiles)} tiles` : "", s.slices > 1 ? `constants in ${s.slices} slices` : ""];
  return [
    make("div", { class: "heading" }, make("span", { text: `Step ${index}: ${operator(s)}` })),
    fields([
      ["Name", origin(s) || "none"],
      ["Runs on", s.place],
      ["Time", `${number(s.cycles)} cycles (${duration(s.cycles)}) from ${number(s.start)} on`],
      ...s.pes.map((n, pe) => [`PE ${pe}`, `${number(n)} cycles`]),
      ["Exchange", s.exchange ? `${number(s.exchange)} cycles` : null],
      ["DRAM", `${number(s.transfer)} cycles, ${bytes(s.bytes)}`],
      ["Limited by", limitOf(s) || null],
      ["Staging", tiling.filter(Boolean).join(", ") || null],
      ...F.memories.map((m) => [`${m.space.toUpperCase()} alive`, bytes(m.alive[index])]),
    ]),
  ];
}

/** Where steps begin and the last one ends, in each unit of time. What precedes step 0 is part of it. */
const EDGES = {
  steps: [...F.steps.keys(), F.steps.length],
  cycles: [...F.steps.map((s, i) => (i ? s.start : 0)), F.cycles],
};
