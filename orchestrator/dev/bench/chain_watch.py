"""What a chain took in, block by block, as seen from outside."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from orchestrator.dev.chains import Chain
from orchestrator.dev.http_client import rpc

_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Block:
    """`at_seconds` is when it was first seen, on the monotonic clock."""

    number: int
    transactions: int
    at_seconds: float


def rate_of(blocks: list[Block]) -> float:
    """Transactions a second, from the first block that holds any to the last but one, whichever end
    of the two last blocks shows more: the last block is rarely full."""
    full = [block for block in blocks if block.transactions]
    if len(full) < 2:
        return 0.0
    rates = []
    for end in (len(full) - 1, len(full) - 2):
        if end >= 1:
            count = sum(block.transactions for block in full[1 : end + 1])
            rates.append(count / (full[end].at_seconds - full[0].at_seconds))
    return max(rates)


class ChainWatch:
    """Counts transactions in new blocks from `start` on; nobody else may use the chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.blocks: list[Block] = []

    async def start(self) -> None:
        number = await self._chain.block_number()
        self.blocks = [Block(number, 0, time.monotonic())]

    @property
    def count(self) -> int:
        return sum(block.transactions for block in self.blocks)

    @property
    def rate(self) -> float:
        return rate_of(self.blocks)

    async def until(self, count: int, patience_seconds: float = 120) -> None:
        """Until so many transactions are in blocks. Raises TimeoutError when nothing more comes for
        so long."""
        changed = time.monotonic()
        while self.count < count:
            before = self.count
            await self._look()
            if self.count > before:
                changed = time.monotonic()
            if time.monotonic() - changed > patience_seconds:
                raise TimeoutError(f"{self.count} of {count} transactions are in blocks")
            await asyncio.sleep(_EVERY_SECONDS)

    async def _look(self) -> None:
        newest = await self._chain.block_number()
        now = time.monotonic()
        for number in range(self.blocks[-1].number + 1, newest + 1):
            count = await asyncio.to_thread(
                rpc,
                self._chain.rpc_url,
                "eth_getBlockTransactionCountByNumber",
                hex(number),
            )
            self.blocks.append(Block(number, int(count, 16), now))
