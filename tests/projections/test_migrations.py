"""The schema: up, again, from many at once; and the URL that is shown nowhere."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest

import projections.migrations
from orchestrator.errors import ConfigurationError
from projections.database import connect, connection_parameters, migrate, schema_head
from schemas.evm import ChainHalted

releases = importlib.import_module("projections.migrations.versions.0010_releases")


def created() -> set[str]:
    """The tables that the migrations say they create."""
    folder = Path(projections.migrations.__path__[0]) / "versions"
    names = [path.stem for path in folder.glob("[0-9]*.py")]
    modules = [importlib.import_module(f"projections.migrations.versions.{n}") for n in names]
    return {table for module in modules for table in getattr(module, "TABLES", ())}


async def test_many_at_once_then_again(empty_database: str) -> None:
    await asyncio.gather(*(migrate(empty_database) for _ in range(4)))
    await migrate(empty_database)
    link = await connect(empty_database)
    try:
        found = await link.execute("SELECT version_num FROM alembic_version")
        assert await found.fetchall() == [(schema_head(),)]
        locks = await link.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert await locks.fetchall() == [(0,)]
        tables = await link.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        assert {name for (name,) in await tables.fetchall()} == {*created(), "alembic_version"}
    finally:
        await link.close()


async def test_a_chain_that_is_halted_while_the_tables_change_can_be_released(
    database: str,
) -> None:
    link = await connect(database)
    halt = ChainHalted(
        chain_id=7, block_number=12, block_hash="0x" + "ab" * 32, reason="of the follower"
    )
    words = f"block 12 was {halt.block_hash} and is now none: a reorganisation deeper than 2"
    try:
        await link.execute(
            "INSERT INTO chain_heads (chain_id, halted_reason, halted_at) VALUES (7, %s, now())",
            [words],
        )
        await link.execute(releases.HALT)
        found = await link.execute("SELECT halt FROM chain_heads")
        assert await found.fetchall() == [(halt.id,)]
    finally:
        await link.close()


@pytest.mark.parametrize(
    "url",
    ["", "hunter2", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port/d"],
)
def test_a_bad_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connection_parameters(url)
    assert "hunter2" not in str(caught.value)


def test_urls_of_all_spellings() -> None:
    for scheme in ("postgresql", "postgresql+psycopg"):
        parts = connection_parameters(f"{scheme}://u:p%40ss@db:5433/name?sslmode=require")
        assert (parts["user"], parts["password"], parts["host"]) == ("u", "p@ss", "db")
        assert (parts["port"], parts["dbname"], parts["sslmode"]) == (5433, "name", "require")
