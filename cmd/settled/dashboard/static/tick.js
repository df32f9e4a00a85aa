// Countdowns until a fence expires.
import { h } from "./dom.js";
import { full, span } from "./format.js";

function show(e) {
  const left = (new Date(e.dataset.until) - Date.now()) / 1000;
  e.textContent = left > 0 ? `fence expires in ${span(left)}` : `fence expired ${span(-left)} ago`;
  e.classList.toggle("past", left <= 0);
}

/** countdown shows the time left until an instant, by this machine's clock. */
export function countdown(until) {
  const e = h("span", { class: "countdown", "data-until": until, title: `${full(until)}, by the node's clock` });
  show(e);
  return e;
}

setInterval(() => document.querySelectorAll(".countdown").forEach(show), 1000);
