"""The guard's record on a real PostgreSQL: the suite that its model passes, kills, and outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from orchestrator.adapters.postgres_guard import PostgresGuard, parameters
from orchestrator.core.guarding import Entry, RefusalKind
from orchestrator.errors import ConfigurationError, GuardUnavailable
from tests.adapters.guard_contract import MARGIN_SECONDS, GuardContract, entry, other
from tests.projections.conftest import new_database


@pytest.fixture
async def guard(empty_database: str) -> AsyncIterator[PostgresGuard]:
    made = PostgresGuard(empty_database, MARGIN_SECONDS, makes_schema=True)
    yield made
    await made.close()


@pytest.fixture
async def another(stack) -> AsyncIterator[PostgresGuard]:
    made = PostgresGuard(new_database(stack), MARGIN_SECONDS, makes_schema=True)
    yield made
    await made.close()


@pytest.fixture
def now() -> int:
    return int(time.time())


class TestPostgresGuard(GuardContract):
    pass


async def test_two_processes_share_one_record(empty_database, guard):
    """Each with a session of its own; of the two digests of a request one is ever allowed."""
    await guard.prepare()
    second = PostgresGuard(empty_database, MARGIN_SECONDS)
    try:
        for number in range(40):
            verdicts = await asyncio.gather(guard.claim(entry(number)), second.claim(other(number)))
            assert sum(verdict is None for verdict in verdicts) == 1
    finally:
        await second.close()


async def test_without_tables_nothing_is_allowed(empty_database):
    """A signing process never makes an empty record of its own on a server of the guard."""
    guard = PostgresGuard(empty_database, MARGIN_SECONDS)
    with pytest.raises(GuardUnavailable, match="orchestrator init"):
        await guard.claim(entry())
    assert guard.up is False
    await guard.prepare()
    await guard.prepare()
    assert await guard.claim(entry()) is None
    assert guard.up is True
    await guard.close()


async def test_a_lost_session_is_an_error_and_then_heals(empty_database, guard):
    assert await guard.claim(entry(1)) is None
    with psycopg.connect(empty_database, autocommit=True) as link:
        link.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'signing guard' AND datname = current_database()"
        )
    with pytest.raises(GuardUnavailable):
        await guard.claim(entry(2))
    assert await guard.claim(entry(2)) is None
    assert await guard.entries() == [entry(1), entry(2)]


async def test_nobody_listens_nothing_is_allowed():
    guard = PostgresGuard("postgresql://u:geheim@127.0.0.1:1/x", MARGIN_SECONDS)
    with pytest.raises(GuardUnavailable) as told:
        await guard.claim(entry())
    assert "geheim" not in str(told.value)
    await guard.close()


async def test_a_claim_is_on_the_disk_before_it_is_answered(empty_database, guard):
    await guard.claim(entry())
    link = guard._link
    assert link is not None
    [value] = await (await link.execute("SHOW synchronous_commit")).fetchone()
    assert value == "on"
    with psycopg.connect(empty_database) as reader:
        found = reader.execute("SELECT digest FROM signing_guard.digests").fetchall()
    assert found == [(entry().digest,)]


async def test_a_claimer_that_is_cancelled_harms_no_other(guard):
    tasks = [asyncio.create_task(guard.claim(entry(number))) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[1::2] == [None] * 25
    assert await guard.claim(entry(0)) is None


async def test_refusals_are_kept(empty_database, guard):
    await guard.claim(entry())
    for _ in range(2):
        refusal = await guard.claim(other())
        assert refusal is not None and refusal.kind is RefusalKind.EQUIVOCATION
    with psycopg.connect(empty_database) as reader:
        found = reader.execute("SELECT request_key, kind FROM signing_guard.refusals").fetchall()
    assert found == [("mint-1", "EQUIVOCATION")]


async def test_the_signing_role_adds_and_never_changes(empty_database, guard):
    await guard.prepare()
    with psycopg.connect(empty_database, autocommit=True) as link:
        link.execute("DROP ROLE IF EXISTS only_signs")
        link.execute("CREATE ROLE only_signs NOLOGIN")
        link.execute("GRANT USAGE ON SCHEMA signing_guard TO only_signs")
        link.execute("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA signing_guard TO only_signs")
        await guard.claim(entry(1))
        assert guard._link is not None
        await guard._link.execute("SET ROLE only_signs")
        assert await guard.claim(entry(2)) is None
        assert await guard.claim(other(2)) is not None
        await guard._link.execute("RESET ROLE")
        link.execute("DROP OWNED BY only_signs")
        link.execute("DROP ROLE only_signs")


@pytest.mark.parametrize("url", ["mysql://u:geheim@h/d", "geheim"])
def test_a_bad_url_is_refused_and_not_shown(url):
    with pytest.raises(ConfigurationError) as told:
        parameters(url)
    assert "geheim" not in str(told.value) and "SIGNING_GUARD_URL" in str(told.value)


def test_an_export_is_read_back_and_a_changed_one_refused():
    from orchestrator.commands.guard import read, written

    entries: list[Entry] = [entry(1), other(2), entry(3, request_key="a\0b")]
    text = written(entries)
    assert read(text) == entries
    assert read(written([])) == []
    for broken in (text[:-20], text.replace(b"5920", b"5921", 1), text.split(b"\n", 1)[1], b""):
        with pytest.raises(ValueError, match=r"."):
            read(broken)
