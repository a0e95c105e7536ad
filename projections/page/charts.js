// Small charts of our own: axes with units, a tooltip by pointer or arrow keys, and the same numbers
// as a table. Lines differ in dash as well as in colour.

import { h, s } from "./dom.js";
import * as format from "./format.js";

const HEIGHT = 168;
const MARGIN = { top: 12, right: 10, bottom: 24, left: 42 };

/** 3 to 6 round numbers, 0 among them, from below the least value to above the largest. */
export function ticks(largest, least = 0) {
  if (!(largest > least)) return [0, 1];
  const raw = (largest - least) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((unit) => unit * power).find((value) => value >= raw * 0.999);
  const found = [];
  const begin = Math.floor(least / step);
  for (let index = begin; index * step < largest + step * 0.999; index += 1)
    found.push(index * step);
  return found;
}

/** A figure whose parts are made once; `draw(data)` shows new data. */
export class Chart {
  constructor(id, title, unit) {
    this.id = id;
    this.title = title;
    this.unit = unit;
    this.value = h("p", { class: "chart-value", id: `${id}-value` });
    this.legend = h("ul", { class: "legend" });
    this.plot = h("div", { class: "plot", id: `${id}-plot` });
    this.tip = h("div", { class: "tip", role: "status", hidden: true });
    this.table = h("div", { class: "chart-table" });
    this.details = h("details", {}, h("summary", {}, "As a table"), this.table);
    this.node = h(
      "figure",
      { class: "panel chart", id, "aria-labelledby": `${id}-title` },
      h(
        "figcaption",
        {},
        h("h2", { id: `${id}-title` }, title),
        h("span", { class: "muted" }, unit),
      ),
      this.value,
      this.legend,
      h("div", { class: "plot-frame" }, this.plot, this.tip),
      this.details,
    );
    this.details.addEventListener("toggle", () => this._table());
    this.active = null;
    new ResizeObserver(() => this.data && this._render()).observe(this.plot);
  }

  message(...nodes) {
    this.data = null;
    this.legend.replaceChildren();
    this.value.textContent = "";
    this.plot.replaceChildren(...nodes.flat());
    this.details.hidden = true;
  }

  /** `columns`: labels of the x axis with `title` for tips; `series`: {name, values, style, area};
   * null values are gaps. `bars`: groups side by side instead of lines. `summary` in words. */
  draw(data) {
    const same = JSON.stringify(data);
    if (this.same === same && this.data) return;
    this.same = same;
    this.data = data;
    this.details.hidden = false;
    this.value.textContent = data.headline;
    this.legend.replaceChildren(
      ...data.series.map((line) => h("li", { class: line.style }, this._key(), line.name)),
    );
    this._render();
    this._table();
  }

  _key() {
    const mark = this.data.bars
      ? s("rect", { x: 3, y: 2, width: 8, height: 8, rx: 1.5, class: "bar" })
      : s("line", { x1: 0, y1: 6, x2: 16, y2: 6, class: "line" });
    return s("svg", { viewBox: "0 0 16 12", width: 16, height: 12, "aria-hidden": "true" }, mark);
  }

  _render() {
    const width = Math.max(220, this.plot.clientWidth);
    const { columns, series, summary, bars } = this.data;
    const values = series.flatMap((line) => line.values).filter((value) => value !== null);
    const marks = ticks(Math.max(0, ...values), Math.min(0, ...values));
    const lowest = marks[0];
    const top = marks.at(-1);
    const inner = {
      width: width - MARGIN.left - MARGIN.right,
      height: HEIGHT - MARGIN.top - MARGIN.bottom,
    };
    const y = (value) => MARGIN.top + inner.height * (1 - (value - lowest) / (top - lowest || 1));
    const step = inner.width / (bars ? columns.length : Math.max(1, columns.length - 1));
    const x = (index) => MARGIN.left + step * (bars ? index + 0.5 : index);
    const focused = this.plot.contains(document.activeElement);
    const svg = s(
      "svg",
      {
        viewBox: `0 0 ${width} ${HEIGHT}`,
        width,
        height: HEIGHT,
        role: "img",
        tabindex: 0,
        "aria-label": `${this.title}, ${this.unit}. ${summary} Arrow keys read single points.`,
      },
      this._grid(marks, y, width),
      this._labels(columns, x, inner.width, bars),
      bars ? this._bars(series, x, y, step) : this._lines(series, x, y, lowest),
      s("line", {
        class: "cursor",
        y1: MARGIN.top,
        y2: HEIGHT - MARGIN.bottom,
        visibility: "hidden",
      }),
    );
    this._listen(svg, x, width);
    this.plot.replaceChildren(svg);
    if (focused) svg.focus({ preventScroll: true });
    if (this.active !== null) this._show(svg, Math.min(this.active, columns.length - 1), x, width);
  }

