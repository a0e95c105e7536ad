"""A long catch-up, ranges that adapt, progress that is seen, memory that does not grow."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import structlog
from structlog.testing import capture_logs

from orchestrator.core.chain import Head
from schemas.evm import BlocksFollowed, ChainHalted, ChainResumed, ContractEvent
from streams import trail as trails
from streams.following import FACTS_PER_TRANSACTION, ChainFollower
from streams.range_size import LARGEST_RANGE, Progress, RangeSize
from streams.trail import Point, Trail

from .models import CHAIN, SETTINGS, FakeChain, FaultyNode, MemoryLog, config, digest, until
from .virtual import run


def chain_of(blocks: int, every: int, events: int = 1) -> FakeChain:
    chain = FakeChain()
    for number in range(1, blocks + 1):
        chain.grow(events if number % every == 0 else 0)
    return chain


async def follow(node: FaultyNode, log: MemoryLog, goal: int) -> ChainFollower:
    follower = ChainFollower(config(0), node, log, 0, SETTINGS)
    task = asyncio.create_task(follower.run())
    await until(lambda: follower.last_block == goal, 3600)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return follower


def test_100_000_blocks() -> None:
    chain = chain_of(100_000, 50)
    node, log = FaultyNode(chain, largest_range=3_000, most_logs=500), MemoryLog()
    started = time.monotonic()
    tracemalloc.start()
    run(follow(node, log, 100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"\n100000 blocks in {time.monotonic() - started:.1f} s, {peak / 2**20:.0f} MiB at most")
    assert log.live() == chain.events(100_000)
    marks = log.of(BlocksFollowed)
    assert marks[-1].to_block == 100_000
    assert len(marks) == len(log.sizes), "one mark with each transaction"
    assert max(node.spans) <= LARGEST_RANGE
    refused = [span for span in node.spans if span > 3_000]
    assert len(refused) < 12, "a limit is learnt, not run into each time"
    assert sum(node.spans) / len(node.spans) > 1_500


def test_the_range_closes_in_on_any_limit() -> None:
    for limit in (1, 2, 10, 100, 999, 1_000, 2_048, 7_777, LARGEST_RANGE):
        size, refusals, sizes = RangeSize(), 0, []
        for _ in range(40):
            if size.blocks > limit:
                refusals += 1
                size.refused(size.blocks)
            else:
                sizes.append(size.blocks)
                size.worked(size.blocks, 0)
        assert max(sizes) <= limit
        assert sizes[-1] >= limit * 0.85 or limit < 10
        assert refusals <= 16, limit


def test_large_answers_make_smaller_ranges_and_a_better_provider_is_noticed() -> None:
    size = RangeSize()
    size.worked(1_000, 6_000)
    assert size.blocks == 500
    size.refused(500)
    for _ in range(200):
        size.worked(size.blocks, 0)
    assert size.blocks == LARGEST_RANGE
    for _ in range(30):
        size.failed()
    assert 1 <= size.blocks <= 16


def test_no_transaction_is_too_large_and_blocks_stay_whole() -> None:
    chain = chain_of(40, 1, events=150)
    log = MemoryLog()
    run(follow(FaultyNode(chain), log, 40))
    assert log.live() == chain.events(40)
    assert FACTS_PER_TRANSACTION <= max(log.sizes) <= FACTS_PER_TRANSACTION + 151


def test_progress_is_told_every_two_seconds() -> None:
    structlog.reset_defaults()
    progress = Progress(CHAIN)
    with capture_logs() as logs:
        for tick in range(0, 1001):
            progress.behind(tick / 100, tick * 100, 200_000)
        progress.abreast(10.0, 200_000)
    assert len(logs) == 7
    last = logs[-2]
    assert (last["block"], last["goal"], last["percent"]) == (100_000, 200_000, 50.0)
    assert (last["blocks_per_second"], last["eta_seconds"]) == (10_000, 10)
    assert logs[-1]["event"] == "caught up"


def test_an_idle_chain_costs_a_mark_a_minute() -> None:
    async def scenario() -> None:
        chain, log = chain_of(3, 1), MemoryLog()
        follower = ChainFollower(config(0), FaultyNode(chain), log, 0, SETTINGS)
        task = asyncio.create_task(follower.run())
        for _ in range(600):
            await asyncio.sleep(1)
            chain.grow(0)
        task.cancel()
        assert 9 <= len(log.of(BlocksFollowed)) <= 12
        assert follower.head_lag == 0
        assert follower.last_block in (602, 603)

    run(scenario())


def test_a_reorganisation_deeper_than_memory_is_read_from_the_log(monkeypatch) -> None:
    monkeypatch.setattr(trails, "MOST_EVENTS", 40)
    monkeypatch.setattr(trails, "MOST_POINTS", 16)

    async def scenario() -> None:
        chain, log = FakeChain(), MemoryLog()
        follower = ChainFollower(config(1), FaultyNode(chain), log, 0, SETTINGS)
        task = asyncio.create_task(follower.run())
        for number in range(400):
            chain.grow(number % 3)
            await asyncio.sleep(0.06)
        await until(lambda: follower.last_block == 399)
        assert len(follower._trail.points) <= 16
        before = chain.events(399)
        kept = chain.events(100)
        replays = log.replays
        chain.fork(300, [1] * 310)
        await until(lambda: follower.halted is not None)
        assert log.replays > replays
        assert log.live() == kept
        assert 0 < len(kept) < len(before)
        [halt] = log.of(ChainHalted)
        assert halt.fork_block in (99, 100)
        log.put(ChainResumed(chain_id=CHAIN, halt=halt.id, who="ops", why="looked"))
        await until(lambda: follower.last_block == chain.height - 1)
        assert log.live() == chain.events(chain.height - 1)
        task.cancel()

    run(scenario())


def test_a_chain_that_was_reset_resumes_at_the_start() -> None:
    async def scenario() -> None:
        chain, log = FakeChain(), MemoryLog()
        for _ in range(20):
            chain.grow(1)
        follower = ChainFollower(config(1), FaultyNode(chain), log, 0, SETTINGS)
        task = asyncio.create_task(follower.run())
        await until(lambda: follower.last_block == 19)
        chain.fork(21, [2] * 30)
        await until(lambda: follower.halted is not None)
        [halt] = log.of(ChainHalted)
        assert halt.fork_block is None
        assert log.live() == []
        log.put(ChainResumed(chain_id=CHAIN, halt=halt.id, who="ops", why="a test chain"))
        await until(lambda: follower.last_block == chain.height - 1)
        assert log.live() == chain.events(chain.height - 1)
        task.cancel()

    run(scenario())


def test_a_chain_without_blooms_is_followed() -> None:
    chain = chain_of(30, 2)
    bare = [Head(b.head.number, b.head.hash, b.head.parent_hash, 1, 7) for b in chain.blocks]
    chain.blocks = [type(b)(h, b.logs) for b, h in zip(chain.blocks, bare, strict=True)]
    log = MemoryLog()
    run(follow(FaultyNode(chain), log, 30))
    assert log.live() == chain.events(30)


def test_a_resumption_settles_only_its_own_halt() -> None:
    trail = Trail()
    fields = {"chain_id": CHAIN, "fork_block": 5, "fork_hash": digest(5), "reason": "why"}
    halts = [ChainHalted(block_number=n, block_hash=digest(n), **fields) for n in (9, 12)]
    resumed = ChainResumed(chain_id=CHAIN, halt=halts[0].id, who="ops", why="looked")
    trail.fold(halts[0])
    assert trail.marked == Point(5, digest(5))
    trail.fold(resumed)
    assert trail.halted is None
    trail.fold_all([halts[1], resumed])
    assert trail.halted == halts[1]
    assert ContractEvent not in {type(event) for event in trail.events_above(-1)}
