// The stream of new entries. It reconnects by itself, from the last one it had, and
// lets go of its connection while nobody looks.

const listeners = new Set();
const again = 3000;

export const live = { state: "connecting", since: Date.now(), last: 0 };

let source = null;
let timer = 0;

/** onLive calls f(kind, data): state, entries or reset. It returns how to end that. */
export function onLive(f) {
  listeners.add(f);
  return () => listeners.delete(f);
}

function tell(kind, data) {
  for (const f of [...listeners]) f(kind, data);
}

function become(state) {
  if (live.state === state) return;
  live.state = state;
  live.since = Date.now();
  tell("state", state);
}

function open() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(live.last ? `api/events?after=${live.last}` : "api/events");
  source.addEventListener("open", () => become("live"));
  source.addEventListener("entries", (e) => {
    live.last = Number(e.lastEventId);
    tell("entries", JSON.parse(e.data));
  });
  source.addEventListener("reset", (e) => {
    live.last = Number(e.lastEventId);
    tell("reset", {});
  });
  source.addEventListener("error", () => {
    become("away");
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, again); // refused: the browser gives up
  });
}

/** begin follows what comes after a sequence. */
export function begin(after) {
  live.last = after;
  open();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      source?.close();
      become("hidden");
    } else {
      open();
    }
  });
}
