// The table of requests: filters, paging, live rows. A fact of the feed moves a row by the same table
// of transitions as the service's own fold; the next answer of the API settles it.

import { filtersOf, go, read } from "./address.js";
import { byId, copyable, empty, fill, h, icon, loading, problem } from "./dom.js";
import { Filters } from "./filters.js";
import * as format from "./format.js";

const COLUMNS = [
  "State",
  "Request",
  "Type",
  "Chain",
  "Amount",
  "Account",
  "Fiat reference",
  "Transaction",
  "Created",
  "Changed",
];

export function badge(item) {
  return h(
    "span",
    {
      class: `badge badge-${item.status.toLowerCase()}`,
      title: `${item.status}, stage ${item.stage}`,
    },
    icon(item.status.toLowerCase()),
    format.words(item.stage || item.status),
  );
}

export class Requests {
  constructor(lifecycle) {
    this.lifecycle = lifecycle;
    this.items = null;
    this.next = null;
    this.behind = []; // cursors of the pages before this one
    this.error = null;
    this.body = byId("requests").querySelector(".body");
    this.filters = new Filters(lifecycle, () => {
      this.behind = [];
    });
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-key]");
      if (!row || event.target.closest("a, button") || String(getSelection())) return;
      go({ request: row.dataset.key });
    });
  }

  /** The path that answers the view; null when the overview's newest requests are what is asked. */
  static path(view) {
    const query = new URLSearchParams(filtersOf(view));
    if (view.cursor) query.set("cursor", view.cursor);
    if (!query.size) return null;
    query.set("limit", "50");
    return `/status?${query}`;
  }

  wait() {
    this.items = null;
    this.error = null;
    fill(this.body, loading("requests", 8));
    fill(byId("pager"));
  }

  fail(error, again) {
    this.error = error;
    if (this.items) return; // old rows stay, and the head of the page says that they are old
    const title =
      error.kind === "refused"
        ? "The API does not accept this filter"
        : "The requests cannot be shown";
    fill(this.body, problem(title, error.message, again));
    byId("requests-note").textContent = "";
  }

  set(items, next) {
    this.error = null;
    const before = new Map((this.items || []).map((item) => [item.requestKey, item.stage]));
    this.fresh = new Set(
      this.items
        ? items
            .filter((item) => before.get(item.requestKey) !== item.stage)
            .map((item) => item.requestKey)
        : [],
    );
    this.items = items;
    this.next = next;
    this.render();
  }

  /** A fact of the topic `requests`; true when a row changed. */
  apply(fact, live) {
    if (!this.items) return false;
    const { moves, statusOf } = this.lifecycle;
    const item = this.items.find((row) => row.requestKey === fact.requestKey);
    const body = fact.fact || {};
    if (!item) {
      if (!live || fact.kind !== "RequestReceived") return false;
      const stage = moves[""][fact.kind];
      this.items = [
        {
          requestId: body.request_id,
          requestKey: fact.requestKey,
          type: body.type,
          status: statusOf[stage],
          stage,
          reason: null,
          userAddress: body.user,
          amount: body.amount,
          chainId: body.chain_id,
          txHash: null,
          errorMessage: null,
          fiatRef: body.fiat_ref ?? null,
          attempt: 0,
          createdAt: fact.at,
          updatedAt: fact.at,
        },
        ...this.items,
      ].slice(0, 50);
      this.fresh = new Set([fact.requestKey]);
      return true;
    }
    const row = moves[item.stage];
    if (fact.at <= item.updatedAt || !row || !(fact.kind in row)) return false;
    const goal = row[fact.kind];
    item.updatedAt = fact.at;
    if (body.tx_hash && fact.kind !== "OrphaningReported") item.txHash = body.tx_hash;
    if (goal && goal !== item.stage) {
      item.stage = goal;
      item.status = statusOf[goal];
      if (item.status !== "FAILED") item.errorMessage = null;
      else if (body.reason) item.errorMessage = `${body.reason}: ${body.detail || ""}`;
      this.fresh = new Set([item.requestKey]);
    }
    return true;
  }

  render() {
    const view = read();
    if (!this.items) return;
    if (!this.items.length) {
      const filtered = Object.keys(filtersOf(view)).length > 0;
      fill(
        this.body,
        filtered
          ? empty(
              "No request fits these filters",
              "Take a filter away, or search for something else.",
            )
          : empty(
              "No request yet",
              "A mint appears here as soon as Kuro allows one, a redeem when a holder asks for it.",
            ),
      );
    } else {
      fill(this.body, this._table(view));
    }
    this._pager(view);
    const count = this.items.length;
    const live = !view.cursor && !Object.keys(filtersOf(view)).length;
    byId("requests-note").textContent = count
      ? `${live ? "The newest " : ""}${count} ${count === 1 ? "request" : "requests"}${this.next && !live ? ", more follow" : ""}`
      : "";
    for (const key of this.fresh || []) {
      const row = [...this.body.querySelectorAll("tr[data-key]")].find(
        (node) => node.dataset.key === key,
      );
      if (row) row.classList.add("fresh");
    }
    this.fresh = null;
  }

  _table(view) {
    return h(
      "table",
      { class: "requests", role: "table", "aria-labelledby": "requests-title" },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name)),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        this.items.map((item) => this._row(item, view)),
      ),
    );
  }

  _row(item, view) {
    const chosen = view.request === item.requestKey;
    const cell = (name, ...content) => h("td", { role: "cell", "data-name": name }, content);
    const none = h("span", { class: "none", "aria-label": "none" }, "–");
    const link = h(
      "a",
      {
        href: `#${new URLSearchParams({ ...view, request: item.requestKey })}`,
        class: "open",
        "data-focus": `row:${item.requestKey}`,
        title: item.requestId,
        "aria-current": chosen ? "true" : null,
        onclick: (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          go({ request: event.currentTarget.closest("tr").dataset.key });
        },
      },
      format.short(item.requestId, 16, 6),
    );
    return h(
      "tr",
      { role: "row", "data-key": item.requestKey, class: chosen ? "chosen" : null },
      cell("State", badge(item)),
      cell("Request", link),
      cell("Type", format.words(item.type)),
      cell("Chain", item.chainId ?? none),
      h(
        "td",
        {
          role: "cell",
          "data-name": "Amount",
          class: "number",
          title: item.amount ? `${item.amount} base units` : null,
        },
        item.amount === null
          ? none
          : format.isBaseUnits(item.amount)
            ? format.tokens(item.amount)
            : format.short(item.amount, 12, 0),
      ),
      cell(
        "Account",
        item.userAddress
          ? copyable(item.userAddress, format.short(item.userAddress), "account")
          : none,
      ),
      h(
        "td",
        { role: "cell", "data-name": "Fiat reference", title: item.fiatRef },
        item.fiatRef ? format.short(item.fiatRef, 14, 4) : none,
      ),
      cell(
        "Transaction",
        item.txHash ? copyable(item.txHash, format.short(item.txHash), "transaction hash") : none,
      ),
      h(
        "td",
        { role: "cell", "data-name": "Created", title: item.createdAt, class: "number" },
        format.time(item.createdAt),
      ),
      h(
        "td",
        { role: "cell", "data-name": "Changed", title: item.updatedAt, class: "number" },
        h("span", { "data-since": item.updatedAt, "data-suffix": " ago" }),
      ),
    );
  }

  _pager(view) {
    const button = (label, title, changes, before) =>
      h(
        "button",
        {
          type: "button",
          class: "button",
          title,
          disabled: changes === null,
          "data-focus": `page:${label}`,
          onclick: () => {
            before();
            go(changes);
          },
        },
        label,
      );
    const back = view.cursor ? { cursor: this.behind.at(-1) || null } : null;
    const onward = this.next ? { cursor: this.next } : null;
    fill(
      byId("pager"),
      button("Newest", "The first page", view.cursor ? { cursor: null } : null, () => {
        this.behind = [];
      }),
      button("Newer", "The page before", back, () => this.behind.pop()),
      button("Older", "The next page", onward, () => this.behind.push(view.cursor || "")),
    );
  }

  /** Move the focus by rows, for the keyboard. */
  step(by) {
    const links = [...this.body.querySelectorAll("a.open")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    const chosen = links.findIndex((link) => link.getAttribute("aria-current"));
    const from = at >= 0 ? at : chosen >= 0 ? chosen : by > 0 ? -1 : links.length;
    links[Math.max(0, Math.min(links.length - 1, from + by))].focus();
  }
}
