"""Following one chain: its contract's events, at the configured depth, into `evm.events`.

The cursor and the facts of a block range are appended in one fenced transaction, so a range is on
the log as a whole or not at all, and a zombie cannot append. Every block continues the one before
it by its parent hash, the first of a range the cursor. Where a chain no longer has a block that the
log stands on, it was reorganised deeper than the depth: what the log holds of the lost blocks is
retracted, and the follower stops until a `ChainResumed` by a person stands on the log; then it goes
on after the fork.

How the log grows: an idle chain gets a mark a minute, about 0.6 kB with headers and the
transaction's markers: 0.9 MB a day, 320 MB and 525,000 records a year and chain, read again in
about 20 seconds when a follower starts. (A mark every ten seconds, as it was, costs six times
that.) A restart therefore scans at most a minute of empty blocks twice. A comparison of the supply
(`streams.supply`) stands behind a mark, one a minute too by default: half as much again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import Head
from orchestrator.errors import Fenced, LogUnavailable, RpcError, RpcProblem, StartRefused
from orchestrator.ports import ChainNode, FactLog, Log, OwnedLog
from schemas.base import Fact, UnreadableRecord
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import BlocksFollowed, ChainHalted, ContractEvent, EventRetracted
from schemas.topics import EVM_EVENTS
from streams.range_reading import RangeReader, Section
from streams.range_size import Progress, RangeSize
from streams.retrying import Backoff
from streams.supply import SupplyWatch
from streams.trail import Point, Trail

log = structlog.get_logger(__name__)

MARK_EVERY_SECONDS = 60.0
"""How often a cursor without events is appended; an earlier cursor only scans again."""
MARK_FROM_BLOCKS = 100
"""A range of that many is marked at once, events or not: it was work to read it."""
FACTS_PER_TRANSACTION = 2_000
"""About a third of a second, far from the transaction's time limit. One block's are never split."""
LOOKS_BEFORE_HALTING = 5
"""So often in a row every node must deny a block, chain ids checked, before the log believes it."""
RESUMED_SEEN_WITHIN_SECONDS = 1.0


class _Halting(Exception):
    """The chain is halted: the log is read anew and a person waited for."""


class ChainFollower:
    """Follows one chain while its partition of `evm.events` is ours.

    For health and metrics: `reason` says why it does not move (None when it does), `last_block` is
    the cursor, `head_block` the node's newest block, `head_lag` the blocks of sufficient depth that
    wait, `reader.missed` and `reader.accepted` count what nodes left out.
    """

    def __init__(
        self,
        chain: ChainConfig,
        node: ChainNode,
        facts: FactLog,
        partition: int,
        settings: Settings,
        supply: SupplyWatch | None = None,
    ) -> None:
        self.chain_id = chain.chain_id
        self.reason: str | None = "starting"
        self.head_block: int | None = None
        self.head_timestamp: int | None = None
        self.reader = RangeReader(node, chain.contract, list(chain.profile.event_topics))
        self._chain = chain
        self._node = node
        self._log_of_facts = facts
        self._partition = partition
        self._settings = settings
        self.supply = supply
        self._trail = Trail()
        self._cursor: Point | None = None
        self._marked_at = float("-inf")
        self._seen_head: str | None = None
        self._denials = 0
        self._range = RangeSize()
        self._progress = Progress(chain.chain_id)
        self._log = log.bind(chain_id=chain.chain_id)

    @property
    def last_block(self) -> int | None:
        """None before the first block was followed."""
        return None if self._cursor is None else self._cursor.number

    @property
    def head_lag(self) -> int | None:
        """None before the node was asked."""
        if self.head_block is None:
            return None
        return max(0, self.head_block - self._chain.confirmations - self._next_block + 1)

    @property
    def halted(self) -> ChainHalted | None:
        return self._trail.halted

    async def run(self) -> None:
        """Follow until cancelled; start anew from the log after a fence or a lost append."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=10)
        while True:
            owned = self._log_of_facts.owned(f"follower.{self._chain.chain_id}")
            try:
                await owned.start()
                self._trail = Trail()
                if self.supply is not None:
                    self.supply.start_anew()
                await self._read_log(self._trail)
                await self._wait_for_a_person()
                self._cursor, self._seen_head, self._denials = self._trail.marked, None, 0
                await self._node.check_chain()
                self._log.info("following", from_block=self._next_block)
                backoff.reset()
                await self._follow(owned)
            except _Halting:
                continue
            except (Fenced, LogUnavailable, RpcError, StartRefused) as error:
                self.reason = str(error)
                self._log.warning("follower starts anew", reason=str(error))
            finally:
                await owned.close()
            await backoff.sleep()

    @property
    def _next_block(self) -> int:
        return self._chain.start_block if self._cursor is None else self._cursor.number + 1

    async def _read_log(self, trail: Trail) -> None:
        """Fold what stands on the log from the trail's offset on."""
        key = str(self._chain.chain_id).encode()
        starts = {self._partition: trail.next_offset}
        async for _, messages in self._log_of_facts.replay(EVM_EVENTS, starts):
            for message in messages:
                trail.next_offset = message.offset + 1
                if message.key != key:
                    continue
                try:
                    self._fold(EVM_EVENTS.decode(message.value).fact, trail)
                except UnreadableRecord as error:  # the stream's reader dead-letters it
                    self._log.error("unreadable record in evm.events", reason=str(error))
            await asyncio.sleep(0)

    def _fold(self, fact: Fact, trail: Trail) -> None:
        trail.fold(fact)
        if self.supply is not None and trail is self._trail:
            self.supply.book.fold(fact)

    async def _wait_for_a_person(self) -> None:
        while self._trail.halted is not None:
            self.reason = self._trail.halted.reason
            await asyncio.sleep(RESUMED_SEEN_WITHIN_SECONDS)
            await self._read_log(self._trail)
            if self._trail.halted is None:
                self._log.warning("chain resumed", after=self._trail.marked)

    async def _follow(self, owned: OwnedLog) -> None:
        backoff = Backoff(first_seconds=0.2, longest_seconds=5)
        while True:
            try:
                behind = await self._step(owned)
            except RpcError as error:
                if error.problem is RpcProblem.RANGE_TOO_LARGE:
                    continue
                self.reason = str(error)
                self._log.warning("chain cannot be read", reason=str(error))
                await backoff.sleep()
                continue
            self.reason = None
            backoff.reset()
            if not behind:
                await asyncio.sleep(self._settings.head_poll_seconds)

    async def _step(self, owned: OwnedLog) -> bool:
        """Append the next range, if there is one; True while more is waiting."""
        node = self._node.pinned()
        head = await node.head()
        self.head_block, self.head_timestamp = head.number, head.timestamp
        if head.hash == self._seen_head:
            return False
        first, goal = self._next_block, head.number - self._chain.confirmations
        if goal < first:
            await self._look_back(owned, head.number)
            self._seen_head = head.hash
            return False
        last = min(goal, first + self._range.blocks - 1)
        section = await self._section(first, last, node)
        if self._cursor is not None and section.headers[0].parent_hash != self._cursor.hash:
            await self._look_back(owned, head.number)
            text = f"block {first} does not continue block {self._cursor.number} of the log"
            raise RpcError(RpcProblem.UNAVAILABLE, f"{text}, which a node still has")
        self._denials = 0
        await self._append(owned, section, last < goal)
        now = asyncio.get_running_loop().time()
        if last < goal:
            self._progress.behind(now, last, goal)
            return True
        self._progress.abreast(now, last)
        await self._compare_supply(owned, section.headers[-1], node)
        self._seen_head = head.hash
        return False

    async def _compare_supply(self, owned: OwnedLog, end: Head, branch: ChainNode) -> None:
        """Where the cursor is the newest block of sufficient depth. What differs is searched."""
        if self.supply is None:
            return
        found = await self.supply.look(branch, end)
        if found:
            marks = [] if self._trail.marked == Point(end.number, end.hash) else [self._mark(end)]
            await self._record(owned, [*marks, *found])
        traced = await self.supply.trace()
        if traced:
            await self._record(owned, traced)

    async def _record(
        self, owned: OwnedLog, facts: Sequence[Fact], letters: Sequence[DeadLetter] = ()
    ) -> None:
        await owned.append(EVM_EVENTS, facts, letters)
        for fact in facts:
            self._fold(fact, self._trail)

    def _mark(self, end: Head) -> BlocksFollowed:
        marked = self._trail.marked
        return BlocksFollowed(
            chain_id=self._chain.chain_id,
            from_block=marked.number + 1 if marked else self._chain.start_block,
            to_block=end.number,
            to_hash=end.hash,
            to_timestamp=end.timestamp,
        )

    async def _section(self, first: int, last: int, branch: ChainNode) -> Section:
        blocks = last - first + 1
        try:
            section = await self.reader.read(first, last, branch)
        except RpcError as error:
            if error.problem is RpcProblem.RANGE_TOO_LARGE and blocks > 1:
                self._range.refused(blocks)
            else:
                self._range.failed()
                if error.problem is RpcProblem.RANGE_TOO_LARGE:
                    raise RpcError(RpcProblem.UNAVAILABLE, error.detail) from None
            raise
        self._range.worked(blocks, len(section.logs))
        return section

    async def _append(self, owned: OwnedLog, section: Section, behind: bool) -> None:
        for end, facts, letters in self._parts(section):
            now = asyncio.get_running_loop().time()
            is_due = now - self._marked_at >= MARK_EVERY_SECONDS
            is_due = is_due or len(section.headers) >= MARK_FROM_BLOCKS
            if facts or letters or is_due or behind or end is not section.headers[-1]:
                await self._record(owned, [*facts, self._mark(end)], letters)
                self._marked_at = now
            self._cursor = Point(end.number, end.hash)

    def _parts(
        self, section: Section
    ) -> Iterator[tuple[Head, list[ContractEvent], list[DeadLetter]]]:
        """What goes into one transaction each: whole blocks up to the given one, their facts, and
        the logs that do not decode, for the dead letters."""
        by_number = {head.number: head for head in section.headers}
        facts: list[ContractEvent] = []
        letters: list[DeadLetter] = []
        for entry in section.logs:
            full = len(facts) + len(letters) >= FACTS_PER_TRANSACTION
            if full and facts and entry.block_number > facts[-1].block_number:
                yield by_number[entry.block_number - 1], facts, letters
                facts, letters = [], []
            try:
                facts.append(self._fact(entry, by_number[entry.block_number]))
            except ValueError as error:
                letters.append(
                    DeadLetter.of(
                        DeadLetterReason.MALFORMED,
                        f"log of {entry.address} in {entry.tx_hash}: {error}",
                        repr(entry).encode(),
                        origin=f"chain {self._chain.chain_id}/{entry.block_hash}/{entry.log_index}",
                    )
                )
        yield section.headers[-1], facts, letters

    def _fact(self, entry: Log, block: Head) -> ContractEvent:
        place = f"{entry.tx_hash}:{entry.log_index}"
        decoded = self._chain.profile.decode_event(entry.topics, entry.data, place)
        if decoded is None:
            raise ValueError("not an event of this contract")
        return ContractEvent(
            chain_id=self._chain.chain_id,
            block_number=block.number,
            block_hash=block.hash,
            block_timestamp=block.timestamp,
            tx_hash=entry.tx_hash,
            log_index=entry.log_index,
            contract=self._chain.contract,
            event=decoded.event,
            request_id=decoded.request_id,
            account=decoded.account,
            amount=decoded.amount,
            approval_nonce=decoded.approval_nonce,
        )

    async def _look_back(self, owned: OwnedLog, head: int) -> None:
        """Whether the chain still has the newest block of ours that it is long enough for. When
        every node has denied it several times, halt; until then RpcError says so."""
        point = self._trail.point_at_or_below(head)
        if self._cursor is not None and self._cursor.number <= head:
            point = self._cursor
        if self._cursor is not None and head < self._cursor.number:
            self._log.info("node behind the cursor", head=head, cursor=self._cursor.number)
        if point is None or await self._node.has_block(point.number, point.hash):
            self._denials = 0
            return
        self._denials += 1
        if self._denials < LOOKS_BEFORE_HALTING:
            text = f"the node shows another block {point.number} than the log, {point.hash}"
            raise RpcError(RpcProblem.UNAVAILABLE, text)
        await self._halt(owned, point)
        raise _Halting

    async def _halt(self, owned: OwnedLog, gone: Point) -> None:
        """Retract what stands above the fork, and stop. A kill in between leaves some retractions
        on the log; the next owner finds the same block gone and appends the others."""
        trail, fork = self._trail, await self._fork(self._trail.points, gone.number)
        if trail.exact_above > (-1 if fork is None else fork.number):
            trail = Trail(floor=-1 if fork is None else fork.number)
            await self._read_log(trail)
            fork = await self._fork(trail.points, gone.number) or fork
        lost = trail.events_above(-1 if fork is None else fork.number)
        now = await self._node.block(gone.number)
        for at in range(0, len(lost), FACTS_PER_TRANSACTION):
            part = lost[at : at + FACTS_PER_TRANSACTION]
            await owned.append(EVM_EVENTS, [_retraction(event) for event in part])
        halt = ChainHalted(
            chain_id=self._chain.chain_id,
            block_number=gone.number,
            block_hash=gone.hash,
            fork_block=fork.number if fork else None,
            fork_hash=fork.hash if fork else None,
            reason=f"block {gone.number} was {gone.hash} and is now {now.hash if now else 'none'}: "
            f"a reorganisation deeper than {self._chain.confirmations} confirmations; "
            f"{len(lost)} events after block {fork.number if fork else 'none'} retracted",
        )
        await owned.append(EVM_EVENTS, [halt])
        self._log.error("chain halted", reason=halt.reason)

    async def _fork(self, points: Sequence[Point], gone: int) -> Point | None:
        """The newest of these points that the chain still has, by halving: what is before a block
        that it has, it has as well. Raises RpcError when the nodes cannot tell now."""
        below = [point for point in points if point.number < gone]
        has, lacks = -1, len(below)
        while lacks - has > 1:
            middle = (has + lacks) // 2
            if await self._node.has_block(*below[middle]):
                has = middle
            else:
                lacks = middle
        return below[has] if has >= 0 else None


def _retraction(event: ContractEvent) -> EventRetracted:
    seat = event.model_dump(include=set(EventRetracted.model_fields) - {"reason"})
    return EventRetracted(**seat, reason="reorganised away below the configured depth")
