"""A book: the requests of the partitions that this process owns, folded from the log.

Nothing is stored: a partition is replayed when it is assigned, and what is read afterwards is
folded on top. A state is the fold of a prefix of the log, so it stays true when the partition moves
away and back; only acting on it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from orchestrator.core.lifecycle import RequestState, Stage, Verdict, evolve
from orchestrator.core.order_reasons import why_refused
from orchestrator.ports import LogReader, Message
from schemas.base import Position, Record, UnreadableRecord, encode_value
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.requests import OrderReported, RequestFact
from schemas.topics import REQUESTS

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Page:
    """One partition: states by request key, and the offset that is folded next."""

    states: dict[str, RequestState] = field(default_factory=dict)
    next_offset: int = 0
    refused: dict[int, DeadLetter] = field(default_factory=dict)
    """Found while replaying; dead-lettered when the stream delivers the same offset, for only then
    is it sure that nobody has done so yet."""


class Book:
    """Folds `requests`. `touched` collects the keys whose state moved since it was last taken."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._pages: dict[int, Page] = {}
        self._changing = asyncio.Lock()
        self._ready = asyncio.Event()
        self.touched: set[str] = set()

    def state(self, key: str) -> RequestState | None:
        for page in self._pages.values():
            found = page.states.get(key)
            if found is not None:
                return found
        return None

    @property
    def partitions(self) -> set[int]:
        return set(self._pages)

    def states(self) -> Iterable[RequestState]:
        for page in self._pages.values():
            yield from page.states.values()

    @property
    def is_ready(self) -> bool:
        """False while it replays: a state is the fold of a prefix of the log then, and what it
        seems to owe may have been done, or been given up, in the part that comes."""
        return self._ready.is_set()

    async def ready(self) -> None:
        """Nothing is to be decided before this returns, nor when `is_ready` is false again."""
        await self._ready.wait()

    def expect(self) -> None:
        """The assignment is changing: hold back the stream until `own` has replayed."""
        self._ready.clear()

    async def own(self, partitions: set[int]) -> None:
        """Own exactly these partitions: forget the others, replay what is new or has moved on, and
        touch every key, so that whatever is owed is owed again. Raises LogUnavailable."""
        async with self._changing:
            self._ready.clear()
            for gone in set(self._pages) - partitions:
                del self._pages[gone]
            for number in partitions:
                self._pages.setdefault(number, Page())
            folded = await self._replay()
            self.touched.update(state.key for state in self.states())
            self._ready.set()
        log.info("book is up to date", partitions=sorted(partitions), facts=folded)

    async def _replay(self) -> int:
        starts = {number: page.next_offset for number, page in self._pages.items()}
        folded = 0
        async for number, messages in self._reader.replay(REQUESTS, starts):
            page = self._pages[number]
            for message in messages:
                refused = self._fold(page, message)
                if refused is not None:
                    page.refused[message.offset] = refused
            folded += len(messages)
            await asyncio.sleep(0)
        return folded

    async def read(self, messages: Sequence[Message]) -> list[DeadLetter]:
        """Fold a batch from the stream, once the book is up to date; what to dead-letter."""
        await self._ready.wait()
        letters = [self._read(message) for message in messages]
        return [letter for letter in letters if letter is not None]

    def wrote(self, records: Sequence[Record]) -> None:
        """Fold what this process itself appended, as acknowledged: what follows from it need not
        wait until the stream brings it back. Only where nothing unread stands before it, so that a
        state stays the fold of a prefix of the log; the rest is left to the stream, which passes
        over what was folded here."""
        if not self._ready.is_set():
            return
        for record in records:
            assert record.position is not None
            page = self._pages.get(record.position.partition)
            if page is None or page.next_offset != record.position.offset:
                continue
            refused = self._fold_record(page, record)
            if refused is not None:
                page.refused[record.position.offset] = refused

    def _read(self, message: Message) -> DeadLetter | None:
        page = self._pages.get(message.partition)
        if page is None:
            return None
        if message.offset < page.next_offset:
            return page.refused.pop(message.offset, None)
        return self._fold(page, message)

    def _fold(self, page: Page, message: Message) -> DeadLetter | None:
        position = Position(message.topic, message.partition, message.offset)
        try:
            record = REQUESTS.decode(message.value, position)
        except UnreadableRecord as error:
            page.next_offset = message.offset + 1
            return DeadLetter.of(
                DeadLetterReason.MALFORMED, str(error), message.value or b"", origin=str(position)
            )
        return self._fold_record(page, record, message.value or b"")

    def _fold_record(
        self, page: Page, record: Record, raw: bytes | None = None
    ) -> DeadLetter | None:
        assert isinstance(record.fact, RequestFact) and record.position is not None
        page.next_offset = record.position.offset + 1
        key = record.fact.request_key
        state, verdict = evolve(page.states.get(key), record)
        if verdict is Verdict.APPLIED and state is not None:
            page.states[key] = state
            self.touched.add(key)
            if state.stage is not Stage.UNBACKED:
                return None
        elif verdict is Verdict.REPEATED:
            return None
        return _refused(record, verdict, encode_value(record) if raw is None else raw, state)


_REFUSALS = {
    Verdict.APPLIED: (
        DeadLetterReason.UNBACKED,
        "the contract executed a request that no fact on the log allows",
    ),
    Verdict.CONFLICT: (
        DeadLetterReason.CONFLICT,
        "the log holds other content under this id, and the first counts",
    ),
    Verdict.OUT_OF_ORDER: (
        DeadLetterReason.OUT_OF_ORDER,
        "the request's stage does not admit it",
    ),
}


def _refused(
    record: Record, verdict: Verdict, raw: bytes, state: RequestState | None
) -> DeadLetter:
    fact = record.fact
    reason, why = _REFUSALS[verdict]
    if isinstance(fact, OrderReported) and verdict is Verdict.OUT_OF_ORDER:
        why = why_refused(state, fact)
    return DeadLetter.of(reason, f"{fact.kind} {fact.id}: {why}", raw, origin=str(record.position))


def assigned(partitions: Iterable[tuple[str, int]], topic: str) -> set[int]:
    """The partition numbers of one topic in an assignment."""
    return {number for name, number in partitions if name == topic}
