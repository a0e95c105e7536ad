// One request's story: what it waits for in words and codes, its values, and every fact about it.

import { go } from "./address.js";
import { ApiError, get } from "./api.js";
import { byId, copyable, fill, h, icon, loading, problem, toast } from "./dom.js";
import * as format from "./format.js";
import { badge } from "./requests.js";
import { TOLD } from "./telling.js";

const QUIET_MS = 4_000;
const ENDS = {
  RequestCompleted: "completed",
  RequestFailed: "failed",
  RequestRejected: "failed",
  RequestRetracted: "failed",
};

export class Story {
  constructor(now) {
    this.now = now;
    this.node = byId("story");
    this.key = null;
    this.at = null;
    this.timer = null;
    this.explains = false; // until the API says that it does
  }

  /** Show the request of the view, or nothing; loads only when the view names another. */
  async show(view) {
    const key = view.request || null;
    if (key === this.key && (view.at || null) === this.at) return;
    const before = this.key;
    this.key = key;
    this.at = view.at || null;
    this.body = this.explanation = null;
    if (this.stop) this.stop.abort();
    clearTimeout(this.timer);
    this.node.hidden = key === null;
    document.body.classList.toggle("with-story", key !== null);
    if (key === null) {
      if (this.node.contains(document.activeElement) || document.activeElement === document.body)
        this._back(before);
      return;
    }
    fill(this.node, this._head(), loading("the story", 7));
    this.node.scrollTop = 0;
    await this.load();
  }

  _back(key) {
    const row = [...document.querySelectorAll("tr[data-key]")].find(
      (node) => node.dataset.key === key,
    );
    (row ? row.querySelector("a.open") : byId("requests")).focus({ preventScroll: true });
  }

  focus() {
    this.node.focus({ preventScroll: true });
    this.reveal();
  }

  /** Beside the table, the story may stand below what is seen. */
  reveal() {
    if (getComputedStyle(this.node).position === "fixed") return;
    const { top } = this.node.getBoundingClientRect();
    if (top > window.innerHeight / 3 || top < 0)
      byId("requests").scrollIntoView({ block: "start" });
  }

  async load() {
    const key = this.key;
    if (key === null) return;
    if (this.stop) this.stop.abort();
    this.stop = new AbortController();
    const { signal } = this.stop;
    const path = `/status/${encodeURIComponent(key)}`;
    const moment = this.at ? `?at=${encodeURIComponent(this.at)}` : "";
    try {
      const told = await get(path + moment, { signal });
      if (key !== this.key) return;
      this.body = told.body;
      this.render();
      if (this.explains) await this._explain(`${path}/explain${moment}`, signal);
    } catch (error) {
      if (signal.aborted || key !== this.key) return;
      if (!(error instanceof ApiError)) throw error;
      if (this.body) return; // the old story stays; the head says it is old
      const title = error.kind === "missing" ? "No such request" : "The story cannot be shown";
      fill(
        this.node,
        this._head(),
        problem(title, error.message, () => {
          fill(this.node, this._head(), loading("the story", 7));
          this.load();
        }),
      );
    }
  }

  async _explain(path, signal) {
    try {
      this.explanation = (await get(path, { signal })).body;
      this.unexplained = null;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.unexplained = error;
    }
    if (!signal.aborted) this.render();
  }

  /** A fact of the feed about this request: shown at once, and asked for in full when it is quiet. */
  apply(fact) {
    if (this.at || !this.body || fact.requestKey !== this.key) return;
    const known = this.body.timeline.some(
      (item) =>
        item.topic === fact.topic &&
        item.partition === fact.partition &&
        item.offset === fact.offset,
    );
    if (known) return;
    const told = fact.fact || {};
    this.body.timeline.push({
      kind: fact.kind,
      at: fact.at,
      topic: fact.topic,
      partition: fact.partition,
      offset: fact.offset,
      txHash: told.tx_hash ?? null,
      blockNumber: told.block_number ?? null,
      blockHash: told.block_hash ?? null,
      verdict: null,
    });
    this.render();
    this.soon(QUIET_MS);
  }

