
// The page: summary, what is chosen, and how its parts follow each other.
let chosen = null; // "b<n>", a buffer, or "s<n>", a step: the fragment of the address
let wanted = ""; // what names have in them, in lower case
let aliveAt = null; // the step of which the tensors are listed
const isWanted = (name) => name.toLowerCase().includes(wanted);
const hideTip = () => { byId("tip").hidden = true; };

function card(caption, figure, ...rest) {
  return make("div", { class: "card" }, make("div", { class: "caption", text: caption }), make("div", { class: "figure", text: figure }), ...rest);
}

const note = (...parts) => make("div", { class: "caption" }, ...parts);

function summary() {
  const [sram, dram] = F.memories;
  const peak = sram.alive.indexOf(Math.max(...sram.alive));
  const fullest = sram.peak ? ["; fullest at ", make("a", { href: `#s${peak}`, text: `step ${peak}` })] : [];
  const stored = dram.peak + F.constants;
  const limits = { PEs: 0, exchange: 0, DRAM: 0 };
  for (const s of F.steps) {
    if (limitOf(s) === "DRAM") limits.DRAM += s.cycles;
    else { limits.PEs += Math.max(...s.pes); limits.exchange += s.exchange; }
  }
  const spills = F.buffers.filter((b) => b.spilled && b.alias === null);
  const on = (place) => F.steps.filter((s) => s.place === place);
  const operators = (place) => sum(on(place).map((s) => s.operators.length));
  const [npu, cpu] = [operators("NPU"), operators("CPU")];
  const most = Object.keys(limits).sort((a, b) => limits[b] - limits[a])[0];
  const cycles = sum(on("NPU").map((s) => s.cycles));
  const waits = [["pe", "PEs", limits.PEs], ["exchange", "exchange", limits.exchange], ["transfer", "DRAM", limits.DRAM], ["filling", "first constants", F.filling]];
  byId("summary").append(
    card("SRAM at the peak", bytes(sram.peak), meter([["activation", sram.peak]], sram.capacity), note(`${percent(sram.peak, sram.capacity)} of ${bytes(sram.capacity)}`, ...fullest)),
    card("DRAM at the peak", bytes(stored), meter([["input", dram.peak], ["weights", F.constants]], dram.capacity), note(`${percent(stored, dram.capacity)} of ${bytes(dram.capacity)}: ${bytes(dram.peak)} of buffers, ${bytes(F.constants)} of constants`)),
    card("Time of a run", duration(F.cycles), note(`${number(F.cycles)} cycles at ${(F.clock / 1e9).toFixed(1)} GHz, ${number(F.steps.length)} steps`)),
    card("Where the cycles go", `${Math.round((100 * limits[most]) / (F.cycles || 1))} % ${most}`, meter(waits.map(([name, , n]) => [name, n]), F.cycles), make("div", { class: "legend" }, ...waits.filter(([, , n]) => n).map(([name, word, n]) => key(name, `${word} ${percent(n, F.cycles)}`)))),
    card("Operators on the NPU", percent(npu, npu + cpu), meter([["pe", npu], ["host", cpu]], npu + cpu), note(`${number(npu)} on the NPU with ${percent(cycles, F.cycles - F.filling)} of the cycles of steps, ${number(cpu)} on the CPU`)),
    card("Spilled", spills.length ? bytes(F.spilled) : "none", note(spills.length ? `${number(spills.length)} tensors had to leave SRAM` : "every activation has its place in SRAM")),
  );
}

function legend() {
  for (const name of ROLES) {
    const found = F.buffers.filter((b) => role(b) === name && b.alias === null);
    if (found.length) byId("legend").append(key(name, `${ROLE_WORDS[name]} (${number(found.length)}, ${bytes(sum(found.map((b) => b.bytes)))})`));
  }
}

function buttons(place, names, isPressed, act) {
  const all = names.map((name) => make("button", { type: "button", text: name }));
  const show = () => all.forEach((b, i) => isPressed && b.setAttribute("aria-pressed", isPressed(names[i])));
  all.forEach((b, i) => b.addEventListener("click", () => { act(names[i]); show(); }));
  byId(place).append(...all);
  show();
}

