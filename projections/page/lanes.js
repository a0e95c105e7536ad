// Lanes as pictures: a square for every nonce, by state in colour and sign. One tab stop for each
// lane; arrow keys move inside, Enter opens the request. The same in words below, and as a table.

import { go } from "./address.js";
import { byId, copyable, empty, fill, h, icon, s } from "./dom.js";
import * as format from "./format.js";

const SIZE = 18;
const GAP = 4;
export const STATES = {
  PREPARED: ["prepared", "on the log, not sent yet"],
  BROADCAST: ["in flight", "a node has it"],
  INCLUDED: ["included", "in a block, not final"],
  ORPHANED: ["orphaned", "its block is gone; sent again"],
  FINAL: ["final", "spent for good"],
  REVERTED: ["reverted", "mined, but the call failed"],
  DROPPED: ["displaced", "another transaction spent the nonce"],
};
const SIGNS = {
  PREPARED: "M6 9h6",
  BROADCAST: "M9 13V5.5M5.8 8.4 9 5.2l3.2 3.2",
  INCLUDED: "M9 6.6a2.4 2.4 0 1 0 0 4.8 2.4 2.4 0 0 0 0-4.8Z",
  ORPHANED: "M6 11.5a3.4 3.4 0 1 1 1.2 1M6 8.8v2.9h2.9",
  FINAL: "M5.6 9.4l2.4 2.4 4.4-5",
  REVERTED: "M6 6l6 6M12 6l-6 6",
  DROPPED: "M5.5 12.5l7-7",
};

export function stateOf(slot) {
  const mined = slot.state === "INCLUDED" || slot.state === "FINAL";
  return mined && slot.succeeded === false
    ? "REVERTED"
    : slot.state in STATES
      ? slot.state
      : "PREPARED";
}

function square(state) {
  return [
    s("rect", { x: 0.75, y: 0.75, width: SIZE - 1.5, height: SIZE - 1.5, rx: 4, class: "box" }),
    s("path", { d: SIGNS[state], class: "sign" }),
  ];
}

function labelOf(slot) {
  const state = stateOf(slot);
  const more = slot.versions > 1 ? `, ${slot.versions} versions` : "";
  const what = slot.requestKey ? `request ${slot.requestKey}` : "no request (a no-op)";
  const block = slot.block ? `, block ${slot.block}` : "";
  return `Nonce ${slot.nonce}: ${STATES[state][0]}${block}${more}; ${what}`;
}

function picture(lane, width) {
  const columns = Math.max(8, Math.floor((width + GAP) / (SIZE + GAP)));
  const rows = Math.ceil(lane.slots.length / columns);
  const height = rows * (SIZE + GAP) + 2;
  const name = `Nonces of ${format.short(lane.wallet)} on chain ${lane.chainId}`;
  const svg = s("svg", {
    width: Math.min(columns, lane.slots.length) * (SIZE + GAP),
    height,
    class: "slots",
    role: "group",
    "aria-label": `${name}; arrow keys move, Enter opens the request`,
  });
  lane.slots.forEach((slot, index) => {
    const state = stateOf(slot);
    const place = `translate(${(index % columns) * (SIZE + GAP)} ${Math.floor(index / columns) * (SIZE + GAP) + 1})`;
    const node = s(
      "g",
      {
        transform: place,
        class: `slot slot-${state}${lane.stuck && lane.blockedBy && slot.nonce === lane.blockedBy.nonce ? " lowest" : ""}`,
        role: "button",
        tabindex: index === lane.slots.length - 1 ? 0 : -1,
        "aria-label": labelOf(slot),
        "data-focus": `slot:${lane.chainId}:${lane.wallet}:${slot.nonce}`,
        "aria-disabled": slot.requestKey ? null : "true",
        "data-key": slot.requestKey || null,
      },
      s("title", {}, labelOf(slot)),
      square(state),
      slot.versions > 1 && s("circle", { class: "again", cx: SIZE - 2.5, cy: 2.5, r: 2.8 }),
    );
    svg.append(node);
  });
  listen(svg, columns);
  return svg;
}

function listen(svg, columns) {
  const open = (node) => node && node.dataset.key && go({ request: node.dataset.key });
  svg.addEventListener("click", (event) => open(event.target.closest(".slot")));
  svg.addEventListener("keydown", (event) => {
    const slots = [...svg.querySelectorAll(".slot")];
    const at = slots.indexOf(document.activeElement);
    if (at < 0) return;
    const move = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns,
      ArrowUp: -columns,
      Home: -at,
      End: slots.length - 1 - at,
    }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(slots[at]);
    }
    if (move === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const goal = slots[Math.max(0, Math.min(slots.length - 1, at + move))];
    slots[at].setAttribute("tabindex", -1);
    goal.setAttribute("tabindex", 0);
    goal.focus();
  });
}

