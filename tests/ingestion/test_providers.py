"""Several providers over HTTP that limit, lag, lie, leave out and die, under the real `EvmNode`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.core.bloom import bloom_of, masks_of, may_hold
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Log
from schemas.evm import ChainHalted, EventRetracted
from streams.following import ChainFollower
from streams.range_reading import RangeReader
from tests.adapters.fake_node import FakeNode, serving_node

from .models import CONTRACT, SETTINGS, STRANGER, TOPICS, FakeChain, MemoryLog, config, until


class Provider(FakeNode):
    """One URL over a chain. `chain` may be swapped; `mood` says how it misbehaves now."""

    def __init__(self, chain: FakeChain, mood: Callable[[], str] = lambda: "") -> None:
        super().__init__()
        self.chain = chain
        self.mood = mood
        self.behind = 0
        self.methods |= {
            "eth_chainId": lambda: "0x1" if self.mood() == "other" else "0x1720",
            "eth_getBlockByNumber": self.block,
            "eth_getLogs": self.logs,
            "eth_getBlockReceipts": self.receipts,
        }

    def block(self, tag: str, _full: bool) -> Any:
        height = self.chain.height - self.behind
        number = height if tag == "latest" else int(tag, 16)
        mood = self.mood()
        if mood == "down" or (mood == "head only" and tag != "latest"):
            return {"error": {"code": -32603, "message": "internal error"}}
        if not 0 <= number <= height:
            return None
        head = self.chain.blocks[number].head
        return {
            "number": hex(number),
            "hash": head.hash,
            "parentHash": head.parent_hash,
            "timestamp": hex(head.timestamp),
            "baseFeePerGas": "0x7",
            "logsBloom": f"0x{head.logs_bloom:0512x}",
        }

    def logs(self, asked: dict[str, Any]) -> Any:
        first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        mood = self.mood()
        if mood == "head only":
            return {"error": {"code": -32603, "message": "internal error"}}
        if mood == "limited" and last - first >= 20:
            return {"error": {"code": -32005, "message": "eth_getLogs is limited to a 20 range"}}
        if mood == "results" and last > first:
            return {"error": {"code": -32005, "message": "query returned more than 10 results"}}
        if mood == "empty":
            return []
        blocks = self.chain.blocks[first : last + 1]
        logs = [log for block in blocks for log in block.logs if log.address == CONTRACT]
        return [shown(log) for log in (logs[: len(logs) // 2] if mood == "cut" else logs)]

    def receipts(self, tag: str) -> Any:
        if self.mood() == "no receipts":
            return {"error": {"code": -32601, "message": "the method does not exist"}}
        block = self.chain.blocks[int(tag, 16)]
        kept = block.logs[1:] if self.mood() == "cut" else block.logs
        return [{"logs": [shown(log)]} for log in kept]


def shown(log: Log) -> dict[str, Any]:
    return {
        "address": log.address.lower(),
        "topics": list(log.topics),
        "data": log.data,
        "blockNumber": hex(log.block_number),
        "blockHash": log.block_hash,
        "transactionHash": log.tx_hash,
        "logIndex": hex(log.log_index),
    }


def grown(blocks: int = 60) -> FakeChain:
    chain = FakeChain()
    for number in range(blocks):
        chain.grow(number % 3, number % 2)
    return chain


@asynccontextmanager
async def node_over(*providers: Provider) -> AsyncIterator[EvmNode]:
    async with AsyncExitStack() as running:
        for provider in providers:
            await running.enter_async_context(serving_node(provider))
        urls = [provider.url for provider in providers]
        node = EvmNode(5920, urls, timeout_seconds=2, batch_size=10)
        running.push_async_callback(node.close)
        yield node


@asynccontextmanager
async def followed(node: EvmNode, depth: int = 2) -> AsyncIterator[tuple[ChainFollower, MemoryLog]]:
    log = MemoryLog()
    follower = ChainFollower(config(depth), node, log, 0, SETTINGS)
    task = asyncio.create_task(follower.run())
    try:
        yield follower, log
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("mood", ["limited", "results", "empty", "cut", "no receipts"])
async def test_one_bad_provider_alone_costs_no_event(mood: str) -> None:
    chain = grown()
    async with node_over(Provider(chain, lambda: mood)) as node, followed(node) as (follower, log):
        if mood == "cut":
            await until(lambda: "no node shows" in (follower.reason or ""), 10)
            assert log.live() == chain.events(follower.last_block or 0)
            return
        await until(lambda: follower.last_block == chain.height - 2, 20)
        assert log.live() == chain.events(chain.height - 2)
        assert (follower.reader.missed > 0) is (mood == "empty")


async def test_providers_of_every_kind_together() -> None:
    """Each in a new mood every few answers; the chain moves meanwhile."""
    chain, rng = grown(30), random.Random(7)
    moods = ["", "", "down", "limited", "empty", "cut", "results", "other"]

    def moody() -> Callable[[], str]:
        return lambda: rng.choice(moods) if rng.random() < 0.5 else ""

    calm = Provider(chain, lambda: rng.choice(["", "", "down"]))
    providers = [Provider(chain, moody()), Provider(chain, moody()), calm]
    async with node_over(*providers) as node:
        for provider in providers:
            provider.mood, provider.kept = (lambda: ""), provider.mood
        async with followed(node) as (follower, log):
            await until(lambda: follower.last_block is not None, 5)
            for provider in providers:
                provider.mood = provider.kept
            for step in range(40):
                chain.grow(step % 3)
                providers[step % 2].behind = rng.randrange(4)
                if step % 7 == 0:
                    chain.fork(2, [1, 1])
                await asyncio.sleep(0.05)
            for provider in providers:
                provider.mood, provider.behind = (lambda: ""), 0
            await until(lambda: follower.last_block == chain.height - 2, 30)
            assert log.live() == chain.events(chain.height - 2)
            assert log.of(ChainHalted) == []


async def test_a_provider_on_a_fork_of_its_own_halts_nothing() -> None:
    """The other one still has the log's blocks, so it is followed."""
    chain, other = grown(20), FakeChain(salt=1000)
    first, second = Provider(chain), Provider(chain)
    async with node_over(first, second) as node, followed(node) as (follower, log):
        await until(lambda: follower.last_block == chain.height - 2, 10)
        other.fork(0, [1] * 40)
        first.chain = other
        for _ in range(10):
            chain.grow(1)
        await until(lambda: follower.last_block == chain.height - 2, 20)
        assert log.live() == chain.events(chain.height - 2)
        assert log.of(ChainHalted) == []


