"""Batches and offsets in one transaction: killed anywhere, nothing is lost and nothing doubled."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from orchestrator.core.lifecycle import evolve
from projections import writer as writer_module
from projections.database import connect
from projections.rows import decode_state, row_of
from projections.text import from_jsonb
from projections.writer import Superseded, Writer, load_offsets
from schemas.base import Position, RequestType
from schemas.topics import TOPICS
from tests.projections.conftest import ALL_PARTITIONS, Tables
from tests.projections.facts import (
    MemoryLog,
    evidence,
    followed,
    included,
    mint_ok,
    received,
    rejected,
    to_submitted,
    whole_life,
)

LIVES = [
    *whole_life("m-1"),
    *whole_life("m-2", type=RequestType.REDEEM),
    received("m-3"),
    *to_submitted("m-3"),
    received("m-4", user="nobody"),
    rejected("m-4"),
    evidence("m-5"),
]

EVERYTHING = (
    "SELECT (SELECT array_agg(r ORDER BY request_key) FROM requests r)::text, "
    '(SELECT array_agg(f ORDER BY topic, partition, "offset") FROM request_facts f)::text, '
    "(SELECT array_agg(o ORDER BY topic, partition) FROM projection_offsets o "
    "WHERE next_offset > 0)::text"
)


async def test_the_rows_are_the_fold_of_the_log(tables: Tables) -> None:
    batch = tables.log.append(LIVES)
    await tables.write_raw(batch)
    states: dict[str, Any] = {}
    for raw in batch:
        record = TOPICS[raw.topic].decode(raw.value, Position(*raw[:3]))
        states[record.fact.key], _ = evolve(states.get(record.fact.key), record)
    rows = await tables.rows("SELECT request_key, stage, tx_hash, state::text FROM requests")
    assert len(rows) == len(states) == 5
    for key, stage, tx_hash, state in rows:
        assert decode_state(from_jsonb(state)) == states[key]
        assert (stage, tx_hash) == (states[key].stage, row_of(states[key])["tx_hash"])


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_any_batch_size_gives_the_same_tables(tables: Tables, size: int) -> None:
    batch = MemoryLog().append([mint_ok("m-1"), *LIVES])
    for first in range(0, len(batch), size):
        part = batch[first : first + size]
        for record in part:
            tables.log.ends[record.topic, record.partition] = record.offset + 1
        await tables.write_raw(part, Writer(tables.connection, kept_states=2))
    counts = await tables.rows("SELECT stage, count(*) FROM requests GROUP BY 1 ORDER BY 1")
    expected = [("COMPLETED", 2), ("REJECTED", 1), ("SUBMITTED", 1), ("UNBACKED", 1)]
    assert counts == expected
    assert await tables.rows("SELECT count(*) FROM request_facts") == [(len(batch),)]


@pytest.mark.parametrize(
    "step", ["_move", "_write_requests", "_write_chains", "_copy", "_write_dead_letters"]
)
async def test_killed_inside_the_transaction(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An exception after any step stands for a kill there: the session ends, nothing stays."""
    await tables.write(*whole_life("before"))
    before = await tables.rows(EVERYTHING)
    batch = tables.log.append(LIVES)
    writer = Writer(tables.connection)
    real = getattr(writer_module, step)

    async def killed(*args: Any) -> None:
        await real(*args)
        raise ConnectionResetError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, step, killed)
        with pytest.raises(ConnectionResetError):
            await tables.write_raw(batch, writer)
    assert await tables.rows(EVERYTHING) == before
    await tables.write_raw(batch, writer)
    assert await tables.rows("SELECT count(*) FROM requests") == [(6,)]


async def test_a_batch_told_twice_is_refused(tables: Tables) -> None:
    start = await load_offsets(tables.connection, ALL_PARTITIONS)
    batch = tables.log.append(LIVES)
    end = dict(tables.log.ends)
    await Writer(tables.connection).write(batch, start, end)
    before = await tables.rows(EVERYTHING)
    with pytest.raises(Superseded):
        await Writer(tables.connection).write(batch, start, end)
    assert await tables.rows(EVERYTHING) == before


