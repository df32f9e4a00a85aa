// The first page: the current state, and the results of a window of time.
import { fill, h } from "./dom.js";
import { feed } from "./feed.js";
import { count, ms, percent, several, span, words } from "./format.js";
import { note, sessionLink } from "./parts.js";
import { latency, plot, results, windowName, windowText } from "./plot.js";
import { setWindow, state } from "./state.js";
import { countdown } from "./tick.js";

/** overviewPage is {title, element, update(overview), end()}. */
export function overviewPage() {
  const figures = h("dl", { class: "figures" });
  const plots = [plot(results), plot(latency)];
  const list = feed({ limit: 30, title: "Latest", older: false });
  const [doubts, waiting, codes, scenarios] = ["In doubt", "Waiting", "Failures", "Scenarios"].map(panel);
  const element = h(
    "div",
    { class: "overview" },
    h("div", { class: "pagehead" }, h("h1", {}, "Overview"), windowTabs()),
    figures,
    h("div", { class: "plots" }, plots),
    h("div", { class: "columns" }, list, h("div", { class: "side" }, doubts.element, waiting.element, codes.element, scenarios.element)),
  );
  const update = (o) => {
    fill(figures, figureValues(o), figureList);
    for (const p of plots) p.draw(o.window);
    fill(doubts.body, [o.doubts, o.in_doubt], doubtList);
    fill(waiting.body, [o.status.waiting, o.status.intake], waitingList);
    fill(codes.body, [o.codes, o.window.name], codeList);
    fill(scenarios.body, [o.scenarios, o.window.name], scenarioList);
  };
  return { title: "Overview", element, update, end: list.end, ready: list.ready };
}

function panel(title) {
  const body = h("div", { class: "panelbody" }, note("Loading…"));
  return { body, element: h("section", { class: "card panel", "aria-label": title }, h("h2", {}, title), body) };
}

function windowTabs() {
  const tabs = Object.keys(windowName).map((name) =>
    h("button", { type: "button", class: "tab", "aria-pressed": String(name === state.window), "data-window": name, on: { click: () => chooseWindow(name) } }, windowName[name]),
  );
  const chooseWindow = (name) => {
    for (const t of tabs) t.setAttribute("aria-pressed", String(t.dataset.window === name));
    setWindow(name);
  };
  return h("div", { class: "tabs", role: "group", "aria-label": "Window of time" }, tabs);
}

const seconds = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 85500 };

function figureValues(o) {
  const all = o.window.closed + o.window.failed;
  const since = Math.min(seconds[o.window.name], Math.max(60, (new Date(o.now) - new Date(o.ledger.since)) / 1000));
  const rate = (o.window.closed * 60) / since;
  const oldest = Math.max(0, ...o.status.waiting.map((w) => w.oldest_seconds));
  const waits = o.status.waiting.reduce((n, w) => n + w.count, 0);
  return [
    ["Closed", count(o.window.closed), all ? `${rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} a minute` : `last ${windowText[o.window.name]}`, ""],
    ["Failed", count(o.window.failed), all ? `${percent(o.window.failed / all)} of results` : `last ${windowText[o.window.name]}`, o.window.failed ? "bad" : ""],
    ["Time to close", ms(o.window.p50_ms), o.window.p95_ms === null ? "p50" : `p50; p95 ${ms(o.window.p95_ms)}`, ""],
    ["Closing now", count(o.closing), o.in_doubt ? `${count(o.in_doubt)} in doubt` : "none in doubt", o.in_doubt ? "warn" : ""],
    ["Waiting", count(waits), waits ? `oldest ${span(oldest)}` : `${several(o.status.intake.pending, "outcome")} pending`, waits ? "warn" : ""],
    ["Dead letters", count(o.dead_letters), o.dead_letters ? "to replay or discard" : "none", o.dead_letters ? "bad" : "", "#/deadletters"],
  ];
}

