// The stream of new entries. It reconnects after an error, resumes after the last entry,
// and closes the connection while the page is hidden.

const listeners = new Set();
const retryDelay = 3000;

export const live = { state: "connecting", since: Date.now(), last: 0 };

let source = null;
let timer = 0;

/** onLive calls f(kind, data) with the kinds state, entries and reset. It returns a function that ends that. */
export function onLive(f) {
  listeners.add(f);
  return () => listeners.delete(f);
}

function notify(kind, data) {
  for (const f of [...listeners]) f(kind, data);
}

function setState(state) {
  if (live.state === state) return;
  live.state = state;
  live.since = Date.now();
  notify("state", state);
}

function open() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(live.last ? `api/events?after=${live.last}` : "api/events");
  source.addEventListener("open", () => setState("live"));
  source.addEventListener("entries", (e) => {
    live.last = Number(e.lastEventId);
    notify("entries", JSON.parse(e.data));
  });
  source.addEventListener("reset", (e) => {
    live.last = Number(e.lastEventId);
    notify("reset", {});
  });
  source.addEventListener("error", () => {
    setState("away");
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, retryDelay); // after a refusal the browser does not reconnect
  });
}

/** begin follows the entries after a sequence. */
export function begin(after) {
  live.last = after;
  open();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      source?.close();
      setState("hidden");
    } else {
      open();
    }
  });
}
