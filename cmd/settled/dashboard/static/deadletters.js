// The list of dead letters, and the page of one with its actions.
import { fill, h } from "./dom.js";
import { get } from "./api.js";
import { several, short } from "./format.js";
import { facts, failure, note, sessionLink, when } from "./parts.js";
import { discardLetter, replayLetter } from "./dialog.js";
import { state } from "./state.js";

/** deadLettersPage reloads when the number of dead letters changes, unless older ones are shown. */
export function deadLettersPage() {
  const list = h("ol", { class: "letters" });
  const foot = h("div", { class: "feedfoot" }, note("Reading…"));
  const total = h("span", { class: "quiet" });
  let shown = -1;
  const load = async (before) => {
    try {
      const page = await get(`api/deadletters${before ? `?before=${before}` : ""}`);
      if (before) list.append(...page.letters.map(letterRow));
      else fill(list, page.letters, (letters) => letters.map(letterRow));
      shown = before ? Infinity : page.total;
      total.textContent = page.total ? several(page.total, "dead letter") : "";
      foot.replaceChildren(list.children.length ? "" : nothing(), page.next ? h("button", { type: "button", class: "button", on: { click: () => load(page.next) } }, "Older") : "");
    } catch (error) {
      foot.replaceChildren(failure(error, () => load(before)));
    }
  };
  const element = h("div", {}, h("div", { class: "pagehead" }, h("h1", {}, "Dead letters"), total), h("section", { class: "card feedcard", "aria-label": "Dead letters" }, list, foot));
  const update = (o) => shown >= 0 && shown !== Infinity && o.dead_letters !== shown && load(0);
  return { title: "Dead letters", element, update, end: () => {}, ready: load(0) };
}

const nothing = () => h("div", { class: "empty" }, h("p", { class: "strong" }, "No dead letters."), note("An outcome that can't be settled is kept here until an operator replays or discards it."));

const letterRow = (l) =>
  h(
    "li",
    {},
    h(
      "a",
      { class: "row letter", href: `#/deadletters/${l.sequence}`, "data-key": `row${l.sequence}` },
      h("span", { class: "cell time" }, when(l.failed_at)),
      h("span", { class: "cell seq mono" }, `#${l.sequence}`),
      h("span", { class: "cell what" }, h("span", { class: l.class === "conflict" ? "code conflict" : "code" }, l.code || "?"), h("span", { class: "reference" }, `${l.scenario}${l.replays ? ` · replayed ${several(l.replays, "time")}` : ""}`)),
      h("span", { class: "cell session mono" }, short(l.session_id)),
      h("span", { class: "cell result why", title: l.error }, l.error),
    ),
  );

export function deadLetterPage(sequence) {
  const element = h("div", {}, note("Reading…"));
  let could;
  const load = async () => {
    could = state.overview?.can_change;
    try {
      element.replaceChildren(...content(await get(`api/deadletters/${encodeURIComponent(sequence)}`), load));
    } catch (error) {
      element.replaceChildren(head(sequence), error.status === 404 ? gone() : failure(error, load));
    }
  };
  const update = (o) => could !== o.can_change && load();
  return { title: `Dead letter ${sequence}`, element, update, end: () => {}, ready: load() };
}

const head = (sequence, ...more) => h("div", { class: "pagehead" }, h("div", {}, h("p", { class: "crumb" }, h("a", { href: "#/deadletters" }, "Dead letters")), h("h1", {}, `Dead letter ${sequence}`)), ...more);

const gone = () => h("div", { class: "empty" }, h("p", { class: "strong" }, "There is no such dead letter."), note("It was replayed or discarded. The timeline of its session has the result."));

function content(l, changed) {
  const can = state.overview?.can_change;
  const actions = can
    ? h("div", { class: "actions" }, h("button", { type: "button", class: "button", id: "discard", on: { click: () => discardLetter(l, changed) } }, "Discard…"), h("button", { type: "button", class: "button primary", id: "replay", on: { click: () => replayLetter(l, changed) } }, "Replay…"))
    : null;
  return [
    head(l.sequence, actions),
    !can && h("p", { class: "alert", id: "readonly" }, "Nothing can be changed here: http.token_file is not set. From a terminal: ", h("code", {}, `settled deadletter replay ${l.sequence}`), "."),
    h(
      "section",
      { class: "card", "aria-label": "Facts" },
      facts([
        ["Why", h("span", {}, h("span", { class: l.class === "conflict" ? "code conflict" : "code" }, l.code || "?"), l.class ? ` (${l.class})` : "", " ", l.error), "long"],
        ["Failed at", when(l.failed_at)],
        ["Session", l.session_id === "unknown" ? "could not be read" : sessionLink(l.session_id, l.session_id, "session"), "long"],
        ["Scenario", l.scenario],
        ["Message", l.origin],
        ["Attempts", String(l.attempts)],
        ["Replayed before", l.replays ? several(l.replays, "time") : null],
        ["What to do", l.code && h("span", {}, "deploy/RUNBOOK.md, section ", h("code", {}, l.code))],
      ]),
    ),
    h("section", { class: "card", "aria-label": "Payload" }, h("div", { class: "cardhead" }, h("h2", {}, "Payload"), h("span", { class: "quiet" }, `${several(l.size, "byte")}${l.binary ? ", not text" : ""}${l.size > 65536 ? ", the first 65,536 shown" : ""}`)), h("pre", { class: "payload", tabindex: "0" }, pretty(l.payload) || "(empty)")),
    h("section", { class: "card", "aria-label": "Headers" }, h("div", { class: "cardhead" }, h("h2", {}, "Headers")), h("dl", { class: "facts wide" }, Object.entries(l.headers || {}).sort().map(([name, values]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, values.join(", ")))))),
  ].filter(Boolean);
}

/** pretty puts JSON on lines, without reading its numbers: they stay as they were written. */
function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = "";
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "}" || token === "]") depth--;
    if ((token === "}" || token === "]") && !/[{[]$/.test(out)) out += "\n" + "  ".repeat(depth);
    else if (/[{[,]$/.test(out) && token !== "}" && token !== "]") out += "\n" + "  ".repeat(depth);
    out += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth++;
  }
  return out;
}