function sentence(lane) {
  if (!lane.slots.length) return "No nonce was used yet.";
  const counts = new Map();
  for (const slot of lane.slots) {
    const name = STATES[stateOf(slot)][0];
    counts.set(name, (counts.get(name) || 0) + 1);
  }
  const parts = [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
  const range = `Nonces ${lane.slots[0].nonce} to ${lane.slots.at(-1).nonce}: ${parts}.`;
  const hidden = lane.hiddenSlots ? ` ${lane.hiddenSlots} more in between.` : "";
  const next = lane.blockedBy && lane.blockedBy.nonce;
  const waits = Number.isInteger(next) && !lane.stuck ? ` Next to be mined: nonce ${next}.` : "";
  return range + hidden + waits;
}

/** The state of a whole lane: a word, its kind, and why. */
export function condition(lane) {
  if (lane.halted) return ["Halted", "failed", lane.halted.reason];
  if (lane.stuck)
    return [
      "Stuck",
      "warning",
      lane.blockedBy ? lane.blockedBy.reason : "nothing moves although replacements went out",
    ];
  if (lane.setAside) return ["Set aside", "warning", lane.setAside.reason];
  if (lane.inFlight || lane.waiting) return ["Working", "processing", ""];
  return ["Idle", "pending", ""];
}

function stuckTable(lane) {
  const open = lane.slots.filter((slot) => slot.state !== "FINAL" && slot.state !== "DROPPED");
  if (!open.length) return null;
  return h(
    "details",
    {},
    h("summary", {}, `Open nonces as a table (${open.length})`),
    h(
      "div",
      {
        class: "scroll",
        tabindex: 0,
        role: "region",
        "aria-label": `Open nonces of ${lane.wallet} on chain ${lane.chainId}`,
      },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Nonce", "State", "Since", "Versions", "Transaction"].map((name) =>
              h("th", { scope: "col" }, name),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          open.map((slot) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, String(slot.nonce)),
              h("td", {}, STATES[stateOf(slot)][0]),
              h("td", {}, h("span", { "data-since": slot.since })),
              h("td", {}, String(slot.versions)),
              h("td", {}, copyable(slot.txHash, format.short(slot.txHash), "transaction hash")),
            ),
          ),
        ),
      ),
    ),
  );
}

function card(lane, width) {
  const [word, kind, why] = condition(lane);
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h(
    "article",
    { class: `lane lane-${kind}`, "aria-label": `Lane of ${lane.wallet} on chain ${lane.chainId}` },
    h(
      "header",
      {},
      h("h3", {}, `Chain ${lane.chainId}`),
      h("span", { class: `badge badge-${kind}` }, icon(kind), word),
      copyable(lane.wallet, format.short(lane.wallet), "wallet address"),
    ),
    why && h("p", { class: "why" }, why),
    h(
      "dl",
      { class: "facts" },
      fact("next nonce", lane.nextNonce === null ? "–" : format.count(lane.nextNonce)),
      fact("in flight", format.count(lane.inFlight)),
      fact("waiting", format.count(lane.waiting)),
      lane.stuck > 0 && fact("stuck", format.count(lane.stuck)),
    ),
    lane.slots.length ? picture(lane, width) : null,
    h("p", { class: "muted small" }, sentence(lane)),
    stuckTable(lane),
  );
}

function legend(lanes) {
  const seen = new Set(lanes.flatMap((lane) => lane.slots.map(stateOf)));
  return h(
    "ul",
    { class: "legend slot-legend", "aria-label": "Signs of the nonces" },
    Object.keys(STATES)
      .filter((state) => seen.has(state))
      .map((state) =>
        h(
          "li",
          { title: STATES[state][1] },
          s(
            "svg",
            { width: SIZE, height: SIZE, "aria-hidden": "true", class: `slot slot-${state}` },
            square(state),
          ),
          STATES[state][0],
        ),
      ),
  );
}

export function showLanes(lanes) {
  const body = byId("lanes").querySelector(".body");
  if (!lanes.length) {
    return fill(
      body,
      empty("No lane yet", "A lane opens when a wallet relays its first transaction."),
    );
  }
  const wide = body.clientWidth;
  const columns = wide > 1000 ? 3 : wide > 640 ? 2 : 1;
  const width = Math.floor((wide - (columns - 1) * 12) / columns) - 34;
  const opened = new Set(
    [...body.querySelectorAll("details[open]")].map((node) =>
      node.closest("article").getAttribute("aria-label"),
    ),
  );
  const changed = fill(
    body,
    legend(lanes),
    h(
      "div",
      { class: "lane-grid" },
      lanes.map((lane) => card(lane, width)),
    ),
  );
  if (changed) {
    for (const node of body.querySelectorAll("article")) {
      const details = node.querySelector("details");
      if (details && opened.has(node.getAttribute("aria-label"))) details.open = true;
    }
  }
  return changed;
}
