// One session: its state, its allocation, and everything recorded of it.
import { h } from "./dom.js";
import { get } from "./api.js";
import { onLive } from "./live.js";
import { isZero, ms, percent, several, short, sum } from "./format.js";
import { copyable, facts, failure, mark, note, when } from "./parts.js";
import { countdown } from "./tick.js";

export function sessionPage(id) {
  const element = h("div", { class: "sessionpage" }, note("Reading the ledger…"));
  const open = new Set(); // entries whose stored event is shown
  let reading = false;
  const load = async () => {
    if (reading) return;
    reading = true;
    try {
      const page = await get(`api/session/${encodeURIComponent(id)}`);
      element.replaceChildren(...content(page, open));
    } catch (error) {
      element.replaceChildren(head(id, null), error.status === 404 ? missing(error) : failure(error, load));
    } finally {
      reading = false;
    }
  };
  const end = onLive((kind, data) => {
    if (kind === "reset" || (kind === "entries" && (data.skipped || data.entries.some((r) => r.session_id === id)))) load();
  });
  return { title: `Session ${short(id)}`, element, end, ready: load() };
}

const missing = (error) => h("div", { class: "empty" }, h("p", { class: "strong" }, "Nothing is recorded of this session."), note(error.message));

const head = (id, standing) =>
  h("div", { class: "pagehead session" }, h("div", {}, h("p", { class: "crumb" }, "Session"), h("h1", {}, id === "unknown" ? "Entries whose session can't be read" : copyable(id, "session id"))), standing && h("div", { class: "standing" }, mark(standing.state)));

function read(entry) {
  try {
    return { ...entry, data: JSON.parse(entry.raw).data || {} };
  } catch {
    return { ...entry, data: {} };
  }
}

function content(page, open) {
  const entries = page.entries.map(read);
  const last = entries.at(-1);
  const holder = [...entries].reverse().find((e) => e.state !== "failed" && e.data.allocations) || null;
  const first = entries.find((e) => e.data.outcome) || last;
  return [
    head(page.session_id, page.standing),
    page.chain && h("p", { class: "alert bad", role: "alert" }, `The hash chain is broken: ${page.chain}.`),
    page.foreign.count > 0 && h("p", { class: "alert bad", role: "alert" }, `${several(page.foreign.count, "message")} on this session's subjects ${page.foreign.count === 1 ? "is not an entry and has" : "are not entries and have"} no effect. The last is ${page.foreign.last_sequence}. Run settled ledger verify.`),
    summary(page, holder || last, first),
    holder && page.standing?.state !== "free" ? allocations(holder) : null,
    h("section", { class: "card", "aria-label": "Timeline" }, h("div", { class: "cardhead" }, h("h2", {}, "Timeline"), h("span", { class: "quiet" }, several(entries.length, "entry", "entries"))), h("ol", { class: "timeline" }, entries.map((e, i) => step(e, entries[i - 1], open, holds(page, e)))), !page.whole && note("Entries before the last one are left out; settled ledger show prints all.")),
  ].filter(Boolean);
}

function summary(page, e, first) {
  const d = e.data;
  const o = d.outcome || {};
  return h(
    "section",
    { class: "card", "aria-label": "Facts" },
    facts([
      ["Scenario", d.scenario],
      ["Reference", d.reference],
      ["Reason", d.reason],
      ["Outcome", o.id && h("span", {}, h("span", { class: "mono" }, o.id), " of ", h("span", { class: "mono" }, o.source))],
      ["Message", o.stream && `${o.stream}/${o.sequence}`],
      ["First recorded", when(first.time)],
      ["Policy", d.policy && h("span", { title: d.policy.digest }, d.policy.name, " ", h("span", { class: "mono quiet" }, d.policy.digest.slice(0, 10)))],
      ["Hash chain", page.session_id === "unknown" ? null : page.chain ? "broken" : page.whole ? `complete, ${several(page.entries.length, "entry", "entries")}` : "complete as far as shown"],
    ]),
  );
}

