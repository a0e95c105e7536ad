"""Looking: what one lane needs to know of its chain, in one round trip."""

from __future__ import annotations

import asyncio

from orchestrator.core.chain import ChainView, Head
from orchestrator.core.lane_views import in_question, lags
from orchestrator.core.lanes import LaneState
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import ChainNode
from streams.fitness import Funds


async def head_and_balance(node: ChainNode, wallet: str, funds: Funds) -> Head:
    """The balance too, when it is time to ask for it."""
    if not funds.due():
        return await node.head()
    head = await node.head()
    funds.saw(await node.balance(wallet))
    return head


async def seen_at(node: ChainNode, state: LaneState, head: Head, confirmations: int) -> ChainView:
    """The chain as this lane sees it under `head`, which the same node has told."""
    number = max(0, head.number - confirmations)
    final, nonce, final_nonce = await asyncio.gather(
        node.block(number),
        node.transaction_count(state.wallet),
        node.transaction_count(state.wallet, number),
    )
    if final is None:
        raise RpcError(RpcProblem.UNAVAILABLE, f"the node has no block {number} yet")
    hashes = in_question(state, nonce)
    receipts = await node.receipts(hashes) if hashes else []
    return ChainView(head, final, nonce, final_nonce, dict(zip(hashes, receipts, strict=True)))


def behind(state: LaneState, view: ChainView | None) -> str | None:
    """Why nothing may be concluded from the node, if so."""
    if view is None or not lags(state, view):
        return None
    return (
        f"the node is at block {view.head.number}, the log has seen block {state.final_block} "
        "final: it lags, or serves another chain"
    )
