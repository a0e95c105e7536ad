"""A working model of the log: partitions, transactions with fencing, committed reads.

Modelled after Kafka (KIP-98): an open transaction holds back what readers of committed records see
(the last stable offset); commit and abort markers take an offset; `init` of a transactional id
aborts what its earlier owner left open and fences it; a transaction that stays open too long is
aborted, and its owner fenced, by the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from random import Random

from orchestrator.adapters.kafka_log import TRANSACTION_TIMEOUT_MS, partition_of
from orchestrator.errors import Fenced, LogUnavailable
from schemas.base import Fact, Position, Record, encode_value, instant
from schemas.dead_letters import DeadLetter
from schemas.topics import DEAD_LETTERS, TOPICS, Topic
from tests.simulation.aiming import Errand
from tests.simulation.wire import Wire

TAIL_SECONDS = 2.0

Item = tuple[Topic, bytes, bytes]
"""Topic, key and value."""


def _answer(future: asyncio.Future[bool], answer: bool) -> None:
    if not future.done():
        future.set_result(answer)


@lru_cache(maxsize=100_000)
def _partition_of(topic: str, key: str) -> int:
    return partition_of(TOPICS[topic], key)


@dataclass(slots=True)
class Entry:
    """A record as the log delivers it (`ports.Message`)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    aborted: bool = False


@dataclass
class Partition:
    """`entries` by offset; None is a marker. `open` holds the first offset of each transaction."""

    topic: str
    number: int
    entries: list[Entry | None] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=dict)
    exposed: int = 0

    @property
    def stable(self) -> int:
        """The last stable offset: readers of committed records see what stands before it."""
        return min(self.open.values()) if self.open else len(self.entries)

    def committed(self, start: int, end: int, most: int) -> tuple[list[Entry], int]:
        """Records from `start`, at most `most`, and the position after them."""
        found: list[Entry] = []
        place = start
        end = min(end, self.stable)
        while place < end and len(found) < most:
            entry = self.entries[place]
            place += 1
            if entry is not None and not entry.aborted:
                found.append(entry)
        return found, max(place, start)


@dataclass
class Transaction:
    """What a transactional id has open."""

    epoch: int = 0
    written: list[Entry] = field(default_factory=list)
    number: int = 0


