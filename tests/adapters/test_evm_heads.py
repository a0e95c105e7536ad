"""A URL that stands still while others go on is asked after them; and pins answer from one URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.adapters import evm_heads
from orchestrator.adapters.evm_heads import SET_BACK_AFTER, TRUSTED_AFTER
from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.errors import RpcError
from orchestrator.ports import Call

from .fake_node import ADDRESS, FakeNode, answering, block, good_node, node_over

SOON_SECONDS = 0.02
PATIENCE_SECONDS = 60


def standing(number: int, balance: str) -> FakeNode:
    """A node with a head to be moved by `heads`, told apart by what it says of a balance."""
    node = good_node(eth_getBalance=lambda address, tag: balance)
    _show(node, number)
    return node


def _show(node: FakeNode, number: int) -> None:
    node.methods["eth_getBlockByNumber"] = lambda tag, full: block(number)


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[EvmNode, FakeNode, FakeNode]]:
    first, second = standing(100, "0x10"), standing(100, "0x20")
    async with node_over(first, second) as node:
        await node.check_chain()
        yield node, first, second


async def compared(node: EvmNode, *shown: tuple[FakeNode, int]) -> None:
    for fake, number in shown:
        _show(fake, number)
    await node._endpoints.heads.compare()


async def test_a_preferred_node_that_stands_still_is_asked_after_the_others() -> None:
    async with two_nodes() as (node, _, second):
        pinned = node.pinned()
        assert await pinned.balance(ADDRESS) == 0x10
        with capture_logs() as logs:
            for height in range(101, 102 + SET_BACK_AFTER):
                assert await node.balance(ADDRESS) == 0x10
                await compared(node, (second, height))
        assert await node.balance(ADDRESS) == 0x20
        assert await node.pinned().balance(ADDRESS) == 0x20
        assert await pinned.balance(ADDRESS) == 0x10, "what is pinned stays with its node"
        [sight, ahead] = node.sights
        assert sight.set_back and sight.block == 100 and not ahead.set_back
        [entry] = [entry for entry in logs if entry["log_level"] == "warning"]
        assert entry["node"] == sight.name and (entry["block"], entry["others"]) == (100, 102)
        second.answer = answering(503, "")
        assert await node.balance(ADDRESS) == 0x10, "still better than nothing"


async def test_it_has_to_keep_pace_for_a_while_to_be_preferred_again() -> None:
    async with two_nodes() as (node, first, second):
        for height in range(101, 102 + SET_BACK_AFTER):
            await compared(node, (second, height))
        for height in range(200, 200 + TRUSTED_AFTER):
            assert await node.balance(ADDRESS) == 0x20
            await compared(node, (first, height), (second, height))
        assert await node.balance(ADDRESS) == 0x10
        assert not any(sight.set_back for sight in node.sights)


async def test_a_block_or_a_moment_behind_is_no_reason() -> None:
    """It has what the other had at the comparison before; and one miss alone does not count."""
    async with two_nodes() as (node, first, second):
        for height in range(101, 120):
            await compared(node, (first, height - 1), (second, height))
            assert await node.balance(ADDRESS) == 0x10
        for height in range(130, 200, 10):
            await compared(node, (second, height))
            await compared(node, (first, height), (second, height))
            assert await node.balance(ADDRESS) == 0x10


async def test_who_does_not_answer_is_no_reference_and_is_not_judged() -> None:
    async with two_nodes() as (node, _, second):
        await compared(node, (second, 500))
        second.answer = answering(503, "")
        for _ in range(4):
            await node._endpoints.heads.compare()
        [sight, silent] = node.sights
        assert not sight.set_back and silent.block is None
        assert not silent.set_back


async def test_all_that_stand_still_and_one_alone_are_not_set_back() -> None:
    async with two_nodes() as (node, _, _):
        for _ in range(5):
            await node._endpoints.heads.compare()
        assert not any(sight.set_back for sight in node.sights)
    alone = standing(7, "0x10")
    async with node_over(alone) as node:
        for _ in range(5):
            await node._endpoints.heads.compare()
        [sight] = node.sights
        assert (sight.block, sight.timestamp, sight.set_back) == (7, sight.timestamp, False)
        assert sight.timestamp is not None, "its age tells"


@pytest.mark.parametrize("odd", [None, "text", {}, {"number": 7}, {"number": "0x", "timestamp": 1}])
async def test_an_odd_head_is_none(odd: Any) -> None:
    async with two_nodes() as (node, first, _):
        first.methods["eth_getBlockByNumber"] = lambda tag, full: odd
        await node._endpoints.heads.compare()
        assert [sight.block for sight in node.sights] == [None, 100]


async def test_it_is_noticed_beside_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not per question: one comparison at a time, and the next one only after its time."""
    async with two_nodes() as (node, first, second):
        for _ in range(20):
            await node.balance(ADDRESS)
        assert "eth_getBlockByNumber" not in first.calls
        monkeypatch.setattr(evm_heads, "COMPARE_EVERY_SECONDS", SOON_SECONDS)
        height = 100
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await node.balance(ADDRESS) == 0x10:
                height += 1
                _show(second, height)
                await asyncio.sleep(SOON_SECONDS)
        assert node.sights[0].set_back


async def test_what_is_pinned_by_blocks_is_answered_by_the_node_that_had_them() -> None:
    """The first URL answers, but lacks a block: the second is bound, not it."""
    first = good_node(eth_getBlockByNumber=lambda tag, full: None)
    second = good_node(
        eth_getBlockByNumber=lambda tag, full: block(5),
        eth_getBalance=lambda address, tag: "0x20",
    )
    async with node_over(first, second) as node:
        pinned = node.pinned()
        assert [head.number for head in await pinned.headers(5, 5)] == [5]
        assert await pinned.balance(ADDRESS) == 0x20
        assert await node.balance(ADDRESS) == 0x10


async def test_one_batch_of_a_pin_is_not_put_together_from_two_nodes() -> None:
    limited = {"error": {"code": -32005, "message": "rate limit"}}
    first = good_node(
        eth_estimateGas=lambda call, tag: limited if call["data"] == "0x2" else "0x11"
    )
    second = good_node(eth_estimateGas=lambda call, tag: "0x22")
    calls = [Call(ADDRESS, ADDRESS, hex(number)) for number in (1, 2, 3)]
    async with node_over(first, second) as node:
        found = await node.pinned().estimate_gas(calls)
        assert [one for one in found if not isinstance(one, RpcError)] == [0x11, 0x11]
        assert await node.pinned().estimate_gas(calls) == [0x22] * 3, "left halfway: not it again"


async def test_what_is_asked_of_a_new_pin_at_once_is_answered_by_one_node() -> None:
    """Each by itself would have gone its own way: one URL answers the second question only."""
    first, second = good_node(), good_node(eth_getBalance=lambda address, tag: "0x20")
    down = {"error": {"code": -32603, "message": "internal error"}}
    for fake, price in ((first, down), (second, "0x2")):
        fake.methods["eth_gasPrice"] = lambda price=price: price
    async with node_over(first, second) as node:
        await node.check_chain()
        pinned = node.pinned()
        price, balance = await asyncio.gather(pinned.gas_price(), pinned.balance(ADDRESS))
        assert (price, balance) == (2, 0x20)
