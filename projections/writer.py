"""One batch, one transaction: rows and offsets together, or nothing.

The offsets are moved first, by compare-and-set. That locks their rows, so a second writer waits
there, then finds other offsets than it expects, and its whole transaction fails (`Superseded`).
A key lives on one partition, so whoever holds the partition's offset row may write the key's rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, LiteralString

import orjson
import psycopg
import structlog

from orchestrator.core.lifecycle import RequestState
from orchestrator.errors import OrchestratorError
from projections.fold import (
    ChainHead,
    Changes,
    DeadLetterRow,
    FactRow,
    FaultRow,
    Known,
    LaneFactRow,
    PauseRow,
    RawRecord,
    Reading,
    fault,
    fold,
    read,
)
from projections.lanes import Lane, LaneBook, Transaction, TransactionState, Work, WorkState
from projections.measuring import measure
from projections.rows import decode_state, row_of
from projections.text import from_column, from_jsonb, to_column

log = structlog.get_logger()

Connection = psycopg.AsyncConnection[Any]
Offsets = dict[tuple[str, int], int]
"""(topic, partition) to the next offset to read."""

KEPT_STATES = 20_000

POISON = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.IntegrityError)
"""What PostgreSQL says of a value it cannot hold. Retrying the same batch would never end."""


class Superseded(OrchestratorError):
    """Another writer moved the offsets, or a rebuild took the tables' place. Nothing of
    this batch was written; read them anew."""


Observe = Callable[[Reading, Changes], None]


class Writer:
    """Folds and writes batches on one session; keeps the latest states of up to `kept_states`
    requests in memory. After any exception the memory is dropped: what the tables say counts.
    `observe` is told of every batch that was committed."""

    def __init__(
        self,
        connection: Connection,
        kept_states: int = KEPT_STATES,
        observe: Observe | None = None,
    ) -> None:
        self._observe = observe
        self._connection = connection
        self._kept_states = kept_states
        self._kept: OrderedDict[str, RequestState] = OrderedDict()
        self._tables: int | None = None
        self.facts_written = 0
        self.faults_written = 0

    async def write(self, batch: Sequence[RawRecord], start: Offsets, end: Offsets) -> None:
        """Move the tables from `start` to `end` by `batch`, which holds all records between, in
        log order. Raises Superseded or psycopg.Error; then nothing was written.

        A record that PostgreSQL refuses is found by halving, and becomes a fault.
        """
        try:
            changes = await self._write_once(batch, start, end)
        except POISON as error:
            self._forget()
            await self._halve(batch, start, end, error)
            return
        except BaseException:
            self._forget()
            raise
        self._keep(changes.requests)
        self.facts_written += len(batch) - len(changes.faults)
        self._report(changes.faults)

    async def _write_once(
        self, batch: Sequence[RawRecord], start: Offsets, end: Offsets
    ) -> Changes:
        reading = read(batch)
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await self._move(cursor, start, end)
            changes = fold(reading, await self._load(cursor, reading))
            await _write_requests(cursor, changes.requests.values())
            await _write_chains(cursor, changes)
            await _copy(cursor, "request_facts", FactRow, changes.facts)
            await _copy(cursor, "lane_facts", LaneFactRow, changes.lane_facts)
            await _copy(cursor, "pause_facts", PauseRow, changes.pauses)
            await _copy(cursor, "projection_faults", FaultRow, changes.faults)
            await _write_dead_letters(cursor, changes.dead_letters.values())
        measure(reading, changes)
        if self._observe is not None:
            self._observe(reading, changes)
        return changes

    async def _halve(
        self, batch: Sequence[RawRecord], start: Offsets, end: Offsets, error: psycopg.Error
    ) -> None:
        """Write both halves; a single record that is refused is written as a fault instead."""
        if len(batch) == 1:
            refused = fault(batch[0], f"PostgreSQL refuses it: {type(error).__name__}: {error}")
            async with self._connection.transaction(), self._connection.cursor() as cursor:
                await self._move(cursor, start, end)
                await _copy(cursor, "projection_faults", FaultRow, [refused])
            self._report([refused])
            return
        middle = len(batch) // 2
        between = dict(start)
        for record in batch[:middle]:
            between[record.topic, record.partition] = record.offset + 1
        await self.write(batch[:middle], start, between)
        await self.write(batch[middle:], between, end)

    async def _move(self, cursor: psycopg.AsyncCursor[Any], start: Offsets, end: Offsets) -> None:
        """Move the offsets of the very tables that the kept states are of: a rebuild may have put
        others in their place, by chance at the same offsets."""
        if self._tables is None:
            await cursor.execute("SELECT 'projection_offsets'::regclass::oid")
            row = await cursor.fetchone()
            assert row is not None
            self._tables = int(row[0])
        await _move(cursor, start, end, self._tables)

    async def _load(self, cursor: psycopg.AsyncCursor[Any], reading: Reading) -> Known:
        known = Known()
        known.requests = {key: self._kept[key] for key in reading.request_keys if key in self._kept}
        missing = [to_column(key) for key in reading.request_keys if key not in self._kept]
        if missing:
            await cursor.execute(
                "SELECT request_key, state::text FROM requests WHERE request_key = ANY(%s)",
                [missing],
            )
            for key, state in await cursor.fetchall():
                known.requests[from_column(key)] = decode_state(from_jsonb(state))
        if reading.lanes:
            known.book = await _load_lanes(cursor, reading)
        if reading.chains:
            await cursor.execute(
                selection("chain_heads", ChainHead) + " WHERE chain_id = ANY(%s)",
                [list(reading.chains)],
            )
            known.heads = {row[0]: ChainHead(*row) for row in await cursor.fetchall()}
        return known

    def _forget(self) -> None:
        self._kept.clear()
        self._tables = None

    def _keep(self, states: dict[str, RequestState]) -> None:
        for key, state in states.items():
            self._kept[key] = state
            self._kept.move_to_end(key)
        while len(self._kept) > self._kept_states:
            self._kept.popitem(last=False)

    def _report(self, faults: Iterable[FaultRow]) -> None:
        for row in faults:
            self.faults_written += 1
            log.warning(
                "record_unreadable",
                position=f"{row.topic}/{row.partition}/{row.offset}",
                reason=row.reason[:300],
            )


async def load_offsets(connection: Connection, wanted: Sequence[tuple[str, int]]) -> Offsets:
    """Where to go on, from the tables; a partition that is new begins at 0."""
    topics, partitions = [topic for topic, _ in wanted], [number for _, number in wanted]
    await connection.execute(
        "INSERT INTO projection_offsets (topic, partition, next_offset) "
        "SELECT topic, partition, 0 FROM unnest(%s::text[], %s::int[]) AS new (topic, partition) "
        "ON CONFLICT DO NOTHING",
        [topics, partitions],
    )
    found = await connection.execute("SELECT topic, partition, next_offset FROM projection_offsets")
    rows = {(topic, partition): offset for topic, partition, offset in await found.fetchall()}
    return {key: rows[key] for key in wanted}


async def _move(
    cursor: psycopg.AsyncCursor[Any], start: Offsets, end: Offsets, tables: int
) -> None:
    moves = sorted((key, start[key], end[key]) for key in end if start[key] != end[key])
    await cursor.execute(
        "UPDATE projection_offsets AS held SET next_offset = new.goal "
        "FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[]) "
        "AS new (topic, partition, origin, goal) WHERE held.topic = new.topic "
        "AND held.partition = new.partition AND held.next_offset = new.origin "
        "AND held.tableoid = %s",
        [
            [topic for (topic, _), _, _ in moves],
            [partition for (_, partition), _, _ in moves],
            [origin for _, origin, _ in moves],
            [goal for _, _, goal in moves],
            tables,
        ],
    )
    if cursor.rowcount != len(moves):
        raise Superseded(
            f"another writer moved {len(moves) - cursor.rowcount} of {len(moves)} offsets"
        )


async def _load_lanes(cursor: psycopg.AsyncCursor[Any], reading: Reading) -> LaneBook:
    book = LaneBook()
    lanes = list(reading.lanes)
    await cursor.execute(
        selection("lanes", Lane)  # noqa: S608 - names from this module
        + " WHERE (chain_id, wallet) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))",
        [[chain for chain, _ in lanes], [wallet for _, wallet in lanes]],
    )
    for row in await cursor.fetchall():
        lane = Lane(*row)
        book.lanes[lane.chain_id, lane.wallet] = lane
    nonces = list(reading.nonces)
    await cursor.execute(
        selection("lane_transactions", Transaction)  # noqa: S608
        + " WHERE (chain_id, wallet, nonce) IN "
        "(SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[]))",
        [[key[0] for key in nonces], [key[1] for key in nonces], [key[2] for key in nonces]],
    )
    for row in await cursor.fetchall():
        sent = Transaction(*row)
        sent.state = TransactionState(sent.state)
        place = book.nonces.setdefault((sent.chain_id, sent.wallet, sent.nonce), {})
        place[sent.tx_hash] = sent
    await _load_works(cursor, reading, book)
    return book


async def _load_works(cursor: psycopg.AsyncCursor[Any], reading: Reading, book: LaneBook) -> None:
    """Those that the facts name, and those whose nonce a no-op may have spent."""
    owners = {
        (sent.chain_id, sent.wallet, sent.relay)
        for peers in book.nonces.values()
        for sent in peers.values()
        if sent.relay is not None
    }
    works = list(reading.works | owners)
    await cursor.execute(
        selection("lane_work", Work)  # noqa: S608 - names from this module
        + " WHERE (chain_id, wallet, relay) IN "
        "(SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[]))",
        [[key[0] for key in works], [key[1] for key in works], [key[2] for key in works]],
    )
    for row in await cursor.fetchall():
        work = Work(*row)
        work.state = WorkState(work.state)
        book.works[work.chain_id, work.wallet, work.relay] = work


def columns_of(shape: Any) -> list[LiteralString]:
    names = shape._fields if hasattr(shape, "_fields") else [item.name for item in fields(shape)]
    return [f'"{name}"' for name in names]


def selection(table: LiteralString, shape: Any) -> LiteralString:
    return f"SELECT {', '.join(columns_of(shape))} FROM {table}"  # noqa: S608


async def _copy(
    cursor: psycopg.AsyncCursor[Any], table: LiteralString, shape: Any, rows: Sequence[Any]
) -> None:
    if not rows:
        return
    columns = ", ".join(columns_of(shape))
    async with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            await copy.write_row(row)


async def _upsert(
    cursor: psycopg.AsyncCursor[Any],
    table: LiteralString,
    columns: Sequence[LiteralString],
    keys: Sequence[LiteralString],
    rows: Sequence[Any],
) -> None:
    """All rows in one statement; PostgreSQL takes them apart (`json_populate_recordset`), which
    costs this process one JSON encoding instead of an array a column."""
    if not rows:
        return
    names = ", ".join(columns)
    changed = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns if name not in keys)
    await cursor.execute(
        f"INSERT INTO {table} ({names}) SELECT {names} "  # noqa: S608 - names from this module
        f"FROM json_populate_recordset(NULL::{table}, %s::json) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}",
        [orjson.dumps(rows, default=str).decode()],
    )


REQUEST_COLUMNS: tuple[LiteralString, ...] = (
    "request_key",
    "request_id",
    "type",
    "status",
    "stage",
    "reason",
    "error_message",
    "user_address",
    "amount",
    "chain_id",
    "tx_hash",
    "fiat_ref",
    "attempt",
    "created_at",
    "updated_at",
    "changed_at",
    "state",
)


async def _write_requests(cursor: psycopg.AsyncCursor[Any], states: Iterable[RequestState]) -> None:
    rows = []
    for state in states:
        row = row_of(state)
        row["state"] = orjson.Fragment(row["state"])
        rows.append(row)
    await _upsert(cursor, "requests", REQUEST_COLUMNS, ("request_key",), rows)


async def _write_chains(cursor: psycopg.AsyncCursor[Any], changes: Changes) -> None:
    """Lanes, their transactions and the chains' heads, each row whole."""
    lanes = list(changes.book.lanes.values())
    await _upsert(cursor, "lanes", columns_of(Lane), ('"chain_id"', '"wallet"'), lanes)
    sent = [row for peers in changes.book.nonces.values() for row in peers.values()]
    keys: tuple[LiteralString, ...] = ('"chain_id"', '"wallet"', '"nonce"', '"tx_hash"')
    await _upsert(cursor, "lane_transactions", columns_of(Transaction), keys, sent)
    works = list(changes.book.works.values())
    work_keys: tuple[LiteralString, ...] = ('"chain_id"', '"wallet"', '"relay"')
    await _upsert(cursor, "lane_work", columns_of(Work), work_keys, works)
    heads = list(changes.heads.values())
    await _upsert(cursor, "chain_heads", columns_of(ChainHead), ('"chain_id"',), heads)


async def _write_dead_letters(
    cursor: psycopg.AsyncCursor[Any], rows: Iterable[DeadLetterRow]
) -> None:
    """A dead letter that is told again is the same one; the first telling counts."""
    columns = ", ".join(columns_of(DeadLetterRow))
    letters = [row._asdict() for row in rows]
    if letters:
        await cursor.execute(
            f"INSERT INTO dead_letters ({columns}) SELECT {columns} "  # noqa: S608
            "FROM json_populate_recordset(NULL::dead_letters, %s::json) ON CONFLICT DO NOTHING",
            [orjson.dumps(letters).decode()],
        )
