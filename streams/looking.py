"""Looking: what one lane needs to know of its chain, in one round trip."""

from __future__ import annotations

import asyncio

from orchestrator.core.chain import ChainView, Head, Receipt
from orchestrator.core.lane_views import in_question, lags
from orchestrator.core.lanes import LaneState
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import ChainNode
from streams.fitness import Funds

HEADERS_AT_ONCE = 100
"""Of a wider span receipts are asked for one by one instead."""


async def head_and_balance(node: ChainNode, wallet: str, funds: Funds) -> Head:
    """The balance too, when it is time to ask for it."""
    if not funds.due():
        return await node.head()
    head = await node.head()
    funds.saw(await node.balance(wallet))
    return head


async def seen_at(node: ChainNode, state: LaneState, head: Head, confirmations: int) -> ChainView:
    """The chain as this lane sees it under `head`, which the same node has told.

    Receipts are asked for once, and again when the block that held one is no longer the chain's:
    a header tells that of all transactions of its block at once."""
    number = max(0, head.number - confirmations)
    (final, standing), nonce, final_nonce = await asyncio.gather(
        _final_and_standing(node, state, number, head.number),
        node.transaction_count(state.wallet),
        node.transaction_count(state.wallet, number),
    )
    if final is None:
        raise RpcError(RpcProblem.UNAVAILABLE, f"the node has no block {number} yet")
    hashes = in_question(state, nonce, standing)
    receipts = await node.receipts(hashes) if hashes else []
    found = standing | dict(zip(hashes, receipts, strict=True))
    return ChainView(head, final, nonce, final_nonce, found)


async def _final_and_standing(
    node: ChainNode, state: LaneState, final: int, head: int
) -> tuple[Head | None, dict[str, Receipt | None]]:
    """The final block, and by hash the receipts that the log holds of blocks that are the chain's
    still; none where those blocks are many (a lane that catches up)."""
    inclusions = [slot.inclusion for slot in state.slots.values() if slot.inclusion is not None]
    numbers = {held.block_number for held in inclusions if held.block_number <= head} | {final}
    if numbers == {final} or max(numbers) - min(numbers) >= HEADERS_AT_ONCE:
        return await node.block(final), {}
    heads = {block.number: block for block in await node.headers(min(numbers), max(numbers))}
    hashes = {block.hash for block in heads.values()}
    standing: dict[str, Receipt | None] = {
        held.tx_hash: Receipt(
            held.tx_hash, held.block_number, held.block_hash, held.succeeded, held.gas_used
        )
        for held in inclusions
        if held.block_hash in hashes
    }
    return heads[final], standing


def behind(state: LaneState, view: ChainView | None) -> str | None:
    """Why nothing may be concluded from the node, if so."""
    if view is None or not lags(state, view):
        return None
    return (
        f"the node is at block {view.head.number}, the log has seen block {state.final_block} "
        "final: it lags, or serves another chain"
    )
