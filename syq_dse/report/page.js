"use strict";
// The page of a run: everything is in the JSON of #data; names are text, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const index = Object.fromEntries(columns.map((column, i) => [column.name, i]));
const names = data.points.map((row) => row[index.point]);
const place = new Map(names.map((name, i) => [name, i]));
const PAGE = 100;
let selected = place.get(data.named.knee) ?? 0;
let shown = names.map((_, i) => i);
let sorted = { column: null, falls: false };
let first = 0;
let brushed = null;

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  for (const child of children) node.append(child);
  return node;
}

const byId = (id) => document.getElementById(id);

function text(value, column) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  const scaled = column && column.percent ? 100 * value : value;
  if (Number.isInteger(scaled)) return scaled.toLocaleString("en-US");
  return Number(scaled.toPrecision(5)).toLocaleString("en-US", { maximumSignificantDigits: 5 });
}

// The front

const view = {};

function find(name) {
  for (const doc of Bokeh.documents) {
    const model = doc.get_model_by_name(name);
    if (model) return model;
  }
  return null;
}

function onAxis(name, raw) {
  const column = columns[index[name]], value = column.percent ? 100 * raw : raw;
  return column.log ? Math.log10(Math.max(value, 1e-12)) : value;
}

function axisValues(name) {
  return data.points.map((row) => onAxis(name, row[index[name]]));
}

// Ticks at round numbers; of a logarithm at powers of ten, and between them where these are few.
function ticks(low, high, log) {
  const found = [];
  if (log) {
    const parts = high - low < 1.2 ? [1, 1.5, 2, 3, 5, 7] : high - low < 3 ? [1, 2, 5] : [1];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const part of parts) found.push(part * 10 ** power);
    }
    return found.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high)
      .map((value) => [Math.log10(value), value]);
  }
  const raw = (high - low) / 6 || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((part) => part * power >= raw) || 10);
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push([value, value]);
  return found;
}

function setAxis(axis, range, name, values) {
  const column = columns[index[name]];
  const low = Math.min(...values), high = Math.max(...values), pad = 0.05 * (high - low) || 0.5;
  Object.assign(range, { start: low - pad, end: high + pad });
  const found = ticks(low - pad, high + pad, column.log);
  axis.ticker.ticks = found.map(([at]) => at);
  axis.major_label_overrides = new Map(found.map(([at, value]) => [at, text(Number(value.toPrecision(6)))]));
  axis.axis_label = column.label;
}

function drawFront() {
  const x = byId("x-axis").value, y = byId("y-axis").value;
  const xs = axisValues(x), ys = axisValues(y);
  const low = index.accuracy_low, high = index.accuracy_high;
  for (const kind of data.sources) {
    const source = find("source-" + kind);
    const members = shownIn(kind);
    source.data = {
      x: members.map((i) => xs[i]),
      y: members.map((i) => ys[i]),
      low: members.map((i) => (y === "accuracy" ? onAxis(y, data.points[i][low]) : ys[i])),
      high: members.map((i) => (y === "accuracy" ? onAxis(y, data.points[i][high]) : ys[i])),
      point: members.map((i) => names[i]),
      tip: members.map((i) => `${columns[index[x]].label}: ${text(data.points[i][index[x]], columns[index[x]])}, ` +
        `${columns[index[y]].label}: ${text(data.points[i][index[y]], columns[index[y]])}`),
    };
    view[kind] = members;
  }
  const plot = find("front");
  setAxis(plot.below[0], plot.x_range, x, xs);
  const ends = y === "accuracy" ? data.points.flatMap((row) => [onAxis(y, row[low]), onAxis(y, row[high])]) : [];
  setAxis(plot.left[0], plot.y_range, y, [...ys, ...ends]);
  markSelected();
}

function shownIn(kind) {
  const column = index.accuracy_source, out = index.dominated;
  return names.map((_, i) => i).filter((i) =>
    (data.points[i][out] ? "dominated" : data.points[i][column]) === kind);
}

function markSelected() {
  const x = byId("x-axis").value, y = byId("y-axis").value;
  const value = (name) => onAxis(name, data.points[selected][index[name]]);
  find("source-selected").data = { x: [value(x)], y: [value(y)] };
}

