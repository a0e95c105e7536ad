"""What goes wrong, by chance: kills, pauses, reorganisations, outages, drops."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.simulation.scenario import Scenario
from tests.simulation.worker import Worker, World

SESSION_TIMEOUT_SECONDS = 10.0


class Faults:
    """Starts the workers, and does to them and to their surroundings what the scenario says."""

    def __init__(self, world: World, scenario: Scenario, rng: Random) -> None:
        self._world = world
        self._scenario = scenario
        self._rng = rng
        self._active = True
        self._generation = 0
        self.workers: list[Worker] = []
        self._down: list[int] = []

    def start(self) -> None:
        for place, _ in enumerate(self._scenario.layout):
            self.workers.append(self._worker(place))
        scenario = self._scenario
        self._every(scenario.kills_every, self._kill)
        self._every(scenario.pauses_every, self._pause)
        self._every(scenario.reorganisations_every, self._reorganise)
        self._every(scenario.drops_every, self._drop)
        self._every(scenario.node_outages_every, self._node_outage)
        self._every(scenario.kms_outages_every, self._kms_outage)
        self._every(12.0, self._world.kuro.hang_up)
        self._every(scenario.gas_misjudged_every, self._misjudge_gas)
        if scenario.deep_reorganisation:
            moment = self._rng.uniform(0.3, 0.9) * scenario.faults_seconds
            self._world.loop.in_world(moment, self._reorganise_deeply)

    def stop(self) -> None:
        """The weather turns good: everything runs again, and stays."""
        self._active = False
        world = self._world
        for wire in (world.log_wire, world.chain_wire, world.kms._wire):
            wire.weather.bad = False
        for manners in world.manners.values():
            manners.down = False
        for chain in world.chains.values():
            chain.dearer = 0
        world.kms.down = False
        for worker in self.workers:
            worker.process.dies_at = None
            worker.process.dies_at_effect = False
            if worker.process.paused:
                self._resume(worker)
        for place in self._down[:]:
            self._restart(place)

    def _every(self, seconds: float, act: Callable[[], None]) -> None:
        """On average; never when `seconds` is 0."""
        if not seconds:
            return

        def again() -> None:
            if self._active:
                act()
                self._world.loop.in_world(self._rng.uniform(0.2, 1.8) * seconds, again)

        self._world.loop.in_world(self._rng.uniform(0.1, 1.8) * seconds, again)

    def _worker(self, place: int) -> Worker:
        self._generation += 1
        roles = self._scenario.layout[place]
        label = "all" if len(roles) == 4 else "+".join(roles)
        worker = Worker(self._world, f"{label}-{place}.{self._generation}", roles)
        worker.process.on_death = lambda: self._died(place, worker)
        return worker

    def _kill(self) -> None:
        """One of the next steps of some process is its last one, or one of its next requests."""
        alive = [worker for worker in self.workers if worker.process.alive]
        if alive:
            process = self._rng.choice(alive).process
            if self._rng.random() < 0.5:
                process.dies_at_effect = True
            elif process.dies_at is None:
                process.dies_at = process.steps + int(self._rng.random() ** 2 * 300) + 1

    def _died(self, place: int, worker: Worker) -> None:
        self._world.story.tell("KILLED", who=worker.process.name, at_step=worker.process.steps)
        self._world.story.count("kills")
        self._down.append(place)
        self._world.loop.in_world(self._rng.uniform(0.2, 12), self._restart, place)
        if self._rng.random() < 0.5:
            return self._expel(worker)
        self._world.loop.in_world(SESSION_TIMEOUT_SECONDS, self._expel, worker)
        return None

    def _expel(self, worker: Worker) -> None:
        """Who is awake by then hears of it with its next heartbeat, and joins again."""
        for member in worker.members:
            member.group.leave(member)
        if worker.process.alive and not worker.process.paused:
            self._world.loop.in_world(self._rng.uniform(0.2, 6), self._join_again, worker)

    def _restart(self, place: int) -> None:
        if place in self._down:
            self._down.remove(place)
            self.workers[place] = self._worker(place)

    def _pause(self) -> None:
        awake = [w for w in self.workers if w.process.alive and not w.process.paused]
        if not awake:
            return
        worker = self._rng.choice(awake)
        seconds = self._rng.uniform(0.5, 25)
        self._world.story.tell("PAUSED", who=worker.process.name, seconds=round(seconds, 1))
        self._world.story.count("pauses")
        self._world.loop.pause(worker.process)
        self._world.loop.in_world(seconds, self._resume, worker)
        if seconds > SESSION_TIMEOUT_SECONDS:
            self._world.loop.in_world(SESSION_TIMEOUT_SECONDS, self._expel, worker)

    def _resume(self, worker: Worker) -> None:
        """A process that slept too long is a zombie until it notices, and joins again."""
        if not worker.process.paused or not worker.process.alive:
            return
        self._world.story.tell("RESUMED", who=worker.process.name)
        self._world.loop.resume(worker.process)
        self._world.loop.in_world(self._rng.uniform(0.2, 6), self._join_again, worker)

    def _join_again(self, worker: Worker) -> None:
        for member in worker.members:
            if worker.process.alive and member not in member.group.members:
                member.group.join(member)

    def _reorganise(self) -> None:
        chain = self._rng.choice(list(self._world.chains.values()))
        depth = self._rng.randint(1, chain.confirmations)
        self._reorganised(chain.chain_id, depth)

    def _reorganise_deeply(self) -> None:
        chain = self._rng.choice(list(self._world.chains.values()))
        self._world.oracle.deep.add(chain.chain_id)
        self._reorganised(chain.chain_id, chain.confirmations + self._rng.randint(1, 6))

    def _reorganised(self, chain_id: int, depth: int) -> None:
        chain = self._world.chains[chain_id]
        before = len(chain.blocks)
        chain.reorganise(depth, self._rng.choice((1.0, 0.8, 0.0)), self._rng.choice((1.0, 0.5)))
        self._world.story.tell("REORGANISED", chain=chain_id, depth=depth, height=before - 1)
        self._world.story.count("reorganisations")
        for block in chain.blocks[max(0, before - depth) :]:
            self._world.oracle.on_block(chain, block)

    def _drop(self) -> None:
        chain = self._rng.choice(list(self._world.chains.values()))
        dropped = chain.drop(self._rng.random())
        if dropped:
            self._world.story.tell("the pool forgets", chain=chain.chain_id, transactions=dropped)
            self._world.story.count("dropped transactions")

    def _node_outage(self) -> None:
        manners = self._rng.choice(list(self._world.manners.values()))
        manners.down = True
        self._world.story.tell("nodes down")
        self._world.story.count("node outages")
        self._world.loop.in_world(self._rng.uniform(2, 20), setattr, manners, "down", False)

    def _misjudge_gas(self) -> None:
        """For a while, calls take more gas than estimates say: they are mined as failures."""
        chain = self._rng.choice(list(self._world.chains.values()))
        chain.dearer = 200_000
        self._world.oracle.dear.add(chain.chain_id)
        self._world.story.tell("gas is misjudged", chain=chain.chain_id)
        self._world.story.count("gas misjudged")
        self._world.loop.in_world(self._rng.uniform(1, 6), setattr, chain, "dearer", 0)

    def _kms_outage(self) -> None:
        self._world.kms.down = True
        self._world.story.tell("KMS down")
        self._world.story.count("KMS outages")
        self._world.loop.in_world(self._rng.uniform(5, 70), setattr, self._world.kms, "down", False)
