// The live list of results: the newest ones on the overview, also older ones on its own
// page.
import { h } from "./dom.js";
import { get } from "./api.js";
import { live, onLive } from "./live.js";
import { several } from "./format.js";
import { failure, feedRow, note } from "./parts.js";

const filters = [
  ["result", "Results"],
  ["closed", "Closed"],
  ["failed", "Failed"],
  ["closing", "Closing"],
  ["", "All"],
];
const newest = 100; // rows that are kept while new ones arrive
const wants = (state, row) => state === "" || state === row.state || (state === "result" && row.state !== "closing");

/** feed returns an element that is updated until its end() is called. */
export function feed({ limit, title, older }) {
  const f = { state: "result", rows: [], next: 0, paused: false, missed: 0, limit, older };
  f.list = h("ol", { class: "feed", "aria-label": title });
  f.foot = h("div", { class: "feedfoot" });
  f.pause = h("button", { type: "button", class: "button small", id: "pause", on: { click: () => pause(f) } }, "Pause");
  f.tabs = filters.map(([state, name]) => h("button", { type: "button", class: "tab", "aria-pressed": String(state === f.state), on: { click: () => choose(f, state) } }, name));
  f.element = h(
    "section",
    { class: "card feedcard", "aria-label": title },
    h("div", { class: "cardhead" }, h("h2", { class: older ? "hidden" : null }, title), h("div", { class: "tabs", role: "group", "aria-label": "Which entries" }, f.tabs), f.pause),
    f.list,
    f.foot,
  );
  const stop = onLive((kind, data) => arrived(f, kind, data));
  f.element.end = stop;
  f.element.ready = load(f);
  return f.element;
}

const path = (f, before) => `api/settlements?limit=${f.limit}&state=${f.state}${before ? `&before=${before}` : ""}`;

async function load(f) {
  const state = f.state;
  f.early = []; // events that arrive before the page of rows
  f.foot.replaceChildren(f.rows.length ? "" : note("Reading the ledger…"));
  try {
    const page = await get(path(f));
    if (state !== f.state) return;
    f.rows = page.entries;
    f.next = page.next;
    f.missed = 0;
    f.list.replaceChildren(...f.rows.map((r) => feedRow(r)));
    foot(f);
    const early = f.early;
    f.early = null;
    for (const data of early) arrived(f, "entries", data);
  } catch (error) {
    f.early = null;
    f.foot.replaceChildren(failure(error, () => load(f)));
  }
}

function foot(f) {
  const parts = [];
  if (!f.rows.length && f.next) parts.push(note("No match among the newest entries."));
  if (!f.rows.length && !f.next) parts.push(emptyNote(f));
  if (f.older && f.next) parts.push(h("button", { type: "button", class: "button", id: "older", on: { click: () => more(f) } }, "Older"));
  if (!f.older && f.rows.length && f.next) parts.push(h("a", { class: "more", href: "#/settlements" }, "All settlements"));
  f.foot.replaceChildren(...parts);
}

function emptyNote(f) {
  if (f.state !== "result" && f.state !== "") return h("div", { class: "empty" }, h("p", { class: "strong" }, { closed: "No session has been closed yet.", failed: "Nothing has failed.", closing: "No intent has been recorded yet." }[f.state]));
  return h(
    "div",
    { class: "empty" },
    h("p", { class: "strong" }, "No outcome has a result yet."),
    note("Results appear here as they are recorded. To publish an outcome:"),
    h("pre", {}, "settled publish payment_completed --session 0x… --party provider=0x…"),
  );
}

async function more(f) {
  try {
    const page = await get(path(f, f.next));
    f.next = page.next;
    f.rows.push(...page.entries);
    f.list.append(...page.entries.map((r) => feedRow(r)));
    f.keep = f.rows.length + newest; // older rows stay on the page
    foot(f);
  } catch (error) {
    f.foot.replaceChildren(failure(error, () => more(f)));
  }
}

function choose(f, state) {
  f.state = state;
  f.tabs.forEach((tab, i) => tab.setAttribute("aria-pressed", String(filters[i][0] === state)));
  f.rows = [];
  f.list.replaceChildren();
  load(f);
}

function pause(f) {
  f.paused = !f.paused;
  f.pause.setAttribute("aria-pressed", String(f.paused));
  if (!f.paused) load(f);
  label(f);
}

function label(f) {
  f.pause.textContent = f.paused ? (f.missed ? `Resume (${several(f.missed, "new", "new")})` : "Resume") : "Pause";
}

function arrived(f, kind, data) {
  if (kind === "reset") load(f);
  if (kind !== "entries") return;
  if (f.early) {
    f.early.push(data);
    return;
  }
  const rows = data.entries.filter((r) => wants(f.state, r) && !(r.sequence <= (f.rows[0]?.sequence || 0)));
  if (!rows.length) return;
  if (f.paused) {
    f.missed += rows.length;
    label(f);
    return;
  }
  if (!f.rows.length) f.foot.replaceChildren();
  const items = rows.reverse().map((r) => feedRow(r, live.state === "live"));
  f.rows.unshift(...rows);
  f.list.prepend(...items);
  const keep = f.older ? f.keep || newest : f.limit;
  if (f.rows.length > keep) {
    f.rows.length = keep;
    while (f.list.children.length > keep) f.list.lastChild.remove();
    f.next = f.rows.at(-1).sequence;
    foot(f);
  }
}
