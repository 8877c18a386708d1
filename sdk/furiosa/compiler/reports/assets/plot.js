
// The drawing: a panel for each memory, address over time, and below them what the units do.
const LEFT = 76, RIGHT = 14, LANE = 20, TOP = 26, GAP = 34;
const UNITS = [
  ...Array.from({ length: F.pes }, (_, pe) => [`PE ${pe}`, "pe", (s) => s.pes[pe], (s) => s.exchange]),
  ...(F.pes > 1 ? [["Exchange", "exchange", (s) => s.exchange, () => 0]] : []),
  ["DRAM", "transfer", (s) => s.transfer, () => 0],
  ["CPU", "host", (s) => (s.place === "CPU" ? Math.max(s.cycles, 1) : 0), () => 0],
];
const plot = { axis: "steps", scale: "peak", from: 0, to: F.steps.length, hover: null, root: null };
const edges = () => EDGES[plot.axis];
const extent = () => edges()[F.steps.length] || 1;
const width = () => Math.max(byId("plot").clientWidth - LEFT - RIGHT, 100);
const toX = (time) => LEFT + ((time - plot.from) / (plot.to - plot.from)) * width();
const toTime = (x) => plot.from + ((x - LEFT) / width()) * (plot.to - plot.from);

/** [x, width] of what is visible of steps first..last; a width of 0 when nothing is. */
function stretch(first, last) {
  const [a, b] = [edges()[first], edges()[last + 1]];
  const touches = a < b && (b === plot.from || a === plot.to);
  if (b < plot.from || a > plot.to || touches) return [0, 0];
  const [left, right] = [toX(Math.max(a, plot.from)), toX(Math.min(b, plot.to))];
  return [left, Math.max(right - left, 0.75)];
}

function stepAt(x) {
  const time = toTime(x);
  let [low, high] = [0, F.steps.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (edges()[middle] <= time) low = middle;
    else high = middle - 1;
  }
  return low;
}

function render() {
  let y = TOP;
  plot.root = draw("svg", { width: LEFT + width() + RIGHT, role: "img", "aria-labelledby": "over-time" });
  F.memories.forEach((memory) => {
    const height = memory.space === "sram" ? 320 : F.buffers.filter((b) => b.space === "dram").length > 4 ? 150 : 90;
    renderMemory(memory, y, height);
    y += height + GAP;
  });
  y = renderUnits(y);
  renderTime(y);
  plot.root.setAttribute("height", y + 26);
  plot.root.append(draw("g", { id: "marks" }));
  byId("plot").replaceChildren(plot.root);
  renderMarks();
}

function renderMemory(memory, top, height) {
  const most = Math.max(plot.scale === "peak" ? memory.peak * 1.06 : memory.capacity * 1.04, 64);
  const toY = (address) => top + height - (address / most) * height;
  plot.root.append(
    draw("text", { class: "title", x: LEFT, y: top - 9, text: memory.space.toUpperCase() }),
    draw("text", { x: LEFT + 46, y: top - 9, text: `peak ${bytes(memory.peak)} of ${bytes(memory.capacity)}` }),
    draw("rect", { class: "ground", x: LEFT, y: top, width: width(), height }),
  );
  const tick = 2 ** Math.ceil(Math.log2(most / (height / 34)));
  for (let address = 0; address <= most; address += tick) {
    plot.root.append(
      draw("line", { class: "grid", x1: LEFT, x2: LEFT + width(), y1: toY(address), y2: toY(address) }),
      draw("text", { x: LEFT - 8, y: toY(address) + 4, "text-anchor": "end", text: bytes(address) }),
    );
  }
  const names = [];
  F.buffers.forEach((b, index) => {
    if (b.space !== memory.space) return;
    const [x, w] = stretch(b.first, b.last);
    if (!w) return;
    const h = Math.max(toY(b.offset) - toY(b.offset + b.bytes), 0.75);
    const y = toY(b.offset + b.bytes);
    const faint = isWanted(b.name) ? "" : " dim";
    const shared = (b.alias === null ? "" : " alias") + (Math.min(w, h) < 4 ? " thin" : "");
    plot.root.append(draw("rect", { class: `buffer ${role(b)}${shared}${faint}`, "data-buffer": index, x, y, width: w, height: h }));
    if (w > 64 && h > 15 && b.alias === null && !faint) {
      names.push(draw("text", { class: "name", x: x + 5, y: y + Math.min(h / 2 + 4, 15), text: brief(b.name, Math.floor((w - 8) / 6.6)) }));
    }
  });
  plot.root.append(...names);
  for (const [limit, word] of [[memory.peak, "peak"], [memory.capacity, "capacity"]]) {
    if (limit > most || !limit) continue;
    const y = toY(limit);
    plot.root.append(
      draw("line", { class: "limit", "data-limit": word, x1: LEFT, x2: LEFT + width(), y1: y, y2: y }),
      draw("text", { x: LEFT + width() - 4, y: y - 3, "text-anchor": "end", text: word }),
    );
  }
}

