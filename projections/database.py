"""PostgreSQL: connections, the two advisory locks, and the schema's migrations.

The URL holds the password: it is taken apart here and shown nowhere.
"""

from __future__ import annotations

import asyncio
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import structlog
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.postgres_troubles import advice

log = structlog.get_logger()

SCHEMA_LOCK = 7_305_520_001
"""Advisory lock: one process at a time changes the schema."""
WRITER_LOCK = 7_305_520_002
"""Advisory lock: one process at a time writes the projection."""

CONNECT_TIMEOUT_SECONDS = 5
SCHEMA_LOCK_TIMEOUT_SECONDS = 120


def connection_parameters(database_url: str) -> dict[str, Any]:
    """What `psycopg.connect` takes. Raises ConfigurationError without showing the URL.

    Keepalives and time limits end a session whose peer vanished within about 20 s, so that a dead
    writer's lock does not outlive it for hours.
    """
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            ["DATABASE_URL: cannot be read; give postgresql://user:password@host/database"]
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigurationError(["DATABASE_URL: must begin with postgresql://"])
    parts: dict[str, Any] = {
        **url.translate_connect_args(username="user", database="dbname"),
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "tcp_user_timeout": 20_000,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "application_name": "projections",
    }
    for name, value in url.query.items():
        parts[name] = value if isinstance(value, str) else ",".join(value)
    return parts


async def connect(database_url: str) -> psycopg.AsyncConnection[Any]:
    """One autocommit session: transactions are opened where they are meant."""
    return await psycopg.AsyncConnection.connect(
        **connection_parameters(database_url), autocommit=True
    )


async def held_offsets(database_url: str) -> dict[tuple[str, int], int]:
    """How far the tables are, by topic and partition; empty where there are none."""
    connection = await connect(database_url)
    try:
        found = await connection.execute("SELECT to_regclass('projection_offsets')")
        row = await found.fetchone()
        if row is None or row[0] is None:
            return {}
        found = await connection.execute(
            "SELECT topic, partition, next_offset FROM projection_offsets"
        )
        return {(topic, number): offset for topic, number, offset in await found.fetchall()}
    finally:
        await connection.close()


def describe(error: BaseException, *, advised: bool = True) -> str:
    """One short line for logs and health, and (`advised`) what to do where that is known: no
    traceback, no statement, no values of rows."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        message = error.diag.message_primary
    else:
        message = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    if isinstance(error, OrchestratorError) or message.startswith(f"{name}: "):
        return message[:300]
    told = f"{name}: {message[:300]}" if message else name
    of_database = isinstance(error, psycopg.Error | SQLAlchemyError)
    known = advice(str(error)) if advised and of_database else None
    return f"{told}; {known}" if known else told


def trace_of(error: BaseException) -> str:
    """The traceback as plain text. A log's own formatter may add local variables, and among those
    is the database's password."""
    return "".join(traceback.format_exception(error))


@cache
def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def schema_head() -> str:
    """The newest revision this code knows; what `alembic_version` must say."""
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    assert head is not None
    return head


async def migrate(database_url: str, schema: str | None = None) -> None:
    """Bring the schema to the head. Safe to call from many processes at once: an advisory lock
    lets one change it while the others wait, and find nothing left to do. `schema` names another
    one than the live one: nothing outside it is seen."""
    await asyncio.to_thread(_migrate, database_url, schema)


def _migrate(database_url: str, schema: str | None) -> None:
    parameters = connection_parameters(database_url)
    if schema is not None:
        options = f"{parameters.get('options', '')} -c search_path={schema}"
        parameters["options"] = options.strip()
    engine = create_engine(
        "postgresql+psycopg://", connect_args=parameters, poolclass=NullPool, hide_parameters=True
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
        guard.execute(text(f"SET lock_timeout = '{SCHEMA_LOCK_TIMEOUT_SECONDS}s'"))
        guard.execute(text("SELECT pg_advisory_lock(:key)"), {"key": SCHEMA_LOCK})
        with engine.begin() as connection:
            _upgrade(connection)
        guard.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": SCHEMA_LOCK})
    log.info("schema_ready", revision=schema_head())


def _upgrade(connection: Connection) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