/** allocations shows a bar for each asset, and the exact amounts in a table. */
function allocations(e) {
  const rows = e.data.allocations;
  const assets = [...new Set(rows.map((a) => a.asset))];
  const people = [...new Set(rows.map((a) => a.participant))];
  const amountOf = (who, asset) => rows.find((a) => a.participant === who && a.asset === asset)?.amount ?? null;
  const totals = assets.map((asset) => sum(people.map((who) => amountOf(who, asset) ?? "0")));
  const bar = (asset, i) =>
    h(
      "div",
      { class: "split" },
      h("div", { class: "pair" }, h("span", { class: "asset" }, asset), h("span", { class: "n" }, totals[i].total)),
      h("div", { class: "splitbar", role: "img", "aria-label": `${asset}: ${people.map((who, p) => `${short(who)} ${percent(totals[i].shares[p])}`).join(", ")}` }, people.map((who, p) => totals[i].shares[p] > 0 && h("span", { class: `who${p % 6}`, title: `${who}: ${amountOf(who, asset)} ${asset}`, vars: { "--part": `${(totals[i].shares[p] * 100).toFixed(4)}%` } }))),
    );
  const line = (who, p) =>
    h("tr", {}, h("th", { scope: "row" }, h("span", { class: `swatch who${p % 6}`, "aria-hidden": "true" }), h("span", { class: "mono addr", title: who }, h("span", { class: "whole" }, who), h("span", { class: "ends" }, short(who)))), assets.map((asset, i) => amountCell(amountOf(who, asset), totals[i].shares[p])));
  return h(
    "section",
    { class: "card", "aria-label": "Allocation" },
    h("div", { class: "cardhead" }, h("h2", {}, e.state === "closed" ? "Paid" : "To be paid")),
    h("div", { class: "splits" }, assets.map(bar)),
    h("div", { class: "tablewrap" }, h("table", { class: "amounts" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Participant"), assets.map((a) => h("th", { scope: "col", class: "num" }, a)))), h("tbody", {}, people.map(line)))),
  );
}

const amountCell = (amount, share) =>
  h("td", { class: amount === null || isZero(amount) ? "num zero" : "num" }, h("span", { class: "amount" }, amount ?? "–"), amount !== null && !isZero(amount) && h("span", { class: "share" }, percent(share)));

const titles = {
  closing: (d) => (d.attempt > 1 ? `Intent recorded again, attempt ${d.attempt}` : "Intent recorded"),
  closed: (d) => (d.recovered ? "Found closed at the node, with the planned allocation" : "Closed at the node"),
  failed: () => "Failed",
};

/** holds reports whether the request of this intent may still be in flight. */
const holds = (page, e) => page.standing?.state === "closing" && page.standing.sequence === e.sequence;

function step(e, before, open, held) {
  const d = e.data;
  const gap = before ? new Date(e.time) - new Date(before.time) : null;
  const details = h("details", { class: "stored", open: open.has(e.sequence) }, h("summary", {}, "Event as stored"), h("pre", {}, e.raw));
  details.addEventListener("toggle", () => (details.open ? open.add(e.sequence) : open.delete(e.sequence)));
  return h(
    "li",
    { class: `step ${titles[e.state] ? e.state : "odd"}` },
    h("div", { class: "stephead" }, h("h3", {}, e.problem ? "Not an entry of the ledger" : titles[e.state](d)), h("span", { class: "quiet" }, when(e.time), gap !== null ? ` · ${ms(gap)} later` : "")),
    e.problem ? h("p", { class: "code" }, e.problem) : facts(stepFacts(e.state, d, e.sequence, held)),
    details,
  );
}

const digest = (text) => text && h("span", { class: "mono", title: text }, `${text.slice(0, 10)}…`);

function stepFacts(state, d, sequence, held) {
  const o = d.outcome || {};
  const pairs = [["Entry", String(sequence)], ["Outcome", o.id && h("span", {}, h("span", { class: "mono" }, o.id), ` · ${o.stream}/${o.sequence}`)]];
  if (state === "closing") {
    const until = d.valid_until && new Date(d.valid_until);
    pairs.push(["Request", d.request && h("span", {}, `${d.request.id} · `, digest(d.request.digest))]);
    pairs.push(held ? ["In doubt", until && countdown(d.valid_until)] : ["Fence until", until && when(d.valid_until)]);
    pairs.push(["From version", d.base_version === undefined ? null : String(d.base_version)]);
  }
  if (state === "closed" && d.node) {
    pairs.push(["Node", h("span", { title: d.node.address }, `${d.node.url} · ${d.node.protocol} · `, h("span", { class: "mono" }, short(d.node.address))), "long"]);
    pairs.push(["Signature", d.node.signature ? digest(d.node.signature) : "none, this node does not sign answers"]);
    pairs.push(["Version", d.session_version === undefined ? null : String(d.session_version)]);
  }
  if (state === "failed" && d.error) {
    pairs.push(["Why", h("span", {}, h("span", { class: "code" }, d.error.code), ` ${d.error.message}`), "long"]);
    pairs.push(["Dead letter", d.dead_letter && h("a", { href: `#/deadletters/${d.dead_letter}`, "data-key": `letter${d.dead_letter}` }, String(d.dead_letter))]);
    pairs.push(["Session remains", d.standing && d.standing.state !== "free" ? `${d.standing.state}, held by ${d.standing.id}` : null]);
  }
  pairs.push(["Evidence", d.evidence?.length ? h("span", {}, d.evidence.join(" · ")) : null]);
  return pairs;
}
