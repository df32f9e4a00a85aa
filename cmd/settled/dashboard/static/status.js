// Shown on every page: connections, problems, and how far the ledger is read.
import { byId, fill, h } from "./dom.js";
import { clock, count, several } from "./format.js";
import { live } from "./live.js";
import { state } from "./state.js";
import { showKeys } from "./dialog.js";

export function showStatus() {
  const o = state.overview;
  const away = gone();
  fill(byId("chips"), chips(o, away), (list) => list.map(([name, tone, text]) => h("li", { class: `chip ${tone}`, title: `${name}: ${text}` }, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "name" }, name), h("span", { class: "hidden" }, `: ${text}`))));
  fill(byId("alerts"), alerts(o, away), (list) => list.map(([tone, title, text]) => h("div", { class: `alert ${tone}` }, h("strong", {}, title), " ", text)));
  document.documentElement.classList.toggle("away", away);
  if (!o) return;
  const badge = byId("letters");
  badge.hidden = !o.dead_letters;
  badge.textContent = o.dead_letters > 999 ? "999+" : String(o.dead_letters);
  fill(byId("foot"), [o.version, o.ledger.read, o.ledger.first_read, o.ledger.since, o.status.node.url, o.status.node.address], foot);
}

/** gone reports that the server does not answer. */
const gone = () => Boolean(state.error);

/** cut reports that the server answers, but its event stream has been disconnected for some seconds. */
const cut = () => !gone() && live.state === "away" && Date.now() - live.since > 3000;

function chips(o, away) {
  const page = live.state === "live" ? ["Live", "ok", "this page follows the ledger"] : live.state === "hidden" ? ["Live", "off", "paused while hidden"] : ["Live", away || cut() ? "bad" : "off", away ? "this page is not connected" : "connecting"];
  if (!o) return [page];
  const s = o.status;
  const nats = s.nats.connected ? ["NATS", "ok", `connected to ${s.nats.server}`] : ["NATS", "bad", "not connected"];
  const node = s.node.connections === 0 ? "bad" : s.node.problem || s.node.connections < s.node.configured ? "warn" : "ok";
  return [nats, [`ClearNode ${s.node.connections}/${s.node.configured}`, node, s.node.problem || `${several(s.node.connections, "connection")} to ${s.node.url}`], page].map((c) => (away ? [c[0], c === page ? "bad" : "off", c[2]] : c));
}

function alerts(o, away) {
  const list = [];
  if (away) list.push(["gone", "No connection to settled.", state.at ? `The data shown is from ${clock(state.at)}. This page reconnects automatically.` : "This page reconnects automatically."]);
  else if (cut()) list.push(["warn", "Not live.", "The figures are up to date, but the list is not updated until the event stream is connected again. This page reconnects automatically."]);
  if (!o) return list;
  if (o.stopped) list.push(["bad", "Sending is stopped, on every replica.", stopText(o.stopped)]);
  if (o.status.intake.paused) list.push(["warn", "Paused: no outcome is fetched.", sentence(o.status.intake.paused_why || o.status.node.problem)]);
  else if (o.status.problem && !o.stopped) list.push(["warn", "Not ready:", sentence(o.status.problem)]);
  if (o.ledger.problem) list.push(["warn", "The ledger can't be followed; the data shown may be old.", sentence(o.ledger.problem)]);
  if (o.ledger.unreadable.count) list.push(["bad", `${several(o.ledger.unreadable.count, "message")} in the ledger's stream ${o.ledger.unreadable.count === 1 ? "is not an entry" : "are not entries"}.`, `The last one is ${o.ledger.unreadable.last_sequence}. Run settled ledger verify: only settled may write to the ledger.`]);
  if (!o.ledger.problem && o.ledger.loading) list.push(["", "Reading the ledger.", `${count(o.ledger.read)} of ${count(o.ledger.last)}; the figures are incomplete until then.`]);
  return list;
}

function stopText(stop) {
  const why = stop.reason ? `: ${stop.reason}` : "";
  return `By ${stop.who || "an unnamed client"}, ${clock(stop.at)}${why}${stop.session_id ? ` (session ${stop.session_id})` : ""}. Outcomes wait; none is lost. When the cause is known, run settled resume --reason "…".`;
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "");

const foot = ([version, read, first, since, url, address]) => [
  h("span", {}, `settled ${version}`),
  h("span", { title: address ? `answers are signed by ${address}` : null }, url),
  h("span", {}, read ? `ledger read to ${count(read)}${first > 1 ? `, from ${count(first)} (${clock(since)})` : ""}` : "ledger empty"),
  h("button", { type: "button", class: "linkish", "data-key": "keys", on: { click: showKeys } }, "Shortcuts ", h("kbd", {}, "?")),
];

