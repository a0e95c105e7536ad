"""What the doctor finds of a contract's supply, on a node's answers."""

from __future__ import annotations

import pytest

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.commands.checks import State, _contract
from orchestrator.config import ChainConfig
from orchestrator.core.chain import Head
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call

CONTRACT = "0x" + "11" * 20
CHAIN = ChainConfig(5920, ("http://node.example",), CONTRACT, (), confirmations=200, start_block=0)


class Node(EvmNode):
    def __init__(self, height: int, kept: int) -> None:
        super().__init__(5920, CHAIN.rpc_urls)
        self.height, self.kept = height, kept
        self.asked: list[int | None] = []

    async def head(self) -> Head:
        return Head(self.height, "0x1", "0x0", 0, 0)

    async def call(self, call: Call, block: int | None = None) -> str:
        self.asked.append(block)
        if block is not None and block < self.height - self.kept:
            raise RpcError(RpcProblem.UNAVAILABLE, "missing trie node")
        return f"0x{7:064x}"


@pytest.mark.parametrize(
    ("height", "kept", "state"),
    [(1000, 128, State.WARNING), (1000, 300, State.WELL), (100, 128, State.WELL)],
)
async def test_states_that_no_comparison_can_be_made_of_are_told(height, kept, state):
    node = Node(height, kept)
    found = await _contract(CHAIN, node)
    assert node.asked == [None, max(0, height - 200)]
    assert found.state is state and "total supply 7 base units" in found.detail
    assert ("missing trie node" in found.detail) is (state is State.WARNING)
    await node.close()
