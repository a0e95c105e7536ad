"""A working model of a chain's nodes as a process sees them (`ports.ChainNode`): several nodes,
some of them behind, that fail over, lose requests and lose answers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.core.chain import Head, Receipt
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, Log
from tests.simulation.aiming import Errand
from tests.simulation.chain import GWEI, Chain, View, read_transaction
from tests.simulation.contract import GAS_OF, Reverted
from tests.simulation.registry import REGISTRY
from tests.simulation.wire import Wire

T = TypeVar("T")


@dataclass
class Manners:
    """How a chain's nodes behave, as probabilities per call, while the weather is bad."""

    lags: float = 0.0
    furthest_lag: int = 8
    rate_limited: float = 0.0
    down: bool = False
    contradict: bool = False
    """Each call may be answered by another node; else a node is left only at the next `head`."""


class SimulatedNode:
    """One process's access to one chain. `on_bytes` sees each raw transaction as a node does."""

    def __init__(
        self, chain: Chain, wire: Wire, manners: Manners, on_bytes: Callable[[str], None]
    ) -> None:
        self.chain_id = chain.chain_id
        self._chain = chain
        self._wire = wire
        self._manners = manners
        self._on_bytes = on_bytes
        self.on_start: Callable[[str], None] = lambda _: None
        """Sees each raw transaction when the process sends it; on the way it may be late."""
        self._lag = 0
        self._pinned = False

    def pinned(self) -> SimulatedNode:
        self._fail_over()
        twin = copy.copy(self)
        twin._pinned = True
        return twin

    def _fail_over(self) -> None:
        if not self._pinned and self._wire.chance(0.25):
            lags = self._wire.chance(self._manners.lags)
            self._lag = self._wire.rng.randint(1, self._manners.furthest_lag) if lags else 0

    def _view(self) -> View:
        """What the node that answers this call shows."""
        if not self._wire.weather.bad or not self._manners.lags:
            return self._chain.view
        if self._manners.contradict:
            self._fail_over()
        return self._chain.seen[max(0, len(self._chain.seen) - 1 - self._lag)]

    async def _ask(self, act: Callable[[View], T], verb: str = "ask a node") -> T:
        def answered() -> T:
            if self._manners.down:
                raise RpcError(RpcProblem.UNAVAILABLE, "connection refused")
            if self._wire.chance(self._manners.rate_limited):
                raise RpcError(RpcProblem.RATE_LIMITED, "too many requests")
            return act(self._view())

        return await self._wire.exchange(
            answered,
            lambda: RpcError(RpcProblem.UNAVAILABLE, "no answer in time"),
            errand=Errand(verb),
        )

    async def check_chain(self) -> None:
        await self._ask(lambda view: None)

    async def head(self) -> Head:
        self._fail_over()
        return await self._ask(lambda view: view.tip.head)

    async def block(self, number: int) -> Head | None:
        def found(view: View) -> Head | None:
            block = view.block(number)
            return None if block is None else block.head

        return await self._ask(found)

    async def headers(self, first: int, last: int) -> list[Head]:
        def found(view: View) -> list[Head]:
            if view.block(last) is None:
                raise RpcError(RpcProblem.UNAVAILABLE, f"no block {last} yet")
            return [view.branch[number].head for number in range(first, last + 1)]

        return await self._ask(found)

    async def has_block(self, number: int, block_hash: str) -> bool:
        """Every node is asked: one that lags on another branch does not decide."""

        def found(_: View) -> bool:
            views = [*self._chain.seen[-self._manners.furthest_lag :]]
            blocks = [block for view in views if (block := view.block(number)) is not None]
            if not blocks:
                raise RpcError(RpcProblem.UNAVAILABLE, f"no block {number} yet")
            return any(block.head.hash == block_hash for block in blocks)

        return await self._ask(found)

    async def logs_by_receipts(
        self, contract: str, topics: Sequence[str], block: Head
    ) -> list[Log]:
        def found(view: View) -> list[Log]:
            held = view.block(block.number)
            if held is None or held.head.hash != block.hash:
                raise RpcError(RpcProblem.UNAVAILABLE, "another block stands there")
            return [log for log in held.logs if log.topics[0] in topics]

        return await self._ask(found)

    async def logs(
        self, contract: str, topics: Sequence[str], first: int, last: int, *, again: int = 0
    ) -> list[Log]:
        def found(view: View) -> list[Log]:
            if view.block(last) is None:
                raise RpcError(RpcProblem.UNAVAILABLE, f"no block {last} yet")
            return [
                log
                for number in range(first, last + 1)
                for log in view.branch[number].logs
                if log.address == contract and log.topics[0] in topics
            ]

        return await self._ask(found)

    async def transaction_count(self, address: str, block: int | None = None) -> int:
        def count(view: View) -> int:
            at = view.tip if block is None else view.block(block)
            if at is None:
                raise RpcError(RpcProblem.UNAVAILABLE, f"no block {block} yet")
            return at.state.nonces.get(address, 0)

        return await self._ask(count)

    async def estimate_gas(self, calls: Sequence[Call]) -> list[int | RpcError]:
        if not calls:
            return []
        return await self._ask(lambda view: self._estimates(calls))

    def _estimates(self, calls: Sequence[Call]) -> list[int | RpcError]:
        state, stamp = self._chain.pending()
        answers: list[int | RpcError] = []
        for call in calls:
            try:
                self._chain.contract.execute(state.copy(), call.sender, call.data, stamp)
                answers.append(GAS_OF[call.data[:10]] + 3_000)
            except Reverted as reason:
                answers.append(RpcError(RpcProblem.REVERTED, str(reason)))
        return answers

    async def send_raw(self, raws: Sequence[str]) -> list[str | RpcError]:
        if not raws:
            return []

        def take(view: View) -> list[str | RpcError]:
            answers: list[str | RpcError] = []
            for raw in raws:
                self._on_bytes(raw)
                try:
                    answers.append(self._chain.submit(read_transaction(raw)))
                except RpcError as error:
                    answers.append(error)
            return answers

        for raw in raws:
            self.on_start(raw)
        try:
            return await self._ask(take, "broadcast")
        except RpcError as error:
            return [error for _ in raws]

    async def receipts(self, tx_hashes: Sequence[str]) -> list[Receipt | None]:
        if not tx_hashes:
            return []

        def found(view: View) -> list[Receipt | None]:
            return [self._receipt(view, tx_hash) for tx_hash in tx_hashes]

        return await self._ask(found)

    def _receipt(self, view: View, tx_hash: str) -> Receipt | None:
        for block in self._chain.where.get(tx_hash, ()):
            if view.block(block.head.number) is block:
                return block.receipts[tx_hash]
        return None

    async def call(self, call: Call, block: int | None = None) -> str:
        def answer(view: View) -> str:
            at = view.tip if block is None else view.block(block)
            if at is None:
                raise RpcError(RpcProblem.UNAVAILABLE, f"no block {block} yet")
            if call.to == REGISTRY:
                return self._chain.registry.answer(call.data)
            if self._chain.contract.is_view(call.data):
                return self._chain.contract.view(at.state, call.data)
            try:
                self._chain.contract.execute(
                    at.state.copy(), call.sender, call.data, at.head.timestamp
                )
            except Reverted as reason:
                raise RpcError(RpcProblem.REVERTED, str(reason)) from None
            return "0x"

        return await self._ask(answer)

    async def priority_fee(self) -> int:
        return await self._ask(lambda view: GWEI)

    async def balance(self, address: str) -> int:
        return await self._ask(lambda view: self._chain.funds.get(address, 0))

    async def close(self) -> None:
        pass
