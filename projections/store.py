"""Reads for the API. Every method raises StoreUnavailable when there is no answer to be had."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from orchestrator.core.lifecycle import TERMINAL, Status
from orchestrator.errors import OrchestratorError
from projections.database import connection_parameters, describe, schema_head
from projections.lanes import OPEN_STATES
from projections.queries import ListQuery, cursor_of
from projections.text import from_column, to_column
from schemas.base import RequestType

POOL_CONNECTIONS = 8
POOL_WAIT_SECONDS = 2.0
SHORT_WAIT_SECONDS = 0.2
DOWN_SECONDS = 1.0
"""For so long after it did not answer, the database is given `SHORT_WAIT_SECONDS` only: an outage
must not keep every request waiting."""
STATEMENT_TIMEOUT_MS = 5000
TIMELINE_FACTS = 1000
AMBIGUOUS_KEYS = 20
ENTANGLED_READS = 4

T = TypeVar("T")
Row = dict[str, Any]

_SHOWN: LiteralString = (
    "request_key, request_id, type, status, stage, reason, error_message, user_address, amount, "
    "chain_id, tx_hash, fiat_ref, attempt, created_at, updated_at, "
    "state #>> '{assigned,wallet}' AS wallet"
)


class StoreUnavailable(OrchestratorError):
    """The database does not answer, or has not the schema yet. Ask again later."""


class SchemaMissing(StoreUnavailable):
    """The database answers, but has not this version's tables."""


class Entangled(StoreUnavailable):
    """A reader and a rebuild's swap waited for each other's tables, and PostgreSQL ended the
    reader. Nothing is wrong: reading once more waits for the swap."""


async def _repeated(read: Callable[[], Awaitable[T]]) -> T:
    for _ in range(ENTANGLED_READS - 1):
        try:
            return await read()
        except Entangled:
            continue
    return await read()


