// The two dialogs and the keys.

import { go } from "./address.js";
import { keepToken, token } from "./api.js";
import { byId, h, icon } from "./dom.js";

export const KEYS = [
  ["/", "Search"],
  ["j", "Next request"],
  ["k", "Previous request"],
  ["Enter", "Open the request's story"],
  ["Esc", "Close the story, or leave the search"],
  ["n", "Older requests (next page)"],
  ["b", "Newer requests (page before)"],
  ["x", "Take all filters away"],
  ["y", "Copy a link to the story"],
  ["r", "Ask the API again"],
  ["p", "Hold and go on with updates"],
  ["t", "Dark or light"],
  ["g", "Jump to the lanes"],
  ["?", "This help"],
];

function close(dialog) {
  return h(
    "button",
    { type: "button", class: "tool", "aria-label": "Close", onclick: () => dialog.close() },
    icon("close"),
  );
}

export function openHelp() {
  const dialog = byId("help-dialog");
  if (dialog.open) return;
  dialog.replaceChildren(
    h(
      "div",
      { class: "head" },
      h("h2", { id: "help-title" }, "Keys"),
      h("span", { class: "spacer" }),
      close(dialog),
    ),
    h(
      "dl",
      { class: "keys" },
      KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what))),
    ),
    h(
      "p",
      { class: "muted small" },
      "In a lane or a chart, arrow keys move from point to point. The address of this page holds the filters and the chosen request: copy it to show someone the same.",
    ),
  );
  dialog.showModal();
}

export function openToken(why, changed) {
  const dialog = byId("token-dialog");
  if (dialog.open) return;
  const field = h("input", {
    type: "password",
    name: "token",
    id: "token-field",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-note",
  });
  const done = (value) => {
    keepToken(value);
    dialog.close();
    changed();
  };
  dialog.replaceChildren(
    h(
      "div",
      { class: "head" },
      h("h2", { id: "token-title" }, "Access token"),
      h("span", { class: "spacer" }),
      close(dialog),
    ),
    h(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          done(field.value.trim());
        },
      },
      why && h("p", { class: "notice", role: "alert" }, why),
      h("label", { class: "block", for: "token-field" }, "Bearer token with the scope to read"),
      field,
      h(
        "p",
        { class: "muted small", id: "token-note" },
        "It is kept for this tab only (session storage) and goes to this address alone.",
      ),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "submit", class: "button primary" }, "Use it"),
        token() &&
          h("button", { type: "button", class: "button", onclick: () => done("") }, "Forget it"),
      ),
    ),
  );
  dialog.showModal();
  field.focus();
}

/** `actions` by key; keys do nothing while someone types or a dialog is open. */
export function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

export function clearFilters() {
  const names = [
    "search",
    "type",
    "status",
    "stage",
    "chainId",
    "user",
    "fiatRef",
    "txHash",
    "createdFrom",
    "createdTo",
    "at",
    "cursor",
  ];
  go(Object.fromEntries(names.map((name) => [name, null])));
}
