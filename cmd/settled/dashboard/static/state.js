// The overview, which is read every two seconds while the page is visible. Every page may
// use it.
import { get } from "./api.js";

const every = 2000;
const listeners = new Set();

export const state = { window: "1h", overview: null, error: null, at: 0 };

/** onState calls f() after each response and each failure. */
export function onState(f) {
  listeners.add(f);
  return () => listeners.delete(f);
}

let asked = 0;
let timer = 0;

/** refresh reads the overview now, and then periodically. */
export async function refresh() {
  clearTimeout(timer);
  const mine = ++asked;
  try {
    const value = await get(`api/overview?window=${state.window}`);
    if (mine !== asked) return;
    Object.assign(state, { overview: value, error: null, at: Date.now() });
  } catch (error) {
    if (mine !== asked) return;
    state.error = error;
  }
  for (const f of [...listeners]) f();
  if (!document.hidden) timer = setTimeout(refresh, every);
}

export function setWindow(name) {
  state.window = name;
  refresh();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
