"""The real log and its working model behave alike: one suite, both pass it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from orchestrator.adapters.kafka_ends import KafkaEnds
from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.errors import Fenced
from orchestrator.kafka_access import KafkaAccess
from orchestrator.ports import FactLog, LogEnds, LogWriter
from schemas.base import Position, Record
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.kuro import MintOk, Via
from schemas.lanes import LaneOpened
from schemas.topics import DEAD_LETTERS, KURO_EVENTS, LANES, TOPICS, Topic
from streams.topics import prepare_topics
from tests.simulation.broker import Broker, SimulatedLog
from tests.simulation.wire import QuietWire

WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
_numbers = count(1)


@dataclass
class LogWorld:
    """Two processes on one log."""

    writer: LogWriter
    facts: FactLog
    others: FactLog
    ends: LogEnds


def mint(request_id: str, amount: int = 1) -> MintOk:
    return MintOk(
        request_id=request_id,
        user=WALLET,
        amount=str(amount),
        fiat_ref="",
        chain_id=5920,
        timestamp_ms=0,
        via=Via.REST,
    )


def opened(chain_id: int, nonce: int = 0) -> LaneOpened:
    return LaneOpened(chain_id=chain_id, wallet=WALLET, first_nonce=nonce)


def fresh() -> int:
    """A number that no other test uses."""
    return 1000 + next(_numbers)


async def messages(log: FactLog, topic: Topic, partition: int, start: int = 0) -> list[Any]:
    return [m async for _, batch in log.replay(topic, {partition: start}) for m in batch]


async def facts_of(log: FactLog, topic: Topic, key: str) -> list[Record]:
    found = await messages(log, topic, partition_of(topic, key))
    return [topic.decode(m.value) for m in found if m.key == key.encode()]


class LogContract:
    async def test_what_is_appended_is_read_in_order(self, world: LogWorld) -> None:
        name = f"order-{fresh()}"
        facts = [mint(name, amount) for amount in range(1, 8)]
        written = await world.writer.append(KURO_EVENTS, facts)
        positions = [record.position for record in written]
        records = await facts_of(world.others, KURO_EVENTS, name)
        assert [record.fact for record in records] == facts
        assert all(record.at.endswith("Z") for record in records)
        assert len({position.offset for position in positions}) == len(facts)
        assert {p.partition for p in positions} == {partition_of(KURO_EVENTS, name)}

    async def test_positions_are_where_the_records_stand(self, world: LogWorld) -> None:
        facts = [mint(f"place-{fresh()}") for _ in range(5)]
        written = await world.writer.append(KURO_EVENTS, facts)
        positions = [record.position for record in written]
        for fact, position in zip(facts, positions, strict=True):
            assert position.partition == partition_of(KURO_EVENTS, fact.key)
            found = await messages(
                world.facts, KURO_EVENTS, position.partition, start=position.offset
            )
            assert KURO_EVENTS.decode(found[0].value).fact == fact
            told = Position(found[0].topic, found[0].partition, found[0].offset)
            assert told == position

    async def test_what_append_tells_is_what_is_read_back(self, world: LogWorld) -> None:
        """Who appended a fact may fold it without reading it: it is the very same record."""
        facts = [mint(f"same-{fresh()}") for _ in range(5)]
        written = await world.writer.append(KURO_EVENTS, facts)
        written += await world.writer.append(KURO_EVENTS, [mint(f"same-{fresh()}")])
        for record in written:
            place = record.position
            found = await messages(world.facts, KURO_EVENTS, place.partition, start=place.offset)
            read = KURO_EVENTS.decode(found[0].value, place)
            assert (read.fact, read.at, read.position) == (record.fact, record.at, place)

    async def test_a_replay_ends_where_the_log_ended_when_it_began(self, world: LogWorld) -> None:
        name = f"end-{fresh()}"
        (written,) = await world.writer.append(KURO_EVENTS, [mint(name)])
        position = written.position
        seen = []
        starts = {position.partition: position.offset}
        async for _, batch in world.facts.replay(KURO_EVENTS, starts):
            seen += batch
            await world.writer.append(KURO_EVENTS, [mint(name, 2)])
        assert len(seen) == 1
        assert await messages(world.facts, KURO_EVENTS, position.partition, 10**6) == []

    async def test_an_owner_appends_all_in_one_transaction(self, world: LogWorld) -> None:
        chain_id = fresh()
        owned = world.facts.owned(f"lane.{chain_id}")
        await owned.start()
        letter = DeadLetter.of(
            DeadLetterReason.MALFORMED, "because", b"raw", origin=f"test/{chain_id}"
        )
        facts = [opened(chain_id, nonce) for nonce in range(3)]
        await owned.append(LANES, facts, [letter])
        await owned.append(LANES, [])
        key = f"{chain_id}:{WALLET}"
        assert [r.fact for r in await facts_of(world.others, LANES, key)] == facts
        assert [r.fact for r in await facts_of(world.others, DEAD_LETTERS, letter.key)] == [letter]
        await owned.close()
        await owned.close()

    async def test_a_later_owner_fences_the_earlier(self, world: LogWorld) -> None:
        chain_id = fresh()
        first, second = (log.owned(f"lane.{chain_id}") for log in (world.facts, world.others))
        await first.start()
        await first.append(LANES, [opened(chain_id, 1)])
        await second.start()
        with pytest.raises(Fenced):
            await first.append(LANES, [opened(chain_id, 2)])
        await second.append(LANES, [opened(chain_id, 3)])
        with pytest.raises(Fenced):
            await first.append(LANES, [opened(chain_id, 4)])
        found = await facts_of(world.facts, LANES, f"{chain_id}:{WALLET}")
        assert [record.fact.first_nonce for record in found] == [1, 3]  # type: ignore[attr-defined]
        for owned in (first, second):
            await owned.close()

    async def test_owners_of_other_names_do_not_fence_each_other(self, world: LogWorld) -> None:
        numbers = [fresh(), fresh()]
        owners = [world.facts.owned(f"lane.{number}") for number in numbers]
        for owned in owners:
            await owned.start()
        for owned, number in zip(owners * 2, numbers * 2, strict=True):
            await owned.append(LANES, [opened(number, number)])
        for owned, number in zip(owners, numbers, strict=True):
            found = await facts_of(world.others, LANES, f"{number}:{WALLET}")
            assert len(found) == 2
            await owned.close()

    async def test_markers_of_transactions_are_no_records(self, world: LogWorld) -> None:
        chain_id = fresh()
        owned = world.facts.owned(f"lane.{chain_id}")
        await owned.start()
        for nonce in range(3):
            await owned.append(LANES, [opened(chain_id, nonce)])
        key = f"{chain_id}:{WALLET}"
        partition = partition_of(LANES, key)
        found = [m for m in await messages(world.facts, LANES, partition) if m.key == key.encode()]
        offsets = [m.offset for m in found]
        assert offsets == sorted(set(offsets))
        assert [m.partition for m in found] == [partition] * 3
        assert offsets[-1] - offsets[0] > 2
        await owned.close()

    async def test_a_tail_gives_what_is_there_says_so_and_goes_on(self, world: LogWorld) -> None:
        key = f"tail-{fresh()}"
        partition = partition_of(KURO_EVENTS, key)
        [first] = [r.position for r in await world.writer.append(KURO_EVENTS, [mint(key, 1)])]
        tail = world.others.tail(KURO_EVENTS, partition, first.offset)
        found: list[int] = []

        async def read_to_the_end() -> None:
            while batch := await anext(tail):
                found.extend(message.offset for message in batch)

        await asyncio.wait_for(read_to_the_end(), 20)
        assert found == [first.offset]
        await asyncio.wait_for(read_to_the_end(), 20)
        later = await world.writer.append(KURO_EVENTS, [mint(key, 2), mint(key, 3)])
        while len(found) < 3:
            await asyncio.wait_for(read_to_the_end(), 20)
        assert found[1:] == [record.position.offset for record in later]
        await tail.aclose()

    async def test_the_end_stands_behind_the_last_record(self, world: LogWorld) -> None:
        key = f"end-{fresh()}"
        partition = partition_of(KURO_EVENTS, key)
        for number in range(3):
            before = await world.ends.end(KURO_EVENTS, partition)
            [record] = await world.writer.append(KURO_EVENTS, [mint(key, number + 1)])
            assert record.position is not None and record.position.offset >= before
            assert await world.ends.end(KURO_EVENTS, partition) == record.position.offset + 1


class TestSimulatedLog(LogContract):
    @pytest.fixture
    async def world(self) -> LogWorld:
        wire = QuietWire()
        broker = Broker(wire)
        return LogWorld(*(SimulatedLog(broker, wire) for _ in range(4)))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaAccess]:
    folder = tmp_path_factory.mktemp("stack")
    with EmbeddedStack(folder, chain_ids=[], parts={"kafka"}) as stack:
        yield stack.kafka.access


@pytest.fixture(scope="module")
async def kafka_world(kafka: KafkaAccess) -> AsyncIterator[LogWorld]:
    await prepare_topics(kafka, 1)
    assert TOPICS
    writer = KafkaWriter(kafka, "contract")
    await writer.start()
    ends = KafkaEnds(kafka, "contract-ends")
    yield LogWorld(writer, KafkaLog(kafka, "contract"), KafkaLog(kafka, "contract-2"), ends)
    await ends.close()
    await writer.close()


class TestKafkaLog(LogContract):
    @pytest.fixture
    async def world(self, kafka_world: LogWorld) -> LogWorld:
        return kafka_world