class Store:
    """A pool of read sessions. It opens without the database and finds it when it is there.

    Each statement is planned for its own values: a plan for any value reads a million rows for a
    rare one, measured on searches."""

    def __init__(self, database_url: str) -> None:
        parameters = connection_parameters(database_url)
        parameters["application_name"] = "projections-api"
        parameters["options"] = (
            f"{parameters.get('options', '')} -c statement_timeout={STATEMENT_TIMEOUT_MS} "
            "-c default_transaction_read_only=on -c plan_cache_mode=force_custom_plan"
        ).strip()
        self._pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]](
            kwargs={**parameters, "autocommit": True, "row_factory": dict_row},
            min_size=1,
            max_size=POOL_CONNECTIONS,
            timeout=POOL_WAIT_SECONDS,
            reconnect_timeout=5,
            check=AsyncConnectionPool.check_connection,
            open=False,
            name="store",
        )

        self._down_until = float("-inf")

    async def open(self) -> None:
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def _cursor(self) -> AsyncIterator[psycopg.AsyncCursor[DictRow]]:
        try:
            down = time.monotonic() < self._down_until
            wait = SHORT_WAIT_SECONDS if down else POOL_WAIT_SECONDS
            async with self._pool.connection(wait) as connection, connection.cursor() as cursor:
                yield cursor
        except (PoolTimeout, PoolClosed):
            self._down_until = time.monotonic() + DOWN_SECONDS
            raise StoreUnavailable("the database does not answer") from None
        except psycopg.errors.QueryCanceled:
            raise StoreUnavailable("the database took too long to answer") from None
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            raise SchemaMissing("the database has not this version's schema yet") from None
        except psycopg.errors.DeadlockDetected:
            raise Entangled("the tables are just being replaced; ask again") from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise StoreUnavailable(f"the database does not answer ({describe(error)})") from None

    async def _all(self, statement: LiteralString, values: list[Any] | None = None) -> list[Row]:
        async def read() -> list[Row]:
            async with self._cursor() as cursor:
                await cursor.execute(statement, values)
                return await cursor.fetchall()

        return await _repeated(read)

    async def rows(self, statement: LiteralString, values: list[Any] | None = None) -> list[Row]:
        """What a reading module of its own asks for."""
        return await self._all(statement, values)

    async def snapshot(self, *statements: tuple[LiteralString, list[Any]]) -> list[list[Row]]:
        """The rows of each statement, all of them as of one moment."""

        async def read() -> list[list[Row]]:
            answers = []
            async with self._cursor() as cursor, cursor.connection.transaction():
                await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                for statement, values in statements:
                    await cursor.execute(statement, values)
                    answers.append(await cursor.fetchall())
            return answers

        return await _repeated(read)

    async def find(self, key_or_id: str, chain_id: int | None = None) -> list[Row]:
        """The request with this key; without one, all requests with this id (at most 20). With
        `chain_id`, only those of that chain count."""
        text = to_column(key_or_id)
        chain: LiteralString = "" if chain_id is None else " AND chain_id = %s"
        values = [text] if chain_id is None else [text, chain_id]
        exact = await self._all(
            f"SELECT {_SHOWN} FROM requests WHERE request_key = %s{chain}",  # noqa: S608
            values,
        )
        return exact or await self._all(
            f"SELECT {_SHOWN} FROM requests WHERE request_id = %s{chain} "  # noqa: S608
            f"ORDER BY request_key LIMIT {AMBIGUOUS_KEYS}",
            values,
        )

    async def state(self, request_key: str) -> str | None:
        """The folded state, as JSON text for `from_jsonb`."""
        rows = await self._all(
            "SELECT state::text AS state FROM requests WHERE request_key = %s", [request_key]
        )
        return rows[0]["state"] if rows else None

    async def timeline(self, request_key: str, at: datetime | None = None) -> list[Row]:
        """The newest facts on the request up to `at`, oldest first; at most 1000."""
        rows = await self._all(
            'SELECT kind, at, topic, partition, "offset", verdict, '  # noqa: S608
            "value ->> 'tx_hash' AS tx_hash, value ->> 'block_number' AS block_number, "
            "value ->> 'block_hash' AS block_hash FROM request_facts WHERE request_key = %s "
            "AND (%s::timestamptz IS NULL OR at <= %s) "
            'ORDER BY at DESC, topic DESC, partition DESC, "offset" DESC '
            f"LIMIT {TIMELINE_FACTS}",
            [request_key, at, at],
        )
        return rows[::-1]

    async def page(self, query: ListQuery) -> tuple[list[Row], str | None]:
        """Newest first, ties by key; and the cursor of the next page, None after the last one.

        `created_at` and key of a request never change, so paging neither skips nor repeats one,
        whatever happens meanwhile; requests newer than the first page are not seen.
        """
        rows = await self._all(*page_statement(query))
        shown = rows[: query.limit]
        return shown, cursor_of(shown[-1]) if len(rows) > query.limit else None

    async def stages(self) -> list[Row]:
        """`type`, `stage`, `count`, and for open stages `age_seconds` of the oldest; stages that
        hold any. Reads the kept counts and one index entry a stage, never the requests."""
        return await self._all(
            "SELECT type, stage, count, CASE WHEN stage <> ALL(%s) THEN (SELECT "
            "extract(epoch FROM now() - min(created_at))::float8 FROM requests "
            "WHERE requests.type = held.type AND requests.stage = held.stage) END AS age_seconds "
            "FROM (SELECT type, stage, sum(count)::int8 AS count FROM request_counts "
            "GROUP BY type, stage HAVING sum(count) > 0) AS held",
            [list(TERMINAL)],
        )

    async def counts(self) -> list[Row]:
        """`type`, `status`, `stage`, `chain_id` (0: none known), `count`, and `amount`, the sum in
        base units (int). Kept exactly by the writer's own transactions."""
        rows = await self._all(
            "SELECT type, status, stage, chain_id, count, amount FROM request_counts "
            "WHERE count > 0 ORDER BY type, stage, chain_id"
        )
        return [{**row, "amount": int(row["amount"])} for row in rows]

    async def queues(self) -> dict[str, dict[str, int]]:
        names = {
            Status.PENDING: "waiting",
            Status.PROCESSING: "active",
            Status.COMPLETED: "completed",
            Status.FAILED: "failed",
        }
        counts = {kind: dict.fromkeys(names.values(), 0) for kind in RequestType}
        for row in await self._all(
            "SELECT type, status, sum(count)::int8 AS count FROM request_counts "
            "GROUP BY type, status"
        ):
            counts[RequestType(row["type"])][names[Status(row["status"])]] = row["count"]
        return {kind.lower(): depths for kind, depths in counts.items()}

    async def revision(self) -> str | None:
        """The schema's revision; None when no migration has run."""
        try:
            rows = await self._all("SELECT version_num FROM alembic_version")
        except SchemaMissing:
            return None
        return rows[0]["version_num"] if rows else None

    async def at_head(self) -> bool:
        return await self.revision() == schema_head()

    async def writer(self) -> Row | None:
        """What the projection last said of itself; ages in seconds by the database's clock."""
        rows = await self._all(
            "SELECT writer, problem, fresh_at, "
            "extract(epoch FROM now() - beat_at)::float8 AS beat_age_seconds, "
            "extract(epoch FROM now() - fresh_at)::float8 AS fresh_age_seconds "
            "FROM projection_state"
        )
        return rows[0] if rows else None

    async def offsets(self) -> dict[tuple[str, int], int]:
        rows = await self._all("SELECT topic, partition, next_offset FROM projection_offsets")
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def heads(self) -> dict[int, Row]:
        """By chain. `block_age_seconds` by the chain's clock, `followed_age_seconds` by ours, and
        `resumed_seconds` too: set while a halted chain is let go on and was not followed since."""
        rows = await self._all(
            "SELECT chain_id, to_block, to_hash, to_timestamp, followed_at, halted_reason, "
            "supply_block, supply_total, supply_by_events, supply_at, "
            "extract(epoch FROM now() - supply_at)::float8 AS supply_age_seconds, "
            "extract(epoch FROM now() - resumed_at)::float8 AS resumed_seconds, "
            "extract(epoch FROM now() - to_timestamp)::float8 AS block_age_seconds, "
            "extract(epoch FROM now() - followed_at)::float8 AS followed_age_seconds "
            "FROM chain_heads"
        )
        return {row["chain_id"]: row for row in rows}

    async def lanes(self) -> list[Row]:
        """Each lane with `in_flight`, its nonces that are not spent for good, and `halted`."""
        return await self._all(
            "SELECT chain_id, wallet, next_nonce, halted_reason IS NOT NULL AS halted, "
            "(SELECT count(DISTINCT nonce) FROM lane_transactions AS sent "
            "WHERE sent.chain_id = lanes.chain_id AND sent.wallet = lanes.wallet "
            "AND sent.state = ANY(%s)) AS in_flight FROM lanes",
            [list(OPEN_STATES)],
        )

    async def dead_letters(self) -> dict[str, int]:
        rows = await self._all(
            "SELECT label, count FROM projection_tallies WHERE name = 'dead_letters' AND count > 0"
        )
        return {row["label"]: row["count"] for row in rows}

    async def chains_of(self, keys: Iterable[str]) -> dict[str, int]:
        """The chain of each of these requests that is known."""
        rows = await self._all(
            "SELECT request_key, chain_id FROM requests "
            "WHERE request_key = ANY(%s) AND chain_id IS NOT NULL",
            [[to_column(key) for key in keys]],
        )
        return {from_column(row["request_key"]): row["chain_id"] for row in rows}

    async def facts_of(self, keys: Iterable[str]) -> list[Row]:
        """The facts of these requests' own topic, one request after the other, in log order."""
        return await self._all(
            'SELECT request_key, partition, "offset", value::text AS value FROM request_facts '
            "WHERE topic = 'requests' AND request_key = ANY(%s) "
            'ORDER BY request_key, partition, "offset"',
            [[to_column(key) for key in keys]],
        )

    async def faults(self) -> int:
        rows = await self._all(
            "SELECT count FROM projection_tallies WHERE name = 'projection_faults'"
        )
        return int(rows[0]["count"]) if rows else 0


def page_statement(query: ListQuery) -> tuple[LiteralString, list[Any]]:
    """One row more than asked for: it tells whether a next page exists. A search is a page of each
    thing that it may mean, and the page of those together."""
    where, values = query.conditions()
    order: LiteralString = "ORDER BY created_at DESC, request_key DESC LIMIT %s"
    most = query.limit + 1
    if query.search is None:
        return f"SELECT {_SHOWN} FROM requests {where} {order}", [*values, most]  # noqa: S608
    parts: list[LiteralString] = []
    given: list[Any] = []
    for condition, words in query.searches():
        parts.append(f"(SELECT request_key FROM requests {where} AND {condition} {order})")  # noqa: S608
        given += [*values, *words, most]
    found: LiteralString = " UNION ".join(parts)
    statement: LiteralString = (
        f"SELECT {_SHOWN} FROM requests WHERE request_key IN ({found}) {order}"  # noqa: S608
    )
    return statement, [*given, most]


def is_open(stage: str) -> bool:
    """Whether a request of this stage still waits for something (UNBACKED waits for a person)."""
    return stage not in TERMINAL
