// All elements are created here. Data from outside becomes text or the value of an attribute
// that can't run code, never markup.

const svgNames = new Set(["svg", "g", "rect", "line", "path", "circle", "text", "title"]);

/** h creates an element. props: class, on: {event: listener}, vars: {custom property: value}, and attributes; null leaves one out. */
export function h(name, props, ...children) {
  const e = svgNames.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) e.addEventListener(event, listener);
    } else if (key === "vars") {
      for (const [variable, v] of Object.entries(value)) e.style.setProperty(variable, v);
    } else {
      e.setAttribute(key, value === true ? "" : String(value));
    }
  }
  e.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

/** fill rebuilds the content of an element if the value has changed; the focus stays on the same data-key. */
export function fill(element, value, build) {
  const seen = JSON.stringify(value);
  if (element.seen === seen) return false;
  element.seen = seen;
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren(...[build(value)].flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  return true;
}

export const byId = (id) => document.getElementById(id);
