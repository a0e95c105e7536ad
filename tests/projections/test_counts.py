"""The kept counts equal a count of the rows, whatever is written, refused or taken back."""

from __future__ import annotations

import random

import pytest

from projections.database import connect
from projections.store import Store
from projections.writer import Superseded, Writer
from schemas.base import RequestType
from tests.projections.conftest import Tables
from tests.projections.facts import (
    MemoryLog,
    evidence,
    included,
    received,
    rejected,
    to_submitted,
    whole_life,
)

COUNTED = (
    "SELECT type, status, stage, coalesce(chain_id, 0), count(*), "
    "sum(CASE WHEN amount ~ '^[0-9]{1,78}$' THEN amount::numeric ELSE 0 END) "
    "FROM requests GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
)
KEPT = (
    "SELECT type, status, stage, chain_id, count, amount FROM request_counts "
    "WHERE count <> 0 OR amount <> 0 ORDER BY 1, 2, 3, 4"
)


async def agrees(tables: Tables) -> None:
    assert await tables.rows(KEPT) == await tables.rows(COUNTED)


async def test_counts_follow_every_batch(tables: Tables) -> None:
    lives = [whole_life(f"m-{n}", chain_id=5920 + n % 3) for n in range(12)]
    lives += [whole_life("r-1", type=RequestType.REDEEM), [evidence("stray")]]
    lives += [[received("odd", amount="garbage", user="nobody"), rejected("odd")]]
    lives += [[received("huge", amount=str(2**256 - 1)), *to_submitted("huge"), included("huge")]]
    facts = [fact for life in lives for fact in life]
    writer = Writer(tables.connection, kept_states=3)
    shuffle = random.Random(7)
    while facts:
        size = shuffle.randint(1, 9)
        part, facts = facts[:size], facts[size:]
        await tables.write_raw(tables.log.append([*part, *part[:2]]), writer)
        await agrees(tables)
    assert await tables.rows(COUNTED)


async def test_a_batch_that_fails_counts_nothing(tables: Tables) -> None:
    await tables.write(*whole_life("m-1"))
    before = await tables.rows(KEPT)
    batch = tables.log.append(whole_life("m-2"))
    with pytest.raises(Superseded):
        wrong = {(record.topic, record.partition): 999 for record in batch}
        end = dict.fromkeys(wrong, 1000)
        await Writer(tables.connection).write(batch, wrong, end)
    assert await tables.rows(KEPT) == before


async def test_rows_removed_by_hand_are_not_counted(tables: Tables) -> None:
    await tables.write(*whole_life("m-1"), received("m-2"))
    await tables.connection.execute("DELETE FROM requests WHERE request_key = 'm-2'")
    await agrees(tables)
    await tables.connection.execute("TRUNCATE requests")
    assert await tables.rows(KEPT) == []


async def test_dead_letters_and_faults_are_tallied_once(tables: Tables, database: str) -> None:
    letters = [MemoryLog().raw("requests", 3, b"garbage"), MemoryLog().raw("lanes", 1, b"{}")]
    await tables.write_raw(letters)
    await tables.connection.execute(
        "INSERT INTO dead_letters SELECT 'dead:' || n, 'o', 'CONFLICT', 'd', 1, 'h', now(), "
        "'dead-letters', 0, n FROM generate_series(1, 5) AS n"
    )
    await tables.connection.execute(
        "INSERT INTO dead_letters SELECT 'dead:' || n, 'o', 'CONFLICT', 'd', 1, 'h', now(), "
        "'dead-letters', 0, n FROM generate_series(4, 6) AS n ON CONFLICT DO NOTHING"
    )
    store = Store(database)
    await store.open()
    try:
        assert await store.dead_letters() == {"CONFLICT": 6}
        assert await store.faults() == 2
        assert (await store.counts()) == []
    finally:
        await store.close()


async def test_two_writers_at_once_count_exactly(tables: Tables, database: str) -> None:
    """Writers of different partitions meet on the same rows of the counts."""
    other = await connect(database)
    try:
        async with tables.connection.transaction():
            await tables.write(received("a"))
        async with other.transaction():
            await other.execute(
                "INSERT INTO requests SELECT * FROM json_populate_recordset(NULL::requests, "
                "(SELECT json_agg(jsonb_set(to_jsonb(r), '{request_key}', '\"b\"')) "
                "FROM requests r))"
            )
    finally:
        await other.close()
    await agrees(tables)
