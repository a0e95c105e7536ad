// The panels around the table: what needs a person, the pipeline, dependencies, what is paused.

import { go, link, read } from "./address.js";
import { byId, empty, fill, h, icon, loading, problem } from "./dom.js";
import * as format from "./format.js";
import { condition } from "./lanes.js";

const bodyOf = (id) => byId(id).querySelector(".body");

const STAGES = [
  "RECEIVED",
  "HELD",
  "DRAFTED",
  "SIGNED",
  "RELAYING",
  "SUBMITTED",
  "INCLUDED",
  "EXPIRED",
];
const ENDS = ["COMPLETED", "REJECTED", "FAILED", "RETRACTED", "UNBACKED"];
const KIND = {
  COMPLETED: "completed",
  REJECTED: "failed",
  FAILED: "failed",
  RETRACTED: "failed",
  UNBACKED: "failed",
  RECEIVED: "pending",
  HELD: "pending",
};
const OPTIONAL = ["HELD", "EXPIRED", "REJECTED", "RETRACTED", "UNBACKED"];

/** Counts by stage, for mints and redeems; each leads to its requests. */
export function showPipeline(body) {
  const held = new Map(body.stages.map((row) => [`${row.type}:${row.stage}`, row]));
  const seen = new Set(body.stages.map((row) => row.stage));
  const stages = [...STAGES, ...ENDS].filter(
    (stage) => !OPTIONAL.includes(stage) || seen.has(stage),
  );
  const lists = ["MINT", "REDEEM"].map((type) => {
    const queue = body.queues[type.toLowerCase()];
    return h(
      "div",
      { class: "flow" },
      h(
        "h3",
        {},
        type === "MINT" ? "Mints" : "Redeems",
        h("span", { class: "muted" }, ` ${format.count(queue.waiting + queue.active)} open`),
      ),
      h(
        "ol",
        { class: "stages" },
        stages.map((stage) => {
          const row = held.get(`${type}:${stage}`);
          const kind = KIND[stage] || "processing";
          const view = { window: read().window, type, stage };
          return h(
            "li",
            { class: `stage stage-${kind} ${row ? "" : "none-here"}` },
            h(
              "a",
              {
                href: link(view),
                "data-focus": `stage:${type}:${stage}`,
                "aria-label": `${format.words(stage)}: ${row ? row.count : 0} ${type.toLowerCase()} requests`,
                onclick: (event) => {
                  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
                  event.preventDefault();
                  go({
                    ...Object.fromEntries(
                      [
                        "search",
                        "status",
                        "chainId",
                        "user",
                        "fiatRef",
                        "txHash",
                        "createdFrom",
                        "createdTo",
                        "at",
                        "cursor",
                      ].map((name) => [name, null]),
                    ),
                    type,
                    stage,
                  });
                  byId("requests").scrollIntoView({ block: "start" });
                },
              },
              h("span", { class: "name" }, icon(kind), format.words(stage)),
              h("b", {}, format.count(row ? row.count : 0)),
              row && row.oldestAt
                ? h(
                    "span",
                    { class: "muted small" },
                    "oldest ",
                    h("span", { "data-since": row.oldestAt, "data-coarse": "yes" }),
                  )
                : h("span", { class: "muted small" }, "\u00a0"),
            ),
          );
        }),
      ),
    );
  });
  fill(bodyOf("pipeline"), lists);
}

/** What a person should look at, worst first. */
export function concerns(overview, health, controls, age) {
  const found = [];
  const add = (kind, text, target) => found.push({ kind, text, target });
  for (const chain of (overview && overview.chains) || []) {
    if (chain.halted) add("failed", `Chain ${chain.chainId} is halted: ${chain.halted.reason}`);
  }
  for (const lane of (overview && overview.lanes) || []) {
    const [word, kind, why] = condition(lane);
    if (kind === "failed" || kind === "warning") {
      add(
        kind,
        `Lane ${format.short(lane.wallet)} on chain ${lane.chainId} is ${word.toLowerCase()}: ${why}`,
        "lanes",
      );
    }
  }
  for (const row of (overview && overview.stages) || []) {
    if (row.stage === "UNBACKED" && row.count) {
      add(
        "failed",
        `${format.count(row.count)} executed on chain without a fact that allows it (unbacked)`,
        { stage: "UNBACKED", type: row.type },
      );
    }
  }
  for (const [name, check] of Object.entries((health && health.checks) || {})) {
    if (!check.ok) add("failed", `${format.words(name)}: ${check.detail}`, "health");
  }
  const halted = new Set(
    ((overview && overview.chains) || [])
      .filter((chain) => chain.halted)
      .map((chain) => String(chain.chainId)),
  );
  for (const [chain, check] of Object.entries((health && health.chains) || {})) {
    if (!check.ok && !halted.has(chain))
      add("warning", `Chain ${chain}: ${check.detail}`, "health");
  }
  for (const pause of controls || []) {
    const kind = pause.scope.startsWith("supply:") ? "failed" : "warning";
    add(kind, `Paused: ${pause.scope}${pause.by ? `, by ${pause.by}` : ""}`, "controls");
  }
  const letters = Object.entries((overview && overview.deadLetters) || {});
  if (letters.length) {
    const total = letters.reduce((sum, [, count]) => sum + count, 0);
    const parts = letters
      .map(([reason, count]) => `${format.count(count)} ${format.words(reason).toLowerCase()}`)
      .join(", ");
    add(
      "warning",
      `${format.count(total)} ${total === 1 ? "dead letter" : "dead letters"}: ${parts}`,
    );
  }
  const late = overview && overview.freshAt && age(overview.freshAt);
  if (late > 60)
    add(
      "warning",
      `The tables are ${format.duration(Math.floor(late / 60) * 60)} behind the log`,
      "health",
    );
  return found.sort((one, other) => (one.kind === other.kind ? 0 : one.kind === "failed" ? -1 : 1));
}