async def test_a_zombie_is_refused_as_a_whole(tables: Tables, database: str) -> None:
    """Two writers with the same start, at the same time: one commits, the other writes nothing,
    not even on partitions that only it would have moved."""
    start = await load_offsets(tables.connection, ALL_PARTITIONS)
    batch = tables.log.append(LIVES)
    only_zombie = tables.log.append(whole_life("zombie"))
    zombie = await connect(database)
    owner_end: dict[tuple[str, int], int] = {}
    for record in batch:
        owner_end[record.topic, record.partition] = record.offset + 1
    try:
        results = await asyncio.gather(
            Writer(tables.connection).write(batch, start, owner_end),
            Writer(zombie).write([*batch, *only_zombie], start, dict(tables.log.ends)),
            return_exceptions=True,
        )
    finally:
        await zombie.close()
    refused = [result for result in results if isinstance(result, Superseded | psycopg.Error)]
    assert len(refused) == 1
    lost = isinstance(results[1], Exception)
    count = (await tables.rows("SELECT count(*) FROM requests"))[0][0]
    assert count == (5 if lost else 6)


async def test_what_cannot_be_read_is_kept_as_a_fault(tables: Tables) -> None:
    good = tables.log.append(whole_life("m-1"))
    seat = good[0].partition
    bad = [
        tables.log.raw("requests", seat, b"\xff\xfenot json"),
        tables.log.raw("requests", seat, None),
        tables.log.raw("requests", seat, b'{"kind":"Surprise","id":"1","at":"2026-01-01"}'),
        tables.log.raw("requests", seat, b'{"kind":"RequestFailed","id":"\\u0000"}'),
    ]
    await tables.write_raw([*good, *bad])
    faults = await tables.rows('SELECT reason, value FROM projection_faults ORDER BY "offset"')
    assert [value for _, value in faults] == [raw.value or b"" for raw in bad]
    assert "unknown kind 'Surprise'" in faults[2][0]
    assert await tables.rows("SELECT stage FROM requests") == [("COMPLETED",)]


async def test_what_postgresql_refuses_is_found_and_kept_as_a_fault(tables: Tables) -> None:
    """One record of hundreds; a constraint of this test stands for a limit nobody thought of."""
    await tables.connection.execute("ALTER TABLE chain_heads ADD CHECK (to_block < 1000)")
    batch = tables.log.append([fact for number in range(40) for fact in whole_life(f"m-{number}")])
    batch[100:100] = tables.log.append([followed(1, 999), followed(1, 1000), followed(2, 5)])
    await tables.write_raw(batch)
    assert await tables.rows("SELECT count(*), min(stage) FROM requests") == [(40, "COMPLETED")]
    faults = await tables.rows("SELECT topic, reason FROM projection_faults")
    assert [topic for topic, _ in faults] == ["evm.events"]
    assert "CheckViolation" in faults[0][1]
    heads = await tables.rows("SELECT chain_id, to_block FROM chain_heads ORDER BY 1")
    assert heads == [(1, 999), (2, 5)]
    offsets = await load_offsets(tables.connection, ALL_PARTITIONS)
    assert {seat: end for seat, end in offsets.items() if end} == dict(tables.log.ends)


async def test_nul_and_odd_texts_come_back_as_they_were(tables: Tables) -> None:
    odd = [received("a\x00b"), received("a␀0b"), received("a␀b", fiat_ref="\x00␀\ud7ff😀")]
    await tables.write(*odd)
    rows = await tables.rows("SELECT request_key, state::text FROM requests")
    states = [decode_state(from_jsonb(state)) for _, state in rows]
    assert {state.key for state in states} == {"a\x00b", "a␀0b", "a␀b"}
    assert sorted(map(repr, odd)) == sorted(repr(state.received) for state in states)


async def test_conflicts_and_repetitions_stay_in_the_timeline(tables: Tables) -> None:
    await tables.write(
        received("m-1"),
        received("m-1"),
        received("m-1", amount="2"),
        included("m-1"),
        *to_submitted("m-1"),
    )
    verdicts = await tables.rows('SELECT verdict FROM request_facts ORDER BY "offset"')
    assert [verdict for (verdict,) in verdicts] == [
        "APPLIED",
        "REPEATED",
        "CONFLICT",
        "OUT_OF_ORDER",
        *["APPLIED"] * 4,
    ]
    assert await tables.rows("SELECT amount, stage FROM requests") == [
        ("1000000000000000000", "SUBMITTED")
    ]


async def test_offsets_move_past_transaction_markers(tables: Tables) -> None:
    tables.log.ends["lanes", 3] = 17
    await tables.write_raw([])
    moved = await tables.rows(
        "SELECT topic, partition FROM projection_offsets WHERE next_offset=17"
    )
    assert moved == [("lanes", 3)]