  _grid(marks, y, width) {
    return marks.map((value) => [
      s("line", {
        class: "grid",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: y(value),
        y2: y(value),
      }),
      s(
        "text",
        { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" },
        format.compact(value),
      ),
    ]);
  }

  _labels(columns, x, width, bars) {
    const every = Math.max(
      1,
      Math.ceil(columns.length / Math.max(2, Math.floor(width / (bars ? 44 : 72)))),
    );
    return columns.map((column, index) => {
      const last = columns.length - 1;
      if (bars ? index % every : (last - index) % every) return null;
      const anchor = bars ? "middle" : index === last ? "end" : index === 0 ? "start" : "middle";
      return s(
        "text",
        { class: "tick", x: x(index), y: HEIGHT - 7, "text-anchor": anchor },
        column.label,
      );
    });
  }

  _lines(series, x, y, lowest) {
    return series.map((line) => {
      const pieces = [];
      let piece = [];
      line.values.forEach((value, index) => {
        if (value === null) {
          if (piece.length) pieces.push(piece);
          piece = [];
        } else piece.push([x(index), y(value)]);
      });
      if (piece.length) pieces.push(piece);
      const path = (points) =>
        "M" + points.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
      return s(
        "g",
        { class: line.style },
        line.area &&
          pieces.map((points) =>
            s("path", {
              class: "area",
              d: `${path(points)}L${points.at(-1)[0].toFixed(1)} ${y(lowest)}L${points[0][0].toFixed(1)} ${y(lowest)}Z`,
            }),
          ),
        pieces.map((points) =>
          points.length === 1
            ? s("circle", { class: "dot", cx: points[0][0], cy: points[0][1], r: 2.5 })
            : s("path", { class: "line", d: path(points) }),
        ),
      );
    });
  }

  _bars(series, x, y, step) {
    const room = Math.min(44, step * 0.72);
    const each = room / series.length;
    return series.map((line, place) =>
      s(
        "g",
        { class: line.style },
        line.values.map((value, index) =>
          value === null
            ? null
            : s("rect", {
                class: "bar",
                x: x(index) - room / 2 + place * each,
                width: Math.max(2, each - 2),
                y: Math.min(y(value), y(0)),
                height: Math.max(1, Math.abs(y(value) - y(0))),
                rx: 1.5,
              }),
        ),
      ),
    );
  }

  _listen(svg, x, width) {
    const { columns } = this.data;
    svg.addEventListener("pointermove", (event) => {
      const px = event.clientX - svg.getBoundingClientRect().left;
      let best = 0;
      columns.forEach((_, index) => {
        if (Math.abs(x(index) - px) < Math.abs(x(best) - px)) best = index;
      });
      this._show(svg, best, x, width);
    });
    const leave = () => this._hide(svg);
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const at = this.active ?? columns.length;
      const goal = {
        ArrowLeft: at - 1,
        ArrowRight: this.active === null ? 0 : at + 1,
        Home: 0,
        End: columns.length - 1,
      }[event.key];
      if (event.key === "Escape" && this.active !== null) {
        event.stopPropagation();
        leave();
      }
      if (goal === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this._show(svg, Math.max(0, Math.min(columns.length - 1, goal)), x, width);
    });
  }

  _show(svg, index, x, width) {
    this.active = index;
    const { columns, series, show } = this.data;
    const cursor = svg.querySelector(".cursor");
    cursor.setAttribute("x1", x(index));
    cursor.setAttribute("x2", x(index));
    cursor.setAttribute("visibility", "visible");
    this.tip.replaceChildren(
      h("strong", {}, columns[index].title),
      ...series.map((line) =>
        h(
          "span",
          { class: line.style },
          this._key(),
          `${line.name} `,
          h("b", {}, show(line, index)),
        ),
      ),
    );
    this.tip.hidden = false;
    const left = x(index) > width / 2;
    this.tip.style.left = left ? "auto" : `${x(index) + 10}px`;
    this.tip.style.right = left
      ? `${Math.max(0, this.plot.clientWidth - x(index)) + 10}px`
      : "auto";
  }

  _hide(svg) {
    this.active = null;
    this.tip.hidden = true;
    svg.querySelector(".cursor").setAttribute("visibility", "hidden");
  }

  _table() {
    if (!this.data || !this.details.open) return;
    const { columns, series, show, axis } = this.data;
    const filled = columns
      .map((_, index) => index)
      .filter((index) => series.some((line) => line.values[index]));
    const rows = (filled.length ? filled : [columns.length - 1]).reverse();
    this.table.replaceChildren(
      h(
        "table",
        {},
        h(
          "caption",
          { class: "visually-hidden" },
          `${this.title}, ${this.unit}; what is zero is left out`,
        ),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, axis),
            series.map((line) => h("th", { scope: "col" }, line.name)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((index) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, columns[index].title),
              series.map((line) => h("td", {}, show(line, index))),
            ),
          ),
        ),
      ),
    );
    this.table.tabIndex = 0;
    this.table.setAttribute("role", "region");
    this.table.setAttribute("aria-label", `${this.title} as a table`);
  }
}
