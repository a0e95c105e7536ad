"""Two sets of tables, row by row: the live ones in one snapshot, and those of a replay.

Both sides stream the hashes of their rows in the order of the keys, so memory stays flat however
large the tables are. Only for the first difference are the rows themselves fetched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from projections.rebuilding.schemas import Connection
from projections.rebuilding.tables import COMPARED, Table

FETCH_ROWS = 5000


@dataclass(slots=True)
class Tally:
    """One table: rows that are the same, that differ, only on the log, only in the live table."""

    table: str
    same: int = 0
    different: int = 0
    missing: int = 0
    surplus: int = 0

    @property
    def clean(self) -> bool:
        return not (self.different or self.missing or self.surplus)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first one: `column` is None where a whole row is on one side only. Values as text."""

    table: str
    key: dict[str, str]
    column: str | None
    live: str | None
    replayed: str | None
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        if self.column is not None:
            more = f" (columns that differ: {', '.join(self.columns)})"
            return (
                f"{self.table} [{key}] {self.column}: live {self.live!r}, "
                f"by the log {self.replayed!r}{more}"
            )
        if self.live is None:
            return f"{self.table} [{key}]: the log has this row, the live table has not"
        return f"{self.table} [{key}]: the live table has this row, the log has not"


@dataclass(slots=True)
class Comparison:
    tallies: list[Tally] = field(default_factory=list)
    first: Difference | None = None

    @property
    def clean(self) -> bool:
        return all(tally.clean for tally in self.tallies)


async def compare(live: Connection, replayed: Connection) -> Comparison:
    """Both sessions must be inside a transaction; each sees its own schema."""
    result = Comparison()
    for table in COMPARED:
        columns = await _columns(live, table)
        tally = Tally(table.name)
        result.tallies.append(tally)
        ours, theirs = _hashes(live, table, columns), _hashes(replayed, table, columns)
        left, right = await anext(ours, None), await anext(theirs, None)
        while left is not None or right is not None:
            key = _first(left, right)
            at_left = left is not None and left[0] == key
            at_right = right is not None and right[0] == key
            if at_left and at_right and left[1] == right[1]:  # type: ignore[index]
                tally.same += 1
            else:
                tally.different += at_left and at_right
                tally.missing += not at_left
                tally.surplus += not at_right
                if result.first is None:
                    result.first = await _difference(live, replayed, table, columns, key)
            left = await anext(ours, None) if at_left else left
            right = await anext(theirs, None) if at_right else right
    return result


_Row = tuple[tuple[Any, ...], str]


def _first(left: _Row | None, right: _Row | None) -> tuple[Any, ...]:
    keys = [row[0] for row in (left, right) if row is not None]
    return min(keys)


async def _columns(connection: Connection, table: Table) -> list[str]:
    found = await connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
        "AND NOT attisdropped ORDER BY attname",
        [table.name],
    )
    return [name for (name,) in await found.fetchall() if name not in table.circumstances]


async def _hashes(connection: Connection, table: Table, columns: list[str]) -> AsyncIterator[_Row]:
    """Key and MD5 of each row. Texts are ordered by their bytes, as Python orders them."""
    keys = sql.SQL(", ").join(sql.SQL(name) for name in table.key)
    texts = {name for name in table.key if await _is_text(connection, table, name)}
    ordered = sql.SQL(", ").join(
        sql.SQL('{} COLLATE "C"' if name in texts else "{}").format(sql.SQL(name))
        for name in table.key
    )
    whole = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL(
        "SELECT {keys}, md5(ROW({whole})::text) FROM {table} WHERE {where} ORDER BY {ordered}"
    ).format(
        keys=keys,
        whole=whole,
        table=sql.Identifier(table.name),
        where=sql.SQL(table.where),
        ordered=ordered,
    )
    async with connection.cursor(name=f"rows_of_{table.name}") as cursor:
        cursor.itersize = FETCH_ROWS
        await cursor.execute(statement)
        async for row in cursor:
            yield tuple(row[:-1]), row[-1]


async def _is_text(connection: Connection, table: Table, name: str) -> bool:
    found = await connection.execute(
        "SELECT atttypid = 'text'::regtype FROM pg_attribute WHERE attrelid = %s::regclass "
        "AND attname = %s",
        [table.name, name.strip('"')],
    )
    row = await found.fetchone()
    return bool(row and row[0])


async def _difference(
    live: Connection,
    replayed: Connection,
    table: Table,
    columns: list[str],
    key: tuple[Any, ...],
) -> Difference:
    ours = await _texts(live, table, columns, key)
    theirs = await _texts(replayed, table, columns, key)
    named = {name.strip('"'): str(value) for name, value in zip(table.key, key, strict=True)}
    if ours is None or theirs is None:
        left, right = (None if row is None else "a row" for row in (ours, theirs))
        return Difference(table.name, named, None, left, right)
    differing = tuple(name for name in columns if ours[name] != theirs[name])
    first = differing[0]
    return Difference(table.name, named, first, ours[first], theirs[first], differing)


async def _texts(
    connection: Connection, table: Table, columns: list[str], key: tuple[Any, ...]
) -> dict[str, str | None] | None:
    shown = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in columns)
    at = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.SQL(name)) for name in table.key)
    found = await connection.execute(
        sql.SQL("SELECT {} FROM {} WHERE {} AND {}").format(
            shown, sql.Identifier(table.name), at, sql.SQL(table.where)
        ),
        list(key),
    )
    row = await found.fetchone()
    return None if row is None else dict(zip(columns, row, strict=True))
