"""The log as `ports.SealableLog`: from the broker, or from an archive of `topics export`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import islice
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.adapters.kafka_archive import read_archive, record_bytes
from orchestrator.closing import closed
from orchestrator.core.sealing.growing import Seat
from orchestrator.core.sealing.hashing import Logged
from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from orchestrator.kafka_clients import reason_of
from schemas.topics import TOPICS

SILENT_SECONDS = 60.0
"""A broker that gives nothing for so long, although records are due, is given up."""
_BATCH = 5000


class KafkaSealableLog:
    """Reads committed records and belongs to no group. One consumer, until `close`."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._consumer = kafka.consumer(
            client_id="orchestrator-seal",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=4 * 1024 * 1024,
            fetch_max_wait_ms=50,
        )
        self._started = False

    async def bounds(self) -> dict[Seat, tuple[int, int]]:
        """The end is the last stable offset: what an open transaction holds up is not there yet."""
        seats = [TopicPartition(t.name, n) for t in TOPICS.values() for n in range(t.partitions)]
        try:
            if not self._started:
                await self._consumer.start()
                self._started = True
            missing = {seat.topic for seat in seats} - await self._consumer.topics()
            if missing:
                raise LogUnavailable(f"topics do not exist: {', '.join(sorted(missing))}")
            starts = await self._consumer.beginning_offsets(seats)
            ends = await self._consumer.end_offsets(seats)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(
                f"Kafka does not answer: {reason_of(error, self._kafka)}"
            ) from error
        return {(seat.topic, seat.partition): (starts[seat], ends[seat]) for seat in seats}

    async def records(
        self, starts: Mapping[Seat, int], ends: Mapping[Seat, int], finished: set[Seat]
    ) -> AsyncIterator[tuple[Seat, list[Logged]]]:
        unread = {seat: TopicPartition(*seat) for seat in starts if starts[seat] < ends[seat]}
        if not unread:
            return
        self._consumer.assign(list(unread.values()))
        for seat, place in unread.items():
            self._consumer.seek(place, starts[seat])
        clock = asyncio.get_running_loop().time
        at, moved_at = dict(starts), clock()
        try:
            while unread:
                found = await self._consumer.getmany(timeout_ms=200, max_records=_BATCH)
                for place, messages in found.items():
                    seat = (place.topic, place.partition)
                    wanted = [
                        Logged(*seat, m.offset, m.timestamp, m.key, m.value, m.headers)
                        for m in messages
                        if m.offset < ends[seat]
                    ]
                    if wanted and seat not in finished:
                        yield seat, wanted
                for seat, place in list(unread.items()):
                    position = await self._consumer.position(place)
                    moved_at = clock() if position > at[seat] else moved_at
                    at[seat] = position
                    if position >= ends[seat] or seat in finished:
                        self._consumer.pause(place)
                        del unread[seat]
                if clock() - moved_at > SILENT_SECONDS:
                    raise LogUnavailable(f"Kafka gave no record for {SILENT_SECONDS:.0f} s")
        except (KafkaError, OSError) as error:
            raise LogUnavailable(f"reading the log: {reason_of(error, self._kafka)}") from error

    async def close(self) -> None:
        await closed(self._consumer.stop())


class ArchivedLog:
    """An archive read as if it were the log. Raises ArchiveRefused."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def bounds(self) -> dict[Seat, tuple[int, int]]:
        header, _ = next(read_archive(self._file))
        return {
            (topic, number): (0, end)
            for topic, ends in header["topics"].items()
            for number, end in enumerate(ends)
        }

    async def records(
        self, starts: Mapping[Seat, int], ends: Mapping[Seat, int], finished: set[Seat]
    ) -> AsyncIterator[tuple[Seat, list[Logged]]]:
        lines = read_archive(self._file)
        next(lines)
        while batch := await asyncio.to_thread(lambda: list(islice(lines, _BATCH))):
            by_seat: dict[Seat, list[Logged]] = {}
            for body, _ in batch:
                seat = (body["topic"], body["partition"])
                end = ends.get(seat, 0)
                if seat in finished or not starts.get(seat, 0) <= body["offset"] < end:
                    continue
                headers = [(name, record_bytes(value)) for name, value in body["headers"]]
                key, value = record_bytes(body["key"]), record_bytes(body["value"])
                record = Logged(*seat, body["offset"], body["timestamp_ms"], key, value, headers)
                by_seat.setdefault(seat, []).append(record)
            for seat, records in by_seat.items():
                yield seat, records

    async def close(self) -> None:
        pass
