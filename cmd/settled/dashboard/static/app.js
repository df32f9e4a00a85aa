// The entry point: routes, the event stream, and what every page shows.
import { byId } from "./dom.js";
import { begin, onLive } from "./live.js";
import { get } from "./api.js";
import { onState, refresh, state } from "./state.js";
import { showStatus } from "./status.js";
import { overviewPage } from "./overview.js";
import { settlementsPage } from "./settlements.js";
import { sessionPage } from "./session.js";
import { deadLetterPage, deadLettersPage } from "./deadletters.js";
import { searchPage } from "./search.js";
import "./keys.js";

let page = null;

/** route returns the page for the address in location.hash. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id] = path.split("/").map(decode);
  if (name === "settlements") return settlementsPage();
  if (name === "session" && id) return sessionPage(id.toLowerCase());
  if (name === "deadletters" && id) return deadLetterPage(id);
  if (name === "deadletters") return deadLettersPage();
  if (name === "search") return searchPage(new URLSearchParams(query).get("q") || "");
  return overviewPage();
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function go() {
  const first = page === null;
  page?.end();
  page = route();
  document.title = page.title === "Overview" ? "settled" : `${page.title} · settled`;
  const here = location.hash.replace(/^#\/?/, "").split(/[/?]/)[0] || "overview";
  for (const link of document.querySelectorAll("nav.pages a")) {
    if (link.dataset.page === here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("main").replaceChildren(page.element);
  if (here !== "search") byId("query").value = "";
  if (state.overview) page.update?.(state.overview);
  if (first) return;
  byId("main").focus({ preventScroll: true });
  scrollTo(0, 0);
}

byId("skip").addEventListener("click", (e) => {
  e.preventDefault();
  byId("main").focus();
});
byId("search").addEventListener("submit", (e) => {
  e.preventDefault();
  const text = byId("query").value.trim();
  if (text) location.hash = `#/search?q=${encodeURIComponent(text)}`;
});
addEventListener("hashchange", go);
onState(() => {
  showStatus();
  if (state.overview && !state.error) page?.update?.(state.overview);
});
onLive((kind) => kind === "state" && showStatus());
setInterval(showStatus, 1000); // shows a lost connection after a moment

/** newest returns the last sequence that the server has read; later entries are streamed. */
async function newest() {
  try {
    return (await get("api/settlements?limit=1&state=")).entries[0]?.sequence || 0;
  } catch {
    return 0;
  }
}

const [after] = await Promise.all([newest(), refresh()]); // pages need to know whether changes are allowed
if (state.overview && Date.now() - new Date(state.overview.ledger.since) < 900000) {
  state.window = "15m"; // a new ledger has data for a short window only
  await refresh();
}
go();
showStatus();
begin(after);
