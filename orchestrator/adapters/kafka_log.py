"""The log on Kafka: appending, appending as an owner, and replaying.

Every writer is idempotent with `acks=all` (KIP-98), so a retry inside the client never doubles a
record. An owner writes in transactions; its `transactional.id` is the lane or source, so that a new
owner's `InitProducerId` fences the old one (KIP-98, "zombie fencing").
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
)
from aiokafka.partitioner import DefaultPartitioner

from orchestrator.closing import closed, heed_cancellation
from orchestrator.core.belonging import traceparent
from orchestrator.errors import Fenced, LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from orchestrator.kafka_clients import reason_of
from schemas.base import Fact, Position, Record, encode_headers, encode_value, instant
from schemas.dead_letters import DeadLetter
from schemas.topics import DEAD_LETTERS, TOPICS, Topic

log = structlog.get_logger(__name__)

TRANSACTION_TIMEOUT_MS = 10_000
"""A dead owner's open transaction holds up readers of its partition for at most this long."""


TAIL_WAIT_MS = 500
TAIL_REQUEST_TIMEOUT_MS = 5_000
"""A tail that gets no answer for so long starts anew; it must outlast a fetch's wait."""


def _record(fact: Fact) -> Record:
    return Record(fact, instant(time.time()), None, traceparent(fact))


def _sendable(record: Record) -> dict[str, Any]:
    return {
        "key": record.fact.key.encode(),
        "value": encode_value(record),
        "headers": encode_headers(record),
    }


BATCHED_FROM = 4
"""Fewer facts go to the client one by one: it gathers those of several callers."""


async def _delivered(producer: AIOKafkaProducer, items: Sequence[tuple[str, Fact]]) -> list[Record]:
    """Append facts by topic, each partition's in the given order, and await all of them; each as it
    stands on the log, in the order of `items`.

    Whole batches are handed to the client: a future, a wait and a look at the metadata for each
    record cost three times what encoding it does."""
    records = [_record(fact) for _, fact in items]
    if len(items) < BATCHED_FROM:
        seats = zip(items, records, strict=True)
        sent = [await producer.send(topic, **_sendable(record)) for (topic, _), record in seats]
        found = await asyncio.gather(*sent)
        return [_placed(*pair) for pair in zip(records, found, strict=True)]
    by_seat: dict[tuple[str, int], list[int]] = {}
    for number, (topic, fact) in enumerate(items):
        by_seat.setdefault((topic, partition_of(TOPICS[topic], fact.key)), []).append(number)
    waits = []
    for (topic, partition), seated in by_seat.items():
        numbers, rest = seated, [_sendable(records[number]) for number in seated]
        while rest:
            batch = producer.create_batch()
            full = (n for n, item in enumerate(rest) if not _fits(batch, item))
            taken = next(full, len(rest))
            batch.close()
            future = await producer.send_batch(batch, topic, partition=partition)
            waits.append((future, numbers[:taken]))
            numbers, rest = numbers[taken:], rest[taken:]
    firsts = await asyncio.gather(*(future for future, _ in waits))
    for first, (_, numbers) in zip(firsts, waits, strict=True):
        for step, number in enumerate(numbers):
            records[number] = _placed(records[number], first, step)
    return records


def _placed(record: Record, first: Any, step: int = 0) -> Record:
    """At so many places behind what the broker acknowledged."""
    position = Position(first.topic, first.partition, first.offset + step)
    return Record(record.fact, record.at, position, record.trace)


def _fits(batch: Any, item: dict[str, Any]) -> bool:
    """Put into the batch; the first record always fits, however large."""
    return batch.append(timestamp=None, **item) is not None


