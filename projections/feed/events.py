"""A record of the log as readers of the feed and of webhooks see it. Pure.

What would let its reader act is withheld: whoever holds an approval's signature can execute it,
also after an operator has stopped the request. The log itself holds all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from orchestrator.core.belonging import request_key_of
from schemas.base import Fact, UnreadableRecord, instant
from schemas.topics import TOPICS

UNREADABLE = "Unreadable"
"""The kind of a record that holds no fact; its place is shown all the same."""

WITHHELD: Mapping[str, frozenset[str]] = {
    "ApprovalSigned": frozenset({"signature"}),
    "RelayRequested": frozenset({"data"}),
    "TransactionPrepared": frozenset({"raw"}),
    "DeadLetter": frozenset({"raw_base64"}),
}
"""By kind, the fields that are not shown. A dead letter's bytes may hold any of the others."""


class Message(Protocol):
    """What is needed of a Kafka record; `timestamp` in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Event:
    """`chain_id` is what the fact or its request's key says; a mint's later facts name none, and
    get theirs only where a filter asks for it. `bytes` is about what it costs to keep."""

    topic: str
    partition: int
    offset: int
    at: str
    kind: str
    fact_id: str | None
    request_key: str | None
    chain_id: int | None
    fact: dict[str, Any] | None
    bytes: int = 0
    status: tuple[str | None, str] | None = None
    """Status before and after, where a filter asks for changes."""

    @property
    def seat(self) -> tuple[str, int]:
        return self.topic, self.partition

    def shown(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "at": self.at,
            "kind": self.kind,
            "requestKey": self.request_key,
            "chainId": self.chain_id,
            "fact": self.fact,
        }
        if self.status is not None:
            body["status"] = {"from": self.status[0], "to": self.status[1]}
        return body


def event_of(message: Message) -> Event:
    """Never raises: what cannot be read is an event too, since a gap would hide it."""
    value = message.value or b""
    seat = (message.topic, message.partition, message.offset)
    try:
        record = TOPICS[message.topic].decode(value)
    except UnreadableRecord:
        at = instant(message.timestamp / 1000)
        return Event(*seat, at, UNREADABLE, None, None, None, None, 500)
    fact = record.fact
    body: dict[str, Any] = orjson.loads(value)
    for name in WITHHELD.get(fact.kind, ()):
        body.pop(name, None)
    key = request_key_of(fact)
    return Event(
        *seat, record.at, fact.kind, fact.id, key, chain_of(fact, key), body, 2 * len(value) + 500
    )


def chain_of(fact: Fact, request_key: str | None) -> int | None:
    named: int | None = getattr(fact, "chain_id", None)
    if named is None and request_key is not None and request_key.startswith("redeem:"):
        number = request_key.split(":", 2)[1]
        return int(number) if number.isascii() and number.isdigit() else None
    return named
