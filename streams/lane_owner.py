"""A lane's owner: one wallet on one chain, relaying many requests a block.

Start, in this order: fence (a transactional producer under the lane's id), replay the lane to its
end, compare with the chain, send again what is prepared and unmined, only then take new work.

Afterwards one pass serves all: what the chain shows becomes facts, waiting work gets nonces, its
exact bytes are appended in one transaction, and only what is appended is broadcast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import ChainView, Head
from orchestrator.core.lanes import (
    LaneState,
    conclude,
    evolve,
    in_question,
    lags,
    next_work,
    unmined,
    unsent,
)
from orchestrator.core.lifecycle import Verdict
from orchestrator.errors import Fenced, LogUnavailable, RpcError, RpcProblem, StartRefused
from orchestrator.ports import ChainNode, FactLog, OwnedLog, Wallet
from schemas.base import UnreadableRecord
from schemas.lanes import (
    LaneFact,
    LaneOpened,
    RelayRequested,
    TransactionBroadcast,
    TransactionPrepared,
)
from schemas.topics import LANES
from streams.preparing import Preparing
from streams.retrying import Backoff

log = structlog.get_logger(__name__)

REBROADCAST_AFTER_SECONDS = 5.0
REBROADCAST_AT_ONCE = 64
"""How many of the oldest unmined transactions are sent again when a node may have dropped them."""


def _now() -> float:
    """Seconds of the event loop's clock."""
    return asyncio.get_running_loop().time()


