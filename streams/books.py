"""A book: the requests of the partitions that this process owns, folded from the log.

A partition is replayed when it is assigned, and what is read afterwards is folded on top. A state
is the fold of a prefix of the log, so it stays true when the partition moves away and back; only
acting on it ends. What owes nothing rests in an archive, a cache of the fold: a fact that names it
finds it there. An archive of an earlier process shortens the replay, if the log bears it out
(docs/decisions/0020-states-at-rest.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import structlog

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.core.contract import Approval
from orchestrator.core.lifecycle import RequestState, Stage, Verdict, evolve
from orchestrator.core.order_reasons import why_refused
from orchestrator.core.owing import approval_of
from orchestrator.errors import ArchiveUnavailable, LogUnavailable
from orchestrator.ports import Archive, LogReader, Message, Resting
from schemas.base import Position, Record, UnreadableRecord, encode_value
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.requests import OrderReported, RequestFact
from schemas.topics import REQUESTS
from streams.pages import Page
from streams.resting import MemoryArchive
from streams.retrying import Backoff

log = structlog.get_logger(__name__)

Tell = Callable[[Iterable[Approval]], None]


class Book:
    """Folds `requests`. `touched` collects the keys whose state moved since it was last taken."""

    def __init__(
        self, reader: LogReader, archive: Callable[[int], Archive] = MemoryArchive
    ) -> None:
        """`archive` makes that of a partition."""
        self._reader = reader
        self._archive = archive
        self._pages: dict[int, Page] = {}
        self._opening: dict[int, asyncio.Task[Page]] = {}
        self._changing = asyncio.Lock()
        self._ready = asyncio.Event()
        self._expecting = False
        self.touched: set[str] = set()

    def state(self, key: str) -> RequestState | None:
        """None too when its archive fails; it is at rest then, for all else is in memory."""
        page = self._pages.get(partition_of(REQUESTS, key))
        if page is None:
            return None
        try:
            return page.find(key)
        except ArchiveUnavailable as error:
            log.warning(
                "an archive fails", partition=partition_of(REQUESTS, key), reason=str(error)
            )
            return None

    @property
    def partitions(self) -> set[int]:
        return set(self._pages)

    def states(self) -> Iterable[RequestState]:
        """Those in memory: all that may owe something, and what moved lately."""
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

    @property
    def awake(self) -> int:
        """How many requests are in memory."""
        return sum(len(page.states) for page in self._pages.values())

    def resting(self) -> Iterable[Resting]:
        """What each page's archive holds now."""
        return [page.archive.resting() for page in self._pages.values()]

    def expect(self) -> None:
        """The assignment is changing: hold back the stream until `own` has replayed."""
        self._expecting = True
        self._ready.clear()

    async def own(self, partitions: set[int], tell: Tell | None = None) -> None:
        """Own exactly these partitions: forget the others, replay what is new or has moved on, and
        touch every key that may owe something, so that it is owed again. Before anything is done
        about that, `tell` hears of every signature there is, whatever became of its request: in
        memory or at rest. Raises LogUnavailable."""
        async with self._changing:
            self._ready.clear()
            for number in partitions.union(self._opening) - set(self._pages):
                self._pages[number] = await self._opened(number)
            for gone in set(self._pages) - partitions:
                await self._pages[gone].settled()
                self._pages.pop(gone).archive.close()
            folded = await self._replay()
            while tell is not None and not await self._told_of_resting(tell):
                folded += await self._replay()
            if tell is not None:
                tell(approval_of(state) for state in self.states() if state.signed is not None)
            self.touched = {state.key for state in self.states()}
            self._expecting = False
            self._ready.set()
        log.info("book is up to date", partitions=sorted(partitions), facts=folded)

    async def _told_of_resting(self, tell: Tell) -> bool:
        """False when an archive failed: its partition is to be replayed, and all told again. What
        has come back to memory is told from there."""
        for page in self._pages.values():
            await page.settled()
        for page in list(self._pages.values()):
            try:
                for some in page.archive.approvals():
                    tell([found for key, found in some if key not in page.states])
                    await asyncio.sleep(0)
            except ArchiveUnavailable as error:
                await self._begin_anew(page, str(error), keeping=False)
                return False
        return True

    async def _opened(self, number: int) -> Page:
        """An archive that is being read is read to its end, also when the assignment changes
        meanwhile: nobody else could hold it until then."""
        if number not in self._opening:
            self._opening[number] = asyncio.create_task(self._open(number), name="open an archive")
        page = await asyncio.shield(self._opening[number])
        del self._opening[number]
        return page

    async def _open(self, number: int) -> Page:
        archive = self._archive(number)
        try:
            found = await archive.load()
        except ArchiveUnavailable as error:
            log.warning("replaying without an archive", partition=number, reason=str(error))
            archive.close()
            return Page(number, MemoryArchive())
        if found is None:
            return Page(number, archive)
        return Page(
            number,
            archive,
            dict(found.changed),
            found.next_offset,
            dict(found.refused),
            confirming=found.last_digest,
        )

    async def _replay(self) -> int:
        """From where each page stands to the end; again from zero where an archive failed or was
        not borne out by the log."""
        folded, again, failed = 0, set(self._pages), set[int]()
        while again:
            starts = {
                number: page.next_offset - (page.confirming is not None)
                for number, page in self._pages.items()
                if number in again
            }
            again = set[int]()
            async for number, messages in self._reader.replay(REQUESTS, starts):
                if number in again:
                    continue
                page = self._pages[number]
                try:
                    folded += self._replayed(page, messages)
                except ArchiveUnavailable as error:
                    again.add(number)
                    await self._begin_anew(page, str(error), keeping=number not in failed)
                    continue
                if not page.streamed:
                    page.save()
                    await page.settled()
                await asyncio.sleep(0)
            for number in starts.keys() - again:
                page = self._pages[number]
                if page.confirming is not None:
                    again.add(number)
                    await self._begin_anew(page, "the log is shorter")
            failed |= again
        return folded

    def _replayed(self, page: Page, messages: Sequence[Message]) -> int:
        """Raises ArchiveUnavailable, also for an archive that the log does not bear out."""
        if page.confirming is not None:
            first, *messages = messages
            found = (first.offset, sha256(first.value or b"").digest())
            if found != (page.next_offset - 1, page.confirming):
                raise ArchiveUnavailable("the log holds another record where the archive ends")
            page.confirming = None
        for message in messages:
            refused = self._fold(page, message)
            if refused is not None:
                page.refused[message.offset] = refused
        return len(messages)

    async def _begin_anew(self, page: Page, reason: str, keeping: bool = True) -> None:
        """Nothing of this page's archive counts: its partition is folded from zero; with `keeping`,
        into the same archive, emptied."""
        log.warning("an archive does not count; replaying", partition=page.number, reason=reason)
        await page.settled()
        archive = page.archive
        try:
            if not keeping:
                raise ArchiveUnavailable("it failed again")
            archive.wipe()
        except ArchiveUnavailable:
            archive.close()
            archive = MemoryArchive()
        self._pages[page.number] = Page(page.number, archive)

    async def read(self, messages: Sequence[Message]) -> list[DeadLetter]:
        """Fold a batch from the stream, once the book is up to date; what to dead-letter. Called
        only when the dead letters of the batch before are delivered."""
        await self._ready.wait()
        for page in self._pages.values():
            page.save()
        letters = []
        for message in messages:
            try:
                letters.append(self._read(message))
            except ArchiveUnavailable as error:
                await self._mend(message.partition, str(error))
                letters.append(self._read(message))
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
            try:
                refused = self._fold_record(page, record)
            except ArchiveUnavailable:
                continue
            if refused is not None:
                page.refused[record.position.offset] = refused

    def _read(self, message: Message) -> DeadLetter | None:
        page = self._pages.get(message.partition)
        if page is None:
            return None
        page.streamed = True
        if message.offset < page.next_offset:
            return page.passed(message.offset)
        return self._fold(page, message)

    async def _mend(self, number: int, reason: str) -> None:
        """An archive failed while the stream was read: its partition goes on without one."""
        log.warning("an archive failed; replaying", partition=number, reason=reason)
        backoff = Backoff(longest_seconds=10)
        async with self._changing:
            self._ready.clear()
            if number in self._pages:
                await self._pages[number].settled()
                self._pages[number].archive.close()
                self._pages[number] = Page(number, MemoryArchive())
            while True:
                try:
                    await self._replay()
                    break
                except LogUnavailable as error:
                    log.warning("cannot replay yet", reason=str(error))
                    await backoff.sleep()
            self.touched |= {state.key for state in self.states()}
            if not self._expecting:
                self._ready.set()

    def _fold(self, page: Page, message: Message) -> DeadLetter | None:
        """Raises ArchiveUnavailable; then the message was not folded."""
        position = Position(message.topic, message.partition, message.offset)
        raw = message.value or b""
        try:
            record = REQUESTS.decode(message.value, position)
        except UnreadableRecord as error:
            page.folded(message.offset, raw)
            return DeadLetter.of(DeadLetterReason.MALFORMED, str(error), raw, origin=str(position))
        return self._fold_record(page, record, raw)

    def _fold_record(
        self, page: Page, record: Record, raw: bytes | None = None
    ) -> DeadLetter | None:
        assert isinstance(record.fact, RequestFact) and record.position is not None
        key = record.fact.request_key
        state, verdict = evolve(page.find(key), record)
        page.folded(record.position.offset, record if raw is None else raw)
        if verdict is Verdict.APPLIED and state is not None:
            page.states[key] = state
            page.changed.add(key)
            if self._ready.is_set():
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
