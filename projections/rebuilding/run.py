"""`rebuild` and `verify`, from first to last step.

What a kill leaves: a schema beside the live one, which the next run drops before it begins anew;
the live tables are touched by one transaction alone, the swap. After its commit only the old
tables are left to be dropped, by the next run if this one was killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from orchestrator.errors import OrchestratorError
from orchestrator.kafka_access import KafkaAccess
from projections.database import connect, migrate, schema_head
from projections.rebuilding.bulk import load_partition
from projections.rebuilding.comparing import Comparison, compare
from projections.rebuilding.reading import SEATS, LogReader, advance, reading
from projections.rebuilding.schemas import (
    LOCK_WAITS_MS,
    CannotRebuild,
    Connection,
    alone,
    connect_to,
    create,
    drop,
    live_schema,
    one,
    share_rights,
    swap,
    unindex,
)
from projections.rebuilding.tables import REBUILT
from projections.writer import POISON, Offsets, Writer, load_offsets

NEAR_RECORDS = 2_000
"""So close to the end of the log, the writer may be held for what is missing."""
ROUNDS = 100

Tell = Callable[[str, int, int], None]
"""Step, done, total. Steps: replaying (records), indexing (indexes), following (records),
comparing, swapping (attempts)."""


@dataclass(slots=True)
class Rebuilt:
    """Figures of a rebuild. Times in seconds; `rate` counts replay and indexes."""

    facts: int = 0
    requests: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    writer_held_seconds: float = 0.0
    readers_held_seconds: float = 0.0
    slow_partitions: list[str] = field(default_factory=list)
    leftovers: str | None = None


class _Shadow:
    """A schema beside the live one, while it is being filled."""

    def __init__(self, link: Connection, reader: LogReader, schema: str, tell: Tell) -> None:
        self.link = link
        self.reader = reader
        self.schema = schema
        self.offsets: Offsets = {}
        self.slow: list[str] = []
        self._tell = tell
        self._writer = Writer(link)

    async def load(self, goals: Offsets, *, keys_only: bool) -> None:
        """Everything up to `goals` by the fast path; `keys_only` leaves indexes for readers out."""
        indexes = await unindex(self.link, self.schema)
        total, done = sum(goals.values()), 0
        for seat in SEATS:
            base = done

            async def tell(position: int, base: int = base) -> None:
                self._tell("replaying", base + position, total)
                await asyncio.sleep(0)

            try:
                if goals[seat]:
                    await load_partition(self.link, self.reader, seat, goals[seat], tell)
            except POISON:
                self.slow.append(f"{seat[0]}/{seat[1]}")
            done += goals[seat]
        self._tell("replaying", total, total)
        await self._index([text for text, is_key in indexes if is_key or not keys_only])
        self.offsets = await load_offsets(self.link, SEATS)

    async def _index(self, statements: list[str]) -> None:
        for number, statement in enumerate(statements):
            self._tell("indexing", number, len(statements))
            try:
                await self.link.execute(statement)
            except psycopg.errors.UniqueViolation:
                # A key on two partitions: only reading them side by side can tell.
                names = sql.SQL(", ").join(sql.Identifier(t.name) for t in REBUILT)
                await self.link.execute(sql.SQL("TRUNCATE {}").format(names))
                await self.link.execute(statement)
                self.slow = ["all: a key stands on two partitions"]
        self._tell("indexing", len(statements), len(statements))
        for table in REBUILT:
            await self.link.execute(
                sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table.name))
            )

    async def follow(self, goals: Offsets) -> int:
        missing = self.behind(goals)
        self._tell("following", 0, missing)
        written = await advance(self.reader, self._writer, self.offsets, goals)
        self._tell("following", missing, missing)
        return written

    def behind(self, goals: Offsets) -> int:
        return sum(max(0, goal - self.offsets[seat]) for seat, goal in goals.items())


async def rebuild(
    database_url: str, kafka: KafkaAccess, tell: Tell, *, shorter_log: bool = False
) -> Rebuilt:
    """Replay the log into new tables and put them in the live ones' place. Raises CannotRebuild,
    LogUnavailable or psycopg.Error; then the live tables are as they were.

    `shorter_log` allows tables that end before the live ones: the log was made anew.
    """
    figures, begun = Rebuilt(), time.monotonic()
    await migrate(database_url)
    guard = await alone(database_url)
    try:
        live = await live_schema(guard)
        fresh, old = f"{live}_rebuild", f"{live}_replaced"
        await drop(guard, old)
        async with _shadow(database_url, kafka, guard, fresh, tell) as shadow:
            ends = await shadow.reader.ends()
            if not shorter_log:
                await _refuse_shorter(guard, ends)
            await shadow.load(ends, keys_only=False)
            figures.facts = await one(shadow.link, "SELECT count(*) FROM request_facts")
            figures.rate = figures.facts / max(time.monotonic() - begun, 1e-9)
            for _ in range(ROUNDS):
                goals = await shadow.reader.ends()
                missing = shadow.behind(goals)
                await shadow.follow(goals)
                if missing <= NEAR_RECORDS:
                    break
            else:
                raise CannotRebuild("the log grows faster than it can be followed; try again later")
            await share_rights(guard, live, fresh)
            await _swap(guard, shadow, (live, fresh, old), figures)
            figures.slow_partitions = shadow.slow
        figures.requests = await one(
            guard, "SELECT coalesce(sum(count), 0)::int8 FROM request_counts"
        )
        figures.leftovers = await _drop_old(guard, (old, fresh))
    finally:
        await guard.close()
    figures.seconds = time.monotonic() - begun
    return figures


@asynccontextmanager
async def _shadow(
    database_url: str, kafka: KafkaAccess, guard: Connection, schema: str, tell: Tell
) -> AsyncIterator[_Shadow]:
    """An empty one, dropped again when what is done with it fails."""
    async with reading(kafka) as reader:
        await create(database_url, guard, schema)
        link = await connect_to(database_url, schema)
        try:
            yield _Shadow(link, reader, schema, tell)
        except BaseException:
            await link.close()
            await _drop_old(guard, (schema,))
            raise
        finally:
            await link.close()


async def _live_offsets(connection: Connection) -> Offsets:
    found = await connection.execute("SELECT topic, partition, next_offset FROM projection_offsets")
    rows = {(topic, number): offset for topic, number, offset in await found.fetchall()}
    return {seat: rows.get(seat, 0) for seat in SEATS}


async def _refuse_shorter(guard: Connection, ends: Offsets) -> None:
    held = await _live_offsets(guard)
    beyond = [
        f"{t}/{p} at {held[t, p]}, log {ends[t, p]}" for t, p in SEATS if held[t, p] > ends[t, p]
    ]
    if beyond:
        raise CannotRebuild(
            f"the live tables are ahead of this log ({beyond[0]}): is it the right Kafka? If the "
            "log was made anew, say so with --shorter-log"
        )


async def _swap(
    guard: Connection, shadow: _Shadow, names: tuple[str, str, str], figures: Rebuilt
) -> None:
    times: dict[str, float] = {}

    async def meet() -> None:
        """Never step back: the new tables reach at least as far as the live ones."""
        held, ends = await _live_offsets(guard), await shadow.reader.ends()
        await shadow.follow({seat: min(held[seat], ends[seat]) for seat in SEATS})
        live = await one(guard, "SELECT version_num FROM alembic_version")
        if live != schema_head():
            raise CannotRebuild(f"the live tables were migrated to {live} meanwhile; run it again")

    for attempt, wait_ms in enumerate(LOCK_WAITS_MS, 1):
        shadow._tell("swapping", attempt - 1, len(LOCK_WAITS_MS))
        try:
            await swap(
                guard, names, wait_ms, meet, lambda step: times.update({step: time.monotonic()})
            )
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(0.2 * attempt)
            await shadow.follow(await shadow.reader.ends())
            continue
        figures.writer_held_seconds = times["swapped"] - times["held"]
        figures.readers_held_seconds = times["swapped"] - times["met"]
        shadow._tell("swapping", len(LOCK_WAITS_MS), len(LOCK_WAITS_MS))
        return
    raise CannotRebuild(
        "a session holds the live tables and does not end its transaction; see pg_stat_activity. "
        "Nothing was changed"
    )


async def _drop_old(guard: Connection, schemas: tuple[str, ...]) -> str | None:
    """Drop what is of no use any more; what somebody still reads is left to the next run."""
    try:
        await guard.execute("SET lock_timeout = '10s'")
        for schema in schemas:
            await drop(guard, schema)
        await guard.execute("RESET lock_timeout")
    except psycopg.Error:
        return f"{', '.join(schemas)} could not be dropped now; the next run does it"
    return None


@dataclass(slots=True)
class Verified:
    comparison: Comparison
    offsets: Offsets
    facts: int
    seconds: float


async def verify(database_url: str, kafka: KafkaAccess, tell: Tell) -> Verified:
    """Replay the log to where the live tables stand, and compare every row. Raises CannotRebuild,
    LogUnavailable or psycopg.Error when it cannot be told. Writer and readers go on meanwhile."""
    begun = time.monotonic()
    guard = await alone(database_url)
    try:
        await _check_live(guard)
        live = await live_schema(guard)
        async with _shadow(database_url, kafka, guard, f"{live}_verify", tell) as shadow:
            await _refuse_shorter(guard, await shadow.reader.ends())
            await shadow.load(await _live_offsets(guard), keys_only=True)
            async with _snapshot(database_url) as frozen:
                goals = await _live_offsets(frozen)
                await shadow.follow(goals)
                tell("comparing", 0, 1)
                async with shadow.link.transaction():
                    comparison = await compare(frozen, shadow.link)
                    facts = await one(shadow.link, "SELECT count(*) FROM request_facts")
                tell("comparing", 1, 1)
        await _drop_old(guard, (f"{live}_verify",))
    finally:
        await guard.close()
    return Verified(comparison, goals, facts, time.monotonic() - begun)


async def _check_live(guard: Connection) -> None:
    try:
        revision = await one(guard, "SELECT version_num FROM alembic_version")
    except psycopg.errors.UndefinedTable:
        raise CannotRebuild("the database has no tables yet; `orchestrator init`") from None
    if revision != schema_head():
        raise CannotRebuild(
            f"the live tables are at revision {revision}, this version compares {schema_head()}; "
            "`orchestrator init` migrates them"
        )


@asynccontextmanager
async def _snapshot(database_url: str) -> AsyncIterator[Connection]:
    link = await connect(database_url)
    try:
        await link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield link
    finally:
        await link.close()


FAILURES: tuple[type[Exception], ...] = (OrchestratorError, psycopg.Error, OSError)
"""What `rebuild` and `verify` raise when they could not do it."""

__all__ = ["FAILURES", "Rebuilt", "Verified", "rebuild", "verify"]
