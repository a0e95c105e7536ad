"""One worker process: the real agents of its roles, put together as `streams.worker` and
`streams.ingest` do, on the models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import ChainConfig, Settings
from orchestrator.core.terms import Terms
from schemas.policies import POLICIES
from schemas.sequences import sequence_key
from schemas.topics import CONTROLS, EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS
from streams.books import Book
from streams.clearing import PolicyOwner
from streams.conserving import Gate
from streams.controls import Controls
from streams.deciding import Decider
from streams.following import ChainFollower
from streams.ingest import LISTENER_PARTITION, Duties
from streams.lane_owner import LaneOwner
from streams.listening import KuroListener
from streams.relaying import Owner, Relayer
from streams.sequencing import SequenceOwner
from streams.signing import SigningDesk
from streams.supply import SupplyWatch
from tests.simulation.broker import Broker, SimulatedLog
from tests.simulation.chain import Chain
from tests.simulation.groups import Group, Member
from tests.simulation.guard import SimulatedGuard
from tests.simulation.informing import Own, informed
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.node import Manners, SimulatedNode
from tests.simulation.oracle import Oracle
from tests.simulation.outside import Kuro, SimulatedKms, SimulatedKuroSource
from tests.simulation.shelves import Shelves, SimulatedArchive
from tests.simulation.story import Story
from tests.simulation.wire import Wire


@dataclass
class Agents:
    """Which classes the agents are made of. The planted defects put others in their place."""

    decider: type[Decider] = Decider
    desk: type[SigningDesk] = SigningDesk
    lane_owner: type[LaneOwner] = LaneOwner
    sequence_owner: type[SequenceOwner] = SequenceOwner
    policy_owner: type[PolicyOwner] = PolicyOwner
    fencing: bool = True
    guarded: bool = True
    gated: bool = True
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass
class World:
    """Everything outside of the worker processes."""

    loop: SimulatedLoop
    story: Story
    oracle: Oracle
    broker: Broker
    log_wire: Wire
    chain_wire: Wire
    chains: dict[int, Chain]
    manners: dict[int, Manners]
    kms: SimulatedKms
    guard: SimulatedGuard
    kuro: Kuro
    groups: dict[str, Group]
    settings: Settings
    configs: dict[int, ChainConfig]
    wallets: dict[int, list[LocalWallet]]
    terms: Terms
    agents: Agents
    policed: bool = False
    shelves: Shelves = field(default_factory=Shelves)

    def unix_seconds(self) -> float:
        return self.loop.unix_seconds


class Worker:
    """A process with its roles; after a kill, another one takes its place under the same name."""

    def __init__(self, world: World, name: str, roles: Sequence[str]) -> None:
        self.world = world
        self.roles = roles
        self.process = Process(name)
        self.members: list[Member] = []
        self.books: list[Book] = []
        self.relayers: list[Relayer] = []
        self.log = SimulatedLog(world.broker, world.log_wire)
        self.controls = Controls(self.log, self.log)
        world.loop.spawn(self.process, self._start(), f"{name} starts")

    async def _start(self) -> None:
        self.world.story.tell("process starts", roles=",".join(self.roles))
        makers: dict[str, Callable[[], None]] = {
            "decide": self._deciding,
            "sign": self._signing,
            "relay": self._relaying,
            "ingest": self._ingesting,
        }
        if set(self.roles) != {"ingest"}:
            self._running(asyncio.create_task(self.controls.run(), name="controls"))
        for role in self.roles:
            makers[role]()

    def lane_owners(self) -> list[LaneOwner]:
        return [owner for relayer in self.relayers for owner in relayer.lane_owners]

    def sequence_owners(self) -> list[SequenceOwner]:
        return [owner for relayer in self.relayers for owner in relayer.sequence_owners]

    def policy_owners(self) -> list[PolicyOwner]:
        return [owner for relayer in self.relayers for owner in relayer.policy_owners]

    def _member(self, role: str) -> Member:
        member = Member(self.world.groups[role], self.world.broker, self.process)
        self.members.append(member)
        return member

    def _node(self, chain_id: int) -> SimulatedNode:
        world = self.world
        node = SimulatedNode(
            world.chains[chain_id],
            world.chain_wire,
            world.manners[chain_id],
            world.oracle.on_bytes,
        )
        node.on_start = world.oracle.overseer.sends
        return node

    def _running(self, task: asyncio.Task[Any]) -> None:
        """No agent may end by itself."""
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        if self.process.alive and not task.cancelled():
            error = task.exception()
            self.world.story.violated("an agent ended", who=self.process.name, error=repr(error))

    def _book(self, role: str) -> Book:
        return Book(self.log, partial(SimulatedArchive, self.world.shelves, role, self.process))

    def _deciding(self) -> None:
        book = self._book("decide")
        decider = self.world.agents.decider(book, self.log, self.world.terms, self.controls)
        self.controls.hear(decider.hear)
        decider.memory = self.world.agents.memory  # type: ignore[attr-defined]
        self.books.append(book)
        member = self._member("decide")
        member.owns(book.expect, decider.own)
        member.reads(REQUESTS, decider.read)
        for topic in (KURO_EVENTS, EVM_EVENTS, LANES, CONTROLS):
            member.reads(topic, decider.forward)
        self._running(asyncio.create_task(decider.run(), name="decide"))
        member.start()

    def _signing(self) -> None:
        world = self.world
        book = self._book("sign")
        gate = self._gate() if world.agents.gated else None
        desk = world.agents.desk(
            book,
            self.log,
            world.kms,
            world.terms,
            world.settings.kms_concurrency,
            self.controls,
            world.guard if world.agents.guarded else None,
            gate,
        )
        self.controls.hear(desk.hear)
        self.books.append(book)
        member = self._member("sign")
        own = desk.own if gate is None else self._informed(desk, book, gate)
        member.owns(book.expect, own)
        member.reads(REQUESTS, desk.read)
        self._running(asyncio.create_task(desk.run(), name="sign"))
        member.start()

    def _informed(self, desk: SigningDesk, book: Book, gate: Gate) -> Own:
        world = self.world
        return informed(desk, book, gate, world.oracle, world.broker, world.story)

    def _gate(self) -> Gate:
        names = {number: one.profile.contract_id for number, one in self.world.terms.chains.items()}
        within = self.world.settings.supply_compared_within_seconds
        clock = self.world.unix_seconds
        gate = Gate(self.log, self.log, self.controls, names, within, clock)
        self._running(asyncio.create_task(gate.run(), name="conservation gate"))
        return gate

    def _relaying(self) -> None:
        world = self.world
        lanes: dict[str, tuple[int, Callable[[], Owner]]] = {}
        for chain_id, config in world.configs.items():
            if config.profile.sequential:
                key = sequence_key(chain_id)
                seat = partition_of(LANES, key)
                owner = world.agents.sequence_owner
                node = self._node(chain_id)
                make_owner = partial(owner, config, node, self.log, seat, world.settings)
                lanes[key] = (seat, make_owner)
            for wallet in world.wallets[chain_id]:
                node = self._node(chain_id)
                key = f"{chain_id}:{wallet.address}"
                seat = partition_of(LANES, key)
                make = partial(
                    world.agents.lane_owner,
                    config,
                    wallet,
                    node,
                    self.log,
                    seat,
                    world.settings,
                    self.controls,
                )
                lanes[key] = (seat, make)
        if world.policed:
            seat = partition_of(LANES, POLICIES)
            nodes = {
                chain_id: (config, self._node(chain_id))
                for chain_id, config in world.configs.items()
            }
            keeper = world.agents.policy_owner
            lanes[POLICIES] = seat, partial(keeper, nodes, self.log, seat, world.unix_seconds)
        member = self._member("relay")
        relayer = Relayer(lanes, lambda: member.generation)
        self.controls.hear(relayer.hear)
        self.relayers.append(relayer)
        member.owns(lambda: None, relayer.own)
        member.reads(LANES, relayer.read)
        member.start()

    def _ingesting(self) -> None:
        world = self.world
        jobs: dict[TopicPartition, list[tuple[str, Any]]] = {}
        for chain_id, config in world.configs.items():
            seat = TopicPartition(EVM_EVENTS.name, partition_of(EVM_EVENTS, str(chain_id)))
            node, settings = self._node(chain_id), world.settings
            supply = SupplyWatch(config, node, settings.supply_compare_seconds)
            follower = ChainFollower(config, node, self.log, seat.partition, settings, supply)
            jobs.setdefault(seat, []).append((f"follow {chain_id}", follower.run))
        source = SimulatedKuroSource(world.kuro, world.log_wire, 20.0)
        default = world.settings.kuro_mint_chain_id
        listener = KuroListener(source, self.log, default)  # type: ignore[arg-type]
        listening = TopicPartition(KURO_EVENTS.name, LISTENER_PARTITION)
        jobs.setdefault(listening, []).append(("listen to Kuro", listener.run))
        duties = Duties(jobs)
        duties.failed.add_done_callback(self._ended)

        async def take(numbers: set[int]) -> None:
            names = (KURO_EVENTS.name, EVM_EVENTS.name)
            await duties.on_partitions_assigned(
                {TopicPartition(name, number) for name in names for number in numbers}
            )

        member = self._member("ingest")
        member.in_turn = True
        member.reads(KURO_EVENTS, None)
        member.reads(EVM_EVENTS, None)
        member.owns(lambda: None, take)
        member.start()
