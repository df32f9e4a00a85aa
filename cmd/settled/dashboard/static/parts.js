// Elements that several pages share: the mark of a state, a row of the feed, a note.
import { h } from "./dom.js";
import { clock, full, isZero, ms, short } from "./format.js";

const stateText = { closed: "Closed", failed: "Failed", closing: "Closing", free: "Free" };

/** mark returns a state as a coloured word. */
export const mark = (state) => h("span", { class: `mark ${stateText[state] ? state : "odd"}` }, stateText[state] || state || "?");

export const when = (time) => h("time", { datetime: time, title: full(time) }, clock(time));

export const note = (...children) => h("p", { class: "quiet" }, ...children);

export const sessionLink = (id, text, key) => h("a", { class: "mono", href: `#/session/${encodeURIComponent(id)}`, title: id, "data-key": key || null }, text || short(id));

export const failure = (error, retry) =>
  h("div", { class: "empty", role: "alert" }, h("p", { class: "strong" }, "The data could not be read."), note(error.message), retry && h("button", { type: "button", class: "button", on: { click: retry } }, "Try again"));

/** feedRow returns one entry as a link to its session. */
export function feedRow(r, fresh) {
  return h(
    "li",
    { class: fresh ? "fresh" : null },
    h(
      "a",
      { class: `row ${r.state}`, href: `#/session/${encodeURIComponent(r.session_id)}`, "data-key": `row${r.sequence}` },
      h("span", { class: "cell time" }, when(r.time)),
      h("span", { class: "cell state" }, mark(r.state)),
      h("span", { class: "cell what" }, h("span", { class: "scenario" }, r.scenario || "unknown"), r.reference && h("span", { class: "reference", title: r.reference }, r.reference)),
      h("span", { class: "cell session mono" }, short(r.session_id)),
      h("span", { class: "cell result" }, result(r)),
      h("span", { class: "cell took" }, r.ms ? ms(r.ms) : ""),
    ),
  );
}

function result(r) {
  if (r.state === "failed") return [h("span", { class: "code" }, r.code || "?"), " ", h("span", { class: "why", title: r.error }, r.error || "")];
  const people = byParticipant(r.allocations || []);
  const more = (r.more || 0) + people.slice(3).reduce((n, [, amounts]) => n + amounts.length, 0);
  const paid = people.slice(0, 3).map(([who, amounts]) =>
    h("span", { class: "paid" }, h("span", { class: "mono who", title: who }, short(who)), " ", amounts.map((a) => `${a.amount} ${a.asset}`).join(" + ")),
  );
  if (r.state === "closing") paid.unshift(h("span", { class: "paid quiet" }, r.attempt > 1 ? `attempt ${r.attempt}, to pay` : "to pay"));
  if (more) paid.push(h("span", { class: "paid quiet" }, `and ${more} more`));
  if (r.recovered) paid.push(h("span", { class: "paid quiet" }, "found closed at the node"));
  if (!paid.length) paid.push(h("span", { class: "quiet" }, "nothing paid"));
  return paid;
}

/** byParticipant returns [participant, allocations above 0] in the order of the participants. */
export function byParticipant(allocations) {
  const all = new Map();
  for (const a of allocations) {
    if (isZero(a.amount)) continue;
    all.set(a.participant, [...(all.get(a.participant) || []), a]);
  }
  return [...all];
}

/** facts returns a list of names and values. The optional kind "long" takes two columns. A null value is left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value, kind]) => h("div", { class: kind || null }, h("dt", {}, name), h("dd", {}, value))));
}

/** copyable returns a text with a button that copies it. */
export function copyable(text, label) {
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copying failed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return h("span", { class: "copyable" }, h("span", { class: "mono" }, text), button);
}

