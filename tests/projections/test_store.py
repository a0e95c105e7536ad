"""Readers that a rebuild's swap gets in the way of."""

from __future__ import annotations

import asyncio
from typing import Any, LiteralString

import psycopg
import pytest

from projections.database import connect
from projections.store import Entangled, Store

BOTH: LiteralString = "SELECT count(*) AS n FROM requests, lanes"


async def waits_for_a_lock(database: str) -> None:
    link = await connect(database)
    try:
        async with asyncio.timeout(60):
            while True:
                found = await link.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND datname = current_database()"
                )
                if await found.fetchone() == (1,):
                    return
                await asyncio.sleep(0.02)
    finally:
        await link.close()


async def test_a_reader_that_met_a_swap_halfway_reads_again(
    database: str, connection: psycopg.AsyncConnection[Any]
) -> None:
    """It holds the first table and waits for the second, the swap the other way round. PostgreSQL
    ends who has waited for `deadlock_timeout`: here always the reader."""
    store = Store(database)
    await store.open()
    try:
        await connection.execute("SET deadlock_timeout = '1h'")
        async with connection.transaction():
            await connection.execute("LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE")
            reading = asyncio.create_task(store.rows(BOTH))
            await waits_for_a_lock(database)
            await connection.execute("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
        assert await reading == [{"n": 0}]
    finally:
        await store.close()


async def test_it_gives_up_at_last(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(database)
    tries = []

    async def entangled() -> None:
        tries.append(1)
        raise Entangled("always")

    monkeypatch.setattr(store, "_cursor", lambda: _Failing(entangled))
    with pytest.raises(Entangled):
        await store.rows(BOTH)
    assert len(tries) == 4


class _Failing:
    def __init__(self, fail: Any) -> None:
        self._fail = fail

    async def __aenter__(self) -> None:
        await self._fail()

    async def __aexit__(self, *_: object) -> None: ...