function watchFront() {
  for (const kind of data.sources) {
    const source = find("source-" + kind);
    source.selected.properties.indices.change.connect(() => {
      const found = data.sources.flatMap((one) =>
        find("source-" + one).selected.indices.map((at) => view[one][at]));
      const here = source.selected.indices.map((at) => view[kind][at]);
      if (found.length > 1) brushed = new Set(found);
      else brushed = null;
      if (here.length === 1 && found.length === 1) choose(here[0]);
      filter();
    });
  }
}

// The table

function conditions() {
  const typed = byId("filter").value.toLowerCase()
    .replace(/(\d),(?=\d{3}\b)/g, "$1").replace(/\s*(>=|<=|=|>|<)\s*/g, "$1");
  const parts = typed.split(/[\s,;]+/).filter((part) => part);
  const made = [], wrong = [];
  for (const part of parts) {
    const match = part.match(/^([a-z0-9_]+)(>=|<=|=|>|<)(.+)$/);
    const number = match && !Number.isNaN(Number(match[3]));
    if (match && match[1] in index && (number || match[2] === "=")) {
      const at = index[match[1]], asked = Number(match[3]), given = match[3];
      const scale = columns[at].percent ? 100 : 1;
      made.push((row) => {
        const value = typeof row[at] === "number" ? scale * row[at] : row[at];
        if (Number.isNaN(asked)) return String(value).toLowerCase() === given;
        return { ">": value > asked, "<": value < asked, ">=": value >= asked, "<=": value <= asked,
          "=": value === asked }[match[2]];
      });
    } else if (match) wrong.push(part);
    else if (part in data.named) made.push((row) => row[0] === data.named[part]);
    else made.push((row) => row.some((value) => String(value).toLowerCase().includes(part)));
  }
  return { made, wrong };
}

function filter() {
  const { made, wrong } = conditions();
  shown = names.map((_, i) => i).filter((i) =>
    (!brushed || brushed.has(i)) && made.every((keeps) => keeps(data.points[i])));
  if (sorted.column !== null) {
    const at = sorted.column, sign = sorted.falls ? -1 : 1;
    shown.sort((a, b) => {
      const one = data.points[a][at], two = data.points[b][at];
      return sign * (one < two ? -1 : one > two ? 1 : 0);
    });
  }
  first = 0;
  byId("filter-note").textContent = wrong.length
    ? `not understood: ${wrong.join(", ")}; columns: ${columns.map((column) => column.name).join(", ")}`
    : `${shown.length.toLocaleString("en-US")} of ${names.length.toLocaleString("en-US")} points` +
      (brushed ? ", of those marked in the plot" : "");
  fillTable();
}

function fillTable() {
  const body = byId("points").querySelector("tbody");
  body.replaceChildren(...shown.slice(first, first + PAGE).map((i) => make(
    "tr", { "aria-selected": String(i === selected), role: "row", onclick: () => choose(i) },
    ...columns.map((column, at) => at === 0
      ? make("td", {}, make("button", { type: "button", "aria-label": `show point ${names[i]}`,
          onclick: (event) => { event.stopPropagation(); choose(i); } }, names[i]))
      : make("td", { class: column.text ? "text" : null }, text(data.points[i][at], column)))
  )));
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  byId("page-note").textContent = `page ${first / PAGE + 1} of ${pages}`;
  byId("before").disabled = first === 0;
  byId("after").disabled = first + PAGE >= shown.length;
}

function heads() {
  byId("points").querySelector("thead tr").replaceChildren(...columns.map((column, at) => make(
    "th", { scope: "col", class: column.text ? "text" : null, "aria-sort": "none" },
    make("button", { type: "button", onclick: (event) => {
      sorted = { column: at, falls: sorted.column === at ? !sorted.falls : false };
      for (const head of byId("points").querySelectorAll("th")) head.setAttribute("aria-sort", "none");
      event.currentTarget.parentNode.setAttribute("aria-sort", sorted.falls ? "descending" : "ascending");
      filter();
    } }, column.label))));
}

// One point

