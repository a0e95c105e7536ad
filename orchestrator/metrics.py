"""The instruments of this process. Nothing is exposed that `metric_catalogue` does not name.

Counters and histograms are counted where the thing happens; gauges are read at scrape time from the
live objects (`watch`) or from the tables (`projections/metrics.py`), so no value is older than its
scrape, and what is not known is absent, never zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.metric_catalogue import CATALOGUE, Kind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
"""Of this process: what is counted here, and what is watched here."""


def counter(name: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """The instrument of a catalogued counter; KeyError for any other name."""
    spec = CATALOGUE[name]
    assert spec.kind is Kind.COUNTER
    return Counter(spec.full_name, spec.meaning, spec.labels, registry=registry)


def histogram(name: str, registry: CollectorRegistry = REGISTRY) -> Histogram:
    spec = CATALOGUE[name]
    assert spec.kind is Kind.HISTOGRAM
    return Histogram(
        spec.full_name, spec.meaning, spec.labels, buckets=spec.buckets, registry=registry
    )


def gauge_family(name: str) -> GaugeMetricFamily:
    """An empty family, to be filled at a scrape: `add_metric(labels, value)`."""
    spec = CATALOGUE[name]
    assert spec.kind is Kind.GAUGE
    return GaugeMetricFamily(spec.full_name, spec.meaning, labels=spec.labels)


Sample = tuple[str, tuple[object, ...], float | None]
"""Name, label values, value; None is not known and therefore not exposed."""

_watched: dict[object, Callable[[], Iterable[Sample]]] = {}


@contextmanager
def watch(read: Callable[[], Iterable[Sample]]) -> Iterator[None]:
    """Expose gauges that `read` gives at each scrape, as long as the context lasts."""
    token = object()
    _watched[token] = read
    try:
        yield
    finally:
        del _watched[token]


class _Watched(Collector):
    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for read in list(_watched.values()):
            for name, labels, value in read():
                if value is None:
                    continue
                family = families.setdefault(name, gauge_family(name))
                family.add_metric([str(label) for label in labels], value)
        yield from families.values()


REGISTRY.register(_Watched())
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

KMS_SECONDS = histogram("kms_request_seconds")
KMS_ERRORS = counter("kms_errors_total")
GUARD_SECONDS = histogram("signing_guard_seconds")
GUARD_REFUSALS = counter("signing_guard_refusals_total")
GATE_REFUSALS = counter("gate_refusals_total")
RPC_SECONDS = histogram("rpc_request_seconds")
RPC_ERRORS = counter("rpc_errors_total")
KURO_MESSAGES = counter("kuro_messages_total")
KURO_FAILURES = counter("kuro_failures_total")
STEP_SECONDS = histogram("step_seconds")
REQUEST_SECONDS = histogram("request_seconds")
FACTS = counter("facts_total")
REFUSED_FACTS = counter("refused_facts_total")
DEEP_REORGS = counter("deep_reorgs_total")
RETRACTIONS = counter("retractions_total")
ORPHANED = counter("orphaned_transactions_total")
REPLACED = counter("replaced_transactions_total")
WEBHOOK_DELIVERIES = counter("webhook_deliveries_total")
WEBHOOK_SECONDS = histogram("webhook_request_seconds")


@contextmanager
def timed(instrument: Histogram, *labels: object) -> Iterator[None]:
    """Observe how long the block took, however it ends."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        child = instrument.labels(*map(str, labels)) if labels else instrument
        child.observe(time.perf_counter() - begun)


def exposition() -> bytes:
    """This process's metrics as Prometheus text."""
    return generate_latest(REGISTRY)
