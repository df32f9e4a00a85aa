// All entries of the ledger, newest first.
import { h } from "./dom.js";
import { feed } from "./feed.js";

export function settlementsPage() {
  const list = feed({ limit: 50, title: "All settlements", older: true });
  return { title: "Settlements", element: h("div", {}, h("div", { class: "pagehead" }, h("h1", {}, "Settlements")), list), end: list.end, ready: list.ready };
}