/** How busy each unit is in each step; a lane is one path, however many steps there are. */
function renderUnits(top) {
  plot.root.append(draw("text", { class: "title", x: LEFT, y: top - 9, text: "Units at work" }));
  let y = top;
  for (const [label, name, busy, delay] of UNITS) {
    if (label === "CPU" && !F.steps.some((s) => s.place === "CPU")) continue;
    const path = [];
    F.steps.forEach((s, index) => {
      if (!busy(s)) return;
      const [x, w] = stretch(index, index);
      const cycles = Math.max(s.cycles, 1);
      const [from, long] = [x + (w * delay(s)) / cycles, Math.max((w * busy(s)) / cycles, 0.5)];
      if (w) path.push(`M${from.toFixed(2)} ${y + 2}h${Math.min(long, w).toFixed(2)}v${LANE - 4}h${(-Math.min(long, w)).toFixed(2)}z`);
    });
    plot.root.append(
      draw("rect", { class: "ground", x: LEFT, y: y + 1, width: width(), height: LANE - 2 }),
      draw("text", { x: LEFT - 8, y: y + LANE - 6, "text-anchor": "end", text: label }),
      draw("path", { class: name, "data-unit": label, d: path.join("") }),
    );
    y += LANE;
  }
  plot.bottom = y;
  return y;
}

function renderTime(y) {
  const rough = (plot.to - plot.from) / (width() / 90);
  const power = 10 ** Math.floor(Math.log10(rough));
  const tick = Math.max([1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough), 1);
  for (let time = Math.ceil(plot.from / tick) * tick; time <= plot.to; time += tick) {
    plot.root.append(draw("text", { x: toX(time), y: y + 15, "text-anchor": "middle", text: number(time) }));
  }
  plot.root.append(draw("text", { x: LEFT - 8, y: y + 15, "text-anchor": "end", text: plot.axis }));
}

/** Outlines of the tensors, and bands over the steps, that are hovered or chosen. */
function renderMarks() {
  const marks = byId("marks");
  marks.replaceChildren();
  for (const item of new Set([chosen, plot.hover])) {
    if (!item) continue;
    const steps = item[0] === "s" ? [Number(item.slice(1))] : F.buffers[Number(item.slice(1))].users;
    for (const step of steps) {
      const [x, w] = stretch(step, step);
      if (w) marks.append(draw("rect", { class: "use", "data-step": step, x, y: TOP, width: Math.max(w, 1), height: plot.bottom - TOP }));
    }
    const rect = item[0] === "b" && plot.root.querySelector(`[data-buffer="${item.slice(1)}"]`);
    if (!rect) continue;
    const outline = draw("rect", { class: "mark" });
    for (const name of ["x", "y", "width", "height"]) outline.setAttribute(name, rect.getAttribute(name));
    marks.append(outline);
  }
}

function look(from, to) {
  const least = plot.axis === "steps" ? Math.min(1, extent()) : Math.min(20, extent());
  const long = clamp(to - from, least, extent());
  plot.from = clamp(from, 0, extent() - long);
  plot.to = plot.from + long;
  render();
}

const zoom = (factor, center = (plot.from + plot.to) / 2) =>
  look(center - (center - plot.from) * factor, center + (plot.to - center) * factor);

/** What is under a pointer: b<n>, a buffer, else s<n>, a step, else null. */
function under(event) {
  const index = event.target.getAttribute("data-buffer");
  if (index !== null) return `b${index}`;
  const box = plot.root.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const inside = x >= LEFT && x <= LEFT + width() && y >= TOP && y <= plot.bottom && F.steps.length > 0;
  return inside ? `s${stepAt(x)}` : null;
}

function attachPlot() {
  const area = byId("plot");
  let began = null;
  const offset = (event) => clamp(event.clientX - plot.root.getBoundingClientRect().left, LEFT, LEFT + width());
  area.addEventListener("pointerdown", (event) => { if (event.button === 0) began = offset(event); });
  area.addEventListener("pointermove", (event) => {
    if (began !== null && Math.abs(offset(event) - began) > 4) {
      const x = Math.min(began, offset(event));
      const brush = { class: "brush", x, y: TOP, width: Math.abs(offset(event) - began), height: plot.bottom - TOP };
      byId("marks").replaceChildren(draw("rect", brush));
      hideTip();
      return;
    }
    hover(under(event), event);
  });
  area.addEventListener("pointerleave", () => hover(null));
  window.addEventListener("pointerup", (event) => {
    if (began === null) return;
    const times = [toTime(began), toTime(offset(event))].sort((a, b) => a - b);
    const isDrag = Math.abs(offset(event) - began) > 4;
    began = null;
    if (isDrag) look(...times);
    else if (area.contains(event.target)) choose(under(event));
  });
  area.addEventListener("dblclick", () => look(0, extent()));
  area.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, toTime(offset(event)));
  }, { passive: false });
  const order = [...F.buffers.keys()].sort((a, b) => F.buffers[a].first - F.buffers[b].first || a - b);
  area.addEventListener("keydown", (event) => {
    const at = chosen && chosen[0] === "b" ? order.indexOf(Number(chosen.slice(1))) : -1;
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1 }[event.key];
    if (next !== undefined && order.length) choose(`b${order[(next + order.length) % order.length]}`);
    else if (event.key === "+" || event.key === "=") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "Escape") { choose(null); look(0, extent()); }
    else return;
    event.preventDefault();
  });
  new ResizeObserver(() => { if (Math.abs(plot.root.clientWidth - LEFT - RIGHT - width()) > 1) render(); }).observe(area);
}
