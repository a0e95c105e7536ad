"""Reading partitions of the log from a position to a goal, as the rebuild does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from projections.database import describe
from projections.fold import RawRecord
from projections.kafka import ANSWER_SECONDS, FOLLOWED, missing_topics
from projections.rebuilding.schemas import CannotRebuild
from projections.writer import Offsets, Writer

SEATS = tuple((topic.name, number) for topic in FOLLOWED for number in range(topic.partitions))

SILENT_SECONDS = 60.0
"""A broker that gives nothing for so long, although records are due, is given up."""


class LogReader:
    """One consumer of committed records, on whichever partitions are asked for."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def ends(self) -> Offsets:
        """Where each partition ends now. Raises LogUnavailable."""
        seats = [TopicPartition(*seat) for seat in SEATS]
        try:
            async with asyncio.timeout(ANSWER_SECONDS * 2):
                ends = await self._consumer.end_offsets(seats)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(f"Kafka does not answer ({describe(error)})") from None
        return {(seat.topic, seat.partition): end for seat, end in ends.items()}

    async def read(
        self, start: Offsets, goals: Offsets, most: int
    ) -> AsyncIterator[tuple[list[RawRecord], Offsets]]:
        """Batches of at most `most` records between, and the positions after each batch. Ends when
        every partition of `goals` is there. Raises LogUnavailable, and CannotRebuild for records
        that the log no longer has."""
        at = {seat: start[seat] for seat in goals if start[seat] < goals[seat]}
        if not at:
            return
        seats = {seat: TopicPartition(*seat) for seat in at}
        self._consumer.assign(list(seats.values()))
        for seat, place in seats.items():
            self._consumer.seek(place, at[seat])
        silent_since = asyncio.get_running_loop().time()
        while at:
            fetched = await self._fetch(most)
            batch = [
                RawRecord(found.topic, found.partition, found.offset, found.value)
                for records in fetched.values()
                for found in records
                if found.offset < goals[found.topic, found.partition]
            ]
            moved: Offsets = {}
            for seat in list(at):
                position = min(await self._consumer.position(seats[seat]), goals[seat])
                if position > at[seat]:
                    moved[seat] = at[seat] = position
                if position == goals[seat]:
                    self._consumer.pause(seats[seat])
                    del at[seat]
            now = asyncio.get_running_loop().time()
            if moved:
                silent_since = now
                yield batch, moved
            elif now - silent_since > SILENT_SECONDS:
                raise LogUnavailable(f"Kafka gave no record for {SILENT_SECONDS:.0f} s")

    async def _fetch(self, most: int) -> Any:
        try:
            return await self._consumer.getmany(timeout_ms=200, max_records=most)
        except OffsetOutOfRangeError as error:
            raise CannotRebuild(
                f"the log no longer has all its records ({describe(error)}): what was cut cannot "
                "be replayed; facts need retention.ms=-1 and cleanup.policy=delete"
            ) from None
        except (KafkaError, OSError) as error:
            raise LogUnavailable(f"Kafka does not answer ({describe(error)})") from None


@asynccontextmanager
async def reading(kafka: KafkaAccess) -> AsyncIterator[LogReader]:
    """Raises LogUnavailable; CannotRebuild for topics that are not there."""
    try:
        missing = await missing_topics(kafka)
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka does not answer ({describe(error)})") from None
    if missing:
        raise CannotRebuild(f"topics do not exist: {', '.join(missing)}; `orchestrator init`")
    consumer = kafka.consumer(
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        client_id="projections-rebuild",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        try:
            await consumer.start()
        except (KafkaError, OSError) as error:
            raise LogUnavailable(f"Kafka does not answer ({describe(error)})") from None
        yield LogReader(consumer)
    finally:
        await closed(consumer.stop())


async def advance(
    reader: LogReader, writer: Writer, offsets: Offsets, goals: Offsets, most: int = 1000
) -> int:
    """Write what stands between, as the projector does, and move `offsets`; how many records."""
    written = 0
    async for batch, moved in reader.read(offsets, goals, most):
        await writer.write(batch, {seat: offsets[seat] for seat in moved}, moved)
        offsets.update(moved)
        written += len(batch)
    return written
