"""Preparing: from waiting work to exact signed bytes, or to a refusal with its proof."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import ChainView
from orchestrator.core.contract import is_processed_calldata
from orchestrator.core.fees import Fees, quote, with_margin
from orchestrator.core.lanes import LaneState
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, ChainNode, UnsignedTransaction, Wallet
from schemas.lanes import (
    LaneFact,
    RelayRefusal,
    RelayRefused,
    RelayRequested,
    TransactionPrepared,
)

log = structlog.get_logger(__name__)

SIGNED_BETWEEN_BREATHS = 16
"""Signing holds the event loop; after so many others get their turn."""


class Preparing:
    """Prepares for one wallet. Keeps nothing but the last look at the chain, for fees and time."""

    def __init__(
        self, chain: ChainConfig, wallet: Wallet, node: ChainNode, settings: Settings
    ) -> None:
        self._chain = chain
        self._wallet = wallet
        self._node = node
        self._settings = settings
        self._view: ChainView | None = None

    def saw(self, view: ChainView) -> None:
        self._view = view

    async def prepare(self, state: LaneState, work: Sequence[RelayRequested]) -> list[LaneFact]:
        """Each piece of work as a prepared transaction on the next nonces, or as a refusal. What
        cannot be judged now stays out of the answer, and waits.

        Raises RpcError when the chain cannot be asked.
        """
        assert state.next_nonce is not None
        view = self._view
        if view is None:
            return []
        estimates = await self._node.estimate_gas(
            [Call(self._wallet.address, item.contract, item.data) for item in work]
        )
        fees = await self._fees(view)
        facts: list[LaneFact] = []
        nonce = state.next_nonce
        for count, (item, estimate) in enumerate(zip(work, estimates, strict=True), 1):
            if isinstance(estimate, RpcError):
                refusal = await self._judge(item, estimate, view)
                facts += [refusal] if refusal else []
                continue
            facts.append(self._prepared(item, nonce, with_margin(estimate), fees))
            nonce += 1
            if count % SIGNED_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)
        return facts

    async def _fees(self, view: ChainView) -> Fees:
        priority = max(self._settings.priority_fee_wei, await self._node.priority_fee())
        return quote(view.head.base_fee_wei or 0, priority, self._settings.fee_cap_wei)

    def _prepared(
        self, item: RelayRequested, nonce: int, gas_limit: int, fees: Fees
    ) -> TransactionPrepared:
        signed = self._wallet.sign(
            UnsignedTransaction(
                chain_id=item.chain_id,
                nonce=nonce,
                to=item.contract,
                data=item.data,
                gas_limit=gas_limit,
                max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
                max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
            )
        )
        return TransactionPrepared(
            chain_id=item.chain_id,
            wallet=item.wallet,
            nonce=nonce,
            relay=item.relay,
            tx_hash=signed.tx_hash,
            raw=signed.raw,
            gas_limit=gas_limit,
            max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
            max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
        )

    async def _judge(
        self, item: RelayRequested, error: RpcError, view: ChainView
    ) -> RelayRefused | None:
        """Why a simulated call failed. Past its deadline, only a final block may say so: until then
        the work waits. Trouble with the node or the wallet is no judgement on the request."""
        if error.problem is not RpcProblem.REVERTED:
            log.warning("call not judged yet", relay=item.relay, reason=str(error))
            if error.problem is RpcProblem.INSUFFICIENT_FUNDS:
                raise error
            return None
        return await self._refusal(item, view, error.detail)

    async def settle(self, state: LaneState, view: ChainView) -> list[LaneFact]:
        """Refusals for what was mined as a failure, final, and for waiting work whose deadline has
        passed in a final block."""
        facts: list[LaneFact] = []
        for item, final in state.reverted.values():
            detail = await self._revert_reason(item, final.block_number)
            refusal = await self._refusal(item, view, detail)
            facts += [refusal] if refusal else []
        for item in state.waiting.values():
            if view.final.timestamp > item.deadline:
                refusal = await self._refusal(item, view, "the deadline has passed")
                facts += [refusal] if refusal else []
        return facts

    async def _revert_reason(self, item: RelayRequested, block_number: int) -> str:
        """Simulated on the state before the block that holds the failure."""
        try:
            await self._node.call(
                Call(self._wallet.address, item.contract, item.data), max(0, block_number - 1)
            )
        except RpcError as error:
            if error.problem is RpcProblem.REVERTED:
                return error.detail
            raise
        return "mined as a failure; the same call succeeds on the block before it"

    async def _refusal(
        self, item: RelayRequested, view: ChainView, detail: str
    ) -> RelayRefused | None:
        if await self._is_processed(item):
            reason = RelayRefusal.ALREADY_PROCESSED
        elif view.final.timestamp > item.deadline:
            if await self._is_processed(item, view.final.number):
                return None
            reason = RelayRefusal.EXPIRED
        elif view.head.timestamp >= item.deadline:
            return None
        else:
            reason = RelayRefusal.REVERTED
        return RelayRefused(
            chain_id=item.chain_id,
            wallet=item.wallet,
            relay=item.relay,
            reason=reason,
            detail=detail,
            block_number=view.final.number,
            block_timestamp=view.final.timestamp,
        )

    async def _is_processed(self, item: RelayRequested, block: int | None = None) -> bool:
        answer = await self._node.call(
            Call(self._wallet.address, item.contract, is_processed_calldata(item.request_id)),
            block,
        )
        return int(answer, 16) != 0
