// Elements that count: until a fence falls, since something was lost.
import { h } from "./dom.js";
import { full, span } from "./format.js";

function show(e) {
  const left = (new Date(e.dataset.until) - Date.now()) / 1000;
  e.textContent = left > 0 ? `fence falls in ${span(left)}` : `fence fell ${span(-left)} ago`;
  e.classList.toggle("past", left <= 0);
}

/** countdown says how long until a time, on this machine's clock. */
export function countdown(until) {
  const e = h("span", { class: "countdown", "data-until": until, title: `${full(until)}, on the node's clock` });
  show(e);
  return e;
}

setInterval(() => document.querySelectorAll(".countdown").forEach(show), 1000);
