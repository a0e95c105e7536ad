"""What a reader of the feed, or an endpoint of webhooks, wants of it: parsed and asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.core.lifecycle import STATUS_OF, TABLE
from projections.feed.events import UNREADABLE, Event
from projections.kafka import FOLLOWED
from projections.queries import LARGEST_CHAIN_ID, InvalidQuery
from schemas.topics import REQUESTS

MOST_VALUES = 100
LONGEST_KEY = 500
ALL_TOPICS = frozenset(topic.name for topic in FOLLOWED)
ALL_KINDS = frozenset(kind for topic in FOLLOWED for kind in topic.kinds) | {UNREADABLE}
STATUS_CHANGE = "status"

STATUS_KINDS = frozenset(
    fact.__name__
    for start, row in TABLE.items()
    for fact, goal in row.items()
    if goal is not None and (start is None or STATUS_OF[start] is not STATUS_OF[goal])
)
"""Kinds that can change a request's public status; whether one did depends on its state."""


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is given must hold; of several values of one name, any. Empty: everything."""

    topics: frozenset[str] = ALL_TOPICS
    kinds: frozenset[str] = frozenset()
    request_keys: frozenset[str] = frozenset()
    chain_ids: frozenset[int] = frozenset()
    status_changes: bool = False

    @property
    def looks_up(self) -> bool:
        """Whether an answer needs more than the fact itself."""
        return self.status_changes or bool(self.chain_ids)

    def admits(self, event: Event) -> bool:
        """False for what is surely not wanted; what is looked up is decided afterwards."""
        if event.topic not in self.topics or (self.kinds and event.kind not in self.kinds):
            return False
        if self.request_keys and event.request_key not in self.request_keys:
            return False
        if self.status_changes and not (
            event.topic == REQUESTS.name and event.kind in STATUS_KINDS
        ):
            return False
        if self.chain_ids and event.chain_id is None:
            return event.request_key is not None
        return not self.chain_ids or event.chain_id in self.chain_ids


def parse(values: Mapping[str, Iterable[str]]) -> Filter:
    """From `topic`, `kind`, `requestKey`, `chainId` (repeated, or comma-separated but for keys) and
    `changes=status`. Raises InvalidQuery that names the parameter and what is allowed."""
    chains = frozenset(_chain_id(text) for text in _listed("chainId", values))
    changes = _listed("changes", values)
    if changes - {STATUS_CHANGE}:
        raise InvalidQuery(f"changes: only {STATUS_CHANGE!r} is known")
    topics = _chosen("topic", values, ALL_TOPICS) or ALL_TOPICS
    if changes and REQUESTS.name not in topics:
        raise InvalidQuery(f"changes: a status is changed by {REQUESTS.name} only; add that topic")
    keys = frozenset(values.get("requestKey", ()))
    if len(keys) > MOST_VALUES or any(not 0 < len(key) <= LONGEST_KEY for key in keys):
        raise InvalidQuery(f"requestKey: at most {MOST_VALUES}, of 1 to {LONGEST_KEY} characters")
    kinds = _chosen("kind", values, ALL_KINDS)
    only = frozenset({REQUESTS.name}) if changes else topics
    return Filter(only, kinds, keys, chains, bool(changes))


def _listed(name: str, values: Mapping[str, Iterable[str]]) -> frozenset[str]:
    parts = [part.strip() for text in values.get(name, ()) for part in text.split(",")]
    if any(not part for part in parts):
        raise InvalidQuery(f"{name}: an empty value; leave the parameter out to have all")
    if len(parts) > MOST_VALUES:
        raise InvalidQuery(f"{name}: more than {MOST_VALUES} values")
    return frozenset(parts)


def _chosen(
    name: str, values: Mapping[str, Iterable[str]], allowed: frozenset[str]
) -> frozenset[str]:
    given = _listed(name, values)
    if given - allowed:
        unknown = sorted(given - allowed)[0][:100]
        raise InvalidQuery(f"{name}: {unknown!r} is not one of {', '.join(sorted(allowed))}")
    return given


def _chain_id(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 20 and 0 < int(text) <= LARGEST_CHAIN_ID:
        return int(text)
    raise InvalidQuery(f"chainId: {text[:100]!r} is not a whole number from 1")