class KafkaWriter:
    """Appends without owning anything: at least once, in order per partition.

    Nothing lingers: what comes while a request is under way makes up the next one, so that batches
    are as large as the broker is slow, and one alone goes at once."""

    def __init__(self, kafka: KafkaAccess, client_id: str) -> None:
        self._kafka = kafka
        self._producer = kafka.producer(
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            max_batch_size=262_144,
            request_timeout_ms=30_000,
        )

    async def start(self) -> None:
        await _started(self._producer, self._kafka)

    async def append(self, topic: Topic, facts: Sequence[Fact]) -> list[Record]:
        """Returns when all in-sync replicas have every fact. Raises LogUnavailable; then some of
        the facts may stand on the log, and appending them again is a no-op to every reader."""
        try:
            return await _delivered(self._producer, [(topic.name, fact) for fact in facts])
        except KafkaError as error:
            raise _unavailable(f"appending to {topic.name}", error, self._kafka) from error

    async def append_raw(
        self, topic: Topic, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> Position:
        """Bytes as they are, for what an operator has read again. Raises LogUnavailable."""
        try:
            item = await self._producer.send_and_wait(
                topic.name, value, key=key, headers=list(headers)
            )
        except KafkaError as error:
            raise _unavailable(f"appending to {topic.name}", error, self._kafka) from error
        return Position(topic.name, item.partition, item.offset)

    async def close(self) -> None:
        await closed(self._producer.stop())


class KafkaOwnedLog:
    """Appends as the one owner of a lane or source."""

    def __init__(self, kafka: KafkaAccess, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self._fenced = False
        self._kafka = kafka
        self._producer = kafka.producer(
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            max_batch_size=262_144,
            request_timeout_ms=30_000,
        )

    async def start(self) -> None:
        """Fences every earlier owner; an open transaction of theirs is aborted first."""
        await _started(self._producer, self._kafka)

    async def append(
        self, topic: Topic, facts: Sequence[Fact], letters: Sequence[DeadLetter] = ()
    ) -> None:
        """All or none, dead letters included. Raises Fenced when a later owner exists.
        LogUnavailable leaves the outcome unknown: the owner must start anew and replay."""
        if not facts and not letters:
            return
        if self._fenced:  # aiokafka would raise an AssertionError
            raise Fenced(f"{self.transactional_id} has a later owner")
        items: list[tuple[str, Fact]] = [(topic.name, fact) for fact in facts]
        items += [(DEAD_LETTERS.name, letter) for letter in letters]
        try:
            async with self._producer.transaction():
                await _delivered(self._producer, items)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            self._fenced = True
            heed_cancellation()
            raise Fenced(f"{self.transactional_id} has a later owner") from error
        except KafkaError as error:
            heed_cancellation()
            raise _unavailable(f"appending to {topic.name}", error, self._kafka) from error

    async def close(self) -> None:
        """Idempotent; an open transaction is left to be aborted by the next owner."""
        await closed(self._producer.stop())


def _unavailable(doing: str, error: Exception, kafka: KafkaAccess) -> LogUnavailable:
    return LogUnavailable(f"{doing}: {reason_of(error, kafka)}")


async def _started(producer: AIOKafkaProducer, kafka: KafkaAccess) -> None:
    ready = False
    try:
        await producer.start()
        ready = True
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise Fenced("fenced while starting") from error
    except KafkaError as error:
        raise _unavailable("cannot reach Kafka", error, kafka) from error
    finally:
        if not ready:
            await closed(producer.stop())


def partition_of(topic: Topic, key: str) -> int:
    """The partition that holds a key, as every writer here and Kafka's own clients choose it
    (murmur2 of the key's bytes)."""
    return _partition_of(topic.partitions, key)


@lru_cache(maxsize=65_536)
def _partition_of(partitions: int, key: str) -> int:
    numbers = list(range(partitions))
    return int(DefaultPartitioner()(key.encode(), numbers, numbers))


class KafkaLog:
    """The log as `ports.FactLog`: replays committed records, makes owned writers.

    `prefix` begins every transactional id, so that two deployments on one cluster never fence each
    other.
    """

    def __init__(self, kafka: KafkaAccess, client_id: str, prefix: str = "orchestrator") -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._prefix = prefix

    def owned(self, name: str) -> KafkaOwnedLog:
        return KafkaOwnedLog(self._kafka, f"{self._prefix}.{name}")

    async def cluster(self) -> str:
        """The id of the cluster, which it was given when it was made. Raises LogUnavailable."""
        admin = self._kafka.admin(client_id=self._client_id)
        try:
            await admin.start()
            return str((await admin.describe_cluster())["cluster_id"])
        except KafkaError as error:
            raise _unavailable("asking for the cluster's id", error, self._kafka) from error
        finally:
            await closed(admin.close())

    async def replay(
        self, topic: Topic, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, list[ConsumerRecord]]]:
        """Batches of raw messages per partition, from each start (an offset) to the high watermark
        at the time of the call.

        The goal is the high watermark, not the last stable offset: another owner's open transaction
        may hold the latter back in a shared partition, and what stands behind it is ours to see.
        Raises LogUnavailable.
        """
        try:
            goals = await self._high_watermarks(topic, starts)
        except KafkaError as error:
            raise _unavailable(f"replaying {topic.name}", error, self._kafka) from error
        unfinished = {
            TopicPartition(topic.name, number)
            for number, goal in goals.items()
            if starts[number] < goal
        }
        if not unfinished:
            return
        consumer = self._kafka.consumer(
            client_id=self._client_id,
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            fetch_max_wait_ms=50,
        )
        try:
            await consumer.start()
            consumer.assign(list(unfinished))
            for partition in unfinished:
                consumer.seek(partition, starts[partition.partition])
            while unfinished:
                batches = await consumer.getmany(*unfinished, timeout_ms=100, max_records=5000)
                for partition, messages in batches.items():
                    wanted = [m for m in messages if m.offset < goals[partition.partition]]
                    if wanted:
                        yield partition.partition, wanted
                for partition in list(unfinished):
                    if await consumer.position(partition) >= goals[partition.partition]:
                        unfinished.discard(partition)
                        consumer.pause(partition)
        except KafkaError as error:
            raise _unavailable(f"replaying {topic.name}", error, self._kafka) from error
        finally:
            await closed(consumer.stop())

    async def tail(
        self, topic: Topic, partition: int, start: int
    ) -> AsyncGenerator[list[ConsumerRecord], None]:
        """See `ports.LogReader`. The end is asked of the broker each time: that no record came may
        also mean that nobody answers."""
        seat = TopicPartition(topic.name, partition)
        consumer = self._kafka.consumer(
            client_id=f"{self._client_id}-tail",
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=TAIL_WAIT_MS,
            request_timeout_ms=TAIL_REQUEST_TIMEOUT_MS,
        )
        try:
            await consumer.start()
            consumer.assign([seat])
            consumer.seek(seat, start)
            while True:
                end = (await consumer.end_offsets([seat]))[seat]
                while await consumer.position(seat) < end:
                    batches = await consumer.getmany(seat, timeout_ms=TAIL_WAIT_MS)
                    for messages in batches.values():
                        yield messages
                yield []
                for messages in (await consumer.getmany(seat, timeout_ms=TAIL_WAIT_MS)).values():
                    yield messages
        except (KafkaError, TimeoutError) as error:
            raise _unavailable(f"reading {topic.name}", error, self._kafka) from error
        finally:
            await closed(consumer.stop())

    async def follow(
        self, topics: Sequence[Topic], places: Mapping[tuple[str, int], int]
    ) -> AsyncGenerator[list[ConsumerRecord], None]:
        """See `ports.TopicsReader`."""
        seats = {
            TopicPartition(topic.name, number): places.get((topic.name, number), 0)
            for topic in topics
            for number in range(topic.partitions)
        }
        consumer = self._kafka.consumer(
            client_id=f"{self._client_id}-follow",
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            fetch_max_wait_ms=TAIL_WAIT_MS,
            request_timeout_ms=TAIL_REQUEST_TIMEOUT_MS,
        )
        try:
            await consumer.start()
            consumer.assign(list(seats))
            for seat, place in seats.items():
                consumer.seek(seat, place)
            while True:
                ends = await consumer.end_offsets(list(seats))
                behind = True
                while behind:
                    behind = any([await consumer.position(seat) < ends[seat] for seat in seats])
                    wait = TAIL_WAIT_MS if behind else 0
                    found = await consumer.getmany(timeout_ms=wait, max_records=2000)
                    for messages in found.values():
                        yield messages
                yield []
                found = await consumer.getmany(timeout_ms=TAIL_WAIT_MS, max_records=2000)
                for messages in found.values():
                    yield messages
        except (KafkaError, TimeoutError) as error:
            names = ", ".join(topic.name for topic in topics)
            raise _unavailable(f"reading {names}", error, self._kafka) from error
        finally:
            await closed(consumer.stop())

    async def _high_watermarks(self, topic: Topic, starts: Mapping[int, int]) -> dict[int, int]:
        consumer = self._kafka.consumer(client_id=self._client_id)
        try:
            await consumer.start()
            ends = await consumer.end_offsets([TopicPartition(topic.name, n) for n in starts])
        finally:
            await closed(consumer.stop())
        return {partition.partition: end for partition, end in ends.items()}