  soon(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), milliseconds);
  }

  /** While it is not at its end, the explanation grows old; the poll asks for it again. */
  get unsettled() {
    return (
      this.body !== null &&
      this.body !== undefined &&
      !this.at &&
      (this.body.status === "PENDING" || this.body.status === "PROCESSING")
    );
  }

  _head() {
    return h(
      "div",
      { class: "head" },
      h("h2", { id: "story-title" }, "Story"),
      h("span", { class: "spacer" }),
      h(
        "button",
        {
          type: "button",
          class: "tool",
          "aria-label": "Copy a link to this story",
          title: "Copy a link (y)",
          "data-focus": "story-link",
          onclick: () => this.copyLink(),
        },
        icon("link"),
      ),
      h(
        "button",
        {
          type: "button",
          class: "tool",
          "aria-label": "Close the story",
          title: "Close (Esc)",
          "data-focus": "story-close",
          onclick: () => go({ request: null }),
        },
        icon("close"),
      ),
    );
  }

  async copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      toast("Copied a link to this story");
    } catch (error) {
      toast("Copy the address from the browser's bar: it is the link");
    }
  }

  render() {
    const item = this.body;
    fill(
      this.node,
      this._head(),
      h(
        "div",
        { class: "story-name" },
        h("p", { class: "mono wrap" }, item.requestId),
        badge(item),
      ),
      item.errorMessage &&
        h(
          "p",
          { class: "story-error", role: "note" },
          icon("failed"),
          h("span", {}, item.errorMessage),
        ),
      this.at &&
        h(
          "p",
          { class: "notice small" },
          `As of ${format.time(this.at)}; later facts are left out.`,
        ),
      this._explanation(),
      this._values(item),
      h(
        "h3",
        {},
        `Timeline, ${item.timeline.length} ${item.timeline.length === 1 ? "fact" : "facts"}`,
      ),
      this._timeline(item.timeline),
    );
  }

  _explanation() {
    const told = this.explanation;
    if (!told) {
      const why = this.unexplained;
      if (!why || why.kind === "missing") return null;
      return h("p", { class: "muted small" }, `The explanation cannot be shown: ${why.message}.`);
    }
    const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const usual =
      told.usual &&
      (told.usual.text || (told.usual.seconds && format.duration(told.usual.seconds)));
    return h(
      "section",
      { class: "explain", "aria-label": "Explanation" },
      h("p", { class: "summary" }, told.summary),
      h(
        "dl",
        { class: "facts" },
        told.waitingFor && fact("waits for", told.waitingFor),
        told.turn && told.turn !== "nobody" && fact("whose turn", format.words(told.turn)),
        told.since &&
          fact(
            "since",
            h(
              "span",
              { title: told.since },
              format.time(told.since, this.now()),
              " (",
              h("span", { "data-since": told.since }),
              ")",
            ),
          ),
        told.nextAttemptAt && fact("next attempt", format.time(told.nextAttemptAt, this.now())),
        told.waitingFor && usual && fact("usual", usual),
        fact("code", h("code", {}, told.code)),
      ),
      (told.operatorCan || []).length > 0 &&
        h(
          "div",
          { class: "can" },
          h("h3", {}, "What an operator can do"),
          h(
            "ul",
            {},
            told.operatorCan.map((action) =>
              h(
                "li",
                {},
                h("p", {}, action.text),
                action.command && copyable(action.command, action.command, "command"),
              ),
            ),
          ),
        ),
    );
  }

  _values(item) {
    const fact = (name, value) =>
      value !== null &&
      value !== undefined &&
      value !== false &&
      value !== "" &&
      h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const hash = (value, what) => value && copyable(value, format.short(value, 10, 8), what);
    return h(
      "dl",
      { class: "facts values" },
      fact("type", format.words(item.type)),
      fact("chain", item.chainId),
      fact(
        "amount",
        item.amount &&
          h(
            "span",
            {},
            format.isBaseUnits(item.amount)
              ? h("b", {}, format.tokens(item.amount, format.decimals))
              : h("b", {}, item.amount),
            format.isBaseUnits(item.amount) &&
              h(
                "span",
                { class: "muted small block" },
                `${format.grouped(item.amount)} base units`,
              ),
          ),
      ),
      fact("account", hash(item.userAddress, "account")),
      fact(
        "fiat reference",
        item.fiatRef && copyable(item.fiatRef, format.short(item.fiatRef, 24, 8), "fiat reference"),
      ),
      fact("transaction", hash(item.txHash, "transaction hash")),
      fact("attempt", item.attempt || null),
      fact(
        "request key",
        item.requestKey !== item.requestId &&
          copyable(item.requestKey, format.short(item.requestKey, 18, 8), "request key"),
      ),
      fact(
        "created",
        h("span", { title: item.createdAt }, format.time(item.createdAt, this.now())),
      ),
      fact(
        "changed",
        h("span", { title: item.updatedAt }, format.time(item.updatedAt, this.now())),
      ),
    );
  }

  _timeline(facts) {
    const ordered = [...facts].sort((one, other) =>
      one.at < other.at ? -1 : one.at > other.at ? 1 : 0,
    );
    let before = null;
    return h(
      "ol",
      { class: "timeline" },
      ordered.map((fact) => {
        const gap = before === null ? null : (new Date(fact.at) - new Date(before)) / 1000;
        before = fact.at;
        return this._fact(fact, gap);
      }),
    );
  }

  _fact(fact, gap) {
    const odd = fact.verdict && fact.verdict !== "APPLIED";
    const kind = odd ? "warning" : ENDS[fact.kind] || "";
    return h(
      "li",
      { class: `fact ${kind ? `fact-${kind}` : ""} topic-${fact.topic.replaceAll(".", "-")}` },
      h("span", { class: "node", "aria-hidden": "true" }),
      h(
        "p",
        { class: "told" },
        TOLD[fact.kind] || format.words(fact.kind),
        odd &&
          h("span", { class: "badge badge-warning" }, icon("warning"), format.words(fact.verdict)),
      ),
      h(
        "p",
        { class: "when" },
        h("time", { datetime: fact.at, title: fact.at }, format.time(fact.at, this.now())),
        gap !== null && h("span", { class: "muted" }, ` +${format.duration(gap)}`),
      ),
      h(
        "p",
        { class: "where" },
        h("code", {}, fact.kind),
        h("span", { class: "muted" }, `${fact.topic}/${fact.partition}/${fact.offset}`),
        fact.blockNumber !== null &&
          h(
            "span",
            { class: "muted", title: fact.blockHash },
            `block ${format.count(fact.blockNumber)}`,
          ),
        fact.txHash && copyable(fact.txHash, format.short(fact.txHash), "transaction hash"),
        fact.blockHash &&
          copyable(fact.blockHash, `block ${format.short(fact.blockHash)}`, "block hash"),
      ),
    );
  }
}
