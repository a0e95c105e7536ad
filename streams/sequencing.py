"""The owner of one chain's sequences: it grants approval nonces where the contract wants an order.

Like a lane's owner: fence, replay, then one pass after another, and what is not appended did not
happen. It asks its chain only for what the log cannot tell: the first nonce of a recipient, and
what became of grants whose time is over, at a final block each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import Head
from orchestrator.core.granting import conclude, due, questions
from orchestrator.core.sequences import Sequences, evolve
from orchestrator.core.stages import Verdict
from orchestrator.errors import Fenced, LogUnavailable, RpcError, RpcProblem, StartRefused
from orchestrator.ports import Call, ChainNode, FactLog, OwnedLog
from schemas.base import UnreadableRecord
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.sequences import MintUnattributed, SequenceFact, sequence_key
from schemas.topics import LANES
from streams.retrying import Backoff, awoken

log = structlog.get_logger(__name__)

AT_ONCE = 64
"""Recipients that the chain is asked about in one look."""
LOOK_EVERY_SECONDS = 5.0
"""How often grants are held against the newest final block while any are live."""


class SequenceOwner:
    """Owns one chain's sequences while their partition is ours. `reason` says why nothing is
    granted, if so."""

    def __init__(
        self,
        chain: ChainConfig,
        node: ChainNode,
        facts: FactLog,
        partition: int,
        settings: Settings,
    ) -> None:
        self.key = sequence_key(chain.chain_id)
        self.reason: str | None = "starting"
        self._chain = chain
        self._node = node
        self._facts = facts
        self._partition = partition
        self._settings = settings
        self._inbox: list[SequenceFact] = []
        self._awake = asyncio.Event()
        self._state = Sequences(chain.chain_id)
        self._looked_at = float("-inf")
        self._log = log.bind(sequences=self.key)

    @property
    def state(self) -> Sequences:
        return self._state

    def offer(self, fact: SequenceFact) -> None:
        """What others appended, from the stream; folded at the next pass."""
        self._inbox.append(fact)
        self._awake.set()

    def hurry(self) -> None:
        """Look at once: an operator ordered something."""
        self._awake.set()

    async def run(self) -> None:
        """Own the sequences until cancelled. When fenced or when an append's outcome is unknown,
        start anew from the log."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=10)
        while True:
            owned = self._facts.owned(f"sequence.{self._chain.chain_id}")
            try:
                await owned.start()
                await self._replay()
                await self._node.check_chain()
                self._log.info("sequences are open", waiting=self._state.unserved)
                backoff.reset()
                await self._serve(owned)
            except Fenced as error:
                self.reason = str(error)
                self._log.warning("sequences fenced; starting anew", reason=str(error))
            except (LogUnavailable, RpcError, StartRefused) as error:
                self.reason = str(error)
                self._log.warning("sequences cannot start or go on", reason=str(error))
            finally:
                await owned.close()
            await backoff.sleep()

    async def _replay(self) -> None:
        self._state = Sequences(self._chain.chain_id)
        self._looked_at = float("-inf")
        async for _, messages in self._facts.replay(LANES, {self._partition: 0}):
            for message in messages:
                if message.key != self.key.encode():
                    continue
                try:
                    self._fold(LANES.decode(message.value).fact)
                except UnreadableRecord as error:  # the stream's reader dead-letters it
                    self._log.error("unreadable record in the sequences", reason=str(error))
            await asyncio.sleep(0)

    async def _serve(self, owned: OwnedLog) -> None:
        backoff = Backoff(first_seconds=0.2, longest_seconds=5)
        while True:
            try:
                await self._pass(owned)
                self.reason = None
            except RpcError as error:
                self.reason = str(error)
                self._log.warning("sequences wait for their chain", reason=str(error))
                await backoff.sleep()
                continue
            backoff.reset()
            busy = bool(self._state.unserved or self._inbox)
            pause = self._settings.head_poll_seconds if busy else LOOK_EVERY_SECONDS
            await awoken(self._awake, pause)

    async def _pass(self, owned: OwnedLog) -> None:
        inbox, self._inbox = self._inbox, []
        for fact in inbox:
            self._fold(fact)
        await self._append(owned, due(self._state))
        now = asyncio.get_running_loop().time()
        aged = bool(self._state.live) and now - self._looked_at >= LOOK_EVERY_SECONDS
        if aged or questions(self._state, 0):
            await self._look(owned)
            await self._append(owned, due(self._state))

    async def _look(self, owned: OwnedLog) -> None:
        """Ask the chain, at a final block, about those of whom something must be known."""
        self._looked_at = asyncio.get_running_loop().time()
        node = self._node.pinned()
        head = await node.head()
        number = max(0, head.number - self._chain.confirmations)
        if number < self._state.counted_block:
            self._log.warning("node lags behind the log", block=head.number)
            return
        final = await node.block(number)
        if final is None:
            raise RpcError(RpcProblem.UNAVAILABLE, f"the node has no block {number} yet")
        asking = questions(self._state, final.timestamp)[:AT_ONCE]
        counts = await asyncio.gather(*(self._count(node, one, final) for one in asking))
        facts: list[SequenceFact] = []
        for recipient, count in zip(asking, counts, strict=True):
            facts += conclude(self._state, recipient, count, final)
        await self._append(owned, facts)

    async def _count(self, node: ChainNode, recipient: str, final: Head) -> int:
        data = self._chain.profile.nonces_calldata(recipient)
        answer = await node.call(Call(recipient, self._chain.contract, data), final.number)
        return int(answer, 16)

    async def _append(self, owned: OwnedLog, facts: Sequence[SequenceFact]) -> None:
        """Append in one transaction, then fold: what is not on the log did not happen."""
        if not facts:
            return
        await owned.append(LANES, facts, [_letter(f) for f in facts if _is_alarming(f)])
        for fact in facts:
            self._log.debug("fact appended", fact=fact)
            self._fold(fact)
            if _is_alarming(fact):
                self._log.warning("minted without a request", fact=fact)

    def _fold(self, fact: object) -> None:
        assert isinstance(fact, SequenceFact)
        verdict = evolve(self._state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self._log.error("fact refused by the sequences", verdict=verdict, fact=fact)


def _is_alarming(fact: SequenceFact) -> bool:
    return isinstance(fact, MintUnattributed)


def _letter(fact: SequenceFact) -> DeadLetter:
    assert isinstance(fact, MintUnattributed)
    return DeadLetter.of(
        DeadLetterReason.UNBACKED,
        f"{fact.contract_id} was minted to {fact.recipient}, and no request here has that id: "
        "someone else approved it",
        fact.model_dump_json().encode(),
        origin=fact.seat,
    )
