"""From a cursor on, for ever: pages while behind, the shared tail once there, and back to pages for
whoever falls out of the ring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from projections.feed.cursor import SEATS, Cursor, Seat
from projections.feed.events import Event
from projections.feed.filters import Filter
from projections.feed.lookups import Lookups
from projections.feed.pages import Page, Pages, PositionLost
from projections.feed.tail import Place, Tail
from projections.queries import InvalidQuery
from projections.store import Store

LOOK_UP_SECONDS = 0.2
START, NOW = "start", "now"


@dataclass(frozen=True, slots=True)
class Step:
    """Wanted events, in order per partition. Once they are dealt with, the cursor may advance to
    `positions`. `waits_for` says what holds the stream up, if something does."""

    events: Sequence[Event] = ()
    positions: Mapping[Seat, int] | None = None
    waits_for: str | None = None


class Feed:
    """What all readers of one process share."""

    def __init__(self, kafka: KafkaAccess, store: Store, client_id: str = "feed") -> None:
        self.pages = Pages(kafka, f"{client_id}-pages")
        self.tail = Tail(kafka, f"{client_id}-tail")
        self._lookups = Lookups(store)

    async def close(self) -> None:
        await self.tail.close()
        await self.pages.close()

    async def begin(self, begin: Cursor | str | int) -> Cursor:
        """From START, NOW, Unix milliseconds, or a cursor that is checked against the log. Raises
        LogUnavailable; InvalidQuery for a cursor that the log cannot serve."""
        if begin == NOW:
            return Cursor(await self.pages.ends())
        if begin == START:
            return Cursor(await self.pages.beginnings())
        if isinstance(begin, int):
            return Cursor(await self.pages.at_time(begin))
        assert isinstance(begin, Cursor)
        ends = await self.pages.ends()
        if any(begin[seat] > ends[seat] for seat in SEATS):
            raise InvalidQuery("from: this position is ahead of the log; is it another cluster's?")
        begin.advance(await self.pages.beginnings())
        return begin

    async def event_at(self, seat: Seat, offset: int, wanted: Filter) -> Event | None:
        """One event again, as the filter's readers see it; None when the log does not hold it.
        Raises LogUnavailable."""
        try:
            page = await self.pages.read(object(), {seat: offset})
        except PositionLost:
            return None
        found = [event for event in page.events if event.offset == offset]
        if not found:
            return None
        settled = await self._lookups.settle(found, wanted) if wanted.looks_up else found
        return settled[0] if settled else found[0]

    async def follow(
        self, cursor: Cursor, wanted: Filter, idle_seconds: float
    ) -> AsyncGenerator[Step, None]:
        """Without end, a step at least every `idle_seconds` or so. The consumer advances the very
        `cursor` it gave, before it asks for the next step. Raises PositionLost."""
        self.tail.start()
        place, me = Place(), object()
        while True:
            page = self.tail.take(place, cursor, wanted.topics)
            if page is None:
                try:
                    page = await self.pages.read(me, cursor.positions(wanted.topics))
                except LogUnavailable as error:
                    yield Step(waits_for=str(error))
                    await asyncio.sleep(min(1.0, idle_seconds))
                    continue
            async for step in self._settled(page, wanted, idle_seconds):
                yield step
            if not page.events and place.number is not None and not self.tail.has_more(place):
                await self.tail.wait(idle_seconds)

    async def _settled(
        self, page: Page, wanted: Filter, idle_seconds: float
    ) -> AsyncGenerator[Step, None]:
        """The page's wanted events as one step; steps before it only say what it waits for."""
        events = [event for event in page.events if wanted.admits(event)]
        if not (events and wanted.looks_up):
            yield Step(events, page.positions)
            return
        clock = asyncio.get_running_loop().time
        told = clock()
        while (settled := await self._lookups.settle(events, wanted)) is None:
            if clock() - told >= idle_seconds:
                yield Step(waits_for="the tables have not reached these facts yet")
                told = clock()
            await asyncio.sleep(LOOK_UP_SECONDS)
        yield Step(settled, page.positions)
