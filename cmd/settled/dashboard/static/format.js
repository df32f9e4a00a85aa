// Formatting of times, ids and amounts. Amounts stay strings: only the length of a bar is
// computed from a rounded number.

const numbers = new Intl.NumberFormat("en");
export const count = (n) => numbers.format(n);

/** several formats a number with its noun. */
export const several = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + "s"}`;

const two = (n) => String(n).padStart(2, "0");
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** clock formats a time of day, with the date unless it is today. */
export function clock(time, seconds = true) {
  const t = new Date(time);
  if (Number.isNaN(t.getTime())) return "";
  const day = t.toDateString() === new Date().toDateString() ? "" : `${t.getDate()} ${months[t.getMonth()]} `;
  return `${day}${two(t.getHours())}:${two(t.getMinutes())}${seconds ? ":" + two(t.getSeconds()) : ""}`;
}

/** full formats a time with date, milliseconds and time zone. */
export function full(time) {
  const t = new Date(time);
  return Number.isNaN(t.getTime()) ? "" : t.toISOString().replace("T", " ").replace("Z", " UTC");
}

/** span formats a duration given in seconds. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 && s < 600 ? ` ${s % 60} s` : ""}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h${Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)} min` : ""}`;
  return several(Math.floor(s / 86400), "day");
}

/** ms formats a duration given in milliseconds. */
export function ms(n) {
  if (n === null || n === undefined) return "–";
  if (n < 10) return `${n.toFixed(1)} ms`;
  if (n < 1000) return `${Math.round(n)} ms`;
  if (n < 60000) return `${(n / 1000).toFixed(n < 10000 ? 2 : 1)} s`;
  return span(n / 1000);
}

/** short abbreviates an id or address to its first and last digits. */
export function short(id) {
  return /^0x[0-9a-fA-F]{12,}$/.test(id) ? `${id.slice(0, 6)}…${id.slice(-4)}` : id;
}

/** units converts a decimal string to an integer in units of 10^-places. */
function units(decimal, places) {
  const [whole, part = ""] = decimal.split(".");
  return BigInt(whole + part.padEnd(places, "0"));
}

const decimal = /^[0-9]+(\.[0-9]+)?$/;

/** sum adds decimal strings exactly, and returns the rounded share of each (for bars only). */
export function sum(amounts) {
  const valid = amounts.every((a) => decimal.test(a));
  if (!valid) return { total: "?", shares: amounts.map(() => 0) };
  const places = Math.max(0, ...amounts.map((a) => (a.split(".")[1] || "").length));
  const all = amounts.map((a) => units(a, places));
  const total = all.reduce((x, y) => x + y, 0n);
  const text = total.toString().padStart(places + 1, "0");
  const written = places ? `${text.slice(0, -places)}.${text.slice(-places)}`.replace(/\.?0+$/, "") : text;
  return { total: written, shares: all.map((a) => (total > 0n ? Number((a * 1000000n) / total) / 1000000 : 0)) };
}

export const isZero = (amount) => /^0(\.0*)?$/.test(amount);

/** percent formats a share between 0 and 1. */
export function percent(share) {
  const p = share * 100;
  return `${p === 0 || p >= 99.95 ? p.toFixed(0) : p < 0.1 ? "<0.1" : p.toFixed(1)} %`;
}

/** words turns a code into words: outcome_conflict into "outcome conflict". */
export const words = (code) => code.replaceAll("_", " ");
