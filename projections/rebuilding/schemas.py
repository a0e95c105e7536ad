"""The schemas of a rebuild: one beside the live one, filled, indexed, and put in its place.

The live tables stay where every session finds them (the first schema of the search path). A swap
moves tables, not sessions: after its commit each statement, prepared ones too, finds the new
tables under the same names, because PostgreSQL resolves names anew when a table is altered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.errors import OrchestratorError
from projections.database import connect, connection_parameters, migrate
from projections.rebuilding.tables import REBUILT

Connection = psycopg.AsyncConnection[Any]

REBUILD_LOCK = 7_305_520_003
"""Advisory lock: one rebuild or verification at a time."""
LOCK_WAITS_MS = (200, 300, 500, 500, 800, 800, 1200, 2000, 3000, 5000, 5000)
"""How long each attempt of a swap may wait for the last reader. New readers queue behind it that
long, so the first ones are short; the long ones outwait an automatic vacuum, which yields only
after a second."""
STUCK_SECONDS = 120


class CannotRebuild(OrchestratorError):
    """Why nothing was changed; what a person can do."""


async def connect_to(database_url: str, schema: str) -> Connection:
    """A session that sees this schema alone."""
    parameters = connection_parameters(database_url)
    options = f"{parameters.get('options', '')} -c search_path={schema}".strip()
    parameters["options"] = f"{options} -c synchronous_commit=off -c maintenance_work_mem=256MB"
    return await psycopg.AsyncConnection.connect(**parameters, autocommit=True)


async def alone(database_url: str) -> Connection:
    """A session that holds the rebuild's lock until it is closed."""
    connection = await connect(database_url)
    try:
        await connection.execute("SET lock_timeout = '15s'")
        await connection.execute("SELECT pg_advisory_lock(%s)", [REBUILD_LOCK])
        await connection.execute("RESET lock_timeout")
    except psycopg.errors.LockNotAvailable:
        await connection.close()
        raise CannotRebuild(
            "another rebuild or verification runs on this database; wait for its end"
        ) from None
    except BaseException:
        await connection.close()
        raise
    return connection


async def one(connection: Connection, statement: Any, values: Any = None) -> Any:
    """The first column of the first row, or None."""
    row = await (await connection.execute(statement, values)).fetchone()
    return None if row is None else row[0]


async def live_schema(connection: Connection) -> str:
    return str(await one(connection, "SELECT current_schema()"))


async def create(database_url: str, connection: Connection, schema: str) -> None:
    """An empty schema with all tables of this version; what a killed run left is dropped."""
    await drop(connection, schema)
    try:
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    except psycopg.errors.InsufficientPrivilege:
        raise CannotRebuild(
            f"the database's user may not create the schema {schema}: GRANT CREATE ON DATABASE"
        ) from None
    await migrate(database_url, schema)


async def drop(connection: Connection, schema: str) -> None:
    drop_it = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
    async with connection.transaction():
        await connection.execute("SET LOCAL client_min_messages = warning")
        await connection.execute(drop_it)


async def unindex(connection: Connection, schema: str) -> list[tuple[str, bool]]:
    """Drop the indexes of the bulky tables; the statements that make them again, and whether each
    is of a key (which the writer needs) or only for reading."""
    bulky = [table.name for table in REBUILT if table.bulky]
    found = await connection.execute(
        "SELECT held.relname, made.relname, pg_get_indexdef(made.oid), rule.conname, "
        "pg_get_constraintdef(rule.oid) FROM pg_index "
        "JOIN pg_class AS made ON made.oid = indexrelid "
        "JOIN pg_class AS held ON held.oid = indrelid "
        "LEFT JOIN pg_constraint AS rule ON rule.conindid = indexrelid AND rule.contype IN "
        "('p', 'u') WHERE made.relnamespace = %s::regnamespace AND held.relname = ANY(%s) "
        "ORDER BY held.relname, made.relname",
        [schema, bulky],
    )
    again: list[tuple[str, bool]] = []
    for table, index, definition, rule, clause in await found.fetchall():
        if rule is None:
            await connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
            again.append((definition, False))
            continue
        names = sql.Identifier(table), sql.Identifier(rule)
        await connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(*names))
        text = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(*names).as_string(connection)
        again.append((text + clause, True))
    return sorted(again, key=lambda item: not item[1])


async def share_rights(connection: Connection, live: str, schema: str) -> None:
    """What other roles may do with the live tables, they may do with the new ones."""
    found = await connection.execute(
        "SELECT relname, CASE grantee WHEN 0 THEN NULL ELSE grantee::regrole::text END, "
        "privilege_type, is_grantable FROM pg_class, aclexplode(relacl) "
        "WHERE relnamespace = %s::regnamespace AND relname = ANY(%s) AND grantee <> relowner",
        [live, [table.name for table in REBUILT]],
    )
    for table, grantee, privilege, grantable in await found.fetchall():
        await connection.execute(
            sql.SQL("GRANT {} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.Identifier(schema, table),
                sql.SQL("PUBLIC") if grantee is None else sql.SQL(grantee),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )


async def swap(
    connection: Connection,
    names: tuple[str, str, str],
    wait_ms: int,
    meet: Callable[[], Awaitable[None]],
    timed: Callable[[str], None],
) -> None:
    """Put the tables of `names[1]` in the place of those of `names[0]`, which move to `names[2]`.

    First the writer alone is held (it begins every batch at its offsets); `meet` brings the new
    tables up to it, while readers still read; then all locks, and the moves. One transaction:
    whatever fails or is killed leaves the live tables as they were. Raises LockNotAvailable.
    """
    live, fresh, old = names
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{wait_ms}ms'")
        await connection.execute(
            f"SET LOCAL idle_in_transaction_session_timeout = '{STUCK_SECONDS}s'"
        )
        offsets = sql.Identifier(live, REBUILT[0].name)
        await connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(offsets))
        timed("held")
        await meet()
        timed("met")
        tables = [sql.Identifier(live, table.name) for table in REBUILT]
        await connection.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(tables))
        )
        timed("locked")
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(old)))
        for origin, goal in ((live, old), (fresh, live)):
            for statement in await _moves(connection, origin, goal):
                await connection.execute(statement)
    timed("swapped")


async def _moves(connection: Connection, origin: str, goal: str) -> list[Any]:
    """Tables with their indexes and triggers, and the functions that the triggers call."""
    move = sql.SQL("ALTER {} {} SET SCHEMA {}")
    to = sql.Identifier(goal)
    moves = [
        move.format(sql.SQL("TABLE"), sql.Identifier(origin, table.name), to) for table in REBUILT
    ]
    found = await connection.execute(
        "SELECT DISTINCT called.proname FROM pg_trigger "
        "JOIN pg_class AS held ON held.oid = tgrelid "
        "JOIN pg_proc AS called ON called.oid = tgfoid WHERE NOT tgisinternal "
        "AND held.relnamespace = %s::regnamespace AND called.pronamespace = %s::regnamespace "
        "AND held.relname = ANY(%s)",
        [origin, origin, [table.name for table in REBUILT]],
    )
    for (name,) in await found.fetchall():
        whole = sql.SQL("{}()").format(sql.Identifier(origin, name))
        moves.append(move.format(sql.SQL("FUNCTION"), whole, to))
    return moves
