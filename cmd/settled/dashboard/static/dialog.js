// Dialogs that confirm an action, ask for the token, and show the result.
import { byId, h } from "./dom.js";
import { post } from "./api.js";
import { note } from "./parts.js";
import { refresh } from "./state.js";

let token = ""; // kept in memory only, until the page is closed

function show(...content) {
  const dialog = byId("dialog");
  dialog.replaceChildren(...content.filter(Boolean));
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector("[autofocus]") || dialog.querySelector("input, textarea, button"))?.focus();
}

const close = () => byId("dialog").close();

/** leave closes the dialog without returning the focus to the button that opened it: the same key press must not activate it again. */
function leave() {
  close();
  byId("main").focus({ preventScroll: true });
}

const title = (text) => h("h2", { id: "dialog-title" }, text);

/** confirm shows a form, calls send, shows the elements of done.content(value), and calls changed(). */
function confirm({ heading, text, verb, danger, reason, send, done, changed }) {
  const why = h("p", { class: "formerror", role: "alert" });
  const secret = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, autofocus: !reason });
  const given = reason && h("textarea", { id: "reason", rows: "2", maxlength: "2000", required: true, autofocus: true });
  const go = h("button", { type: "submit", class: danger ? "button danger" : "button primary", id: "confirm" }, verb);
  secret.value = token;
  const form = h(
    "form",
    { method: "dialog" },
    title(heading),
    text,
    reason && h("label", { for: "reason" }, "Why it will not be settled. The reason is recorded."),
    given,
    h("label", { for: "token" }, "Token"),
    secret,
    h("p", { class: "quiet small" }, "The token is in the file that http.token_file names. This page keeps it until the page is closed."),
    why,
    h("div", { class: "actions" }, h("button", { type: "button", class: "button", on: { click: close } }, "Cancel"), go),
  );
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    go.disabled = true;
    go.textContent = "Sending…";
    why.textContent = "";
    try {
      const value = await send(secret.value.trim(), given?.value.trim());
      token = secret.value.trim();
      show(title(done.heading), ...done.content(value));
      changed();
      refresh();
    } catch (error) {
      if (error.status === 401) token = "";
      why.textContent = error.status === 0 ? "settled can't be reached: it is unknown whether the change was made. Try again." : `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
      go.disabled = false;
      go.textContent = verb;
      secret.focus();
    }
  });
  show(form);
}

const links = (...buttons) => h("div", { class: "actions" }, buttons);
const link = (text, href, primary) =>
  h(
    "a",
    { class: primary ? "button primary" : "button", href, autofocus: primary, on: { click: leave } },
    text,
  );

export function replayLetter(l, changed) {
  const known = l.session_id !== "unknown";
  confirm({
    changed,
    heading: `Replay dead letter ${l.sequence}?`,
    text: note("Its message is published again, and the dead letter is removed. That is always safe: settled reads its ledger and the node before it pays. If the cause is not fixed, the outcome fails again and becomes a new dead letter."),
    verb: "Replay",
    send: (secret) => post(`api/deadletters/${l.sequence}/replay`, secret),
    done: {
      heading: "Replayed",
      content: (r) => [
        h("p", { id: "done" }, `Dead letter ${r.dead_letter} is published again as ${r.stream}/${r.sequence}${r.duplicate ? "; another replay had already published it" : ""}.`),
        links(link("Dead letters", "#/deadletters"), known && link("Show its session", `#/session/${l.session_id}`, true)),
      ],
    },
  });
}

export function discardLetter(l, changed) {
  confirm({
    changed,
    heading: `Discard dead letter ${l.sequence}?`,
    text: note("It is removed permanently, and its outcome will not be settled. Its entry in the ledger stays."),
    verb: "Discard",
    danger: true,
    reason: true,
    send: (secret, reason) => post(`api/deadletters/${l.sequence}/discard`, secret, { reason }),
    done: { heading: "Discarded", content: (r) => [h("p", { id: "done" }, `Dead letter ${r.dead_letter} is removed.`), links(link("Dead letters", "#/deadletters", true))] },
  });
}

const keys = [
  ["/", "search"],
  ["g o", "overview"],
  ["g s", "settlements"],
  ["g d", "dead letters"],
  ["j k", "next and previous row"],
  ["Enter", "open it"],
  ["p", "pause or resume the list"],
  ["t", "theme"],
  ["?", "this help"],
];

export function showKeys() {
  show(title("Keyboard shortcuts"), h("dl", { class: "keys" }, keys.map(([key, what]) => h("div", {}, h("dt", {}, key.split(" ").map((k) => [h("kbd", {}, k), " "])), h("dd", {}, what)))), links(h("button", { type: "button", class: "button", autofocus: true, on: { click: close } }, "Close")));
}
