"""A rebuild on real Kafka and PostgreSQL: the same tables, no downtime, and nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.dev.service import Service
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from projections.database import connect
from projections.kafka import missing_topics
from projections.lag import LogProbe, lag_by_topic
from projections.rebuilding import bulk
from projections.rebuilding.run import CannotRebuild, rebuild, verify
from projections.rebuilding.schemas import REBUILD_LOCK
from projections.rebuilding.tables import COMPARED
from projections.store import Store
from schemas.base import Record, encode_value, instant
from schemas.controls import WorkPaused
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import ContractEvent, EventName
from tests.projections.facts import (
    CONTRACT,
    START,
    USER,
    digest,
    evidence,
    followed,
    lane_story,
    received,
    relay_of,
    whole_life,
)
from tests.projections.test_projector import (
    create_topics,
    mint_ok,
    producing,
    projecting,
    rows,
    send,
    until,
)

LIVES = 120


def quiet(step: str, done: int, total: int) -> None:
    assert done >= 0
    assert step


def minted(number: int) -> ContractEvent:
    return ContractEvent(
        chain_id=5920,
        block_number=number,
        block_hash=digest("block", number),
        block_timestamp=START,
        tx_hash=digest("tx", number),
        log_index=0,
        contract=CONTRACT,
        event=EventName.MINTED,
        request_id=f"b-{number}",
        account=USER,
        amount=10**18,
    )


@pytest.fixture(scope="module")
async def log(stack: EmbeddedStack) -> KafkaAccess:
    """A log of every kind of row: lives, lanes, heads, dead letters, faults, and stray evidence."""
    kafka = stack.kafka.access
    if await missing_topics(kafka):
        await create_topics(kafka)
    facts = [fact for n in range(LIVES) for fact in [mint_ok(f"b-{n}"), *whole_life(f"b-{n}")]]
    lanes = [relay_of("m-1"), *lane_story()]
    letter = DeadLetter.of(DeadLetterReason.CONFLICT, "planted", b"raw", origin="requests/0/1")
    async with producing(stack) as producer:
        await send(producer, [*facts, *lanes, letter, letter, evidence("b-stray")])
        await send(producer, [minted(n) for n in range(5)])
        await send(producer, [WorkPaused(scope="all", order="b-1", who="ann", why="planted")])
        await send(producer, [followed(5920, 11), received("b-odd\x00", user="no\u2400body")])
        await producer.send_and_wait("requests", b"garbage", partition=2)
    return kafka


async def caught_up(kafka: KafkaAccess, database: str) -> None:
    probe = LogProbe(kafka)

    async def same() -> bool:
        held = {
            (topic, number): offset
            for topic, number, offset in await rows(
                database, "SELECT topic, partition, next_offset FROM projection_offsets"
            )
        }
        return not any(lag_by_topic(await probe.ends(), held).values())

    try:
        await until(same, 60)
    finally:
        await probe.close()


@pytest.fixture
async def live(stack: EmbeddedStack, log: KafkaAccess, database: str) -> str:
    """Tables that the projector has written."""
    async with projecting(stack, database):
        await caught_up(log, database)
    return database


async def schemas(database: str) -> list[str]:
    found = await rows(
        database, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public%' ORDER BY 1"
    )
    return [name for (name,) in found]


async def structure(database: str) -> list[tuple[Any, ...]]:
    """Indexes, constraints, triggers and functions of the live schema, as text."""
    return await rows(
        database,
        "SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
        "UNION ALL SELECT 'rule', conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace "
        "UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger "
        "WHERE NOT tgisinternal UNION ALL SELECT 'function', proname, prosrc FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2",
    )


async def test_the_fast_path_makes_the_very_same_tables(
    stack: EmbeddedStack, log: KafkaAccess, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "HOT_STATES", 3)
    before = await structure(live)
    assert (await verify(live, log, quiet)).comparison.clean
    figures = await rebuild(live, log, quiet)
    assert figures.slow_partitions == []
    assert figures.leftovers is None
    assert figures.facts > LIVES * 9
    assert await structure(live) == before
    assert await schemas(live) == ["public"]
    found = await verify(live, log, quiet)
    assert found.comparison.clean, found.comparison.first
    filled = {tally.table for tally in found.comparison.tallies if tally.same}
    assert filled == {table.name for table in COMPARED}, "the log shows every table"


async def test_readers_and_the_writer_go_on_through_a_swap(
    stack: EmbeddedStack, log: KafkaAccess, database: str
) -> None:
    store, done = Store(database), asyncio.Event()
    seen: list[int] = []

    async def read() -> None:
        while not done.is_set():
            depths = await store.queues()
            seen.append(depths["mint"]["completed"])
            assert await store.rows("SELECT count(*) FROM requests") is not None
            assert await store.stages() is not None

    await store.open()
    try:
        async with projecting(stack, database) as projector, producing(stack) as producer:
            await caught_up(log, database)
            readers = [asyncio.create_task(read()) for _ in range(3)]
            for turn in range(2):
                _, _ = await asyncio.gather(
                    rebuild(database, log, quiet),
                    send(producer, [f for n in range(9) for f in whole_life(f"t-{turn}-{n}")]),
                )
            await send(producer, whole_life("t-after"))
            await caught_up(log, database)
            done.set()
            await asyncio.gather(*readers)
            assert projector.health.role == "writing"
        assert seen == sorted(seen), "answers never step back"
        assert (await verify(database, log, quiet)).comparison.clean
    finally:
        done.set()
        await store.close()


async def test_tables_put_in_place_by_chance_at_the_same_offsets_are_noticed(
    stack: EmbeddedStack, log: KafkaAccess, live: str
) -> None:
    """What a writer remembers of tables that are gone must not reach the new ones."""
    async with projecting(stack, live) as projector, producing(stack) as producer:
        await send(producer, [received("s-1")])
        await caught_up(log, live)
        spoilt = "UPDATE requests SET state = jsonb_set(state, '{key}', '\"spoilt\"')"
        link = await connect(live)
        await link.execute(spoilt)
        await link.close()
        await rebuild(live, log, quiet)
        await send(producer, whole_life("s-1")[1:])
        await caught_up(log, live)
        assert projector.health.role == "writing"
    assert (await verify(live, log, quiet)).comparison.clean


PLANTS = {
    "requests": "UPDATE requests SET amount = '7' WHERE request_key = 'b-3'",
    "request_facts": "DELETE FROM request_facts WHERE request_key = 'b-4' AND kind = 'MintOk'",
    "request_counts": "UPDATE request_counts SET count = count + 1 WHERE stage = 'COMPLETED'",
    "request_flow": "UPDATE request_flow SET failed = failed + 1",
    "request_latencies": "DELETE FROM request_latencies WHERE width_seconds = 10",
    "token_events": "UPDATE token_events SET seat = seat || 'x'",
    "chain_supply": "UPDATE chain_supply SET minted = minted + 1",
    "lanes": "UPDATE lanes SET next_nonce = next_nonce + 1",
    "lane_transactions": "UPDATE lane_transactions SET state = 'FINAL' WHERE state = 'PREPARED'",
    "lane_work": "DELETE FROM lane_work",
    "lane_facts": "UPDATE lane_facts SET value = '{}'",
    "pause_facts": "UPDATE pause_facts SET why = 'other'",
    "chain_heads": "UPDATE chain_heads SET to_hash = 'x'",
    "dead_letters": "UPDATE dead_letters SET detail = 'other'",
    "projection_faults": "UPDATE projection_faults SET reason = 'other'",
    "projection_tallies": "UPDATE projection_tallies SET count = 99",
}


async def test_a_difference_planted_in_each_table_is_found(log: KafkaAccess, live: str) -> None:
    assert set(PLANTS) == {table.name for table in COMPARED}
    link = await connect(live)
    try:
        for table, statement in PLANTS.items():
            changed = await link.execute(statement)
            assert changed.rowcount, table
            if table == "request_facts":
                await link.execute(
                    'INSERT INTO request_facts SELECT topic, partition, 10^9::bigint + "offset", '
                    "request_key, kind, fact_id, at, value FROM request_facts LIMIT 3"
                )
    finally:
        await link.close()
    comparison = (await verify(live, log, quiet)).comparison
    assert {tally.table for tally in comparison.tallies if not tally.clean} == set(PLANTS)
    by_table = {tally.table: tally for tally in comparison.tallies}
    assert (by_table["requests"].different, by_table["requests"].missing) == (1, 0)
    assert (by_table["request_facts"].missing, by_table["request_facts"].surplus) == (1, 3)
    first = comparison.first
    assert first is not None
    assert (first.table, first.key, first.column) == ("requests", {"request_key": "b-3"}, "amount")
    assert (first.live, first.replayed) == ("7", "1000000000000000000")
    assert "b-3" in str(first)


async def test_what_postgresql_refuses_takes_the_slow_path(
    stack: EmbeddedStack, log: KafkaAccess, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = bulk.load_partition, []

    async def load(*arguments: Any) -> None:
        if arguments[2] == ("requests", 5):
            refused.append(arguments[2])
            raise psycopg.DataError("planted")
        await real(*arguments)

    monkeypatch.setattr("projections.rebuilding.run.load_partition", load)
    figures = await rebuild(database, log, quiet)
    assert await rows(database, "SELECT count(*) > 1000 FROM request_facts") == [(True,)]
    assert refused
    assert figures.slow_partitions == ["requests/5"]
    assert (await verify(database, log, quiet)).comparison.clean


@pytest.mark.parametrize("step", ["replaying", "swapping"])
async def test_a_killed_rebuild_changes_nothing_and_the_next_one_cleans_up(
    stack: EmbeddedStack, log: KafkaAccess, live: str, step: str, tmp_path: Path
) -> None:
    """A process of its own, killed without a chance to tidy up."""
    script = tmp_path / "victim.py"
    script.write_text(
        "import asyncio, os, signal, sys\n"
        "from orchestrator.kafka_access import KafkaAccess\n"
        "from projections.rebuilding.run import rebuild\n"
        "def tell(step, done, total):\n"
        f"    if step == {step!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(rebuild(sys.argv[1], KafkaAccess(sys.argv[2]), tell))\n"
    )
    victim = await asyncio.create_subprocess_exec(sys.executable, str(script), live, log.servers)
    assert await victim.wait() == -signal.SIGKILL
    assert await schemas(live) == ["public", "public_rebuild"]
    assert (await verify(live, log, quiet)).comparison.clean
    await rebuild(live, log, quiet)
    assert await schemas(live) == ["public"]
    assert (await verify(live, log, quiet)).comparison.clean


async def test_a_reader_that_stays_is_outwaited_and_refused_at_last(
    log: KafkaAccess, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.rebuilding.run.LOCK_WAITS_MS", (50, 50, 50))
    reader = await connect(live)
    try:
        await reader.execute("BEGIN")
        await reader.execute("SELECT count(*) FROM requests")
        with pytest.raises(CannotRebuild, match="does not end its transaction"):
            await rebuild(live, log, quiet)
        assert await schemas(live) == ["public"]
    finally:
        await reader.close()
    await rebuild(live, log, quiet)


async def test_it_says_why_it_cannot(stack: EmbeddedStack, log: KafkaAccess, live: str) -> None:
    link = await connect(live)
    try:
        moved = "UPDATE projection_offsets SET next_offset = next_offset + {} WHERE topic = 'lanes'"
        await link.execute(moved.format(10**6))  # type: ignore[arg-type]
        for act in (rebuild, verify):
            with pytest.raises(CannotRebuild, match="ahead of this log"):
                await act(live, log, quiet)
        await rebuild(live, log, quiet, shorter_log=True)
        await link.execute("SELECT pg_advisory_lock(%s)", [REBUILD_LOCK])
    finally:
        await link.close()
    for act in (rebuild, verify):
        with pytest.raises(LogUnavailable):
            await act(live, KafkaAccess("127.0.0.1:1"), quiet)


def command(
    stack: EmbeddedStack, name: str, database: str, log: KafkaAccess, *words: str
) -> Service:
    environment = {
        "DATABASE_URL": database,
        "KAFKA_BOOTSTRAP_SERVERS": log.servers,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return Service(stack, name, words, environment)


async def test_the_commands_tell_by_their_exit_codes(
    stack: EmbeddedStack, log: KafkaAccess, live: str
) -> None:
    async def ends_with(name: str, database: str, *words: str) -> tuple[int | None, str]:
        service = command(stack, name, database, log, *words)
        await service.start()
        child = service._child
        assert child is not None
        await asyncio.to_thread(child.exited.wait, 120)
        return child.code, child.log.read_text()

    code, text = await ends_with("verify-same", live, "verify")
    assert code == 0, text
    assert "The tables are what the log says." in text
    link = await connect(live)
    with suppress(psycopg.Error):
        await link.execute("UPDATE chain_heads SET to_block = 1")
    await link.close()
    code, text = await ends_with("verify-other", live, "verify", "--json")
    assert code == 1, text
    assert '"column": "to_block"' in text
    code, text = await ends_with("rebuild", live, "rebuild")
    assert code == 0, text
    assert "facts/s" in text
    code, text = await ends_with("verify-unknown", live.rpartition("/")[0] + "/none", "verify")
    assert code == 2, text


async def test_a_key_on_two_partitions_takes_the_slow_path(
    stack: EmbeddedStack, log: KafkaAccess, database: str
) -> None:
    """Somebody appended by hand, to another partition than every writer would choose. The last
    test here: which of the two came first is not on the log."""
    value = encode_value(Record(received("b-astray"), instant(START)))
    async with producing(stack) as producer:
        for partition in (0, 1):
            await producer.send_and_wait("requests", value, key=b"b-astray", partition=partition)
    figures = await rebuild(database, log, quiet)
    assert figures.slow_partitions == ["all: a key stands on two partitions"]
    found = await rows(database, "SELECT stage FROM requests WHERE request_key = 'b-astray'")
    assert found == [("RECEIVED",)]
