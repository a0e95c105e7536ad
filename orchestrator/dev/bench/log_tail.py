"""Reading along with the log: which kind of fact stands on it for which key since when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import TopicPartition

from orchestrator.kafka_access import KafkaAccess
from schemas.lanes import relay_parts
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Seen:
    """One record. `at_seconds` is Unix time, of its writer; `size` in bytes without headers."""

    topic: str
    kind: str
    key: str
    at_seconds: float
    size: int
    value: bytes

    @property
    def request_key(self) -> str:
        """Of a record that tells of one request."""
        body = orjson.loads(self.value)
        if "relay" in body:
            return relay_parts(body["relay"])[0]
        return str(body.get("request_key", self.key))


class LogTail:
    """Collects committed records of these topics from the end on, while it is open."""

    def __init__(
        self, kafka: KafkaAccess, topics: Sequence[Topic], kinds: Sequence[str] = ()
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._kinds = frozenset(kinds)
        self._task: asyncio.Task[None] | None = None
        self.seen: list[Seen] = []

    async def __aenter__(self) -> LogTail:
        consumer = self._kafka.consumer(
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        seats = [TopicPartition(topic.name, n) for topic in self._topics for n in range(12)]
        seats = [seat for seat in seats if seat.partition < _partitions(self._topics, seat.topic)]
        consumer.assign(seats)
        for seat, end in (await consumer.end_offsets(seats)).items():
            consumer.seek(seat, end)
        self._task = asyncio.create_task(self._read(consumer))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, consumer: Any) -> None:
        try:
            while True:
                batches = await consumer.getmany(timeout_ms=200, max_records=5000)
                for seat, messages in batches.items():
                    for message in messages:
                        kind = dict(message.headers)["kind"].decode()
                        if self._kinds and kind not in self._kinds:
                            continue
                        self.seen.append(
                            Seen(
                                seat.topic,
                                kind,
                                message.key.decode(),
                                message.timestamp / 1000,
                                len(message.key) + len(message.value),
                                message.value,
                            )
                        )
        finally:
            await consumer.stop()

    def of(self, kind: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.kind == kind]

    async def until(
        self, enough: Callable[[], bool], what: str, patience_seconds: float = 120
    ) -> None:
        """Until the condition holds. Raises TimeoutError when no record comes for so long."""
        changed, before = time.monotonic(), -1
        while not enough():
            if len(self.seen) != before:
                changed, before = time.monotonic(), len(self.seen)
            if time.monotonic() - changed > patience_seconds:
                raise TimeoutError(f"not seen on the log: {what}")
            await asyncio.sleep(0.05)


def _partitions(topics: Sequence[Topic], name: str) -> int:
    return next(topic.partitions for topic in topics if topic.name == name)
