"""The live end of the log: one consumer a process, whoever listens.

It keeps the newest events in a ring of bounded size. A listener keeps only its place: what it has
not taken when the ring drops it, it reads from the log again (`pages`). So nothing is queued for
anyone, and a slow listener costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.closing import closed
from orchestrator.errors import OrchestratorError
from orchestrator.kafka_access import KafkaAccess
from projections.consumer import Backoff
from projections.database import describe, trace_of
from projections.feed.cursor import SEATS, Cursor, Seat
from projections.feed.events import Event
from projections.feed.pages import ANSWER_SECONDS, Page, PositionLost, fetched, started

log = structlog.get_logger(__name__)

RING_EVENTS = 4000
RING_BYTES = 16 * 1024 * 1024
TAKEN_AT_ONCE = 200
READ_SECONDS = 0.5


@dataclass(slots=True)
class Place:
    """Where a listener stands in the ring: the number of the event that it takes next."""

    number: int | None = None


class Tail:
    """Starts with the first listener and then stays. `problem` is None while it reads."""

    def __init__(self, kafka: KafkaAccess, client_id: str = "feed-tail") -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._ring: deque[Event] = deque()
        self._first = 0
        self._bytes = 0
        self._floor: dict[Seat, int] = {}
        self._positions: dict[Seat, int] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = "starting"

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="feed tail")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, place: Place, cursor: Cursor, topics: Collection[str]) -> Page | None:
        """What follows the cursor; None when the ring does not reach back to it. An empty page
        means that all was taken."""
        if place.number is None or place.number < self._first:
            if not self._reaches(cursor, topics):
                place.number = None
                return None
            place.number = self._first
        skip = place.number - self._first
        taken = list(islice(self._ring, skip, skip + TAKEN_AT_ONCE))
        place.number += len(taken)
        events = [
            event for event in taken if event.topic in topics and event.offset >= cursor[event.seat]
        ]
        if place.number == self._first + len(self._ring):
            ends = {seat: end for seat, end in self._positions.items() if seat[0] in topics}
            return Page(events, ends)
        return Page(events, {e.seat: e.offset + 1 for e in taken if e.topic in topics})

    def has_more(self, place: Place) -> bool:
        return place.number is not None and place.number < self._first + len(self._ring)

    def _reaches(self, cursor: Cursor, topics: Collection[str]) -> bool:
        return bool(self._floor) and all(
            cursor[seat] >= floor for seat, floor in self._floor.items() if seat[0] in topics
        )

    async def wait(self, seconds: float) -> None:
        """Until something came, at most so long."""
        news = self._news
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._read(backoff)
            except (KafkaError, OSError, TimeoutError, OrchestratorError) as error:
                self.problem = describe(error)
                if isinstance(error, PositionLost):
                    self._forget()
                log.warning("feed_tail_retrying", problem=self.problem)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.problem = "a task of the Kafka client ended"
            except Exception as error:  # noqa: BLE001 - for ever: shown and tried again
                self.problem = describe(error)
                log.error("feed_tail_failed", trace=trace_of(error))
            await asyncio.sleep(backoff.delay())

    async def _read(self, backoff: Backoff) -> None:
        consumer = await started(self._kafka, self._client_id)
        try:
            seats = {seat: TopicPartition(*seat) for seat in SEATS}
            if not self._positions:
                async with asyncio.timeout(ANSWER_SECONDS):
                    ends = await consumer.end_offsets(list(seats.values()))
                self._positions = {seat: ends[place] for seat, place in seats.items()}
                self._floor = dict(self._positions)
            consumer.assign(list(seats.values()))
            for seat, offset in self._positions.items():
                consumer.seek(seats[seat], offset)
            while True:
                page = await fetched(consumer, SEATS, READ_SECONDS, TAKEN_AT_ONCE)
                self.problem = None
                backoff.reset()
                self._keep(page)
        finally:
            await closed(consumer.stop())

    def _keep(self, page: Page) -> None:
        moved = self._positions != page.positions
        self._positions = dict(page.positions)
        for event in page.events:
            self._ring.append(event)
            self._bytes += event.bytes
        while len(self._ring) > RING_EVENTS or self._bytes > RING_BYTES:
            gone = self._ring.popleft()
            self._first += 1
            self._bytes -= gone.bytes
            self._floor[gone.seat] = gone.offset + 1
        if moved:
            news, self._news = self._news, asyncio.Event()
            news.set()

    def _forget(self) -> None:
        """The log was made anew: what the ring holds is of another one."""
        self._first += len(self._ring) + 1
        self._ring.clear()
        self._bytes = 0
        self._floor, self._positions = {}, {}

    @property
    def held(self) -> tuple[int, int]:
        """Events and bytes in the ring."""
        return len(self._ring), self._bytes
