
// Sortable tables. A column is [heading, value of a row, cell of a row, class].
const SHOWN = 200; // rows until one asks for all

class Table {
  constructor(place, columns, rows, order, name = () => null) {
    Object.assign(this, { place: byId(place), columns, rows, order, name, wanted: () => true, all: false });
    this.place.addEventListener("pointerover", (event) => {
      const row = event.target.closest("tr[data-item]");
      hover(row ? row.dataset.item : null);
    });
    this.place.addEventListener("pointerleave", () => hover(null));
    this.place.addEventListener("focusin", (event) => {
      const row = event.target.closest("tr[data-item]");
      if (row) hover(row.dataset.item);
    });
  }

  sort(column) {
    const [at, way] = this.order;
    this.order = [column, at === column ? -way : typeof this.columns[column][1](this.rows[0]) === "number" ? -1 : 1];
    this.render();
    this.place.querySelectorAll("th button")[column].focus();
  }

  render() {
    const [at, way] = this.order;
    const value = this.columns[at][1];
    const rows = this.rows.filter(this.wanted);
    rows.sort((a, b) => way * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
    const heads = this.columns.map(([text, , , style = ""], column) => {
      const button = make("button", { type: "button", text, onclick: () => this.sort(column) });
      const head = make("th", { class: style, scope: "col" }, button);
      if (column === at) head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      return head;
    });
    const body = rows.slice(0, this.all ? rows.length : SHOWN).map((row) => {
      const line = make("tr", { class: this.name(row) === chosen && chosen ? "picked" : "" }, ...this.columns.map(([, , cell, style = ""]) => make("td", { class: style }, cell(row))));
      if (this.name(row)) line.dataset.item = this.name(row);
      return line;
    });
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
    this.place.replaceChildren(table);
    if (body.length < rows.length) {
      const more = () => { this.all = true; this.render(); };
      this.place.append(make("button", { type: "button", class: "more", text: `Show all ${number(rows.length)}`, onclick: more }));
    }
  }
}

const text = (heading, value, style) => [heading, value, (row) => String(value(row)), style];
const count = (heading, value) => [heading, value, (row) => number(value(row)), "right"];
const share = (heading, value, whole, name) => [heading, value, (row) => meter([[name, value(row)]], whole)];
const size = (heading, value) => [heading, value, (row) => bytes(value(row)), "right"];
const twoLines = (content) => make("span", { class: "two", title: content.textContent || content }, content);
const link = (item, words) => make("a", { href: `#${item}`, text: words });

function tensorTable(place, rows) {
  const buffer = (index) => F.buffers[index];
  const users = (index) => buffer(index).users.length;
  const largest = Math.max(1, ...F.buffers.map((b) => b.bytes));
  return new Table(place, [
    ["Tensor", (i) => buffer(i).name, (i) => twoLines(link(`b${i}`, buffer(i).name)), "wide"],
    ["Role", (i) => role(buffer(i)), (i) => make("span", {}, make("span", { class: `swatch ${role(buffer(i))}` }), role(buffer(i)))],
    text("Type", (i) => kind(buffer(i))),
    size("Size", (i) => buffer(i).bytes),
    ["", (i) => buffer(i).bytes, (i) => meter([[role(buffer(i)), buffer(i).bytes]], largest)],
    text("Memory", (i) => buffer(i).space.toUpperCase()),
    ["Address", (i) => buffer(i).offset, (i) => hex(buffer(i).offset), "right"],
    ["Lifetime", (i) => buffer(i).first, (i) => span(buffer(i).first, buffer(i).last)],
    count("Uses", users),
  ], rows, [3, -1], (i) => `b${i}`);
}

function operatorTable() {
  const slowest = Math.max(1, ...F.steps.map((s) => s.cycles));
  const step = (index) => F.steps[index];
  return new Table("operators", [
    ["Step", (i) => i, (i) => link(`s${i}`, String(i)), "right"],
    text("Operator", (i) => operator(step(i))),
    ["Name", (i) => origin(step(i)), (i) => twoLines(origin(step(i))), "wide"],
    text("On", (i) => step(i).place),
    count("Cycles", (i) => step(i).cycles),
    share("", (i) => step(i).cycles, slowest, "pe"),
    ...Array.from({ length: F.pes }, (_, pe) => count(`PE ${pe}`, (i) => step(i).pes[pe])),
    ...(F.pes > 1 ? [count("Exchange", (i) => step(i).exchange)] : []),
    count("DRAM cycles", (i) => step(i).transfer),
    size("DRAM bytes", (i) => step(i).bytes),
    text("Limited by", (i) => limitOf(step(i))),
  ], [...F.steps.keys()], [0, 1], (i) => `s${i}`);
}

function kindTable() {
  const kinds = new Map();
  for (const s of F.steps) {
    for (const [name] of s.operators) {
      const id = `${s.place} ${name}`;
      const row = kinds.get(id) || { name, place: s.place, count: 0, cycles: 0, pes: s.pes.map(() => 0) };
      row.count += 1;
      row.cycles += s.place === "NPU" ? s.cycles : 0;
      row.pes = row.pes.map((n, pe) => n + s.pes[pe]);
      kinds.set(id, row);
    }
  }
  return new Table("kinds", [
    text("Operator", (row) => row.name),
    text("On", (row) => row.place),
    count("Operators", (row) => row.count),
    ["Cycles", (row) => row.cycles, (row) => (row.place === "NPU" ? number(row.cycles) : "not known"), "right"],
    share("", (row) => row.cycles, F.cycles, "pe"),
    ["Share", (row) => row.cycles, (row) => (row.place === "NPU" ? percent(row.cycles, F.cycles) : ""), "right"],
    ...Array.from({ length: F.pes }, (_, pe) => count(`PE ${pe}`, (row) => row.pes[pe])),
  ], [...kinds.values()], [3, -1]);
}

function unitTable() {
  const rows = Array.from({ length: F.pes }, (_, pe) => ({ name: `PE ${pe}`, style: "pe", busy: sum(F.steps.map((s) => s.pes[pe])) }));
  if (F.pes > 1) rows.push({ name: "Exchange between PEs", style: "exchange", busy: sum(F.steps.map((s) => s.exchange)) });
  rows.push({ name: "DRAM", style: "transfer", busy: F.filling + sum(F.steps.map((s) => s.transfer)) });
  return new Table("units", [
    text("Unit", (row) => row.name),
    count("Cycles at work", (row) => row.busy),
    ["", (row) => row.busy, (row) => meter([[row.style, row.busy]], F.cycles)],
    ["Of all cycles", (row) => row.busy, (row) => percent(row.busy, F.cycles), "right"],
  ], rows, [1, -1]);
}