const known = (item) =>
  item !== null && /^[bs](0|[1-9]\d{0,8})$/.test(item) && Number(item.slice(1)) < (item[0] === "b" ? F.buffers : F.steps).length;

/** Puts it into the address, so that the choice can be kept and sent; the rest follows from there. */
function choose(item) {
  location.replace(`#${item || "all"}`);
}

function hover(item, event = null) {
  if (item !== plot.hover) {
    plot.hover = item;
    for (const row of document.querySelectorAll("tr.hot")) row.classList.remove("hot");
    for (const row of item ? document.querySelectorAll(`tr[data-item="${item}"]`) : []) row.classList.add("hot");
    renderMarks();
    byId("tip").replaceChildren(...(item && event ? about(item) : []));
  }
  if (!item || !event) { hideTip(); return; }
  const tip = byId("tip");
  tip.hidden = false;
  const { width: w, height: h } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + w < innerWidth ? event.clientX + 16 : event.clientX - 16 - w;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${clamp(event.clientY + 14, 4, Math.max(innerHeight - h - 4, 4))}px`;
}

const about = (item, words) => (item[0] === "b" ? aboutBuffer(Number(item.slice(1)), words) : aboutStep(Number(item.slice(1))));

function follow() {
  const item = location.hash.slice(1);
  chosen = known(item) ? item : null;
  byId("details").replaceChildren(...(chosen ? about(chosen, (step) => link(`s${step}`, String(step))) : []));
  const step = chosen && chosen[0] === "s" ? Number(chosen.slice(1)) : null;
  if (step !== aliveAt) {
    aliveAt = step;
    byId("alive").textContent = step === null ? "" : `alive at step ${step} ✕`;
    tensors.render();
  }
  for (const row of document.querySelectorAll("tr.picked")) row.classList.remove("picked");
  for (const row of chosen ? document.querySelectorAll(`tr[data-item="${chosen}"]`) : []) {
    row.classList.add("picked");
    const box = row.closest(".scroll");
    const [above, below] = [row.offsetTop - 40, row.offsetTop + row.offsetHeight];
    if (above < box.scrollTop || below > box.scrollTop + box.clientHeight) box.scrollTop = above - box.clientHeight / 3;
  }
  renderMarks();
}

function filter(event) {
  wanted = event.target.value.toLowerCase();
  tensors.render();
  operators.render();
  render();
}

document.title = `Memory report: ${F.model}`;
byId("model").textContent = F.model || "A model without a name";
for (const fact of [F.target, `${F.pes} PE${F.pes > 1 ? "s" : ""}`, `batch ${F.batch}`]) byId("facts").append(make("span", { class: "chip", text: fact }));
const all = [...F.buffers.keys()];
const spilled = all.filter((i) => F.buffers[i].spilled);
const tensors = tensorTable("tensors", all);
const operators = operatorTable();
tensors.wanted = (i) => isWanted(F.buffers[i].name) && (aliveAt === null || (F.buffers[i].first <= aliveAt && aliveAt <= F.buffers[i].last));
operators.wanted = (i) => isWanted(`${operator(F.steps[i])} ${origin(F.steps[i])}`);
summary();
legend();
if (spilled.length) tensorTable("spills", spilled).render();
else byId("spills").append(make("p", { class: "none", text: "No tensor had to leave SRAM." }));
for (const table of [tensors, operators, kindTable(), unitTable()]) table.render();
buttons("axis", ["steps", "cycles"], (name) => plot.axis === name, (name) => {
  const shown = [plot.from, plot.to].map((time) => stepAt(toX(time)));
  const isWhole = plot.from === 0 && plot.to === extent();
  plot.axis = name;
  if (isWhole) look(0, extent());
  else look(edges()[shown[0]], edges()[shown[1] + 1]);
});
buttons("scale", ["peak", "capacity"], (name) => plot.scale === name, (name) => { plot.scale = name; render(); });
buttons("zoom", ["−", "all", "+"], null, (name) => (name === "all" ? look(0, extent()) : zoom(name === "+" ? 0.5 : 2)));
byId("filter").addEventListener("input", filter);
window.addEventListener("hashchange", follow);
render();
attachPlot();
follow();
