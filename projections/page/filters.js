// Search and filters of the requests: all that `GET /status` knows, kept in the address.

import { filtersOf, go } from "./address.js";
import { byId, fill, h, icon } from "./dom.js";
import * as format from "./format.js";

const STATUSES = ["PENDING", "PROCESSING", "COMPLETED", "FAILED"];
const STAGES = [
  "RECEIVED",
  "HELD",
  "DRAFTED",
  "SIGNED",
  "RELAYING",
  "SUBMITTED",
  "INCLUDED",
  "EXPIRED",
  "COMPLETED",
  "REJECTED",
  "FAILED",
  "RETRACTED",
  "UNBACKED",
];
const NAMES = {
  search: "Search",
  type: "Type",
  status: "Status",
  stage: "Stage",
  chainId: "Chain",
  user: "Account",
  fiatRef: "Fiat reference",
  txHash: "Transaction",
  createdFrom: "Created from",
  createdTo: "Created before",
  at: "As of",
};

/** A local time of a `datetime-local` field as RFC 3339 UTC, and back. */
const toZulu = (local) => (local ? new Date(local).toISOString() : "");
function toLocal(zulu) {
  const date = new Date(zulu);
  if (!zulu || Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

export class Filters {
  /** `onapply` before the address changes: paging begins anew. */
  constructor(lifecycle, onapply) {
    this.lifecycle = lifecycle;
    this.onapply = onapply;
    this._form();
  }

  _form() {
    const select = (name, values) =>
      h(
        "label",
        {},
        h("span", {}, NAMES[name]),
        h(
          "select",
          { name },
          h("option", { value: "" }, "any"),
          values.map((value) => {
            const option = h("option", {}, format.words(value));
            option.value = value;
            return option;
          }),
        ),
      );
    const text = (name, hint, type = "text") =>
      h(
        "label",
        {},
        h("span", {}, NAMES[name]),
        h("input", {
          name,
          type,
          placeholder: hint,
          autocomplete: "off",
          spellcheck: "false",
          step: type === "datetime-local" ? 1 : null,
        }),
      );
    this.form = byId("filters");
    this.more = h(
      "details",
      { class: "more" },
      h("summary", {}, icon("more"), "More filters"),
      h(
        "div",
        { class: "more-fields" },
        select(
          "stage",
          STAGES.filter((stage) => stage in this.lifecycle.statusOf),
        ),
        text("user", "0x…"),
        text("fiatRef", "exact"),
        text("txHash", "0x…"),
        text("createdFrom", "", "datetime-local"),
        text("createdTo", "", "datetime-local"),
        text("at", "", "datetime-local"),
        h("button", { type: "submit", class: "button" }, "Apply"),
      ),
    );
    this.chips = h("div", { class: "chips" });
    this.form.append(
      h(
        "label",
        { class: "search" },
        h("span", { class: "visually-hidden" }, "Search requests"),
        icon("search"),
        h("input", {
          name: "search",
          type: "search",
          placeholder: "Id, account, fiat reference or transaction",
          autocomplete: "off",
          spellcheck: "false",
          "aria-keyshortcuts": "/",
          maxlength: 500,
        }),
      ),
      select("status", STATUSES),
      select("type", ["MINT", "REDEEM"]),
      h(
        "label",
        {},
        h("span", {}, NAMES.chainId),
        h("select", { name: "chainId" }, h("option", { value: "" }, "any")),
      ),
      this.more,
      this.chips,
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._apply();
    });
    this.form.addEventListener("change", (event) => {
      if (event.target.matches("select")) this._apply();
    });
    this.form.elements.search.addEventListener("search", () => this._apply());
  }

  _apply() {
    const changes = { cursor: null };
    for (const name of Object.keys(NAMES)) {
      const field = this.form.elements[name];
      const value = field.value.trim();
      changes[name] = field.type === "datetime-local" ? toZulu(value) : value;
    }
    this.onapply();
    go(changes);
  }

  offerChains(chains) {
    const field = this.form.elements.chainId;
    const known = [...field.options].map((option) => option.value);
    for (const chain of chains) {
      if (known.includes(String(chain))) continue;
      const option = h("option", {}, String(chain));
      option.value = String(chain);
      field.append(option);
    }
  }

  /** The fields as the address says; each filter is a chip to take away. */
  show(view) {
    if (view.chainId) this.offerChains([view.chainId]);
    for (const name of Object.keys(NAMES)) {
      const field = this.form.elements[name];
      const value = view[name] || "";
      const shown = field.type === "datetime-local" ? toLocal(value) : value;
      if (field.value !== shown) field.value = shown;
    }
    const active = Object.entries(filtersOf(view));
    const chips = active.map(([name, value]) => {
      const shown =
        name.startsWith("created") || name === "at"
          ? format.time(value)
          : format.short(value, 14, 6);
      return h(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-label": `Remove filter ${NAMES[name]} ${value}`,
          "data-focus": `chip:${name}`,
          onclick: () => go({ [name]: null, cursor: null }),
        },
        `${NAMES[name]}: ${shown}`,
        icon("close"),
      );
    });
    if (chips.length > 1) {
      const none = Object.fromEntries(Object.keys(NAMES).map((name) => [name, null]));
      chips.push(
        h(
          "button",
          { type: "button", class: "chip plain", onclick: () => go({ ...none, cursor: null }) },
          "Clear all",
        ),
      );
    }
    fill(this.chips, chips);
  }
}
