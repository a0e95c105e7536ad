"""Following one chain: its contract's events, at the configured depth, into `evm.events`.

The cursor and the facts of a block range are appended in one fenced transaction, so a range is on
the log as a whole or not at all, and a zombie cannot append. Parent hashes are checked through the
cursor: when the block it names is gone, the chain was reorganised deeper than the depth; what the
log holds of the lost blocks is retracted, and the follower stops for a person to look.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import Head
from orchestrator.core.contract import EVENT_TOPICS, decode_event
from orchestrator.errors import Fenced, LogUnavailable, RpcError, RpcProblem, StartRefused
from orchestrator.ports import ChainNode, FactLog, Log, OwnedLog
from schemas.base import Fact, UnreadableRecord
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import BlocksFollowed, ChainHalted, ContractEvent, EventRetracted
from schemas.topics import EVM_EVENTS
from streams.retrying import Backoff

log = structlog.get_logger(__name__)

LARGEST_RANGE = 10_000
MARK_EVERY_SECONDS = 10.0
"""How often a cursor without events is appended; an earlier cursor only scans again."""
REMEMBERED_MARKS = 10_000


class ChainFollower:
    """Follows one chain while its partition of `evm.events` is ours."""

    def __init__(
        self,
        chain: ChainConfig,
        node: ChainNode,
        facts: FactLog,
        partition: int,
        settings: Settings,
    ) -> None:
        self.reason: str | None = "starting"
        self._chain = chain
        self._node = node
        self._log_of_facts = facts
        self._partition = partition
        self._settings = settings
        self._marks: deque[BlocksFollowed] = deque(maxlen=REMEMBERED_MARKS)
        self._events: deque[ContractEvent] = deque()
        self._halted: ChainHalted | None = None
        self._cursor: tuple[int, str] | None = None
        self._marked_at = 0.0
        self._range = 2_000
        self._log = log.bind(chain=chain.chain_id)

    async def run(self) -> None:
        """Follow until cancelled; start anew from the log after a fence or a lost append."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=10)
        while True:
            owned = self._log_of_facts.owned(f"follower.{self._chain.chain_id}")
            try:
                await owned.start()
                await self._replay()
                await self._node.check_chain()
                self._log.info("following", from_block=self._next_block)
                backoff.reset()
                await self._follow(owned)
            except (Fenced, LogUnavailable, RpcError, StartRefused) as error:
                self.reason = str(error)
                self._log.warning("follower starts anew", reason=str(error))
            finally:
                await owned.close()
            await backoff.sleep()

    @property
    def _next_block(self) -> int:
        return self._chain.start_block if self._cursor is None else self._cursor[0] + 1

    async def _replay(self) -> None:
        """The cursor, recent events and a halt, from the log alone."""
        self._marks.clear()
        self._events.clear()
        self._cursor, self._halted = None, None
        key = str(self._chain.chain_id)
        async for _, messages in self._log_of_facts.replay(EVM_EVENTS, {self._partition: 0}):
            for message in messages:
                if message.key != key.encode():
                    continue
                try:
                    self._fold(EVM_EVENTS.decode(message.value).fact)
                except UnreadableRecord as error:  # the stream's reader dead-letters it
                    self._log.error("unreadable record in evm.events", reason=str(error))

    def _fold(self, fact: Fact) -> None:
        if isinstance(fact, BlocksFollowed):
            self._marks.append(fact)
            self._cursor = (fact.to_block, fact.to_hash)
            while self._events and self._events[0].block_number < self._marks[0].from_block:
                self._events.popleft()
        elif isinstance(fact, ContractEvent):
            self._events.append(fact)
        elif isinstance(fact, ChainHalted):
            self._halted = fact

    async def _follow(self, owned: OwnedLog) -> None:
        backoff = Backoff(first_seconds=0.2, longest_seconds=5)
        while True:
            if self._halted is not None:
                self.reason = self._halted.reason
                await asyncio.sleep(5)
                continue
            try:
                behind = await self._step(owned)
            except RpcError as error:
                if error.problem is RpcProblem.RANGE_TOO_LARGE and self._range > 1:
                    self._range = max(1, self._range // 2)
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
        head = await self._node.head()
        goal = head.number - self._chain.confirmations
        if self._cursor is not None and goal >= self._cursor[0] and await self._gone(owned):
            return False
        first = self._next_block
        if goal < first:
            return False
        last = min(goal, first + self._range - 1)
        logs = await self._node.logs(self._chain.contract, list(EVENT_TOPICS), first, last)
        end = await self._block(last)
        facts, letters = await self._facts(logs)
        cursor_is_due = asyncio.get_running_loop().time() - self._marked_at >= MARK_EVERY_SECONDS
        if facts or letters or cursor_is_due or last < goal:
            mark = BlocksFollowed(
                chain_id=self._chain.chain_id,
                from_block=self._marks[-1].to_block + 1 if self._marks else first,
                to_block=last,
                to_hash=end.hash,
                to_timestamp=end.timestamp,
            )
            await owned.append(EVM_EVENTS, [*facts, mark], letters)
            self._marked_at = asyncio.get_running_loop().time()
            for fact in (*facts, mark):
                self._fold(fact)
        self._cursor = (last, end.hash)
        if last < goal:
            self._range = min(LARGEST_RANGE, self._range * 2)
            self._log.info("catching up", block=last, of=goal, events=len(facts))
        return last < goal

    async def _block(self, number: int) -> Head:
        block = await self._node.block(number)
        if block is None:
            raise RpcError(RpcProblem.UNAVAILABLE, f"the node has no block {number} yet")
        return block

    async def _facts(self, logs: list[Log]) -> tuple[list[ContractEvent], list[DeadLetter]]:
        """Logs as facts, in chain order. A log that does not decode goes to the dead letters."""
        blocks = {
            number: await self._block(number) for number in {log.block_number for log in logs}
        }
        facts: list[ContractEvent] = []
        letters: list[DeadLetter] = []
        for entry in logs:
            block = blocks[entry.block_number]
            if block.hash != entry.block_hash:
                raise RpcError(
                    RpcProblem.UNAVAILABLE,
                    f"logs and block {block.number} disagree: the chain is moving, or nodes differ",
                )
            try:
                facts.append(self._fact(entry, block))
            except ValueError as error:
                letters.append(
                    DeadLetter.of(
                        DeadLetterReason.MALFORMED,
                        f"log of {entry.address} in {entry.tx_hash}: {error}",
                        repr(entry).encode(),
                        origin=f"chain {self._chain.chain_id}/{entry.block_hash}/{entry.log_index}",
                    )
                )
        return facts, letters

    def _fact(self, entry: Log, block: Head) -> ContractEvent:
        decoded = decode_event(list(entry.topics), entry.data)
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
        )

    async def _gone(self, owned: OwnedLog) -> bool:
        """True when the cursor's block is gone: retract what was lost with it, and halt."""
        assert self._cursor is not None
        number, known_hash = self._cursor
        block = await self._block(number)
        if block.hash == known_hash:
            return False
        lost: list[Fact] = []
        for event in self._events:
            if (await self._block(event.block_number)).hash != event.block_hash:
                lost.append(self._retraction(event))
        halt = ChainHalted(
            chain_id=self._chain.chain_id,
            block_number=number,
            block_hash=known_hash,
            reason=f"block {number} was {known_hash} and is now {block.hash}: a reorganisation "
            f"deeper than {self._chain.confirmations} confirmations; {len(lost)} events retracted",
        )
        await owned.append(EVM_EVENTS, [*lost, halt])
        self._fold(halt)
        self._log.error("chain halted", reason=halt.reason)
        return True

    def _retraction(self, event: ContractEvent) -> EventRetracted:
        seat = event.model_dump(include=set(EventRetracted.model_fields) - {"reason"})
        return EventRetracted(**seat, reason="reorganised away below the configured depth")
