// What is shown, as the part of the URL behind `#`: whoever gets the link sees the same.

export const FILTERS = [
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
];
export const WINDOWS = { "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h" };
const KNOWN = [...FILTERS, "cursor", "request", "window"];

export function read() {
  const given = new URLSearchParams(location.hash.replace(/^#/, ""));
  const view = {};
  for (const name of KNOWN) {
    const value = given.get(name);
    if (value) view[name] = value;
  }
  if (!(view.window in WINDOWS)) delete view.window;
  return view;
}

export function link(view) {
  const kept = new URLSearchParams();
  for (const name of KNOWN) if (view[name]) kept.set(name, view[name]);
  return `#${kept}`;
}

/** `changes` with null take a part away. A new step in the browser's history, unless `replace`. */
export function go(changes, replace = false) {
  const view = read();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") delete view[name];
    else view[name] = value;
  }
  const target = link(view);
  if (target === (location.hash || "#")) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  dispatchEvent(new Event("viewchange"));
}

export function filtersOf(view) {
  return Object.fromEntries(FILTERS.filter((name) => view[name]).map((name) => [name, view[name]]));
}

export function listen(changed) {
  addEventListener("viewchange", changed);
  addEventListener("popstate", changed);
  addEventListener("hashchange", changed);
}
