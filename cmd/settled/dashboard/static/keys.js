// Keyboard shortcuts.
import { byId } from "./dom.js";
import { showKeys } from "./dialog.js";

const places = { o: "#/", s: "#/settlements", d: "#/deadletters" };
let went = 0; // when g was pressed

function row(by) {
  const rows = [...document.querySelectorAll("a.row")];
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by];
  next?.focus();
}

const actions = {
  "/": () => byId("query").focus(),
  "?": showKeys,
  j: () => row(1),
  k: () => row(-1),
  p: () => document.getElementById("pause")?.click(),
  t: () => byId("theme").click(),
  g: () => (went = Date.now()),
};

document.addEventListener("keydown", (e) => {
  const typing = e.target.closest("input, textarea, select, dialog");
  if (e.key === "Escape" && e.target.id === "query") e.target.blur();
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
  if (Date.now() - went < 1200 && places[e.key]) {
    went = 0;
    location.hash = places[e.key];
    e.preventDefault();
    return;
  }
  if (actions[e.key]) {
    e.preventDefault();
    actions[e.key]();
  }
});