class Broker:
    """All partitions of all topics. `fencing=False` is a planted defect: see `defects`."""

    def __init__(self, wire: Wire, *, fencing: bool = True) -> None:
        self._wire = wire
        self._fencing = fencing
        self._transactions: dict[str, Transaction] = {}
        self.partitions = {
            (topic.name, number): Partition(topic.name, number)
            for topic in TOPICS.values()
            for number in range(topic.partitions)
        }
        self.witnesses: list[Callable[[Entry], None]] = []
        """Each is shown every record once, when it becomes visible to readers."""
        self.recorders: list[Callable[[Entry], None]] = []
        """Each is shown every record once, when it is committed; another owner's open transaction
        may still hide it from readers."""
        self.dice_of_ends: Random | None = None
        """Where the end of a partition is asked for, and takes its time."""
        self.bells: dict[tuple[str, int], list[Callable[[], None]]] = {}
        """Rung when a partition has something new."""

    async def news(self, partition: Partition, place: int, seconds: float) -> bool:
        """Wait until readers can see something from `place` on, for at most so long; whether."""
        if partition.exposed > place:
            return True
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[bool] = loop.create_future()
        bells = self.bells.setdefault((partition.topic, partition.number), [])
        ring = partial(_answer, heard, True)
        bells.append(ring)
        late = loop.call_later(seconds, _answer, heard, False)
        found = await heard
        late.cancel()
        bells.remove(ring)
        return found

    def everything(self) -> list[Entry]:
        """What readers of committed records see, partition by partition."""
        return [
            entry
            for partition in self.partitions.values()
            for entry in partition.committed(0, len(partition.entries), len(partition.entries))[0]
        ]

    def append(self, items: Sequence[Item]) -> list[Position]:
        entries = [self._add(item) for item in items]
        self._expose({(entry.topic, entry.partition) for entry in entries})
        return [Position(entry.topic, entry.partition, entry.offset) for entry in entries]

    def _add(self, item: Item) -> Entry:
        topic, key, value = item
        partition = self.partitions[topic.name, _partition_of(topic.name, key.decode())]
        entry = Entry(topic.name, partition.number, len(partition.entries), key, value)
        partition.entries.append(entry)
        return entry

    def _expose(self, seats: set[tuple[str, int]]) -> None:
        for seat in sorted(seats):
            partition = self.partitions[seat]
            found, partition.exposed = partition.committed(
                partition.exposed, partition.stable, len(partition.entries)
            )
            for entry in found:
                for witness in self.witnesses:
                    witness(entry)
            for ring in tuple(self.bells.get(seat, ())):
                ring()

    def init(self, name: str) -> tuple[str, int]:
        """The id and epoch of a new owner of `name`; every earlier one is fenced."""
        if not self._fencing:
            name = f"{name}#{len(self._transactions)}"
        known = self._transactions.setdefault(name, Transaction())
        self._end(name, aborted=True)
        known.epoch += 1
        return name, known.epoch

    def _owned(self, name: str, epoch: int) -> Transaction:
        known = self._transactions[name]
        if known.epoch != epoch:
            raise Fenced(f"{name} has a later owner")
        return known

    def produce(self, name: str, epoch: int, items: Sequence[Item]) -> None:
        known = self._owned(name, epoch)
        if not known.written:
            known.number += 1
            self._wire.later(TRANSACTION_TIMEOUT_MS / 1000, self._expire, name, known.number)
        for item in items:
            entry = self._add(item)
            known.written.append(entry)
            partition = self.partitions[entry.topic, entry.partition]
            partition.open.setdefault(name, entry.offset)

    def commit(self, name: str, epoch: int) -> None:
        self._owned(name, epoch)
        self._end(name, aborted=False)

    def _expire(self, name: str, number: int) -> None:
        known = self._transactions[name]
        if known.number == number and known.written:
            self._end(name, aborted=True)
            known.epoch += 1

    def _end(self, name: str, *, aborted: bool) -> None:
        known = self._transactions[name]
        seats = {(entry.topic, entry.partition) for entry in known.written}
        for entry in known.written:
            entry.aborted = aborted
            for record in () if aborted else self.recorders:
                record(entry)
        known.written = []
        for seat in sorted(seats):
            self.partitions[seat].open.pop(name, None)
            self.partitions[seat].entries.append(None)
        self._expose(seats)


