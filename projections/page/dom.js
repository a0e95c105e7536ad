// Elements from code. Whatever comes from the API becomes a text node or an attribute: there is no
// way from here to HTML, and the page's policy (trusted types) would refuse it.

const SVG = "http://www.w3.org/2000/svg";

function build(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

export function h(tag, properties, ...children) {
  return build(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
  return build(document.createElementNS(SVG, tag), properties, children);
}

export const byId = (id) => document.getElementById(id);

const ICONS = {
  pending: ["M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11Z", null],
  processing: ["M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11Z", "M8 2.5a5.5 5.5 0 0 1 0 11Z"],
  completed: ["M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11ZM5.4 8.2l1.9 1.9 3.4-3.9", null],
  failed: ["M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11ZM6 6l4 4M10 6l-4 4", null],
  warning: ["M8 2.6 14 13H2L8 2.6ZM8 6.6v3M8 11.3v.2", null],
  copy: ["M6 6h7v7H6zM3 10V3h7", null],
  copied: ["M3.5 8.5l3 3 6-7", null],
  close: ["M4 4l8 8M12 4l-8 8", null],
  search: ["M7 2.8a4.2 4.2 0 1 0 0 8.4 4.2 4.2 0 0 0 0-8.4ZM10.2 10.2l3.3 3.3", null],
  light: [
    "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6ZM8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1",
    null,
  ],
  dark: ["M12.8 9.7A5.5 5.5 0 0 1 6.3 3.2a5.5 5.5 0 1 0 6.5 6.5Z", null],
  hold: ["M6 3.5v9M10 3.5v9", null],
  go: ["M5 3.5l7 4.5-7 4.5Z", null],
  key: ["M5.5 7.5a3 3 0 1 0 0 3M8 9h6M12 9v2.4", null],
  help: ["M6 6.2a2 2 0 1 1 2.9 1.8c-.6.3-.9.7-.9 1.3M8 11.6v.2", null],
  link: [
    "M6.8 9.2l2.4-2.4M7.4 4.9l1.2-1.2a2.6 2.6 0 0 1 3.7 3.7l-1.2 1.2M8.6 11.1l-1.2 1.2a2.6 2.6 0 0 1-3.7-3.7l1.2-1.2",
    null,
  ],
  more: ["M3 5h10M5 8h6M7 11h2", null],
};

export function icon(name) {
  const [outline, filled] = ICONS[name];
  return s(
    "svg",
    {
      viewBox: "0 0 16 16",
      width: 16,
      height: 16,
      class: `icon icon-${name}`,
      "aria-hidden": "true",
      focusable: "false",
    },
    s("path", {
      d: outline,
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.5,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
    filled && s("path", { d: filled, fill: "currentColor" }),
  );
}

/** Replace children, unless they would look the same: focus and selection stay where they are. */
export function fill(node, ...children) {
  const fresh = children.flat(Infinity).filter(Boolean);
  const holder = document.createElement("div");
  holder.append(...fresh);
  const mark = holder.childNodes.length + holder.outerHTML;
  if (node.dataset && node.mark === mark) return false;
  const focused = node.contains(document.activeElement)
    ? document.activeElement.dataset.focus
    : null;
  node.replaceChildren(...holder.childNodes);
  node.mark = mark;
  if (focused) {
    const again = [...node.querySelectorAll("[data-focus]")].find(
      (item) => item.dataset.focus === focused,
    );
    if (again) again.focus({ preventScroll: true });
  }
  return true;
}

let toastTimer = null;

export function toast(text) {
  const node = byId("toast");
  node.textContent = text;
  node.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => node.classList.remove("shown"), 2200);
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) {
    // Without a secure context there is no clipboard interface; the old way still works.
    const area = h("textarea", { class: "offscreen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A value one can copy; `shown` may be shorter than what is copied. */
export function copyable(value, shown, what) {
  return h(
    "button",
    {
      type: "button",
      class: "copy",
      title: value,
      "aria-label": `Copy ${what} ${value}`,
      "data-focus": `copy:${what}:${value}`,
      onclick: async (event) => {
        event.stopPropagation();
        toast((await toClipboard(value)) ? `Copied ${what}` : "The browser does not allow copying");
      },
    },
    h("span", { class: "mono" }, shown),
    icon("copy"),
  );
}

export function skeleton(lines) {
  return h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, () => h("span", {})),
  );
}

export function loading(what, lines = 3) {
  return [h("p", { class: "visually-hidden" }, `Loading ${what}`), skeleton(lines)];
}

export function problem(title, detail, again) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    icon("warning"),
    h("div", {}, h("strong", {}, title), h("p", {}, detail)),
    again &&
      h(
        "button",
        { type: "button", class: "button", onclick: again, "data-focus": "again" },
        "Try again",
      ),
  );
}

export function empty(title, detail, action) {
  return h("div", { class: "empty" }, h("strong", {}, title), detail && h("p", {}, detail), action);
}