export function showConcerns(list, known) {
  const panel = byId("attention");
  panel.dataset.kind = list.some((item) => item.kind === "failed")
    ? "failed"
    : list.length
      ? "warning"
      : "calm";
  if (!known) return fill(bodyOf("attention"), loading("what needs attention", 1));
  if (!list.length) {
    return fill(
      bodyOf("attention"),
      h("p", { class: "calm" }, icon("completed"), "Nothing needs attention."),
    );
  }
  const jump = ({ target, text }) => {
    const focus = { "data-focus": `concern:${text.replace(/\d+/g, "")}` };
    return typeof target === "string"
      ? h("a", { href: "#", "data-jump": target, ...focus }, "show")
      : target && h("a", { href: link({ ...target, window: read().window }), ...focus }, "show");
  };
  return fill(
    bodyOf("attention"),
    h(
      "ul",
      { class: "concerns" },
      list.map((item) =>
        h(
          "li",
          { class: `concern concern-${item.kind}` },
          icon(item.kind),
          h("span", {}, item.text),
          jump(item),
        ),
      ),
    ),
  );
}

document.addEventListener("click", (event) => {
  const target = event.target.closest && event.target.closest("[data-jump]");
  if (!target) return;
  event.preventDefault();
  byId(target.dataset.jump).scrollIntoView({ block: "start" });
});

const WHAT = {
  database: "PostgreSQL",
  migrations: "Schema",
  projection: "Projection",
  kafka: "Kafka",
};

export function showHealth(health) {
  const row = (name, check, extra) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h(
        "td",
        {},
        h(
          "span",
          { class: `badge badge-${check.ok ? "completed" : "failed"}` },
          icon(check.ok ? "completed" : "failed"),
          check.ok ? "Well" : "Not well",
        ),
      ),
      h("td", { class: "wrap" }, check.detail, extra),
    );
  const lag = health.checks.projection && health.checks.projection.lagRecords;
  const behind = lag ? Object.values(lag).reduce((sum, value) => sum + value, 0) : null;
  fill(
    bodyOf("health"),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          { class: "visually-hidden" },
          h(
            "tr",
            {},
            ["Dependency", "State", "Detail"].map((name) => h("th", { scope: "col" }, name)),
          ),
        ),
        h(
          "tbody",
          {},
          Object.entries(health.checks).map(([name, check]) =>
            row(
              WHAT[name] || format.words(name),
              check,
              name === "projection" &&
                behind !== null &&
                h("span", { class: "muted" }, `, ${format.count(behind)} records behind`),
            ),
          ),
          Object.entries(health.chains || {}).map(([chain, check]) => row(`Chain ${chain}`, check)),
        ),
      ),
    ),
  );
}

export function failPanel(id, title, error, again) {
  const body = bodyOf(id);
  if (body.querySelector(".problem") || !body.querySelector("table, ol, article, .calm, .empty")) {
    fill(body, problem(title, error.message, again));
  }
}

export function waitPanels() {
  fill(bodyOf("pipeline"), loading("the pipeline", 2));
  fill(bodyOf("lanes"), loading("the lanes", 4));
  fill(bodyOf("health"), loading("the dependencies", 4));
  fill(bodyOf("controls"), loading("what is paused", 1));
}

/** Entries of `GET /controls`. */
export function pausesOf(body) {
  return (body.paused || []).map(({ scope, who, why, at }) => ({
    scope,
    by: who,
    reason: why,
    at,
  }));
}

/** `pauses`: null while the service has no such controls. */
export function showControls(pauses) {
  const panel = byId("controls");
  panel.hidden = pauses === null;
  if (pauses === null) return false;
  if (!pauses.length) return fill(bodyOf("controls"), empty("Nothing is paused", null));
  return fill(
    bodyOf("controls"),
    h(
      "ul",
      { class: "concerns" },
      pauses.map((pause) =>
        h(
          "li",
          { class: "concern concern-warning" },
          icon("hold"),
          h(
            "span",
            {},
            h("b", {}, pause.scope),
            pause.reason && `: ${pause.reason}`,
            h(
              "span",
              { class: "muted block small" },
              pause.by && `by ${pause.by} `,
              pause.at &&
                h(
                  "span",
                  { title: pause.at },
                  h("span", { "data-since": pause.at, "data-suffix": " ago" }),
                ),
            ),
          ),
        ),
      ),
    ),
  );
}
