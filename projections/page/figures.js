// The four charts: what of an overview each one shows, and in which words.

import { Chart } from "./charts.js";
import { byId, h } from "./dom.js";
import * as format from "./format.js";

function columnsOf(points, seconds) {
  return points.map((point) => ({
    label: format.minuteOf(point.at),
    title:
      seconds < 60
        ? format.clockOf(point.at)
        : `${format.minuteOf(point.at)}, ${format.duration(seconds)}`,
  }));
}

const total = (points, name) => points.reduce((sum, point) => sum + point[name], 0);

function throughput(chart, body) {
  const { points, bucketSeconds } = body.throughput;
  const rate = (name) => points.map((point) => (point[name] * 60) / bucketSeconds);
  const sums = ["received", "completed", "failed"].map((name) => total(points, name));
  const told = sums.map(format.count);
  const words = `${told[0]} in, ${told[1]} done, ${told[2]} failed`;
  chart.draw({
    axis: "Time",
    headline: words,
    summary: `In this window: ${words}.`,
    columns: columnsOf(points, bucketSeconds),
    series: [
      { name: "received", values: rate("received"), style: "s1" },
      { name: "completed", values: rate("completed"), style: "s2" },
      { name: "failed", values: rate("failed"), style: "s3" },
    ],
    show: (line, index) => format.compact(line.values[index]),
  });
}

function latency(chart, body) {
  const { points, bucketSeconds } = body.latency;
  const known = points.filter((point) => point.count);
  const last = known.at(-1);
  const show = (value) => (value === null ? "–" : format.duration(value));
  const words = last
    ? `p50 ${show(last.p50Seconds)}, p95 ${show(last.p95Seconds)}, p99 ${show(last.p99Seconds)}`
    : "Nothing completed in this window";
  const series = [
    ["p50", "p50Seconds", "s2"],
    ["p95", "p95Seconds", "s1"],
    ["p99", "p99Seconds", "s4"],
  ];
  chart.draw({
    axis: "Time",
    headline: words,
    summary: last ? `Latest: ${words}.` : `${words}.`,
    columns: columnsOf(points, bucketSeconds),
    series: series.map(([name, field, style]) => ({
      name,
      style,
      values: points.map((point) => point[field]),
    })),
    show: (line, index) => show(line.values[index]),
  });
}

function backlog(chart, body) {
  const { points, bucketSeconds } = body.throughput;
  const now = points.at(-1).open;
  const most = Math.max(...points.map((point) => point.open));
  const words = `${format.count(now)} open now, ${format.count(most)} at most`;
  chart.draw({
    axis: "Time",
    headline: words,
    summary: `${words} in this window.`,
    columns: columnsOf(points, bucketSeconds),
    series: [{ name: "open", values: points.map((point) => point.open), style: "s1", area: true }],
    show: (line, index) => format.count(line.values[index]),
  });
}

function supply(chart, body) {
  const chains = body.chains;
  const sum = chains.reduce((all, chain) => all + BigInt(chain.supply), 0n);
  const words = `${format.tokens(String(sum), 2)} on ${chains.length} ${chains.length === 1 ? "chain" : "chains"}`;
  const fields = [
    ["minted", "s2"],
    ["redeemed", "s1"],
    ["supply", "s4"],
  ];
  chart.draw({
    axis: "Chain",
    bars: true,
    headline: words,
    summary: `Supply, minted less redeemed: ${chains.map((chain) => `chain ${chain.chainId} ${format.tokens(chain.supply, 2)}`).join(", ")}.`,
    columns: chains.map((chain) => ({
      label: String(chain.chainId),
      title: `Chain ${chain.chainId}`,
    })),
    series: fields.map(([name, style]) => ({
      name,
      style,
      values: chains.map((chain) => format.asNumber(chain[name])),
      exact: chains.map((chain) => format.tokens(chain[name], 2)),
    })),
    show: (line, index) => line.exact[index],
  });
}

const DRAWN = [
  ["throughput", "Throughput", "requests per minute", throughput],
  ["latency", "Latency", "seconds, received to completed", latency],
  ["backlog", "Backlog", "requests not ended", backlog],
  ["supply", "Supply", "tokens, by chain", supply],
];

export class Charts {
  constructor() {
    this.charts = DRAWN.map(([id, title, unit, draw]) => [
      new Chart(`chart-${id}`, title, unit),
      draw,
    ]);
    byId("charts").append(...this.charts.map(([chart]) => chart.node));
  }

  show(body) {
    for (const [chart, draw] of this.charts) {
      if (draw === supply && !body.chains.length) {
        chart.message(h("p", { class: "empty" }, "No chain is configured or known."));
      } else draw(chart, body);
    }
  }

  message(make) {
    for (const [chart] of this.charts) if (!chart.data) chart.message(make());
  }
}
