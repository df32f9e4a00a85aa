// Two SVG plots: results over time as bars, latency over time as lines. Single steps can
// be read with the pointer, with arrow keys, and by a screen reader.
import { h } from "./dom.js";
import { clock, count, ms, several, span } from "./format.js";

const height = 168;
const pad = { top: 10, right: 8, bottom: 22, left: 54 };
const minute = 60;

/** plot returns an element with a title, a readout and a drawing; its draw(window) shows a window. */
export function plot(kind) {
  const readout = h("p", { class: "readout", "aria-live": "off" });
  const svg = h("svg", { class: `plot ${kind.name}`, role: "img", tabindex: "0", height });
  const element = h("section", { class: "card plotcard", "aria-label": kind.title }, h("div", { class: "plothead" }, h("h2", {}, kind.title), readout), svg, kind.legend());
  const p = { kind, readout, svg, data: null, at: -1 };
  new ResizeObserver(() => p.data && redraw(p)).observe(svg);
  const move = (e) => select(p, Math.floor((e.clientX - svg.getBoundingClientRect().left - pad.left) / p.step));
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", () => select(p, -1));
  svg.addEventListener("blur", () => select(p, -1));
  svg.addEventListener("keydown", (e) => key(p, e));
  element.draw = (window) => {
    p.data = window;
    redraw(p);
  };
  return element;
}

function key(p, e) {
  if (!p.data) return;
  const last = p.data.points.length - 1;
  const to = { ArrowLeft: p.at < 0 ? last : Math.max(0, p.at - 1), ArrowRight: p.at < 0 ? last : Math.min(last, p.at + 1), Home: 0, End: last, Escape: -1 }[e.key];
  if (to === undefined) return;
  e.preventDefault();
  p.readout.setAttribute("aria-live", "polite");
  select(p, to);
}

/** select shows the values of one step, or of the whole window. */
function select(p, at) {
  if (!p.data) return;
  p.at = at >= 0 && at < p.data.points.length ? at : -1;
  const point = p.data.points[p.at];
  p.readout.textContent = point ? `${clock(point.t * 1000, p.data.step_seconds < minute)} · ${p.kind.say(point)}` : p.kind.summary(p.data);
  const cursor = p.svg.querySelector(".cursor");
  if (cursor) {
    cursor.setAttribute("x", pad.left + p.at * p.step);
    cursor.setAttribute("width", p.at < 0 ? 0 : p.step);
  }
}

function redraw(p) {
  const width = Math.max(p.svg.clientWidth, 200);
  p.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  p.step = (width - pad.left - pad.right) / p.data.points.length;
  p.svg.setAttribute("aria-label", `${p.kind.title}. ${p.kind.summary(p.data)}. Arrow keys read single steps.`);
  const x = (i) => pad.left + i * p.step;
  p.svg.replaceChildren(
    h("rect", { class: "cursor", x: 0, y: pad.top, width: 0, height: height - pad.top - pad.bottom }),
    ...p.kind.draw(p.data, x, p.step, width),
    ...times(p.data, x, width),
  );
  select(p, p.at);
}

/** times labels four to six times of day below the plot. */
function times(data, x, width) {
  const every = Math.ceil(data.points.length / Math.max(2, Math.min(6, Math.floor(width / 90))));
  const marks = [];
  for (let i = 0; i < data.points.length; i++) {
    const steps = data.points[i].t / data.step_seconds;
    if (steps % every !== 0) continue;
    if (x(i) > width - 30) continue;
    marks.push(h("text", { class: "tick", x: x(i), y: height - 6, "text-anchor": i < 2 ? "start" : "middle" }, clock(data.points[i].t * 1000, false).slice(-5)));
  }
  return marks;
}

