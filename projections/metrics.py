"""Prometheus text. What stands in the tables is asked at scrape time; only HTTP is counted here.

A value that cannot be known (the database or Kafka is down) is absent, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.core.lifecycle import Stage
from orchestrator.errors import LogUnavailable
from projections.lag import LogProbe, lag_by_topic
from projections.store import Store, StoreUnavailable, is_open
from schemas.base import RequestType

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics:
    """The process's own counters: HTTP latency, and Linux process figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.latency = Histogram(
            "orchestrator_http_request_seconds",
            "Time to answer an HTTP request.",
            ["route", "status"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )


class _Gathered(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


async def render(http: HttpMetrics, store: Store, probe: LogProbe | None) -> bytes:
    """The whole answer to a scrape; works, with less to tell, while dependencies are down."""
    registry = CollectorRegistry()
    registry.register(_Gathered(await _gather(store, probe)))
    return generate_latest(http.registry) + generate_latest(registry)


async def _gather(store: Store, probe: LogProbe | None) -> list[Metric]:
    families: list[Metric] = []
    try:
        families += await _requests(store)
        families += await _chains(store)
        families += await _projection(store)
        up = 1
    except StoreUnavailable:
        up = 0
    families.append(_gauge("database_up", "Whether the database answered this scrape.", up))
    if probe is not None:
        families += await _lag(store, probe)
    return families


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orchestrator_{name}", text, value=value)


def _labelled(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orchestrator_{name}", text, labels=labels)


async def _requests(store: Store) -> list[Metric]:
    counts = _labelled("requests", "Requests by type and stage.", "type", "stage")
    oldest = _labelled(
        "oldest_open_request_age_seconds",
        "Age of the oldest request that is not at its end; absent when there is none.",
        "type",
        "stage",
    )
    found = {(row["type"], row["stage"]): row for row in await store.stages()}
    for kind in RequestType:
        for stage in Stage:
            row = found.get((kind.value, stage.value))
            counts.add_metric([kind.value, stage.value], row["count"] if row else 0)
            if row and is_open(stage):
                oldest.add_metric([kind.value, stage.value], max(0.0, row["age_seconds"]))
    return [counts, oldest]


async def _chains(store: Store) -> list[Metric]:
    block = _labelled("chain_followed_block", "The last block whose events are known.", "chain_id")
    age = _labelled("chain_followed_age_seconds", "Since the follower last moved.", "chain_id")
    block_age = _labelled("chain_block_age_seconds", "Age of the last followed block.", "chain_id")
    halted = _labelled("chain_halted", "1 when the follower stopped for a person.", "chain_id")
    for chain_id, row in (await store.heads()).items():
        label = [str(chain_id)]
        halted.add_metric(label, row["halted_reason"] is not None)
        if row["to_block"] is not None:
            block.add_metric(label, row["to_block"])
            age.add_metric(label, max(0.0, row["followed_age_seconds"]))
            block_age.add_metric(label, row["block_age_seconds"])
    in_flight = _labelled(
        "lane_in_flight", "Nonces of a lane not spent for good.", "chain_id", "wallet"
    )
    lane_halted = _labelled(
        "lane_halted", "1 when the lane stopped for a person.", "chain_id", "wallet"
    )
    for row in await store.lanes():
        labels = [str(row["chain_id"]), row["wallet"]]
        in_flight.add_metric(labels, row["in_flight"])
        lane_halted.add_metric(labels, row["halted"])
    return [block, age, block_age, halted, in_flight, lane_halted]


async def _projection(store: Store) -> list[Metric]:
    letters = _labelled("dead_letters", "Dead letters by reason.", "reason")
    for reason, count in (await store.dead_letters()).items():
        letters.add_metric([reason], count)
    faults = _gauge(
        "projection_faults", "Records the projection could not read.", await store.faults()
    )
    families: list[Metric] = [letters, faults]
    writer = await store.writer()
    if writer is not None:
        text = "Since a projection writer last gave a sign of life."
        families.append(_gauge("projection_beat_age_seconds", text, writer["beat_age_seconds"]))
        if writer["fresh_age_seconds"] is not None:
            text = "All that the log held this long ago is in the tables."
            families.append(_gauge("projection_age_seconds", text, writer["fresh_age_seconds"]))
    return families


async def _lag(store: Store, probe: LogProbe) -> list[Metric]:
    try:
        ends = await probe.ends()
    except LogUnavailable:
        return [_gauge("kafka_up", "Whether Kafka answered this scrape.", 0)]
    up = _gauge("kafka_up", "Whether Kafka answered this scrape.", 1)
    lag = _labelled("projection_lag_records", "Records on the log, not in the tables.", "topic")
    try:
        held = await store.offsets()
    except StoreUnavailable:
        return [up]
    for topic, records in lag_by_topic(ends, held).items():
        lag.add_metric([topic], records)
    return [up, lag]
