"""What is kept of deliveries, in PostgreSQL: cursors, what is in turn, dead letters, orders.

A deliverer writes on the very session that holds the endpoint's advisory lock, so whoever has lost
the lock can commit nothing any more.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import psycopg
from psycopg.rows import dict_row

from projections.database import connect
from projections.text import optional_column
from projections.webhooks.endpoints import Endpoint
from projections.webhooks.sending import Message

ENDPOINT_LOCKS = 730_555
"""First half of the advisory locks: one process at a time serves an endpoint."""
REDELIVERED_AT_ONCE = 20

Row = dict[str, Any]


def place_of(message: Message) -> str:
    event = message.event
    return f"{event.topic}/{event.partition}/{event.offset}"


@dataclass(frozen=True, slots=True)
class Skip:
    """An operator's order to give up on the event at `place`."""

    number: int
    place: str
    who: str
    why: str


class Ledger:
    """One endpoint's, on one session. Every method raises psycopg.Error."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], endpoint: Endpoint) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._holder = f"{socket.gethostname()}:{os.getpid()}"

    @classmethod
    async def opened(cls, database_url: str, endpoint: Endpoint) -> Ledger:
        return cls(await connect(database_url), endpoint)

    async def close(self) -> None:
        await self._connection.close()

    async def lock(self) -> bool:
        """Held as long as this session lives."""
        key = crc32(self._endpoint.name.encode()) - 2**31
        rows = await self._all("SELECT pg_try_advisory_lock(%s, %s) AS got", ENDPOINT_LOCKS, key)
        return bool(rows[0]["got"])

    async def cursor(self) -> str | None:
        """None for an endpoint that was never served."""
        rows = await self._all(
            "SELECT cursor FROM webhooks.endpoints WHERE name = %s", self._endpoint.name
        )
        return rows[0]["cursor"] if rows else None

    async def begin(self, cursor: str) -> None:
        await self._do(
            "INSERT INTO webhooks.endpoints (name, shown_url, cursor, holder, beat_at) "
            "VALUES (%s, %s, %s, %s, now()) ON CONFLICT (name) DO UPDATE SET "
            "shown_url = EXCLUDED.shown_url, holder = EXCLUDED.holder, beat_at = now()",
            self._endpoint.name,
            self._endpoint.shown_url,
            cursor,
            self._holder,
        )

    async def attempts(self, message: Message) -> int:
        """How often this very event was tried before, also by other processes."""
        rows = await self._all(
            "SELECT turn_attempts FROM webhooks.endpoints WHERE name = %s AND turn_place = %s",
            self._endpoint.name,
            place_of(message),
        )
        return int(rows[0]["turn_attempts"]) if rows else 0

    async def moved(self, cursor: str, delivered: int = 0) -> None:
        """The cursor is commited, and what was in turn is done with."""
        await self._do(
            "UPDATE webhooks.endpoints SET cursor = %s, delivered = delivered + %s, "
            "delivered_at = CASE WHEN %s > 0 THEN now() ELSE delivered_at END, beat_at = now(), "
            "holder = %s, turn_place = NULL, turn_fact_id = NULL, turn_since = NULL, "
            "turn_attempts = 0, next_attempt_at = NULL, problem = NULL WHERE name = %s",
            cursor,
            delivered,
            delivered,
            self._holder,
            self._endpoint.name,
        )

    async def failed(self, message: Message, attempts: int, problem: str, delay: float) -> None:
        place = place_of(message)
        await self._do(
            "UPDATE webhooks.endpoints SET turn_since = CASE WHEN turn_place = %s THEN turn_since "
            "ELSE now() END, turn_place = %s, turn_fact_id = %s, turn_attempts = %s, problem = %s, "
            "next_attempt_at = %s, beat_at = now(), holder = %s WHERE name = %s",
            place,
            place,
            optional_column(message.event.fact_id),
            attempts,
            problem,
            datetime.now(UTC) + timedelta(seconds=delay),
            self._holder,
            self._endpoint.name,
        )

    async def waiting(self, problem: str | None) -> None:
        """Nothing is in turn; the deliverer lives, and says what holds it up."""
        await self._do(
            "UPDATE webhooks.endpoints SET beat_at = now(), holder = %s, problem = %s "
            "WHERE name = %s",
            self._holder,
            problem,
            self._endpoint.name,
        )

    async def bury(self, message: Message, attempts: int, reason: str, cursor: str) -> None:
        """Dead-letter and pass the event, in one transaction."""
        event = message.event
        async with self._connection.transaction():
            await self._do(
                'INSERT INTO webhooks.dead_letters (endpoint, topic, partition, "offset", '
                "webhook_id, kind, fact_id, reason, attempts) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                self._endpoint.name,
                event.topic,
                event.partition,
                event.offset,
                message.webhook_id,
                event.kind,
                optional_column(event.fact_id),
                reason,
                attempts,
            )
            await self.moved(cursor)

    async def skip(self, message: Message) -> Skip | None:
        """An order for this very event; orders for any other have come too late and are closed."""
        place = place_of(message)
        rows = await self._all(
            "UPDATE webhooks.skips SET done_at = now() WHERE endpoint = %s AND done_at IS NULL "
            "RETURNING number, place, who, why",
            self._endpoint.name,
        )
        return next((Skip(**row) for row in rows if row["place"] == place), None)

    async def ordered(self) -> list[Row]:
        """Dead letters that an operator wants delivered again, oldest first."""
        return await self._all(
            'SELECT number, topic, partition, "offset", attempts FROM webhooks.dead_letters '
            "WHERE endpoint = %s AND ordered_at IS NOT NULL AND redelivered_at IS NULL "
            "ORDER BY number LIMIT %s",
            self._endpoint.name,
            REDELIVERED_AT_ONCE,
        )

    async def redelivered(self, number: int, problem: str | None) -> None:
        """With a problem, it stays a dead letter, and waits for another order."""
        await self._do(
            "UPDATE webhooks.dead_letters SET attempts = attempts + 1, "
            "redelivered_at = CASE WHEN %s::text IS NULL THEN now() END, "
            "ordered_at = CASE WHEN %s::text IS NULL THEN ordered_at END, "
            "reason = coalesce(%s, reason) WHERE number = %s",
            problem,
            problem,
            problem,
            number,
        )

    async def _all(self, statement: str, *values: object) -> list[Row]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement.encode(), values)
            return await cursor.fetchall()

    async def _do(self, statement: str, *values: object) -> None:
        await self._connection.execute(statement.encode(), values)