function line(y, width, label) {
  return [
    h("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: y, y2: y }),
    h("text", { class: "tick", x: pad.left - 8, y: y + 4, "text-anchor": "end" }, label),
  ];
}

/** nice rounds up to 1, 2, 4, 6 or 8 times a power of ten. */
function nice(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
  return [1, 2, 4, 6, 8, 10].map((m) => m * power).find((m) => m >= n);
}

const inner = height - pad.top - pad.bottom;

function drawBars(data, x, step, width) {
  const top = nice(Math.max(2, ...data.points.map((p) => p.closed + p.failed)));
  const y = (n) => pad.top + inner * (1 - n / top);
  const gap = step > 5 ? 1.5 : step > 3 ? 1 : 0.4;
  const marks = [0, top / 2, top].flatMap((n) => line(y(n), width, count(n)));
  data.points.forEach((p, i) => {
    if (p.closed) marks.push(h("rect", { class: "closed", x: x(i) + gap / 2, width: step - gap, y: y(p.closed), height: Math.max(y(0) - y(p.closed), 1) }));
    if (p.failed) marks.push(h("rect", { class: "failed", x: x(i) + gap / 2, width: step - gap, y: y(p.closed + p.failed), height: Math.max(y(p.closed) - y(p.closed + p.failed), 1) }));
  });
  return marks;
}

/** rate names the length of a step. */
const rate = (data) => (data.step_seconds === minute ? "in a minute" : `in ${span(data.step_seconds)}`);

export const results = {
  name: "bars",
  title: "Results",
  legend: () => h("ul", { class: "legend" }, h("li", { class: "closed" }, "closed"), h("li", { class: "failed" }, "failed")),
  say: (p) => `${count(p.closed)} closed, ${count(p.failed)} failed`,
  summary: (data) => {
    const most = Math.max(...data.points.map((p) => p.closed + p.failed));
    return most ? `maximum ${rate(data)}: ${count(most)}` : "none in this window";
  },
  draw: drawBars,
};

// Latency has a logarithmic scale: a close usually takes milliseconds, one in doubt a minute.
const decades = [1, 10, 100, 1000, 10000, 60000, 600000, 6000000];

function drawLines(data, x, step, width) {
  const values = data.points.flatMap((p) => [p.p50_ms, p.p95_ms]).filter((v) => v !== null);
  const low = decades.findLast((d) => d <= Math.max(1, Math.min(...values, 10)));
  const high = decades.find((d) => d > Math.max(...values, 100)) || decades.at(-1);
  const scale = Math.log(high / low);
  const y = (v) => pad.top + inner * (1 - Math.log(Math.max(v, low) / low) / scale);
  const marks = decades.filter((d) => d >= low && d <= high).flatMap((d) => line(y(d), width, ms(d).replace(/\.0+ /, " ")));
  return marks.concat(drawLine(data.points, "p95_ms", "p95", x, step, y), drawLine(data.points, "p50_ms", "p50", x, step, y));
}

/** drawLine connects adjacent steps; a step without neighbours is a dot. */
function drawLine(points, name, style, x, step, y) {
  let d = "";
  const dots = [];
  points.forEach((p, i) => {
    if (p[name] === null) return;
    const before = i > 0 && points[i - 1][name] !== null;
    const after = i + 1 < points.length && points[i + 1][name] !== null;
    const at = [(x(i) + step / 2).toFixed(1), y(p[name]).toFixed(1)];
    d += `${before ? "L" : "M"}${at.join(" ")}`;
    if (!before && !after) dots.push(h("circle", { class: style, cx: at[0], cy: at[1], r: 2.5 }));
  });
  return [d && h("path", { class: style, d }), ...dots].filter(Boolean);
}

export const latency = {
  name: "lines",
  title: "Time to close",
  legend: () => h("ul", { class: "legend" }, h("li", { class: "p50" }, "p50"), h("li", { class: "p95" }, "p95"), h("li", { class: "note" }, "from the recorded intent to the recorded close")),
  say: (p) => (p.p50_ms === null ? "nothing closed" : `p50 ${ms(p.p50_ms)}, p95 ${ms(p.p95_ms)}`),
  summary: (data) => (data.p50_ms === null ? "none in this window" : `p50 ${ms(data.p50_ms)}, p95 ${ms(data.p95_ms)}`),
  draw: drawLines,
};

export const windowName = { "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h" };
export const windowText = { "15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours" };
