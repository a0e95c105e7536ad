"""Judging: why a call cannot be relayed, or need not be, each time with its proof."""

from __future__ import annotations

import structlog

from orchestrator.core.chain import ChainView, Head
from orchestrator.core.contract import Profile, Turn
from orchestrator.core.lanes import Failure, LaneState
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, ChainNode
from schemas.lanes import LaneFact, RelayRefusal, RelayRefused, RelayRequested, RelayResumed

log = structlog.get_logger(__name__)

RESUMED_AT_MOST = 3
"""So often a call that ran out of gas is relayed again; each time costs its gas."""


async def rewritten(state: LaneState, node: ChainNode, confirmations: int) -> str | None:
    """Why the newest block that the log saw final is no longer the chain's; None when it is.

    One node alone convicts no chain: it is asked of all. Raises UNAVAILABLE while the other block
    has not the configured depth itself."""
    if not state.final_hash or state.halted is not None:
        return None
    block = await node.block(state.final_block)
    if block is None or block.hash == state.final_hash:
        return None
    if await node.has_block(state.final_block, state.final_hash):
        return None
    head = await node.head()
    if head.number < state.final_block + confirmations:
        text = f"block {block.number} is another one than on the log, and too new to judge by"
        raise RpcError(RpcProblem.UNAVAILABLE, text)
    return (
        f"block {state.final_block} is {block.hash}, the log saw {state.final_hash} final: the "
        "chain was reset or reorganised below the final depth, or these nodes serve another one"
    )


