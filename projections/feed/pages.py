"""Catching up: pages of the log from any position, read by a few consumers that all share.

A reader holds a consumer only while its page is fetched, never while it waits for its own client,
so that slow clients cost no Kafka connection and no memory. Whoever comes back for the next page
finds the consumer where it was left, unless another one needed it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable, OrchestratorError
from orchestrator.kafka_access import KafkaAccess
from projections.database import describe
from projections.feed.cursor import SEATS, Seat
from projections.feed.events import Event, event_of
from projections.kafka import missing_topics

CONSUMERS = 4
PAGE_RECORDS = 500
PAGE_SECONDS = 2.0
ANSWER_SECONDS = 8.0
PARTITION_BYTES = 256 * 1024
FETCH_BYTES = 4 * 1024 * 1024
"""A consumer reads ahead by about this much; a single larger batch still comes whole (KIP-74)."""


class PositionLost(OrchestratorError):
    """The log does not hold this position: it was cut or made anew, or the position is another
    cluster's."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order per partition, and the positions behind them (past control records)."""

    events: Sequence[Event]
    positions: Mapping[Seat, int]


def new_consumer(kafka: KafkaAccess, client_id: str) -> AIOKafkaConsumer:
    """No group: nothing is rebalanced, and nothing is committed anywhere."""
    return kafka.consumer(
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=PARTITION_BYTES,
        fetch_max_bytes=FETCH_BYTES,
    )


async def started(kafka: KafkaAccess, client_id: str) -> AIOKafkaConsumer:
    """Raises LogUnavailable."""
    consumer = new_consumer(kafka, client_id)
    ready = False
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            missing = await missing_topics(kafka)
            if missing:
                raise LogUnavailable(f"topics do not exist yet: {', '.join(missing)}")
            await consumer.start()
        ready = True
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka does not answer ({describe(error)})") from None
    finally:
        if not ready:
            await closed(consumer.stop())
    return consumer


async def fetched(consumer: Any, seats: Sequence[Seat], seconds: float, most: int) -> Page:
    """What there is, at most `most` records. Raises KafkaError, PositionLost."""
    try:
        answer = await consumer.getmany(timeout_ms=int(seconds * 1000), max_records=most)
    except OffsetOutOfRangeError as error:
        raise PositionLost(f"the log does not hold this position ({describe(error)})") from None
    parts = [[event_of(record) for record in records] for records in answer.values()]
    events = list(heapq.merge(*parts, key=lambda event: event.at))
    positions = {seat: await consumer.position(TopicPartition(*seat)) for seat in seats}
    return Page(events, positions)


@dataclass(slots=True)
class _Desk:
    """A consumer, whom it served last, and where it stands."""

    consumer: Any = None
    owner: object = None
    positions: dict[Seat, int] = field(default_factory=dict)


class Pages:
    """Reads pages for many. Opens its consumers when they are needed."""

    def __init__(self, kafka: KafkaAccess, client_id: str = "feed-pages") -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._slots = asyncio.Semaphore(CONSUMERS)
        self._free = [_Desk() for _ in range(CONSUMERS)]

    async def read(self, who: object, wanted: Mapping[Seat, int]) -> Page:
        """The next page from these positions for `who`; may be empty when nothing came in 2 s.
        Raises LogUnavailable, PositionLost."""
        async with self._desk(who) as desk, asyncio.timeout(ANSWER_SECONDS + PAGE_SECONDS):
            return await self._read(desk, who, wanted)

    @asynccontextmanager
    async def _desk(self, who: object) -> AsyncIterator[_Desk]:
        """Preferably the one that `who` had, else the one that is idle for longest. After any
        failure its consumer is not trusted again."""
        async with self._slots:
            desk = next((item for item in self._free if item.owner is who), self._free[0])
            self._free.remove(desk)
            try:
                yield desk
            except BaseException as error:
                await self._dropped(desk)
                if isinstance(error, KafkaError | OSError | TimeoutError):
                    reason = f"Kafka does not answer ({describe(error)})"
                    raise LogUnavailable(reason) from None
                raise
            finally:
                self._free.append(desk)

    async def _read(self, desk: _Desk, who: object, wanted: Mapping[Seat, int]) -> Page:
        if desk.consumer is None:
            desk.consumer, desk.positions = await started(self._kafka, self._client_id), {}
        seats = list(wanted)
        if desk.owner is not who or desk.positions != dict(wanted):
            desk.consumer.assign([TopicPartition(*seat) for seat in seats])
            for seat, offset in wanted.items():
                desk.consumer.seek(TopicPartition(*seat), offset)
            desk.owner = who
        page = await fetched(desk.consumer, seats, PAGE_SECONDS, PAGE_RECORDS)
        desk.positions = dict(page.positions)
        return page

    async def _dropped(self, desk: _Desk) -> None:
        consumer, desk.consumer, desk.owner = desk.consumer, None, None
        if consumer is not None:
            await closed(consumer.stop())

    async def ends(self) -> dict[Seat, int]:
        """Behind the last committed record of every partition. Raises LogUnavailable."""
        return await self._asked("end_offsets")

    async def beginnings(self) -> dict[Seat, int]:
        return await self._asked("beginning_offsets")

    async def at_time(self, milliseconds: int) -> dict[Seat, int]:
        """The first record of that time or later, by its timestamp; else the end. The ends are
        asked first, so that what is appended meanwhile is not passed over."""
        ends = await self.ends()
        found = await self._asked("offsets_for_times", milliseconds)
        return {seat: found.get(seat, end) for seat, end in ends.items()}

    async def _asked(self, question: str, milliseconds: int | None = None) -> dict[Seat, int]:
        seats = [TopicPartition(*seat) for seat in SEATS]
        about = seats if milliseconds is None else dict.fromkeys(seats, milliseconds)
        async with self._desk(None) as desk, asyncio.timeout(ANSWER_SECONDS):
            if desk.consumer is None:
                desk.consumer = await started(self._kafka, self._client_id)
            answer = await getattr(desk.consumer, question)(about)
        return {
            (seat.topic, seat.partition): getattr(value, "offset", value)
            for seat, value in answer.items()
            if value is not None
        }

    async def close(self) -> None:
        for desk in self._free:
            await self._dropped(desk)