function choose(i) {
  selected = i;
  const row = data.points[i], details = data.details[names[i]];
  const named = Object.entries(data.named).filter(([, point]) => point === names[i]).map(([name]) => name);
  byId("point-name").textContent = `Point ${names[i]}` + (named.length ? ` (${named.join(", ")})` : "");
  byId("point-row").replaceChildren(...columns.slice(1).filter((column) => row[index[column.name]] !== null)
    .flatMap((column) => [make("dt", {}, column.label), make("dd", {}, text(row[index[column.name]], column))]));
  const layers = byId("layers");
  const body = layers.querySelector("tbody");
  const missing = byId("layers-missing");
  layers.hidden = !details;
  missing.hidden = Boolean(details);
  missing.textContent = `The layers of this point are in points/${names[i]}.json.`;
  if (details) {
    body.replaceChildren(...details.layers.map((layer) => make("tr", {},
      ...layer.map((value, at) => at === 0 ? make("th", { scope: "row", class: "text" }, String(value))
        : make("td", { class: at < 4 ? "text" : null }, text(value))))));
    byId("bound").textContent = details.bound;
    byId("bars").replaceChildren(...details.used.flatMap(([label, used, of, share]) => [
      make("span", {}, label),
      bar(share),
      make("span", {}, `${text(used)} of ${text(of)} (${text(Number((100 * share).toPrecision(3)))} %)`),
    ]));
  } else {
    byId("bound").textContent = "";
    byId("bars").replaceChildren();
  }
  byId("commands").textContent = data.commands.map((line) => line.replaceAll("{point}", names[i])).join("\n");
  for (const line of byId("points").querySelectorAll("tbody tr")) {
    line.setAttribute("aria-selected",
      String(line.querySelector("button").textContent === names[i]));
  }
  markSelected();
}

function bar(share) {
  const inner = make("span", { class: share > data.limit ? "full" : null });
  inner.style.width = `${Math.min(100, 100 * share)}%`;
  const limit = make("i", {});
  limit.style.left = `${100 * data.limit}%`;
  return make("div", { class: "bar", "aria-hidden": "true" }, inner, limit);
}

// Dark mode

function colours() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  const back = style.getPropertyValue("--back").trim();
  for (const name of ["front", "heat-weights", "heat-scales", "heat-activations", "measured"]) {
    const plot = find(name);
    if (!plot) continue;
    for (const axis of [...plot.below, ...plot.left]) {
      Object.assign(axis, { axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: ink,
        major_tick_line_color: ink, minor_tick_line_color: line });
    }
    for (const grid of plot.center) if ("grid_line_color" in grid) grid.grid_line_color = line;
    for (const one of plot.center) {
      if ("label_text_color" in one) Object.assign(one, { label_text_color: ink, background_fill_color: back });
    }
    for (const side of [...plot.right, ...plot.above]) {
      if ("major_label_text_color" in side) Object.assign(side, { major_label_text_color: ink, title_text_color: ink,
        background_fill_color: null });
    }
  }
  const around = find("glyph-around");
  if (around) around.line_color = ink;
}

function start() {
  heads();
  for (const id of ["x-axis", "y-axis"]) {
    byId(id).replaceChildren(...columns.filter((column) => column.axis)
      .map((column) => make("option", { value: column.name }, column.label)));
  }
  byId("x-axis").value = data.axes[0];
  byId("y-axis").value = data.axes[1];
  for (const id of ["x-axis", "y-axis"]) byId(id).addEventListener("change", drawFront);
  byId("filter").addEventListener("input", filter);
  byId("before").addEventListener("click", () => { first -= PAGE; fillTable(); });
  byId("after").addEventListener("click", () => { first += PAGE; fillTable(); });
  byId("clear").addEventListener("click", () => {
    brushed = null;
    for (const kind of data.sources) find("source-" + kind).selected.indices = [];
    byId("filter").value = "";
    filter();
  });
  drawFront();
  watchFront();
  filter();
  choose(selected);
  colours();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
  document.body.dataset.ready = "yes";
}

(function wait() {
  if (window.Bokeh && Bokeh.documents.length && find("front")) start();
  else setTimeout(wait, 30);
})();
