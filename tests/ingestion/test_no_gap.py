"""For any chain and any sequence of faults, the log holds exactly the chain's events, in order."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.evm import ChainHalted, ChainResumed
from streams.following import ChainFollower

from .models import SETTINGS, FakeChain, FaultyNode, MemoryLog, chooser, config, until
from .virtual import run

NODE_FAULTS = ["down", "limited", "heavy", "behind", "empty", "partial", "truncated"]

histories = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.lists(st.integers(0, 3), min_size=1, max_size=30)),
        st.tuples(st.just("fork"), st.integers(1, 6), st.lists(st.integers(0, 2), max_size=8)),
        st.tuples(st.just("wait"), st.floats(0.01, 3.0)),
        st.tuples(st.just("kill")),
        st.tuples(st.just("zombie")),
    ),
    min_size=1,
    max_size=12,
)


class Run:
    """One follower after the other on one chain and one log; a person resumes each halt."""

    def __init__(self, confirmations: int, seed: int, faults: list[str], chance: float) -> None:
        self.rng = random.Random(seed)
        self.confirmations = confirmations
        self.chain = FakeChain()
        self.log = MemoryLog(chooser(self.rng, ["lost", "unknown"], chance / 3))
        self.node = FaultyNode(
            self.chain,
            chooser(self.rng, faults, chance),
            largest_range=self.rng.choice([1, 2, 7, 10**9]),
            most_logs=self.rng.choice([1, 5, 10**9]),
            receipts=True,
        )
        self.tasks: list[asyncio.Task[None]] = []
        self.follower: ChainFollower

    def start(self) -> None:
        chain = config(self.confirmations)
        self.follower = ChainFollower(chain, self.node, self.log, 0, SETTINGS)
        self.tasks.append(asyncio.create_task(self.follower.run()))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self.tasks.clear()

    def resume(self) -> None:
        halt = self.follower.halted
        if halt is not None:
            self.log.put(ChainResumed(chain_id=5920, halt=halt.id, who="ops", why="looked"))

    async def play(self, history: list[tuple]) -> None:
        self.start()
        for step in history:
            match step:
                case ("grow", events):
                    for count in events:
                        self.chain.grow(count, self.rng.choice([0, 0, 1]))
                case ("fork", depth, events):
                    depth = min(depth, self.chain.height)
                    self.chain.fork(depth, [*events, 0])
                case ("wait", seconds):
                    await asyncio.sleep(seconds)
                case ("kill",):
                    await self.stop()
                    self.start()
                case ("zombie",):
                    self.start()
            self.resume()

    async def settle(self) -> list[str]:
        """Nothing fails any more; the events of sufficient depth at the end."""
        for _ in range(12):
            self.chain.grow(1)
        self.node.fault = lambda: ""
        self.log.fault = lambda: ""
        await self.stop()
        self.start()
        goal = self.chain.height - self.confirmations

        def there() -> bool:
            self.resume()
            return self.follower.last_block == goal and self.follower.reason is None

        await until(there)
        await self.stop()
        return self.chain.events(goal)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(
    histories,
    st.integers(0, 4),
    st.integers(0, 2**32),
    st.lists(st.sampled_from(NODE_FAULTS), max_size=4, unique=True),
    st.floats(0, 0.6),
)
def test_the_log_is_the_chain(history, confirmations, seed, faults, chance):
    """Reorganisations of any depth, lying and dying nodes, kills, zombies, lost appends."""

    async def scenario() -> None:
        world = Run(confirmations, seed, faults, chance)
        await world.play(history)
        expected = await world.settle()
        assert world.log.live() == expected
        assert world.follower.reader.accepted == 0

    run(scenario())


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 3), min_size=10, max_size=60),
    st.integers(1, 6),
    st.integers(0, 2**32),
    st.data(),
)
def test_within_the_depth_nothing_is_ever_taken_back(events, confirmations, seed, data):
    """No fault of nodes and no shallow reorganisation halts the chain or retracts anything."""

    async def scenario() -> None:
        world = Run(confirmations, seed, NODE_FAULTS, 0.4)
        world.start()
        for count in events:
            world.chain.grow(count)
            await asyncio.sleep(world.rng.choice([0.0, 0.3, 2.0]))
            if world.chain.height > confirmations and data.draw(st.booleans()):
                depth = data.draw(st.integers(1, confirmations))
                world.chain.fork(depth, [world.rng.randrange(2) for _ in range(depth)])
        expected = await world.settle()
        assert world.log.live() == expected
        assert world.log.of(ChainHalted) == []

    run(scenario())
