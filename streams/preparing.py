"""Preparing: from waiting work to exact signed bytes, or to a refusal with its proof; and from a
transaction that stays out to its replacement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import ChainView
from orchestrator.core.fees import Fees, first_quote, replacement, with_margin
from orchestrator.core.gas import Shape, call_shape
from orchestrator.core.lanes import LaneState
from orchestrator.core.turns import Work, in_turn
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, ChainNode, UnsignedTransaction, Wallet
from schemas.lanes import LaneFact, RelayRequested, TransactionPrepared
from streams.judging import Judging

SIGNED_BETWEEN_BREATHS = 16
"""Signing holds the event loop; after so many others get their turn."""

PREPARED_AT_ONCE = 512
ESTIMATED_AT_ONCE = 64
"""So much work at most in one pass, and so many estimates: the first of a burst are out before the
last are signed, and before the node has estimated all of them."""

USUAL_GAS = 150_000
"""What a call of ours is taken to need before one was prepared (measured: 90,000 to 120,000)."""

NO_OP_GAS = 21_000
NO_OP_DATA = "0x"


class Preparing:
    """Prepares for one wallet. Keeps the last look at the chain, that head's fees, and which shapes
    of calls that head was seen to take."""

    def __init__(
        self,
        chain: ChainConfig,
        wallet: Wallet,
        node: ChainNode,
        settings: Settings,
        judging: Judging,
    ) -> None:
        self.wallet = wallet.address
        self._chain = chain
        self._wallet = wallet
        self._node = node
        self._settings = settings
        self._judging = judging
        self._view: ChainView | None = None
        self._asked: tuple[str, int] = ("", 0)
        self._usual_gas = USUAL_GAS
        self._taken: dict[Shape, bool] = {}
        self._waited: set[str] = set()
        self.trouble: RpcError | None = None
        """Why the last batch left work waiting, if it did."""
        self.unfinished = False
        """Whether the last batch left work to the next only for being large."""
        self.held_back: set[str] = set()
        """What this head does not execute yet: calls that wait for their turn."""

    def saw(self, view: ChainView) -> None:
        self._view = view
        self.held_back.clear()
        self._taken.clear()
        self._waited.clear()

    def choose(
        self, state: LaneState, in_flight_limit: int, withheld: Callable[[RelayRequested], bool]
    ) -> list[Work]:
        """What may get a nonce now, by the chain's profile and what its head has shown."""
        profile = self._chain.profile
        return in_turn(state, profile, self.held_back, in_flight_limit, withheld)

    async def prepare(self, state: LaneState, work: Sequence[Work]) -> list[LaneFact]:
        """Each piece of work as a prepared transaction on the next nonces, or as a refusal. What
        cannot be judged now stays out of the answer, and waits; so does what is too much at once.

        Raises RpcError when the chain cannot be asked.
        """
        assert state.next_nonce is not None
        self.trouble, self.unfinished = None, False
        view = self._view
        if view is None:
            return []
        if self._waited and not self._chain.profile.sequential:
            work = sorted(work, key=lambda piece: piece.item.relay in self._waited)
        priority, known = await asyncio.gather(
            self._priority(view), self._known_limits(state, work[:PREPARED_AT_ONCE], view)
        )
        limits = await self._gas_limits(work, known)
        self.unfinished = len(limits) < len(work)
        fees = first_quote(view.head.base_fee_wei, priority, self._settings.fee_cap_wei)
        facts: list[LaneFact] = []
        nonce = state.next_nonce
        given: dict[str, int] = {}
        for count, (piece, asked) in enumerate(zip(work, limits, strict=False), 1):
            item, limit = piece.item, asked
            if isinstance(piece.follows, str):
                limit = given.get(piece.follows)
            if limit is None:
                continue
            if isinstance(limit, RpcError):
                refusal = await self._judging.refused_call(item, limit, view)
                facts += [refusal] if refusal else []
                if refusal is None:
                    self._waits(item, limit)
                continue
            if item.relay in state.displaced and await self._judging.is_processed(item):
                refusal = await self._judging.done_before(item, view)
                facts += [refusal] if refusal else []
                if refusal is None:
                    self._waited.add(item.relay)
                continue
            facts.append(self._signed(item, nonce, limit, fees, view))
            given[item.relay] = limit
            nonce += 1
            if count % SIGNED_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)
        return facts

    def _waits(self, item: RelayRequested, error: RpcError) -> None:
        """It is behind all others until the next head: what waits keeps nothing else waiting."""
        self._waited.add(item.relay)
        if self._chain.profile.sequential and error.problem is RpcProblem.REVERTED:
            self.held_back.add(item.relay)
        else:
            self.trouble = error

    async def _known_limits(
        self, state: LaneState, work: Sequence[Work], view: ChainView
    ) -> list[int | None]:
        """With GAS_LEARNING, limits from what mined calls of the same shape used; None for a call
        that is to be estimated.

        An estimate is also the proof that the contract takes the call, before gas is paid for it.
        So it is made anyway for what had a nonce before, for what has no time left, until enough
        calls of the shape have succeeded, after each failure, and under a head whose state refused
        the first call of the shape that was to be sent. What is not estimated and would have been
        refused is mined as a failure, and refused with its reason.

        Nothing is learnt where calls need an order: an estimate is what shows whose turn it is."""
        limits: list[int | None] = []
        learns = self._settings.gas_learning and not self._chain.profile.sequential
        for piece in work:
            item = piece.item
            if not learns or item.relay in state.displaced or view.head.timestamp >= item.deadline:
                limits.append(None)
                continue
            shape = call_shape(item)
            limit = state.gas.limit(shape)
            if limit is not None and shape not in self._taken:
                with suppress(RpcError):
                    self._taken[shape] = not await self._judging.reverts_at(item, view.head)
            limits.append(limit if self._taken.get(shape) else None)
        return limits

    async def _gas_limits(
        self, work: Sequence[Work], known: Sequence[int | None]
    ) -> list[int | RpcError | None]:
        """A limit for each piece of work from the first on, estimated with a margin where it is not
        known; shorter than `known` when more would have to be estimated than go at once. None where
        a call follows another of the batch."""
        limits: list[int | RpcError | None] = []
        asked: list[int] = []
        for place, (piece, limit) in enumerate(zip(work, known, strict=False)):
            follows = piece.follows
            if limit is None and follows is None:
                if len(asked) == ESTIMATED_AT_ONCE:
                    break
                asked.append(place)
            limits.append(follows if isinstance(follows, int) else limit)
        items = [work[place].item for place in asked]
        calls = [Call(self._wallet.address, item.contract, item.data) for item in items]
        estimates = await self._node.estimate_gas(calls) if calls else []
        for place, gas in zip(asked, estimates, strict=True):
            limits[place] = gas if isinstance(gas, RpcError) else with_margin(gas)
        return limits

    async def _priority(self, view: ChainView) -> int:
        """The priority fee, or the gas price of a chain without base fee; asked once a head."""
        head, fee = self._asked
        if head == view.head.hash:
            return fee
        if view.head.base_fee_wei is None:
            fee = await self._node.gas_price()
        else:
            fee = max(self._settings.priority_fee_wei, await self._node.priority_fee())
        self._asked = (view.head.hash, fee)
        return fee

    def one_costs_wei(self) -> int:
        """The most that one more transaction may cost, at the last known fees."""
        base = self._view.head.base_fee_wei if self._view else None
        priority = self._asked[1] or self._settings.priority_fee_wei
        fees = first_quote(base, priority, self._settings.fee_cap_wei)
        return self._usual_gas * fees.max_fee_per_gas_wei

    def _signed(
        self,
        item: RelayRequested | None,
        nonce: int,
        gas_limit: int,
        fees: Fees,
        view: ChainView,
        replaces: str | None = None,
    ) -> TransactionPrepared:
        """A call of ours, or without `item` a no-op: nothing sent from the wallet to itself."""
        if item is not None:
            self._usual_gas = gas_limit
        signed = self._wallet.sign(
            UnsignedTransaction(
                chain_id=self._chain.chain_id,
                nonce=nonce,
                to=item.contract if item else self._wallet.address,
                data=item.data if item else NO_OP_DATA,
                gas_limit=gas_limit,
                max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
                max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
                legacy=view.head.base_fee_wei is None,
            )
        )
        return TransactionPrepared(
            chain_id=self._chain.chain_id,
            wallet=self._wallet.address,
            nonce=nonce,
            relay=item.relay if item else None,
            tx_hash=signed.tx_hash,
            raw=signed.raw,
            gas_limit=gas_limit,
            max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
            max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
            replaces=replaces,
            block_number=view.head.number,
        )

    async def heal(self, holes: Sequence[int], view: ChainView) -> list[LaneFact]:
        """No-ops for nonces that nobody's transaction holds any more."""
        if not holes:
            return []
        fees = first_quote(
            view.head.base_fee_wei, await self._priority(view), self._settings.fee_cap_wei
        )
        return [self._signed(None, nonce, NO_OP_GAS, fees, view) for nonce in holes]

    async def replace(
        self,
        state: LaneState,
        versions: Sequence[TransactionPrepared],
        view: ChainView,
        gas_refused: bool = False,
        void: Callable[[RelayRequested], bool] = lambda _: False,
    ) -> tuple[list[LaneFact], dict[str, str]]:
        """A replacement for each version, the same call at higher fees, and by hash the reasons of
        those that cannot have one.

        A call whose deadline has passed is replaced by a no-op: it could only fail, and for more.
        So is one that is `void`, for an operator gave it up or holds it.
        `gas_refused`: nodes refuse the gas limit, so it is estimated anew; a call that would revert
        now becomes a no-op, and what becomes of the request is judged when that is final."""
        facts: list[LaneFact] = []
        reasons: dict[str, str] = {}
        if not versions:
            return facts, reasons
        cap = self._settings.fee_cap_wei
        priority = await self._priority(view)
        for version in versions:
            item = state.working.get(version.relay) if version.relay else None
            if item is not None and (view.head.timestamp > item.deadline or void(item)):
                item = None
            gas_limit = version.gas_limit if item or not version.relay else NO_OP_GAS
            if gas_refused:
                item, estimate = await self._estimated(item)
                if isinstance(estimate, RpcError) or estimate == version.gas_limit:
                    reasons[version.tx_hash] = (
                        f"nonce {version.nonce}: nodes refuse gas limit {version.gas_limit}"
                    )
                    continue
                gas_limit = estimate
            paid = Fees(version.max_fee_per_gas_wei, version.max_priority_fee_per_gas_wei)
            fees = replacement(paid, view.head.base_fee_wei, priority, cap)
            if fees is None:
                reasons[version.tx_hash] = (
                    f"nonce {version.nonce}: its fee of {paid.max_fee_per_gas_wei} wei per gas "
                    f"stands at the cap (FEE_CAP_WEI {cap}); it is sent again until the chain's "
                    "fees fall"
                )
                continue
            facts.append(self._signed(item, version.nonce, gas_limit, fees, view, version.tx_hash))
        return facts, reasons

    async def _estimated(
        self, item: RelayRequested | None
    ) -> tuple[RelayRequested | None, int | RpcError]:
        """A fresh gas limit for the call; for a no-op, when the call would revert now."""
        own = self._wallet.address
        calls = [Call(own, own, NO_OP_DATA)]
        if item is not None:
            calls.append(Call(own, item.contract, item.data))
        answers = await self._node.estimate_gas(calls)
        gas = answers[-1]
        if isinstance(gas, RpcError) and gas.problem is RpcProblem.REVERTED:
            item, gas = None, answers[0]
        return item, gas if isinstance(gas, RpcError) else with_margin(gas)
