"""A working model of consumer groups and of Faust's agents on them: assignment, delivery, commits.

At least once: offsets are committed late, and what was delivered after the last commit is delivered
again to the next owner. Members learn of a new assignment one by one; who has not learnt of it yet
goes on reading (a zombie), only its commits are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from orchestrator.errors import LogUnavailable
from schemas.topics import Topic
from streams.retrying import Backoff
from tests.simulation.aiming import Errand
from tests.simulation.broker import Broker, Entry
from tests.simulation.loop import CURRENT, Process, SimulatedLoop
from tests.simulation.story import Story
from tests.simulation.wire import Wire

Read = Callable[[Sequence[Entry]], Awaitable[None]]
Own = Callable[[set[int]], Awaitable[None]]
Seat = tuple[str, int]

COMMIT_EVERY_SECONDS = 1.0
LARGEST_BATCH = 100


class Group:
    """One consumer group: who owns which partition, and how far each was processed."""

    def __init__(
        self, name: str, loop: SimulatedLoop, wire: Wire, story: Story, zombies: float
    ) -> None:
        self.name = name
        self.loop = loop
        self.wire = wire
        self.story = story
        self._zombies = zombies
        self.committed: dict[Seat, int] = {}
        self.generation = 0
        self.members: list[Member] = []
        self.owners: dict[int, Member] = {}

    def join(self, member: Member) -> None:
        self.members.append(member)
        self._rebalance()

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self._rebalance()

    def _rebalance(self) -> None:
        """Deal the partition numbers anew; as Faust does, all topics alike."""
        self.generation += 1
        numbers = sorted({number for m in self.members for number in range(m.partitions)})
        rng = self.wire.rng
        if rng.random() < 0.5:
            rng.shuffle(numbers)
        shares: dict[int, list[int]] = {place: [] for place in range(len(self.members))}
        for turn, number in enumerate(numbers):
            shares[turn % len(self.members)].append(number)
        for place, member in enumerate(self.members):
            delay = rng.random() * 0.5
            if self.wire.chance(self._zombies):
                delay = rng.uniform(2, 12)
                self.story.count("zombies")
            self.loop.call_later(
                delay, member.learn, self.generation, sorted(shares[place]), context=member.context
            )
        dealt = {m.process.name: shares[place] for place, m in enumerate(self.members)}
        self.story.tell(f"group {self.name} rebalances", generation=self.generation, shares=dealt)

    def commit(self, generation: int, offsets: dict[Seat, int]) -> None:
        if generation == self.generation:
            self.committed.update(offsets)


class Member:
    """One process in one group, with what reads each topic: what `streams.worker.RoleApp` is."""

    def __init__(self, group: Group, broker: Broker, process: Process) -> None:
        self.group = group
        self.process = process
        self.context = group.loop.world.copy()
        self._broker = broker
        self._readers: dict[str, Read] = {}
        self._bells: dict[str, asyncio.Event] = {}
        self._positions: dict[Seat, int] = {}
        self._processed: dict[Seat, int] = {}
        self._uncommitted = asyncio.Event()
        self._generation = 0
        self._numbers: list[int] = []
        self._expect: Callable[[], None] = lambda: None
        self._own: Own | None = None
        self._owning: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.partitions = 0
        self.in_turn = False
        """A new assignment waits until the one before it is taken, instead of ending that."""

    def reads(self, topic: Topic, read: Read | None) -> None:
        """`read` None: a member that is here for the assignment alone."""
        self.partitions = max(self.partitions, topic.partitions)
        if read is not None:
            self._readers[topic.name] = read
            self._bells[topic.name] = asyncio.Event()

    @property
    def generation(self) -> int:
        """Of the assignment that this member learnt of last."""
        return self._generation

    def owns(self, expect: Callable[[], None], own: Own) -> None:
        self._expect, self._own = expect, own

    def start(self) -> None:
        """Called in the process: its tasks are the process's."""
        self.context.run(CURRENT.set, self.process)
        for name in self._readers:
            self._task(self._stream(name), f"{self.group.name} reads {name}")
        if self._readers:
            self._task(self._committing(), f"{self.group.name} commits")
        self.group.join(self)

    def _task(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(coro, name=name))

    def learn(self, generation: int, numbers: list[int]) -> None:
        if generation < self._generation:
            return
        self._generation, self._numbers = generation, numbers
        rng = self.group.wire.rng
        for name in self._readers:
            ring = self._bells[name].set
            for number in range(self.partitions):
                seat = (name, number)
                bells = self._broker.bells.setdefault(seat, [])
                if number not in numbers:
                    self._positions.pop(seat, None)
                    self._processed.pop(seat, None)
                    if ring in bells:
                        bells.remove(ring)
                    continue
                if seat not in self._positions or rng.random() < 0.3:
                    self._positions[seat] = self.group.committed.get(seat, 0)
                if ring not in bells:
                    bells.append(ring)
            ring()
        self._uncommitted.set()
        self._expect()
        before = self._owning
        if before is not None and not self.in_turn:
            before.cancel()
        self._owning = asyncio.create_task(self._take(set(numbers), before), name="own")

    async def _take(self, numbers: set[int], before: asyncio.Task[None] | None) -> None:
        if before is not None and self.in_turn:
            await before
        backoff = Backoff()
        while self._own is not None:
            try:
                await self._own(numbers)
                break
            except LogUnavailable:
                await backoff.sleep()

    async def _stream(self, name: str) -> None:
        wire, bell, read = self.group.wire, self._bells[name], self._readers[name]
        while True:
            batch = self._fetch(name)
            if not batch:
                bell.clear()
                await bell.wait()
                await asyncio.sleep(wire.delay())
                continue
            await read(batch)
            for entry in batch:
                seat = (name, entry.partition)
                if seat in self._positions:
                    done = max(self._processed.get(seat, 0), entry.offset + 1)
                    self._processed[seat] = done
                    self._uncommitted.set()

    def _fetch(self, name: str) -> list[Entry]:
        """What is new in the partitions, in any order of them."""
        partitions = self._broker.partitions
        seats = [(name, number) for number in self._numbers]
        fresh = [
            seat
            for seat in seats
            if seat in partitions and self._positions[seat] < len(partitions[seat].entries)
        ]
        if len(fresh) > 1:
            self.group.wire.rng.shuffle(fresh)
        batch: list[Entry] = []
        for seat in fresh:
            found, self._positions[seat] = partitions[seat].committed(
                self._positions[seat], partitions[seat].stable, LARGEST_BATCH - len(batch)
            )
            batch += found
        return batch

    async def _committing(self) -> None:
        """Once a second while there is something to commit; what an older generation's commit may
        have lost is committed anew after each assignment."""
        while True:
            await self._uncommitted.wait()
            self._uncommitted.clear()
            await asyncio.sleep(COMMIT_EVERY_SECONDS)
            generation, offsets = self._generation, dict(self._processed)
            if offsets:
                errand = f"commit offsets of {self.group.name}"
                await self.group.wire.passing(Errand(errand, last=False))
                self.group.wire.later(
                    self.group.wire.delay(), self.group.commit, generation, offsets
                )
                await self.group.wire.passing(Errand(errand, first=False))
