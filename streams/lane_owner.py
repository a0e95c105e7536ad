"""A lane's owner: one wallet on one chain, relaying many requests a block.

Start, in this order: fence (a transactional producer under the lane's id), replay the lane to its
end, compare with the chain, send again what is prepared and unmined, only then take new work.

Afterwards one pass serves all: what the chain shows becomes facts, what stays out too long is
replaced, waiting work gets nonces, its exact bytes are appended in one transaction, and only what
is appended is broadcast. A wallet that is unfit gives back what it has not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import ChainView
from orchestrator.core.lane_views import (
    conclude,
    displaceable,
    halt,
    holes,
    lags,
    overdue,
    reconcile,
    was_reset,
)
from orchestrator.core.lanes import LaneState, evolve, in_flight, unmined, unsent
from orchestrator.core.lifecycle import Verdict
from orchestrator.errors import Fenced, LogUnavailable, RpcError, RpcProblem, StartRefused
from orchestrator.ports import ChainNode, FactLog, OwnedLog, Wallet
from schemas.base import UnreadableRecord
from schemas.lanes import LaneFact, LaneOpened, TransactionPrepared
from schemas.topics import LANES
from streams.broadcasting import Outcome, tell_refusals, weigh
from streams.controls import Controls
from streams.fitness import Fitness
from streams.judging import Judging, rewritten
from streams.lane_orders import LaneOrders
from streams.looking import behind, head_and_balance, seen_at
from streams.preparing import Preparing
from streams.retrying import Backoff, awoken, loop_seconds

log = structlog.get_logger(__name__)

REBROADCAST_AFTER_SECONDS = 5.0
REBROADCAST_AT_ONCE = 64
"""How many of the oldest unmined transactions are sent again when a node may have dropped them;
when one of them was lost, the next so many follow at once."""
HEALED_AFTER_BLOCKS = 2
"""A hole among the nonces gets a no-op when it is still there so many blocks later: the other's
transaction usually comes back by itself."""
ALARMING = ("LaneHalted", "NonceTaken", "TransactionOrphaned")


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
        controls: Controls,
    ) -> None:
        self.key = f"{chain.chain_id}:{wallet.address}"
        self.reason: str | None = "starting"
        self._chain = chain
        self._node = node
        self._facts = facts
        self._partition = partition
        self._settings = settings
        self._judging = Judging(wallet.address, node, chain.profile)
        self._preparing = Preparing(chain, wallet, node, settings, self._judging)
        self._orders = LaneOrders(controls, chain.chain_id, wallet.address)
        self._inbox: list[LaneFact] = []
        self._awake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._log = log.bind(lane=self.key)
        self._forget(wallet.address)

    def _forget(self, wallet: str) -> None:
        """Nothing in memory survives a start but what was offered and not folded."""
        self._state = LaneState(self._chain.chain_id, wallet)
        self._fitness = Fitness(self._chain, self._settings, self._preparing)
        self._view: ChainView | None = None
        self._looked_at = 0.0
        self._head_hash = ""
        self._highest = 0
        self._rebroadcast_at = 0.0
        self._refused: dict[str, str] = {}
        self._capped: dict[str, str] = {}
        self._suspected: set[int] = set()
        self._holes_since: int | None = None

    @property
    def state(self) -> LaneState:
        return self._state

    @property
    def seen(self) -> tuple[int | None, int | None]:
        """The wallet's transaction count and balance (wei), as last looked at."""
        return self._view.nonce if self._view else None, self._fitness.funds.balance_wei

    def offer(self, fact: LaneFact) -> None:
        """What others append, from the stream: folded at the next pass."""
        self._inbox.append(fact)
        self._awake.set()

    def hurry(self) -> None:
        """An operator's order came: a pass now, whatever the lane waits for."""
        self._awake.set()
        self._hurry.set()

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
            await backoff.sleep(self._hurry)

    async def _open(self, owned: OwnedLog) -> None:
        self._forget(self._state.wallet)
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
            number = max(0, (await self._node.head()).number - self._chain.confirmations)
            nonce = await self._node.transaction_count(self._state.wallet, number)
            opened = LaneOpened(
                chain_id=self._state.chain_id,
                wallet=self._state.wallet,
                first_nonce=nonce,
                block_number=number,
            )
            await self._append(owned, [opened])
        await self._compare_history(owned)
        await self._look(owned)
        again = unmined(self._state)
        if again:
            self._log.info("sending again what is prepared and unmined", transactions=len(again))
            await self._send(owned, again)
        self._log.info(
            "lane is open",
            next_nonce=self._state.next_nonce,
            waiting=len(self._state.waiting),
            in_flight=len(self._state.slots),
        )

    async def _compare_history(self, owned: OwnedLog) -> None:
        reason = await rewritten(self._state, self._node, self._chain.confirmations)
        if reason is not None:
            nonce = await self._node.transaction_count(self._state.wallet)
            await self._conclude(owned, [halt(self._state, nonce, reason)])

    async def _serve(self, owned: OwnedLog) -> None:
        """Passes until something fails that only a new start can mend."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=5)
        while True:
            try:
                await self._pass(owned)
            except RpcError as error:
                self.reason = str(error)
                self._log.warning("lane waits for its chain", reason=str(error))
                await backoff.sleep(self._hurry)
                continue
            backoff.reset()
            busy = bool(self._state.slots or self._state.waiting or self._state.reverted)
            pause = self._settings.head_poll_seconds if busy else 5.0
            await awoken(self._awake, pause)

    async def _pass(self, owned: OwnedLog) -> None:
        inbox, self._inbox = self._inbox, []
        for request in inbox:
            self._fold(request)
        if loop_seconds() - self._looked_at >= self._settings.head_poll_seconds:
            await self._look(owned)
        state = self._state
        await self._append(owned, self._orders.given_up(state, self._view))
        if state.resumption is not None:
            await self._reconcile(owned)
        if state.halted is not None:
            self.reason = state.halted.reason
            await self._append(owned, self._fitness.give_back(state, self.reason, self._view))
            return
        await self._replace(owned, self._orders.overruled(state), overruled=True)
        held = self._orders.held(self._view)
        self.reason = behind(state, self._view) or held
        if held is not None:
            if self._orders.only_this_wallet:
                await self._append(owned, self._fitness.give_back(state, held, self._view))
        elif state.set_aside is not None:
            self.reason = state.set_aside.reason
            await self._append(owned, self._fitness.give_back(state, self.reason, self._view))
        elif self.reason is None:
            await self._take_work(owned)
        if self._orders.lifted:
            self._orders.lifted, self._rebroadcast_at = False, float("-inf")
        fresh = [item for item in unsent(state) if item.tx_hash not in self._refused]
        await self._send(owned, fresh)
        if loop_seconds() - self._rebroadcast_at >= REBROADCAST_AFTER_SECONDS:
            await self._send_again(owned)
        self._explain()

    async def _take_work(self, owned: OwnedLog) -> None:
        limit = self._settings.lane_in_flight_limit
        room = self._fitness.room(self._state)
        if room is not None and room < limit:
            limit = min(limit, in_flight(self._state) + room)
        work = self._preparing.choose(self._state, limit, self._orders.withheld)
        if not work:
            if room == 0 and self._state.waiting:
                self.reason = "what is out may cost all that the wallet holds"
            return
        facts = await self._preparing.prepare(self._state, work)
        if self._orders.held(self._view) is not None:
            facts = [fact for fact in facts if not isinstance(fact, TransactionPrepared)]
        await self._append(owned, facts)
        if facts and self._preparing.unfinished:
            self._awake.set()
        trouble = self._preparing.trouble
        if trouble is not None:
            self.reason = str(trouble)
            if trouble.problem is RpcProblem.INSUFFICIENT_FUNDS:
                self._fitness.funds.doubt()

    async def _look(self, owned: OwnedLog) -> None:
        """Ask the chain once, when it has a new head, and append what follows."""
        self._looked_at = loop_seconds()
        node = self._node.pinned()
        head = await head_and_balance(node, self._state.wallet, self._fitness.funds)
        if head.hash == self._head_hash and not self._state.reverted:
            return await self._judge(owned)
        view = await seen_at(node, self._state, head, self._chain.confirmations)
        self._view = view
        if lags(self._state, view) and not was_reset(self._state, view):
            self._log.warning("node lags behind the log", block=view.head.number)
            return
        if head.number < self._highest:
            await self._compare_history(owned)
        await self._conclude(owned, conclude(self._state, view, self._suspected))
        self._suspected = displaceable(self._state, view)
        await self._append(owned, await self._judging.settle(self._state, view))
        self._preparing.saw(view)
        self._orders.held(view)
        blocks, held_until = self._settings.replace_after_blocks, self._orders.held_until_block
        await self._replace(owned, overdue(self._state, view, blocks, held_until))
        await self._heal(owned, view)
        await self._judge(owned)
        self._head_hash = head.hash
        self._highest = max(self._highest, head.number)

    async def _judge(self, owned: OwnedLog) -> None:
        held_until = self._orders.held_until_block
        await self._append(owned, self._fitness.judge(self._state, self._view, held_until))

    async def _reconcile(self, owned: OwnedLog) -> None:
        """A person let the halted lane go on: the chain as it is counts, or it halts again."""
        node = self._node.pinned()
        head = await node.head()
        view = await seen_at(node, self._state, head, self._chain.confirmations)
        await self._conclude(owned, [reconcile(self._state, view)])
        self._highest, self._head_hash = head.number, ""
        self._log.warning("lane reconciled", halted=self._state.halted is not None)

    async def _conclude(self, owned: OwnedLog, facts: Sequence[LaneFact]) -> None:
        await self._append(owned, facts)
        for fact in facts:
            if fact.kind in ALARMING:
                self._log.error("chain and lane disagree", fact=fact)

    async def _heal(self, owned: OwnedLog, view: ChainView) -> None:
        found = holes(self._state, view) if view.head.number >= self._highest else []
        if not found:
            self._holes_since = None
            return
        if self._holes_since is None:
            self._holes_since = view.head.number
        if view.head.number - self._holes_since >= HEALED_AFTER_BLOCKS:
            self._log.error("nonces are free again; filling them with no-ops", nonces=found)
            await self._append(owned, await self._preparing.heal(found, view))

    async def _replace(
        self,
        owned: OwnedLog,
        versions: Sequence[TransactionPrepared],
        gas_refused: bool = False,
        overruled: bool = False,
    ) -> None:
        """Append replacements; the pass broadcasts them. What cannot have one says why, and is
        sent again like everything that is out; but what is overruled is never sent again, so a
        node's refusal of it does not keep the no-op from its nonce."""
        stopped = self._capped if gas_refused or overruled else self._capped | self._refused
        versions = [version for version in versions if version.tx_hash not in stopped]
        if not versions or self._view is None:
            return
        state = self._state
        versions = self._orders.replaceable(state, versions, self._view)
        facts, reasons = await self._preparing.replace(
            state, versions, self._view, gas_refused, lambda item: self._orders.void(state, item)
        )
        await self._append(owned, facts)
        if facts:
            self._log.warning("replaced at higher fees", count=len(facts), nonce=versions[0].nonce)
        if reasons:
            (self._refused if gas_refused else self._capped).update(reasons)
            tx_hash, first = next(iter(reasons.items()))
            about = {"count": len(reasons), "tx_hash": tx_hash, "reason": first}
            self._log.error("cannot be replaced", **about)

    async def _send(
        self, owned: OwnedLog, transactions: Sequence[TransactionPrepared]
    ) -> Outcome | None:
        """Send exactly what is on the log and not held; append which of it a node has."""
        transactions = self._orders.sendable(self._state, transactions, self._view)
        if not transactions:
            return None
        answers = await self._node.send_raw([transaction.raw for transaction in transactions])
        block = self._view.head.number if self._view else 0
        outcome = weigh(self._state, transactions, answers, block)
        await self._append(owned, outcome.facts)
        for transaction in transactions:
            self._refused.pop(transaction.tx_hash, None)
        await self._replace(owned, outcome.underpriced)
        await self._replace(owned, outcome.wrong_gas, gas_refused=True)
        for tx_hash, text in outcome.refused.items():
            self._refused.setdefault(tx_hash, text)
        tell_refusals(self._log, transactions, outcome)
        if outcome.spent:
            self._head_hash = ""
        if outcome.gap:
            self._rebroadcast_at = min(self._rebroadcast_at, loop_seconds() - 4.0)
        if outcome.poor:
            self._fitness.funds.doubt()
        if outcome.trouble is not None:
            self.reason = outcome.trouble
            self._log.warning("nodes cannot take transactions now", reason=outcome.trouble)
        return outcome

    async def _send_again(self, owned: OwnedLog) -> None:
        """The oldest unmined ones, and as many more as it takes to find none that was lost."""
        self._rebroadcast_at = loop_seconds()
        everything = unmined(self._state)
        for start in range(0, len(everything), REBROADCAST_AT_ONCE):
            outcome = await self._send(owned, everything[start : start + REBROADCAST_AT_ONCE])
            if outcome is None or not outcome.taken_again:
                return

    def _explain(self) -> None:
        """`reason` names the lowest transaction that nodes refuse, when nothing worse is known."""
        out = {item.tx_hash for item in unmined(self._state)}
        for texts in (self._capped, self._refused):
            for gone in texts.keys() - out:
                del texts[gone]
            if self.reason is None and texts:
                self.reason = next(iter(texts.values()))

    async def _append(self, owned: OwnedLog, facts: Sequence[LaneFact]) -> None:
        """Append in one transaction, then fold: what is not on the log did not happen."""
        if not facts:
            return
        await owned.append(LANES, facts)
        for fact in facts:
            self._log.debug("fact appended", fact=fact)
            self._fold(fact)

    def _fold(self, fact: object) -> None:
        assert isinstance(fact, LaneFact)
        verdict = evolve(self._state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self._log.error("fact refused by the lane", verdict=verdict, fact=fact)
