"""Asking a chain for its supply, beside what the follower appends of its events.

A call a minute and chain (`SUPPLY_COMPARE_SECONDS`), whatever the load: `totalSupply` at the
follower's cursor, which is final and has all its events on the log. What differs from the log's
events is searched at once, by halving between the newest block that agreed and the one that does
not, then by the transfers of that block. Nodes that keep no state of past blocks leave a span in
which it lies, and its transfers may still tell the transaction.

Trouble with nodes never holds up the following: it is told, and tried again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from orchestrator.config import ChainConfig
from orchestrator.core.chain import Head
from orchestrator.core.hashing import keccak
from orchestrator.core.supply import (
    MOST_QUESTIONS,
    Difference,
    Floor,
    Move,
    Search,
    SupplyBook,
    first_otherwise,
)
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, ChainNode, Log
from schemas.base import Fact
from schemas.evm import SupplyCompared, SupplyTraced

log = structlog.get_logger(__name__)

TOTAL_SUPPLY = "0x" + keccak(b"totalSupply()")[:4].hex()
"""ERC-20 (EIP-20)."""
TRANSFER = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
"""EIP-20: from and to are indexed; a mint comes from the zero address, a burn goes to it."""
NOBODY = "0x" + "0" * 64
ATTEMPTS = 3
"""So often a block's state is asked for before nodes count as not keeping it."""
LOOK_SECONDS = 20.0
SEARCH_SECONDS = 60.0
"""Then the follower goes on, and tries again later."""
TRIES = 3
"""So often a search is begun; then the log says that it was given up."""
WIDEST_SPAN = 5_000
"""Blocks whose transfers are asked for, where no state tells more closely."""