class LaneOwner:
    """Owns one lane while its partition is ours. `reason` says why it does not move, if so."""

    def __init__(
        self,
        chain: ChainConfig,
        wallet: Wallet,
        node: ChainNode,
        facts: FactLog,
        partition: int,
        settings: Settings,
    ) -> None:
        self.key = f"{chain.chain_id}:{wallet.address}"
        self.reason: str | None = "starting"
        self._chain = chain
        self._node = node
        self._facts = facts
        self._partition = partition
        self._settings = settings
        self._preparing = Preparing(chain, wallet, node, settings)
        self._state = LaneState(chain.chain_id, wallet.address)
        self._inbox: list[RelayRequested] = []
        self._awake = asyncio.Event()
        self._looked_at = 0.0
        self._head_hash = ""
        self._rebroadcast_at = 0.0
        self._log = log.bind(lane=self.key)

    @property
    def state(self) -> LaneState:
        return self._state

    def offer(self, request: RelayRequested) -> None:
        """New work from the stream; folded at the next pass."""
        self._inbox.append(request)
        self._awake.set()

    async def run(self) -> None:
        """Own the lane until cancelled. When fenced or when an append's outcome is unknown, start
        anew from the log: nothing in memory is trusted then."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=10)
        while True:
            owned = self._facts.owned(f"lane.{self.key.replace(':', '.')}")
            try:
                await owned.start()
                await self._open(owned)
                backoff.reset()
                await self._serve(owned)
            except Fenced as error:
                self.reason = str(error)
                self._log.warning("lane fenced; starting anew", reason=str(error))
            except (LogUnavailable, RpcError, StartRefused) as error:
                self.reason = str(error)
                self._log.warning("lane cannot start or go on; trying again", reason=str(error))
            finally:
                await owned.close()
            await backoff.sleep()

    async def _open(self, owned: OwnedLog) -> None:
        self._state = LaneState(self._chain.chain_id, self._state.wallet)
        async for _, messages in self._facts.replay(LANES, {self._partition: 0}):
            for message in messages:
                if message.key != self.key.encode():
                    continue
                try:
                    self._fold(LANES.decode(message.value).fact)
                except UnreadableRecord as error:  # the stream's reader dead-letters it
                    self._log.error("unreadable record in the lane", reason=str(error))
        await self._node.check_chain()
        if self._state.next_nonce is None:
            nonce = await self._node.transaction_count(self._state.wallet)
            await self._append(
                owned,
                [
                    LaneOpened(
                        chain_id=self._state.chain_id, wallet=self._state.wallet, first_nonce=nonce
                    )
                ],
            )
        await self._look(owned)
        again = unmined(self._state)
        if again:
            self._log.info("sending again what is prepared and unmined", transactions=len(again))
            await self._broadcast(owned, again)
        self._log.info(
            "lane is open",
            next_nonce=self._state.next_nonce,
            waiting=len(self._state.waiting),
            in_flight=len(self._state.slots),
        )

    async def _serve(self, owned: OwnedLog) -> None:
        """Passes until something fails that only a new start can mend."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=5)
        while True:
            try:
                await self._pass(owned)
            except RpcError as error:
                self.reason = str(error)
                self._log.warning("lane waits for its chain", reason=str(error))
                await backoff.sleep()
                continue
            backoff.reset()
            busy = bool(self._state.slots or self._state.waiting or self._state.reverted)
            pause = self._settings.head_poll_seconds if busy else 5.0
            try:
                await asyncio.wait_for(self._awake.wait(), pause)
            except TimeoutError:
                continue
            finally:
                self._awake.clear()

    async def _pass(self, owned: OwnedLog) -> None:
        inbox, self._inbox = self._inbox, []
        for request in inbox:
            self._fold(request)
        if _now() - self._looked_at >= self._settings.head_poll_seconds:
            await self._look(owned)
        if self._state.halted is not None:
            self.reason = self._state.halted.reason
            return
        self.reason = None
        work = next_work(self._state, self._settings.lane_in_flight_limit)
        if work:
            facts = await self._preparing.prepare(self._state, work)
            await self._append(owned, facts)
        await self._broadcast(owned, unsent(self._state))
        if _now() - self._rebroadcast_at >= REBROADCAST_AFTER_SECONDS:
            self._rebroadcast_at = _now()
            await self._broadcast(owned, unmined(self._state)[:REBROADCAST_AT_ONCE])

    async def _look(self, owned: OwnedLog) -> None:
        """Ask the chain once, when it has a new head, and append what follows."""
        self._looked_at = _now()
        head = await self._node.head()
        if head.hash == self._head_hash and not self._state.reverted:
            return
        view = await self._view(head)
        if lags(self._state, view):
            self._log.warning("node lags behind the log", block=view.head.number)
            return
        facts = conclude(self._state, view)
        await self._append(owned, facts)
        for fact in facts:
            if fact.kind in ("LaneHalted", "NonceTaken", "TransactionOrphaned"):
                self._log.error("chain and lane disagree", **fact.model_dump(mode="json"))
        await self._append(owned, await self._preparing.settle(self._state, view))
        self._preparing.saw(view)
        self._head_hash = head.hash

    async def _view(self, head: Head) -> ChainView:
        number = max(0, head.number - self._chain.confirmations)
        final, nonce, final_nonce = await asyncio.gather(
            self._node.block(number),
            self._node.transaction_count(self._state.wallet),
            self._node.transaction_count(self._state.wallet, number),
        )
        if final is None:
            raise RpcError(RpcProblem.UNAVAILABLE, f"the node has no block {number} yet")
        hashes = in_question(self._state, nonce)
        receipts = await self._node.receipts(hashes) if hashes else []
        return ChainView(head, final, nonce, final_nonce, dict(zip(hashes, receipts, strict=True)))

    async def _broadcast(
        self, owned: OwnedLog, transactions: Sequence[TransactionPrepared]
    ) -> None:
        """Send exactly what is on the log; append which of it a node has."""
        if not transactions:
            return
        answers = await self._node.send_raw([transaction.raw for transaction in transactions])
        facts: list[LaneFact] = []
        for transaction, answer in zip(transactions, answers, strict=True):
            if isinstance(answer, RpcError) and answer.problem is not RpcProblem.ALREADY_KNOWN:
                self._refused_by_node(transaction, answer)
                continue
            facts.append(
                TransactionBroadcast(
                    chain_id=transaction.chain_id,
                    wallet=transaction.wallet,
                    nonce=transaction.nonce,
                    relay=transaction.relay,
                    tx_hash=transaction.tx_hash,
                )
            )
        await self._append(owned, facts)

    def _refused_by_node(self, transaction: TransactionPrepared, error: RpcError) -> None:
        """Nothing is decided here: the transaction stays prepared and is sent again; when its nonce
        is spent, the next look at the chain says by what."""
        if error.problem is RpcProblem.NONCE_TOO_LOW:
            self._head_hash = ""
            return
        self.reason = f"nonce {transaction.nonce}: {error}"
        self._log.warning("transaction not taken", nonce=transaction.nonce, reason=str(error))

    async def _append(self, owned: OwnedLog, facts: Sequence[LaneFact]) -> None:
        """Append in one transaction, then fold: what is not on the log did not happen."""
        fresh = [fact for fact in facts if self._is_new(fact)]
        await owned.append(LANES, fresh)
        for fact in fresh:
            self._fold(fact)

    def _is_new(self, fact: LaneFact) -> bool:
        """A rebroadcast tells nothing that the log does not hold."""
        if not isinstance(fact, TransactionBroadcast):
            return True
        slot = self._state.slots.get(fact.nonce)
        return slot is not None and fact.tx_hash not in slot.broadcast

    def _fold(self, fact: object) -> None:
        assert isinstance(fact, LaneFact)
        verdict = evolve(self._state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self._log.error("fact refused by the lane", verdict=verdict, fact=fact.id)