class Judging:
    """Judges for one wallet. Keeps nothing."""

    def __init__(self, wallet: str, node: ChainNode, profile: Profile) -> None:
        self._wallet = wallet
        self._node = node
        self._profile = profile

    async def refused_call(
        self, item: RelayRequested, error: RpcError, view: ChainView
    ) -> RelayRefused | None:
        """Why a simulated call failed. Past its deadline, only a final block may say so: until then
        the work waits. Trouble with the node or the wallet is no judgement on the request."""
        if error.problem is not RpcProblem.REVERTED:
            about = {"chain_id": item.chain_id, "wallet": self._wallet, "relay": item.relay}
            log.warning("call not judged yet", **about, reason=str(error))
            return None
        if view.head.timestamp < item.deadline and not await self.reverts_at(item, view.head):
            return None
        return await self._refusal(item, view, error.detail)

    async def reverts_at(self, item: RelayRequested, block: Head) -> bool:
        """True when the call fails on this very block as well. The estimate saw the pending one,
        which may stand beyond the deadline, or hold what a reorganisation takes back."""
        try:
            await self._node.call(Call(self._wallet, item.contract, item.data), block.number)
        except RpcError as error:
            if error.problem is RpcProblem.REVERTED:
                return True
            raise
        return False

    async def settle(self, state: LaneState, view: ChainView) -> list[LaneFact]:
        """What becomes of work that was mined as a failure, final, and of waiting work whose
        deadline has passed in a final block."""
        facts: list[LaneFact] = []
        for failure in state.reverted.values():
            judged = await self._failed(state, failure, view)
            facts += [judged] if judged else []
        for item in state.waiting.values():
            if view.final.timestamp > item.deadline:
                refusal = await self._refusal(item, view, "the deadline has passed")
                facts += [refusal] if refusal else []
        return facts

    async def _failed(self, state: LaneState, failure: Failure, view: ChainView) -> LaneFact | None:
        """A refusal with the reason; or, when only gas was missing, the work anew: its nonce is
        spent at final depth on a failure and the contract says that it is unprocessed."""
        item, final = failure.request, failure.final
        turn = self._profile.turn(item.data)
        detail = await self._revert_reason(item, final.block_number)
        if turn is not None and (detail is not None or not failure.starved):
            return await self._in_order(item, turn, view) or _resumed(item, failure, view)
        if detail is None:
            tries = state.resumed.get(item.relay, 0)
            if failure.starved and tries < RESUMED_AT_MOST and not await self.is_processed(item):
                return _resumed(item, failure, view)
            detail = "mined as a failure; the same call succeeds on the block before it"
            detail += f"; it ran out of gas {tries + 1} times" if failure.starved else ""
        refusal = await self._refusal(item, view, detail)
        if refusal is None and turn is not None:
            refusal = refused(item, RelayRefusal.REVERTED, detail, view)
        return refusal

    async def _revert_reason(self, item: RelayRequested, block_number: int) -> str | None:
        """Simulated on the state before the block that holds the failure; None for a success."""
        try:
            await self._node.call(
                Call(self._wallet, item.contract, item.data), max(0, block_number - 1)
            )
        except RpcError as error:
            if error.problem is RpcProblem.REVERTED:
                return error.detail
            raise
        return None

    async def _refusal(
        self, item: RelayRequested, view: ChainView, detail: str
    ) -> RelayRefused | None:
        turn = self._profile.turn(item.data)
        if turn is not None:
            return await self._in_order(item, turn, view)
        if await (await self._under(view.final)).is_processed(item, view.final.number):
            reason = RelayRefusal.ALREADY_PROCESSED
        elif await self.is_processed(item):
            return None  # a reorganisation may take back what another signer did
        elif view.final.timestamp > item.deadline:
            reason = RelayRefusal.EXPIRED
        elif view.head.timestamp >= item.deadline:
            return None
        else:
            reason = RelayRefusal.REVERTED
        return refused(item, reason, detail, view)

    async def _in_order(
        self, item: RelayRequested, turn: Turn, view: ChainView
    ) -> RelayRefused | None:
        """Where calls need an order, only a final block is asked: a newer one may show the turn of
        another branch. None while the turn has not come there, or the call would pass there."""
        final = view.final
        there = await self._under(final)
        following = await there._following(item, turn, final)
        if await there.is_processed(item, final.number):
            reason, detail = RelayRefusal.ALREADY_PROCESSED, "processed in a final block"
        elif following > turn.nonce:
            reason = RelayRefusal.NONCE_TAKEN
            detail = f"nonce {turn.nonce} of {turn.account} was used by another mint"
        elif final.timestamp > item.deadline:
            reason, detail = RelayRefusal.EXPIRED, "the deadline has passed"
        elif view.head.timestamp >= item.deadline or following < turn.nonce:
            return None
        else:
            told = await there._revert_reason(item, final.number + 1)
            if told is None:
                return None
            reason, detail = RelayRefusal.REVERTED, told
        return refused(item, reason, detail, view)

    async def _under(self, final: Head) -> Judging:
        """By one node alone, that has this very block. Raises UNAVAILABLE for one on another
        branch: that a nonce is used and a request unprocessed proves nothing of two branches."""
        node = self._node.pinned()
        block = await node.block(final.number)
        if block is None or block.hash != final.hash:
            text = f"the node has another block {final.number} than the lane saw, or none"
            raise RpcError(RpcProblem.UNAVAILABLE, text)
        return Judging(self._wallet, node, self._profile)

    async def _following(self, item: RelayRequested, turn: Turn, block: Head) -> int:
        """The account's next approval nonce at this block."""
        data = self._profile.nonces_calldata(turn.account)
        answer = await self._node.call(Call(self._wallet, item.contract, data), block.number)
        return int(answer, 16)

    async def done_before(self, item: RelayRequested, view: ChainView) -> RelayRefused | None:
        """The refusal of work that had a nonce before and that the contract holds for processed;
        None until a final block holds it for that as well."""
        turn = self._profile.turn(item.data)
        if turn is not None:
            return await self._in_order(item, turn, view)
        if not await (await self._under(view.final)).is_processed(item, view.final.number):
            return None
        detail = "an earlier transaction of it was mined after all"
        return refused(item, RelayRefusal.ALREADY_PROCESSED, detail, view)

    async def is_processed(self, item: RelayRequested, block: int | None = None) -> bool:
        answer = await self._node.call(
            Call(self._wallet, item.contract, self._profile.is_processed_calldata(item.request_id)),
            block,
        )
        return int(answer, 16) != 0


def _resumed(item: RelayRequested, failure: Failure, view: ChainView) -> RelayResumed:
    return RelayResumed(
        chain_id=item.chain_id,
        wallet=item.wallet,
        relay=item.relay,
        tx_hash=failure.final.tx_hash,
        block_number=view.final.number,
    )


def refused(
    item: RelayRequested, reason: RelayRefusal, detail: str, view: ChainView | None
) -> RelayRefused:
    """The fact; without a view (a lane that has not seen its chain yet) the block is 0."""
    return RelayRefused(
        chain_id=item.chain_id,
        wallet=item.wallet,
        relay=item.relay,
        reason=reason,
        detail=detail,
        block_number=view.final.number if view else 0,
        block_timestamp=view.final.timestamp if view else 0,
    )