async def test_the_depth_of_one_nodes_block_is_not_counted_from_another_nodes_head() -> None:
    """One node tells a head and then fails; the one that answers instead is still on the branch
    that a reorganisation within the depth has replaced. Nothing of that branch is final. And the
    one that fails, which stays the preferred one, does not hold up the one that answers."""
    chain, stale = grown(20), grown(20)
    stale.grow(2)
    mood = ["head only"]
    first, second = Provider(chain, lambda: mood[0]), Provider(stale)
    chain.fork(1, [1, 1, 1, 1])
    assert stale.height == chain.height - 2
    async with node_over(first, second) as node, followed(node, depth=2) as (follower, log):
        await until(lambda: follower.last_block == stale.height - 2)
        asked = len(second.calls)
        await until(lambda: len(second.calls) > asked + 20)
        assert "eth_getBlockByNumber" in first.calls
        assert follower.last_block == stale.height - 2
        mood[0], second.chain = "", chain
        await until(lambda: follower.last_block == chain.height - 2, 20)
        assert log.live() == chain.events(chain.height - 2)
        assert not log.of(EventRetracted) and not log.of(ChainHalted)


async def test_a_url_that_turns_into_another_chain_halts_nothing() -> None:
    """Behind a load balancer the chain id may change without an error in between."""
    chain, other = grown(20), FakeChain(salt=1000)
    provider = Provider(chain)
    async with node_over(provider) as node, followed(node) as (follower, log):
        await until(lambda: follower.last_block == chain.height - 2, 10)
        other.fork(0, [1] * 40)
        provider.chain, provider.mood = other, lambda: "other"
        await until(lambda: "no node shows" in (follower.reason or ""), 10)
        await asyncio.sleep(1.5)
        assert log.of(ChainHalted) == []
        provider.chain, provider.mood = chain, lambda: ""
        chain.grow(1)
        await until(lambda: follower.last_block == chain.height - 2, 60)
        assert log.live() == chain.events(chain.height - 2)


async def test_what_no_node_can_show_is_accepted_after_a_while_and_counted() -> None:
    """Both of the chain's nodes lost the logs and know no receipts: six times, then onwards."""
    chain = FakeChain()
    chain.grow(1)
    reader_node = Provider(chain)
    async with node_over(reader_node) as node:
        reader = RangeReader(node, CONTRACT, TOPICS)
        reader_node.methods["eth_getLogs"] = lambda _asked: []
        del reader_node.methods["eth_getBlockReceipts"]
        for _ in range(5):
            with pytest.raises(RpcError) as caught:
                await reader.read(0, 1, node)
            assert caught.value.problem is RpcProblem.UNAVAILABLE
        assert (await reader.read(0, 1, node)).logs == []
        assert (reader.accepted, reader.missed) == (1, 0)


def test_blooms_hide_nothing_and_show_little() -> None:
    topic = TOPICS[0]
    mask = masks_of(CONTRACT, TOPICS)[topic]
    assert mask.bit_count() <= 6
    ours = bloom_of([(CONTRACT, [topic, "0x" + "11" * 32])])
    assert may_hold(ours, mask)
    assert not may_hold(bloom_of([(CONTRACT, [])]), mask)
    assert not may_hold(bloom_of([(STRANGER, [topic])]), mask)
    assert not may_hold(0, mask)
    crowd = bloom_of((f"0x{number:040x}", [f"0x{number:064x}"]) for number in range(50))
    assert not may_hold(crowd, mask)
    assert may_hold(crowd | ours, mask)


def test_bits_stand_where_clients_put_them() -> None:
    """As go-ethereum's `core/types/bloom9.go` places them, byte by byte."""
    from eth_utils.crypto import keccak

    address = "0x0f572e5295c57f15886f9b263e2f6d2d6c7b5ec6"
    digest = keccak(bytes.fromhex(address[2:]))
    bloom = bytearray(256)
    for at in (0, 2, 4):
        bit = ((digest[at] << 8) | digest[at + 1]) & 2047
        bloom[255 - bit // 8] |= 1 << (bit % 8)
    assert bloom_of([(address, [])]) == int.from_bytes(bloom, "big")
