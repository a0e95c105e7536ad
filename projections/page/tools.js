// The tools in the head: theme, window of the charts, and the labels of the buttons.

import { WINDOWS, go, read } from "./address.js";
import { byId, fill, h, icon } from "./dom.js";

function darkNow() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function label(id, name, text) {
  const node = byId(id);
  fill(node, icon(name), h("span", { class: "tool-text" }, text));
  node.setAttribute("aria-label", text);
  node.title = text;
}

export function switchTheme(held) {
  const theme = darkNow() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("orchestrator.theme", theme);
  } catch (error) {
    // then the choice lasts as long as the page
  }
  tools(held);
}

export function tools(held) {
  label("theme", darkNow() ? "light" : "dark", darkNow() ? "Light" : "Dark");
  label("hold", held ? "go" : "hold", held ? "Go on" : "Hold");
  label("token", "key", "Token");
  label("help", "help", "Keys");
}

export function windows() {
  const chosen = read().window || "1h";
  fill(
    byId("window"),
    Object.entries(WINDOWS).map(([value, name]) =>
      h(
        "label",
        { class: value === chosen ? "on" : null },
        h("input", {
          type: "radio",
          name: "window",
          checked: value === chosen,
          class: "visually-hidden",
          "data-focus": `window:${value}`,
          onchange: () => go({ window: value === "1h" ? null : value }),
        }),
        name,
      ),
    ),
  );
}
