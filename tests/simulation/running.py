"""One seed, from its beginning to its verdict."""

from __future__ import annotations

import gc
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from schemas.controls import WorkPaused
from tests.simulation.aiming import Aim
from tests.simulation.building import build
from tests.simulation.faults import Faults
from tests.simulation.load import Load
from tests.simulation.operators import Operators
from tests.simulation.policing import Policing
from tests.simulation.scenario import Scenario
from tests.simulation.settling import settle_doubts
from tests.simulation.sharing import work_is_shared
from tests.simulation.story import Story, agents_tell
from tests.simulation.worker import Agents, World

LONGEST_SETTLING_SECONDS = 1500.0
READING_ON_SECONDS = 20.0
"""What the books may need to read what came last."""
LOUD = {
    "fact refused by the lane",
    "fact refused by the sequences",
    "fact refused by the policies",
    "lane owner died",
    "refusing to sign",
    "the guard refuses a signature",
    "the gate refuses a signature",
    "work for a wallet that is not configured here; it waits on the log",
}
"""Errors that no fault excuses."""


@dataclass
class Outcome:
    seed: int
    violations: list[str]
    counts: dict[str, int]
    seconds: float
    steps: int
    requests: int
    story: Story = field(repr=False)

    @property
    def digest(self) -> str:
        """What two runs of one seed are compared by; the story becomes text only here."""
        return self.story.digest


class Run:
    def __init__(
        self,
        seed: int,
        agents: Agents,
        scenario: Scenario | None = None,
        aim: Aim | None = None,
    ) -> None:
        self.seed = seed
        self.scenario = Scenario.of(seed) if scenario is None else scenario
        self.rng = Random(seed)
        self.world: World = build(self.scenario, self.rng, agents, aim)
        self.load = Load(self.world, self.scenario, self.rng)
        self.faults = Faults(self.world, self.scenario, self.rng)
        self.operators = Operators(self.world, self.scenario, self.rng, self.load)
        self.policing = Policing(self.world, self.scenario.policy, seed, self.load)
        self._over = self.world.loop.create_future()
        self.world.story.on_violation = self._end
        self.doubts: list[tuple[float, WorkPaused]] = []
        settle_doubts(self.world, self._doubted)

    def _doubted(self, pause: WorkPaused) -> None:
        self.doubts.append((self.world.loop.time(), pause))
        deep = self.scenario.deep_reorganisation
        self.world.oracle.conservation.doubted(pause, deep=deep)

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def run(self) -> Outcome:
        """Never raises for what the agents do wrong: that is in the outcome."""
        world, scenario = self.world, self.scenario
        story = world.story
        loop = world.loop
        loop.on_error = lambda text: story.violated("an error in the loop", error=text)
        random.seed(self.seed)
        with agents_tell(story, self._alarm), _unheard(), work_is_shared():
            loop.world.run(self.faults.start)
            loop.world.run(self.load.start)
            loop.world.run(self.operators.start)
            loop.world.run(lambda: self.policing.start(scenario.faults_seconds))
            loop.in_world(scenario.faults_seconds, self._settle)
            loop.run(self._over.done)
            story.over = True
            loop.close()
        story.on_violation = lambda: None
        return Outcome(
            self.seed,
            list(story.violations),
            dict(story.counts),
            loop.time(),
            loop.steps,
            len(world.oracle.requests),
            story,
        )

    def _alarm(self, event: str, details: object) -> None:
        if event in LOUD and not self.scenario.deep_reorganisation:
            self.world.story.violated(f"an agent reports: {event}", details=details)

    def _settle(self) -> None:
        self.world.story.tell("from now on, nothing goes wrong")
        self.faults.stop()
        self.operators.stop()
        self.policing.stop()
        self._ask_again()

    def _ask_again(self) -> None:
        """Every two seconds: has everything come to its end?"""
        world = self.world
        owed = [] if self.scenario.deep_reorganisation else world.oracle.owed(self.load.accepted)
        late = world.loop.time() > self.scenario.faults_seconds + LONGEST_SETTLING_SECONDS
        patient = world.loop.time() < self.scenario.faults_seconds + 120
        if self.scenario.deep_reorganisation and patient:
            owed = ["nothing: safety is all that is asked for"]
        if not owed:
            world.loop.in_world(READING_ON_SECONDS, self._judge)
        elif late:
            world.story.violated("never came to an end", owed=owed)
        else:
            world.loop.in_world(2.0, self._ask_again)

    def _judge(self) -> None:
        world = self.world
        owed = world.oracle.owed(self.load.accepted)
        if owed and not self.scenario.deep_reorganisation:
            self._ask_again()
            return
        if not self.scenario.deep_reorganisation:
            world.oracle.at_the_end(self.load.rejected)
        for worker in self.faults.workers:
            for book in worker.books:
                world.oracle.compare(worker.process.name, book)
            for owner in worker.lane_owners():
                world.oracle.compare_lane(worker.process.name, owner.state)
            for held in worker.sequence_owners():
                world.oracle.sequences[held.state.chain_id].compare(held.state)
            for keeper in worker.policy_owners():
                self.policing.oracle.compare(keeper.state)
        world.oracle.replay(world.broker.everything())
        self._end()


def simulate(
    seed: int,
    agents: Agents | None = None,
    scenario: Scenario | None = None,
    aim: Aim | None = None,
    prepare: Callable[[Run], None] = lambda run: None,
) -> Outcome:
    """Run one seed; `scenario` and what `prepare` puts in place stand in for what it would decide.
    The collector waits until the end: it must not end a killed process's tasks. Then it looks only
    at what came since the beginning."""
    gc.disable()
    gc.freeze()
    try:
        run = Run(seed, agents or Agents(), scenario, aim)
        prepare(run)
        outcome = run.run()
        with _unheard():
            del run
            gc.collect()
        return outcome
    finally:
        gc.unfreeze()
        gc.enable()


@contextmanager
def _unheard() -> Iterator[None]:
    """What is still suspended at the end is collected: Python would complain of each."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = before
