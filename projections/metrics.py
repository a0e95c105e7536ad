"""Prometheus text of the API: what stands in the tables and on the log is asked at scrape time,
and what this very process counts stands beside it.

A value that cannot be known (the database or Kafka is down) is absent, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.core.lifecycle import Stage
from orchestrator.errors import LogUnavailable
from orchestrator.metrics import CONTENT_TYPE, counter, exposition, gauge_family, histogram
from projections.holds import holds
from projections.lag import LogProbe, lag_by_group, lag_by_topic
from projections.store import Store, StoreUnavailable, is_open
from projections.webhooks.reporting import webhook_families
from schemas.base import RequestType
from schemas.dead_letters import DeadLetterReason
from schemas.policies import PolicyRule

__all__ = ["CONTENT_TYPE", "HttpMetrics", "render"]


class HttpMetrics:
    """What one API counts itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.latency = histogram("http_request_seconds", self.registry)
        self.feed_events = counter("feed_events_total", self.registry)


class _Gathered(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


async def render(
    http: HttpMetrics,
    store: Store,
    probe: LogProbe | None,
    feed_connections: int,
    seals: Iterable[Metric] = (),
) -> bytes:
    """The whole answer to a scrape; works, with less to tell, while dependencies are down."""
    registry = CollectorRegistry()
    families = await _gather(store, probe)
    families.append(_value("feed_connections", feed_connections))
    families += seals
    registry.register(_Gathered(families))
    return exposition() + generate_latest(http.registry) + generate_latest(registry)


async def _gather(store: Store, probe: LogProbe | None) -> list[Metric]:
    families: list[Metric] = []
    try:
        families += await _requests(store)
        families += await _holds(store)
        families += await _chains(store)
        families += await _projection(store)
        up = 1
    except StoreUnavailable:
        up = 0
    families.append(_value("database_up", up))
    if probe is not None:
        families += await _lag(store, probe)
    return families


def _value(name: str, value: float) -> GaugeMetricFamily:
    family = gauge_family(name)
    family.add_metric([], value)
    return family


async def _requests(store: Store) -> list[Metric]:
    counts = gauge_family("requests")
    oldest = gauge_family("oldest_open_request_age_seconds")
    found = {(row["type"], row["stage"]): row for row in await store.stages()}
    for kind in RequestType:
        for stage in Stage:
            row = found.get((kind.value, stage.value))
            counts.add_metric([kind.value, stage.value], row["count"] if row else 0)
            if row and is_open(stage):
                oldest.add_metric([kind.value, stage.value], max(0.0, row["age_seconds"]))
    return [counts, oldest]


async def _holds(store: Store) -> list[Metric]:
    held, oldest = gauge_family("held_requests"), gauge_family("oldest_hold_age_seconds")
    found = {item.rule: item for item in await holds(store)}
    for rule in PolicyRule:
        item = found.get(rule)
        held.add_metric([rule.value], item.requests if item else 0)
        if item:
            oldest.add_metric([rule.value], item.oldest_seconds)
    return [held, oldest]


async def _chains(store: Store) -> list[Metric]:
    block = gauge_family("chain_followed_block")
    age = gauge_family("chain_followed_age_seconds")
    block_age = gauge_family("chain_block_age_seconds")
    halted = gauge_family("chain_halted")
    for chain_id, row in (await store.heads()).items():
        label = [str(chain_id)]
        halted.add_metric(label, row["halted_reason"] is not None)
        if row["to_block"] is not None:
            block.add_metric(label, row["to_block"])
            age.add_metric(label, max(0.0, row["followed_age_seconds"]))
            block_age.add_metric(label, row["block_age_seconds"])
    in_flight = gauge_family("lane_in_flight")
    lane_halted = gauge_family("lane_halted")
    for row in await store.lanes():
        labels = [str(row["chain_id"]), row["wallet"]]
        in_flight.add_metric(labels, row["in_flight"])
        lane_halted.add_metric(labels, row["halted"])
    return [block, age, block_age, halted, in_flight, lane_halted]


async def _projection(store: Store) -> list[Metric]:
    letters = gauge_family("dead_letters")
    counts = await store.dead_letters()
    for reason in DeadLetterReason:
        letters.add_metric([reason.value], counts.get(reason, 0))
    faults = _value("projection_faults", await store.faults())
    families: list[Metric] = [letters, faults]
    writer = await store.writer()
    if writer is not None:
        families.append(_value("projection_beat_age_seconds", writer["beat_age_seconds"]))
        if writer["fresh_age_seconds"] is not None:
            families.append(_value("projection_age_seconds", writer["fresh_age_seconds"]))
    return families


async def _lag(store: Store, probe: LogProbe) -> list[Metric]:
    try:
        ends, groups = await probe.ends(), await probe.groups()
    except LogUnavailable:
        return [_value("kafka_up", 0)]
    lag = gauge_family("consumer_lag_records")
    for group, topics in lag_by_group(ends, groups).items():
        for topic, records in topics.items():
            lag.add_metric([group, topic], records)
    try:
        for topic, records in lag_by_topic(ends, await store.offsets()).items():
            lag.add_metric(["projection", topic], records)
        webhooks = await webhook_families(store, ends)
    except StoreUnavailable:
        webhooks = []
    return [_value("kafka_up", 1), lag, *webhooks]