const figureList = (values) =>
  values.map(([name, value, sub, tone, href]) =>
    h("div", { class: `figure ${tone}` }, h("dt", {}, href ? h("a", { href, "data-key": name }, name) : name), h("dd", {}, h("span", { class: "number" }, value), h("span", { class: "sub" }, sub))),
  );

function doubtList([doubts, all]) {
  if (!doubts.length) return note("None. A session is in doubt while the result of its close is unknown.");
  const rows = doubts.slice(0, 8).map((d) =>
    h(
      "li",
      {},
      h("div", { class: "pair" }, sessionLink(d.session_id, null, d.session_id), d.valid_until ? countdown(d.valid_until) : h("span", { class: "quiet" }, `fence: version ${d.base_version ?? "?"}`)),
      h("div", { class: "quiet small" }, `${d.scenario}${d.reference ? ` · ${d.reference}` : ""}${d.attempt > 1 ? ` · attempt ${d.attempt}` : ""}`),
    ),
  );
  return [h("ul", { class: "lines" }, rows), all > rows.length && note(`and ${count(all - rows.length)} more`), note("Until the fence expires, settled only reads; then it may send again.")];
}

const reasons = {
  node_away: "the ClearNode can't be reached",
  read_failed: "the session can't be read",
  in_doubt: "a close may still take effect",
  ledger_away: "NATS can't be read or written",
  ledger_held: "the ledger lost entries",
  not_ready: "not signed in, or the message expiry is not verified",
  node_transient: "the node refused temporarily",
  letter_away: "the dead letter can't be stored",
  escrow_pending: "an escrow blocks the session",
  node_refused: "the node refuses a recorded plan",
  unknown_refusal: "the node answers with an unknown error",
  cosigners_away: "co-signatures are missing",
};

function waitingList([waiting, intake]) {
  const parts = [];
  if (waiting.length) {
    parts.push(
      h(
        "ul",
        { class: "lines" },
        waiting.map((w) =>
          h("li", {}, h("div", { class: "pair" }, h("span", {}, h("span", { class: "code warn" }, w.reason)), h("span", {}, `${count(w.count)}, oldest ${span(w.oldest_seconds)}`)), h("div", { class: "quiet small" }, reasons[w.reason] || words(w.reason))),
        ),
      ),
    );
  } else {
    parts.push(note("No outcome waits in this process."));
  }
  parts.push(
    h(
      "dl",
      { class: "counts" },
      [
        ["being settled here", intake.in_hand],
        ["without a result, all replicas", intake.unanswered],
        ["not delivered yet", intake.pending],
      ].map(([name, n]) => h("div", {}, h("dt", {}, name), h("dd", {}, count(n)))),
    ),
  );
  return parts;
}

/** bars returns a list of names, each with its share as a bar. */
const bars = (rows) =>
  h(
    "ul",
    { class: "bars" },
    rows.map(([name, tone, parts, n, most]) =>
      h(
        "li",
        {},
        h("div", { class: "pair" }, h("span", { class: `name ${tone}` }, name), h("span", { class: "n" }, count(n))),
        h("div", { class: "bar", "aria-hidden": "true" }, parts.map(([kind, part]) => part > 0 && h("span", { class: kind, vars: { "--part": `${((part / most) * 100).toFixed(2)}%` } }))),
      ),
    ),
  );

function codeList([codes, window]) {
  if (!codes.length) return note(`None in the last ${windowText[window]}.`);
  const most = Math.max(...codes.map((c) => c.count));
  return bars(codes.map((c) => [c.code, c.class === "conflict" ? "code conflict" : "code", [[c.class === "conflict" ? "conflict" : "failed", c.count]], c.count, most]));
}

function scenarioList([scenarios, window]) {
  if (!scenarios.length) return note(`No results in the last ${windowText[window]}.`);
  const most = Math.max(...scenarios.map((s) => s.closed + s.failed));
  const shown = scenarios.slice(0, 10);
  return [bars(shown.map((s) => [s.name || "unknown", "", [["closed", s.closed], ["failed", s.failed]], s.closed + s.failed, most])), scenarios.length > shown.length && note(`and ${scenarios.length - shown.length} more`)];
}
