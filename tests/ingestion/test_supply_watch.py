"""The chain's supply is compared a few times a minute, and what differs is found by its block and
transaction, as far as nodes can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog
from eth_abi.abi import encode
from structlog.testing import capture_logs

from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.core.supply import SIGNS
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, Log
from schemas.evm import BlocksFollowed, EventName, SupplyCompared, SupplyTraced
from streams.following import ChainFollower
from streams.supply import NOBODY, TOTAL_SUPPLY, TRANSFER, SupplyWatch
from tests.ingestion.models import (
    CONTRACT,
    SETTINGS,
    TOPICS,
    FakeChain,
    FaultyNode,
    MemoryLog,
    config,
    digest,
    until,
)
from tests.ingestion.virtual import run

SOMEBODY = "0x" + "0" * 24 + "22" * 20


def event_of(topic: str) -> EventName:
    data = "0x" + encode(["string", "uint256"], ["r", 1]).hex()
    event = ORCHESTRATOR.decode_event((topic, SOMEBODY), data, "")
    assert event is not None
    return event.event


EVERY = 10.0
"""Seconds of the chain, which has a block each."""
MINTED = next(topic for topic in TOPICS if event_of(topic) is EventName.MINTED)


class CoinNode(FaultyNode):
    """Knows `totalSupply` in the blocks from `kept_from()` on. `outside` are mints of others by
    block, in a transaction with a transfer; of those in `silent`, without."""

    def __init__(self, chain: FakeChain, **settings: Any) -> None:
        super().__init__(chain, **settings)
        self.outside: dict[int, int] = {}
        self.silent: dict[int, int] = {}
        self.kept_from: Callable[[], int] = lambda: 0
        self.state_fails = False

    async def call(self, call: Call, block: int | None = None) -> str:
        await self._begin("call")
        assert (call.to, call.data) == (CONTRACT, TOTAL_SUPPLY) and block is not None
        if self.state_fails or block < self.kept_from():
            raise RpcError(RpcProblem.UNAVAILABLE, "missing trie node")
        others = (*self.outside.items(), *self.silent.items())
        total = sum(amount for number, amount in others if number <= block)
        total += sum(move[1] for move in self._moves(0, block))
        return f"0x{total:064x}"

    def _moves(self, first: int, last: int) -> list[tuple[Log, int]]:
        found = []
        for block in self.chain.blocks[first : last + 1]:
            for log in block.logs:
                if log.address == CONTRACT:
                    event = ORCHESTRATOR.decode_event(log.topics, log.data, "")
                    assert event is not None
                    found.append((log, SIGNS.get(event.event, 0) * event.amount))
        return [move for move in found if move[1]]

    async def logs(
        self, contract: str, topics: Any, first: int, last: int, *, again: int = 0
    ) -> list[Log]:
        if list(topics) != [TRANSFER]:
            return await super().logs(contract, topics, first, last, again=again)
        await self._begin("logs")
        found = [_transfer(log, amount) for log, amount in self._moves(first, last)]
        for number, amount in self.outside.items():
            if first <= number <= last:
                block = self.chain.blocks[number].head
                log = Log(CONTRACT, (), "0x", number, block.hash, outside_tx(number), 99)
                found.append(_transfer(log, amount))
        return sorted(found, key=lambda log: (log.block_number, log.log_index))


def _transfer(log: Log, amount: int) -> Log:
    ends = (NOBODY, SOMEBODY) if amount > 0 else (SOMEBODY, NOBODY)
    return replace(log, topics=(TRANSFER, *ends), data=f"0x{abs(amount):064x}")


def outside_tx(number: int) -> str:
    return digest("outside", number)


def grown(blocks: int, chain: FakeChain | None = None) -> FakeChain:
    """In every third block a mint, in every thirtieth a burnt redemption beside two mints."""
    chain = FakeChain() if chain is None else chain
    for _ in range(blocks):
        number = chain.height + 1
        mints = TOPICS[number % 3] == MINTED
        chain.grow(4 if mints and number % 10 == 0 else 1 if mints else 0)
    return chain


@asynccontextmanager
async def following(
    node: CoinNode, log: MemoryLog, start_block: int = 0
) -> AsyncIterator[ChainFollower]:
    chain = config(2, start_block)
    watch = SupplyWatch(chain, node, EVERY)
    follower = ChainFollower(chain, node, log, 0, SETTINGS, watch)
    task = asyncio.create_task(follower.run())
    try:
        await abreast(node, follower)
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def abreast(node: CoinNode, follower: ChainFollower) -> None:
    await until(lambda: follower.last_block == node.chain.height - 2)
    await asyncio.sleep(1)


async def grows(node: CoinNode, follower: ChainFollower, blocks: int) -> None:
    for _ in range(blocks):
        grown(1, node.chain)
        await abreast(node, follower)


async def told(log: MemoryLog) -> SupplyTraced:
    await until(lambda: bool(log.of(SupplyTraced)))
    [found] = log.of(SupplyTraced)
    assert isinstance(found, SupplyTraced)
    return found


def test_it_is_compared_by_the_chains_time_and_costs_two_calls_each() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(50)), MemoryLog()
        async with following(node, log) as follower:
            await grows(node, follower, 60)
        found = log.of(SupplyCompared)
        assert 6 <= len(found) <= 7 and found[-1].total_supply > 0
        assert node.calls.count("call") == node.calls.count("block") == len(found)
        assert not log.of(SupplyTraced)
        facts = log.facts()
        for one in found:
            mark = facts[facts.index(one) - 1]
            assert isinstance(mark, BlocksFollowed) and mark.to_hash == one.block_hash

    run(play())


def test_what_others_minted_is_found_by_block_and_transaction() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(20)), MemoryLog()
        async with following(node, log):
            pass
        grown(800, node.chain)
        node.outside = {311: 300, 500: 8}
        before = len(node.calls)
        structlog.reset_defaults()
        with capture_logs() as lines:
            async with following(node, log):
                found = await told(log)
        asked = [name for name in node.calls[before:] if name == "call"]
        assert found.block_number in node.outside
        assert found.block_hash == node.chain.blocks[found.block_number].head.hash
        assert found.tx_hash == outside_tx(found.block_number)
        assert len(asked) <= 12 and found.questions <= 12
        steps = [line for line in lines if line["event"].startswith("searching where")]
        assert len(steps) >= 8 and steps[-1]["at_most"] == 64
        assert any(line["log_level"] == "error" and found.tx_hash in str(line) for line in lines)
        compared = log.of(SupplyCompared)[-1]
        assert compared.total_supply - compared.by_events == 308

    run(play())


def test_where_nodes_keep_no_old_states_the_transfers_tell_the_transaction() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(20)), MemoryLog()
        node.kept_from = lambda: node.chain.height - 4
        async with following(node, log):
            pass
        grown(200, node.chain)
        node.outside = {111: 300}
        async with following(node, log):
            found = await told(log)
        assert found.block_number is None and found.tx_hash == outside_tx(111)
        assert "whose states no node keeps" in found.detail and "or before" not in found.detail

    run(play())


def test_what_no_transfer_explains_is_told_by_its_block() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(20)), MemoryLog()
        async with following(node, log):
            pass
        grown(100, node.chain)
        node.silent = {77: 300}
        async with following(node, log):
            found = await told(log)
        assert found.block_number == 77 and found.tx_hash is None
        assert "no transfer there explains it" in found.detail

    run(play())


def test_a_search_that_was_cut_off_is_made_by_the_next_owner() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(20)), MemoryLog()
        async with following(node, log):
            pass
        grown(100, node.chain)
        node.outside = {77: 300}
        appended = len(log.entries)
        async with following(node, log):
            await told(log)
        kept = log.entries[:-1]
        assert log.of(SupplyTraced) and len(kept) > appended
        log.entries = kept
        async with following(node, log):
            grown(1, node.chain)
            assert (await told(log)).tx_hash == outside_tx(77)

    run(play())


def test_trouble_with_states_never_holds_up_the_following() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(20)), MemoryLog()
        node.state_fails = True
        async with following(node, log) as follower:
            await grows(node, follower, 30)
            assert follower.reason is None and not log.of(SupplyCompared)
            assert follower.supply is not None
            assert follower.supply.problem is not None
            assert "missing trie node" in follower.supply.problem
            node.state_fails = False
            await asyncio.sleep(30)
            await grows(node, follower, 3)
            assert log.of(SupplyCompared) and follower.supply.problem is None

    run(play())


def test_a_search_that_nodes_never_answer_is_given_up_and_told() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(20)), MemoryLog()
        async with following(node, log) as follower:
            grown(20, node.chain)
            node.outside = {30: 300}
            await abreast(node, follower)
        log.entries = [
            entry for entry in log.entries if b"SupplyTraced" not in (entry.value or b"")
        ]
        node.state_fails = True
        async with following(node, log) as follower:
            for _ in range(6):
                await asyncio.sleep(15)
                await grows(node, follower, 1)
            found = await told(log)
        assert found.block_number is None and "given up after 3 tries" in found.detail

    run(play())


def test_what_was_there_before_the_first_followed_block_is_its_baseline() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(100)), MemoryLog()
        node.outside = {3: 500}
        async with following(node, log, start_block=50) as follower:
            await grows(node, follower, 25)
        first, *others = log.of(SupplyCompared)
        assert first.baseline and first.block_number == 49 and first.total_supply >= 500
        assert others and not any(one.baseline for one in others)
        assert not log.of(SupplyTraced)
        async with following(node, log, start_block=50) as follower:
            await grows(node, follower, 25)
        assert [one.baseline for one in log.of(SupplyCompared)].count(True) == 1

    run(play())


def test_without_that_block_s_state_it_is_a_difference_for_a_person() -> None:
    async def play() -> None:
        node, log = CoinNode(grown(100)), MemoryLog()
        node.outside = {3: 500}
        node.kept_from = lambda: node.chain.height - 4
        structlog.reset_defaults()
        with capture_logs() as lines:
            async with following(node, log, start_block=50):
                found = await told(log)
        assert found.tx_hash is None and "or before" in found.detail
        assert not any(one.baseline for one in log.of(SupplyCompared))
        assert any("counts as a difference that a person settles" in str(line) for line in lines)

    run(play())