class SupplyWatch:
    """Its `book` folds the chain's records as they stand on the log. For health and metrics:
    `problem` says why nothing could be compared lately, None when it could."""

    def __init__(self, chain: ChainConfig, node: ChainNode, every_seconds: float) -> None:
        self.book = SupplyBook()
        self.problem: str | None = None
        self._chain = chain
        self._node = node
        self._every = every_seconds
        self._not_before = float("-inf")
        self._tries = 0
        self._asked_for_baseline = False
        self._log = log.bind(chain_id=chain.chain_id)

    def start_anew(self) -> None:
        """The log is read again from its start."""
        self.book = SupplyBook()

    async def look(self, branch: ChainNode, cursor: Head) -> list[Fact]:
        """What is to be appended of the supply, with `cursor` marked before it. `branch` is the one
        node that showed the cursor."""
        if not self._is_due(cursor):
            return []
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                baseline = await self._baseline()
                found = await self._compared(branch, cursor)
        except (RpcError, TimeoutError) as error:
            self._troubled(f"the supply cannot be compared: {error or 'no answer in time'}")
            return []
        self.problem = None
        return [*baseline, found]

    def _is_due(self, cursor: Head) -> bool:
        if asyncio.get_running_loop().time() < self._not_before:
            return False
        newest = self.book.compared
        return newest is None or cursor.timestamp - newest.block_timestamp >= self._every

    def _troubled(self, why: str) -> None:
        self._not_before = asyncio.get_running_loop().time() + min(self._every, 10.0)
        if self.problem is None:
            self._log.warning("supply not compared", reason=why)
        self.problem = why

    async def _compared(self, branch: ChainNode, cursor: Head) -> SupplyCompared:
        """The block is looked at once more: the answer is that of the block that was marked."""
        total = await self._ask(branch, cursor.number)
        block = await branch.block(cursor.number)
        if block is None or block.hash != cursor.hash:
            text = f"block {cursor.number} was replaced while its supply was asked for"
            raise RpcError(RpcProblem.UNAVAILABLE, text)
        if total is None:
            text = f"{self._chain.contract} is no contract in block {cursor.number}"
            raise RpcError(RpcProblem.UNEXPECTED, text)
        return self._fact(cursor, total, self.book.by_events)

    def _fact(
        self, block: Head, total: int, by_events: int, *, baseline: bool = False
    ) -> SupplyCompared:
        return SupplyCompared(
            chain_id=self._chain.chain_id,
            contract=self._chain.contract,
            block_number=block.number,
            block_hash=block.hash,
            block_timestamp=block.timestamp,
            total_supply=total,
            by_events=by_events,
            baseline=baseline,
        )

    async def _ask(self, node: ChainNode, number: int) -> int | None:
        """None where no contract stands in that block. Raises RpcError."""
        contract = self._chain.contract
        answer = await node.call(Call(contract, contract, TOTAL_SUPPLY), number)
        if answer == "0x":
            return None
        if len(answer) != 66:
            raise RpcError(RpcProblem.UNEXPECTED, "totalSupply answered no uint256")
        return int(answer, 16)

    async def _state(self, number: int, newest: int) -> int | None:
        """`totalSupply` in a past block; None where nodes keep no such state, while they do tell
        that of `newest`. Raises RpcError for trouble that passes."""
        for _ in range(ATTEMPTS):
            with suppress(RpcError):
                return await self._ask(self._node, number) or 0
        await self._ask(self._node, newest)
        return None

    async def _baseline(self) -> list[Fact]:
        """What was there before the first followed block, once, where a node can still tell."""
        before = self._chain.start_block - 1
        if before < 0 or self.book.compared is not None or self._asked_for_baseline:
            return []
        block, newest = await self._node.block(before), await self._node.head()
        total = None if block is None else await self._state(before, newest.number)
        self._asked_for_baseline = True
        if block is None or total is None:
            self._log.warning(
                "no node keeps the state of the block before the first that is followed: what the "
                "contract had by then counts as a difference that a person settles",
                block=before,
            )
            return []
        self._log.info("supply before the first followed block", block=before, supply=total)
        return [self._fact(block, total, 0, baseline=True)]

    # Searching

    async def trace(self) -> list[Fact]:
        """Where the open difference began; nothing where there is none, or none could be asked."""
        difference = self.book.open
        if difference is None or asyncio.get_running_loop().time() < self._not_before:
            return []
        self._tries += 1
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                found = await self._search(difference)
        except (RpcError, TimeoutError) as error:
            why = f"where the supply began to differ cannot be searched: {error or 'no answer'}"
            self._troubled(why)
            if self._tries < TRIES:
                return []
            found = self._traced(difference, 0, f"{why} (given up after {TRIES} tries)")
        self._tries = 0
        self._log.error("the supply differs from the log", reason=difference.why, **_named(found))
        return [found]

    def _traced(self, difference: Difference, questions: int, detail: str) -> SupplyTraced:
        return SupplyTraced(
            chain_id=self._chain.chain_id,
            compared=difference.compared.id,
            questions=questions,
            detail=detail[:1000],
        )

    async def _search(self, difference: Difference) -> SupplyTraced:
        newest = difference.compared.block_number
        search = Search(difference, difference.floor or Floor(self._chain.start_block - 1, False))
        while (number := search.next) is not None:
            self._log.info(
                "searching where the supply began to differ",
                block=number,
                agrees=search.agrees,
                differs=search.differs,
                questions=search.questions,
                at_most=MOST_QUESTIONS,
            )
            search.answer(0 if number < 0 else await self._state(number, newest))
        if search.earlier:
            text = f"It was so in block {search.differs} already, before what the log follows"
            return self._traced(difference, search.questions, text)
        if search.exact:
            return await self._in_block(difference, search)
        return await self._in_span(difference, search)

    async def _in_block(self, difference: Difference, search: Search) -> SupplyTraced:
        number = search.differs
        block = await self._node.block(number)
        found = await self._otherwise(difference, number, number)
        questions = search.questions + 2
        text = f"It began in block {number}" + (f" ({block.hash})" if block else "")
        traced = self._traced(difference, questions, f"{text}, {_said(found)}")
        return traced.model_copy(
            update={
                "block_number": number,
                "block_hash": block.hash if block else None,
                "tx_hash": found[0] if found else None,
            }
        )

    async def _in_span(self, difference: Difference, search: Search) -> SupplyTraced:
        """Nodes keep no state below `differs`."""
        last, sure = search.differs, search.agrees is not None
        first = max(0, (search.floor if search.agrees is None else search.agrees) + 1)
        before = "" if sure else " or before"
        text = f"It began in blocks {first} to {last}{before}, whose states no node keeps"
        if last - first >= WIDEST_SPAN:
            detail = f"{text}; too many to look through their transfers"
            return self._traced(difference, search.questions, detail)
        found = await self._otherwise(difference, first, last)
        traced = self._traced(difference, search.questions + 1, f"{text}; {_said(found)}")
        return traced.model_copy(update={"tx_hash": found[0] if found else None})

    async def _otherwise(
        self, difference: Difference, first: int, last: int
    ) -> tuple[str, int, int] | None:
        logs = await self._node.logs(self._chain.contract, [TRANSFER], first, last)
        moves = [move for entry in logs if (move := _move(entry)) is not None]
        return first_otherwise(moves, difference.by_transaction(first, last))


def _move(entry: Log) -> Move | None:
    if len(entry.topics) != 3 or len(entry.data) != 66:
        return None
    sign = (entry.topics[1] == NOBODY) - (entry.topics[2] == NOBODY)
    if not sign:
        return None
    amount = sign * int(entry.data, 16)
    return Move(entry.block_number, entry.log_index, entry.tx_hash, amount)


def _said(found: tuple[str, int, int] | None) -> str:
    if found is None:
        return "and no transfer there explains it"
    tx_hash, moved, told = found
    return (
        f"transaction {tx_hash}: it changed the supply by {moved}, and the log's events by {told}"
    )


def _named(found: Fact) -> dict[str, object]:
    return {
        name: value
        for name in ("block_number", "tx_hash", "questions", "detail")
        if (value := getattr(found, name)) is not None
    }
