"""A chain as an auditor asks it: transactions by hash, as the chain itself has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.core.auditing.lanes import Mined
from orchestrator.errors import RpcError, RpcProblem


class HistoryNode(EvmNode):
    """`auditing.reading.AuditedChain`."""

    async def transactions(self, tx_hashes: Sequence[str]) -> list[Mined | None]:
        """None for what no block of the node has. Raises RpcError when any could not be asked: an
        error must not look like an absent transaction."""
        answers = await self._endpoints.many(
            [("eth_getTransactionByHash", [tx_hash]) for tx_hash in tx_hashes]
        )
        return [_mined(tx_hash, got) for tx_hash, got in zip(tx_hashes, answers, strict=True)]


def _mined(tx_hash: str, answer: Any) -> Mined | None:
    if isinstance(answer, RpcError):
        raise answer
    if answer is None or answer.get("blockHash") is None:
        return None
    try:
        found = Mined(
            tx_hash=str(answer["hash"]).lower(),
            sender=str(answer["from"]),
            nonce=int(answer["nonce"], 16),
            block_number=int(answer["blockNumber"], 16),
            block_hash=str(answer["blockHash"]).lower(),
        )
    except (KeyError, TypeError, ValueError) as error:
        text = f"the node's transaction is misshapen ({type(error).__name__})"
        raise RpcError(RpcProblem.UNEXPECTED, text) from None
    if found.tx_hash != tx_hash.lower():
        text = f"asked for transaction {tx_hash}, got {found.tx_hash}"
        raise RpcError(RpcProblem.UNEXPECTED, text)
    return found
