"""What a metric is: name, type, unit, labels, meaning, and which process exposes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "orchestrator_"

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets of calls, seconds."""
LASTING = (
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    900,
    3600,
    21_600,
    86_400,
)
"""Buckets of a request's steps, seconds."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """Which process exposes it; `run` and its API expose all."""

    API = "api"
    PROJECT = "project"
    INGEST = "ingest"
    SIGN = "worker (sign)"
    RELAY = "worker (relay)"
    BOOKS = "worker (decide, sign)"
    WORKER = "worker"
    NODES = "ingest, worker (relay)"
    WEBHOOKS = "webhooks"


@dataclass(frozen=True, slots=True)
class Spec:
    """`name` without the prefix; `buckets` for histograms."""

    name: str
    kind: Kind
    source: Source
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = QUICK

    @property
    def full_name(self) -> str:
        return PREFIX + self.name

    @property
    def unit(self) -> str:
        for ending in ("seconds", "wei", "units", "records", "blocks", "bytes"):
            if self.name.removesuffix("_total").endswith("_" + ending):
                return ending
        return "number"


def gauge(name: str, source: Source, labels: tuple[str, ...], meaning: str) -> Spec:
    return Spec(name, Kind.GAUGE, source, labels, meaning)


def counter(name: str, source: Source, labels: tuple[str, ...], meaning: str) -> Spec:
    return Spec(name, Kind.COUNTER, source, labels, meaning)


def histogram(
    name: str,
    source: Source,
    labels: tuple[str, ...],
    meaning: str,
    buckets: tuple[float, ...] = QUICK,
) -> Spec:
    return Spec(name, Kind.HISTOGRAM, source, labels, meaning, buckets)


_PLACE = ("role", "place")
OF_BOOKS = (
    gauge("book_awake_requests", Source.BOOKS, ("role",), "Requests in memory: not put away yet."),
    gauge("book_resting_requests", Source.BOOKS, _PLACE, "Requests that owe nothing, put away."),
    gauge("book_resting_bytes", Source.BOOKS, _PLACE, "What these take there."),
    gauge(
        "book_partitions",
        Source.BOOKS,
        _PLACE,
        "Partitions whose requests rest there: with `STATE_DIR`, `memory` is where it failed.",
    ),
)
