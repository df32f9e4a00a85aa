// The results of a search.
import { h } from "./dom.js";
import { get } from "./api.js";
import { clock, count, short } from "./format.js";
import { failure, mark, note } from "./parts.js";

export function searchPage(query) {
  const body = h("section", { class: "card feedcard", "aria-label": "Results" }, note("Searching…"));
  const element = h("div", {}, h("div", { class: "pagehead" }, h("h1", {}, "Search"), h("span", { class: "quiet asked" }, query)), body);
  const load = async () => {
    try {
      const page = await get(`api/search?q=${encodeURIComponent(query)}`);
      if (page.matches.length === 1) {
        location.replace(`#/session/${encodeURIComponent(page.matches[0].session_id)}`);
        return;
      }
      body.replaceChildren(...found(page));
    } catch (error) {
      body.replaceChildren(failure(error, load));
    }
  };
  return { title: "Search", element, end: () => {}, ready: load() };
}

function found(page) {
  const searched = page.searched ? `The references and outcome ids of the newest ${count(page.searched)} results were searched, back to ${clock(page.since)}. A complete session id is found at any age.` : "No result is recorded yet. A complete session id is found anyway.";
  if (!page.matches.length) return [h("div", { class: "empty" }, h("p", { class: "strong" }, "Nothing found."), note(searched))];
  return [
    h(
      "ol",
      { class: "feed" },
      page.matches.map((m) =>
        h(
          "li",
          {},
          h(
            "a",
            { class: "row match", href: `#/session/${encodeURIComponent(m.session_id)}`, "data-key": `row${m.sequence}` },
            h("span", { class: "cell state" }, mark(m.state)),
            h("span", { class: "cell session mono" }, short(m.session_id)),
            h("span", { class: "cell result" }, h("span", { class: "quiet" }, `${m.by} `), m.text),
          ),
        ),
      ),
    ),
    h("div", { class: "feedfoot" }, note(searched)),
  ];
}
