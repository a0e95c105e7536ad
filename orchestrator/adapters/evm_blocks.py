"""Whole blocks, as certificates need them: header, transactions and receipts of one block hash."""

from __future__ import annotations

from typing import Any

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.errors import RpcError, RpcProblem


class BlockNode(EvmNode):
    """`ports.BlockSource`. What it answers is not judged here: a certificate is, as a whole."""

    async def whole_block(self, block_hash: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """eth_getBlockByHash with whole transactions, and the receipts of the block: by
        eth_getBlockReceipts, or one by one where a node does not know that. Raises RpcError."""
        block = await self._endpoints.one("eth_getBlockByHash", block_hash, True)
        if not isinstance(block, dict):
            raise RpcError(RpcProblem.UNAVAILABLE, f"no node has block {block_hash}")
        try:
            receipts = await self._endpoints.one("eth_getBlockReceipts", block_hash)
        except RpcError:
            receipts = None
        if isinstance(receipts, list) and all(_is_of(one, block_hash) for one in receipts):
            return block, receipts
        hashes = [one.get("hash") for one in block.get("transactions") or []]
        found = await self._endpoints.many(
            [("eth_getTransactionReceipt", [tx_hash]) for tx_hash in hashes]
        )
        for answer in found:
            if isinstance(answer, RpcError):
                raise answer
            if not _is_of(answer, block_hash):
                text = f"no node has all receipts of block {block_hash}"
                raise RpcError(RpcProblem.UNAVAILABLE, text)
        return block, found

    async def block_hash(self, number: int) -> str | None:
        """What the chain has at this height; None when no node has it."""
        block = await self.block(number)
        return None if block is None else block.hash


def _is_of(receipt: Any, block_hash: str) -> bool:
    return isinstance(receipt, dict) and str(receipt.get("blockHash")).lower() == block_hash
