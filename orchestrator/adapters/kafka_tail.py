"""The log as it grows: every topic in one stream, for people and for archives.

Reads committed records only and belongs to no consumer group: whoever looks disturbs nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from orchestrator.kafka_clients import reason_of
from schemas.base import Position
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Since:
    """Where to begin: at the beginning, at the end, or at a time (Unix milliseconds)."""

    beginning: bool = False
    at_ms: int | None = None


async def tail(
    kafka: KafkaAccess, topics: Sequence[Topic], since: Since, *, follow: bool
) -> AsyncIterator[list[ConsumerRecord]]:
    """Batches of records, in order within each partition; across partitions as they come, and by
    time within a batch. Without `follow` it ends at what is the end when it begins.

    Raises LogUnavailable.
    """
    consumer = kafka.consumer(
        client_id="orchestrator-tail",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    seats = [TopicPartition(topic.name, n) for topic in topics for n in range(topic.partitions)]
    try:
        await consumer.start()
        consumer.assign(seats)
        ends = await consumer.end_offsets(seats)
        await _seek(consumer, seats, since, ends)
        open_seats = {seat for seat in seats if await consumer.position(seat) < ends[seat]}
        while follow or open_seats:
            found = await consumer.getmany(timeout_ms=200, max_records=2000)
            batch = [message for messages in found.values() for message in messages]
            if not follow:
                batch = [
                    message
                    for message in batch
                    if message.offset < ends[TopicPartition(message.topic, message.partition)]
                ]
            if batch:
                yield sorted(batch, key=lambda message: message.timestamp)
            if not follow:
                for seat in list(open_seats):
                    if await consumer.position(seat) >= ends[seat]:
                        open_seats.discard(seat)
                        consumer.pause(seat)
    except KafkaError as error:
        raise LogUnavailable(f"reading the log: {reason_of(error, kafka)}") from error
    finally:
        await closed(consumer.stop())


async def _seek(
    consumer: AIOKafkaConsumer,
    seats: Sequence[TopicPartition],
    since: Since,
    ends: dict[TopicPartition, int],
) -> None:
    if since.beginning:
        await consumer.seek_to_beginning(*seats)
        return
    starts = dict(ends)
    if since.at_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(seats, since.at_ms))
        starts |= {seat: place.offset for seat, place in found.items() if place is not None}
    for seat, offset in starts.items():
        consumer.seek(seat, offset)


async def record_at(kafka: KafkaAccess, position: Position) -> ConsumerRecord | None:
    """The record at this very position; None where there is none. Raises LogUnavailable."""
    consumer = kafka.consumer(
        client_id="orchestrator-tail",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    seat = TopicPartition(position.topic, position.partition)
    try:
        await consumer.start()
        consumer.assign([seat])
        end = (await consumer.end_offsets([seat]))[seat]
        if position.offset >= end:
            return None
        consumer.seek(seat, position.offset)
        found = await consumer.getmany(seat, timeout_ms=10_000, max_records=1)
        [record] = found.get(seat, []) or [None]
        return record if record is not None and record.offset == position.offset else None
    except KafkaError as error:
        raise LogUnavailable(f"reading {position}: {reason_of(error, kafka)}") from error
    finally:
        await closed(consumer.stop())