class SimulatedLog:
    """The log as a process sees it: `ports.LogWriter` and `ports.FactLog`."""

    def __init__(self, broker: Broker, wire: Wire) -> None:
        self._broker = broker
        self._wire = wire

    def items(
        self, topic: Topic, facts: Sequence[Fact], letters: Sequence[DeadLetter] = ()
    ) -> list[Item]:
        at = instant(self._wire.now())
        pairs = [(topic, fact) for fact in facts] + [(DEAD_LETTERS, letter) for letter in letters]
        return [(where, fact.key.encode(), encode_value(Record(fact, at))) for where, fact in pairs]

    async def append(self, topic: Topic, facts: Sequence[Fact]) -> list[Record]:
        if not facts:
            return []
        items = self.items(topic, facts)
        cut = self._wire.rng.randrange(len(items) + 1)
        places = await self._wire.exchange(
            lambda: self._broker.append(items),
            lambda: LogUnavailable(f"appending to {topic.name}: no answer"),
            lambda: self._broker.append(items[:cut]),
            Errand("append", tuple(facts)),
        )
        pairs = zip(items, places, strict=True)
        return [topic.decode(value, place) for (_, _, value), place in pairs]

    def owned(self, name: str) -> SimulatedOwnedLog:
        return SimulatedOwnedLog(self._broker, self._wire, self, name)

    async def replay(
        self, topic: Topic, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, list[Entry]]]:
        wire = self._wire
        await wire.passing(Errand(f"replay {topic.name}", last=False))
        await asyncio.sleep(wire.delay())
        partitions = {number: self._broker.partitions[topic.name, number] for number in starts}
        goals = {number: len(found.entries) for number, found in partitions.items()}
        places = dict(starts)
        unfinished = [number for number in starts if places[number] < goals[number]]
        while unfinished:
            if wire.chance(wire.weather.lost_request / 4):
                raise LogUnavailable(f"replaying {topic.name}: no answer")
            number = unfinished[wire.rng.randrange(len(unfinished))]
            most = wire.rng.randint(1, 60)
            found, places[number] = partitions[number].committed(
                places[number], goals[number], most
            )
            if found:
                yield number, found
            elif places[number] < goals[number]:
                await asyncio.sleep(0.1)
            if places[number] >= goals[number]:
                unfinished.remove(number)
            await asyncio.sleep(wire.delay() if wire.chance(0.2) else 0)
        await wire.passing(Errand(f"replay {topic.name}", first=False))

    async def tail(
        self, topic: Topic, partition: int, start: int
    ) -> AsyncGenerator[list[Entry], None]:
        """The end is asked for when something is new, a little later, and every two seconds."""
        wire, place = self._wire, start
        entries = self._broker.partitions[topic.name, partition]
        while True:
            await asyncio.sleep(wire.delay())
            if wire.chance(wire.weather.lost_request / 4):
                raise LogUnavailable(f"reading {topic.name}: no answer")
            most = wire.rng.randint(1, 20)
            found, place = entries.committed(place, len(entries.entries), most)
            yield found
            if not found and await self._broker.news(entries, place, TAIL_SECONDS):
                await asyncio.sleep(wire.rng.random() * 0.5)

    async def end(self, topic: Topic, partition: int) -> int:
        """Throws dice of its own, only where policies are: other stories stay what they were."""
        entries = self._broker.partitions[topic.name, partition]
        dice = self._broker.dice_of_ends
        if dice is not None:
            await asyncio.sleep(dice.random() * 0.1)
            if self._wire.weather.bad and dice.random() < 0.02:
                raise LogUnavailable(f"asking for the end of {topic.name}: no answer")
        end = entries.stable
        if dice is not None:
            await asyncio.sleep(dice.random() * 0.1)
        return end

    async def follow(
        self, topics: Sequence[Topic], places: Mapping[tuple[str, int], int]
    ) -> AsyncGenerator[list[Entry], None]:
        """Throws dice of its own: a seed's story stays what it was before anybody followed."""
        dice = Random(f"follow {[topic.name for topic in topics]}")
        seats = [(topic.name, number) for topic in topics for number in range(topic.partitions)]
        here = {seat: places.get(seat, 0) for seat in seats}
        while True:
            await asyncio.sleep(dice.random() * 0.1)
            if self._wire.weather.bad and dice.random() < 0.02:
                raise LogUnavailable(f"following {topics[0].name}: no answer")
            ends = {seat: len(self._broker.partitions[seat].entries) for seat in seats}
            for seat in dice.sample(seats, len(seats)):
                entries = self._broker.partitions[seat]
                found, here[seat] = entries.committed(here[seat], ends[seat], len(entries.entries))
                if found:
                    yield found
            yield []
            await asyncio.sleep(0.2 + dice.random() * 0.3)


class SimulatedOwnedLog:
    """`ports.OwnedLog`: two round trips an append, and anything may happen between them."""

    def __init__(self, broker: Broker, wire: Wire, log: SimulatedLog, name: str) -> None:
        self._broker = broker
        self._wire = wire
        self._log = log
        self._name = name
        self._epoch = 0
        self._closed = False

    def _lost(self) -> LogUnavailable:
        return LogUnavailable(f"{self._name}: no answer")

    async def start(self) -> None:
        self._name, self._epoch = await self._wire.exchange(
            lambda: self._broker.init(self._name), self._lost, errand=Errand("fence")
        )

    async def append(
        self, topic: Topic, facts: Sequence[Fact], letters: Sequence[DeadLetter] = ()
    ) -> None:
        if not facts and not letters:
            return
        if self._closed:
            raise LogUnavailable(f"{self._name} is closed")
        items = self._log.items(topic, facts, letters)
        name, epoch = self._name, self._epoch
        begun = Errand("append", tuple(facts), last=False)
        ended = Errand("append", tuple(facts), first=False)
        await self._wire.exchange(
            lambda: self._broker.produce(name, epoch, items), self._lost, errand=begun
        )
        await self._wire.exchange(
            lambda: self._broker.commit(name, epoch), self._lost, errand=ended
        )

    async def close(self) -> None:
        self._closed = True
