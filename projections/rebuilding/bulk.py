"""The fast path: a partition at a time, folded in memory, and each table written once by COPY.

A key lives on one partition, so its rows are whole when the partition's end is reached. Rows and
offset of a partition are one transaction, as everywhere. Memory is that of the largest partition:
its requests' rows (about 3 kB each), and its lanes' transactions (about 1 kB each).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import astuple
from typing import Any, LiteralString

from orchestrator.core.lifecycle import RequestState
from projections.fold import (
    ChainHead,
    DeadLetterRow,
    FactRow,
    FaultRow,
    Known,
    LaneFactRow,
    PauseRow,
    Reading,
    fold,
    read,
)
from projections.lanes import Lane, LaneBook, Transaction, Work
from projections.rebuilding.reading import LogReader
from projections.rebuilding.schemas import Connection
from projections.rows import decode_state, row_of
from projections.text import from_jsonb
from projections.writer import REQUEST_COLUMNS, columns_of

BATCH_RECORDS = 5000
HOT_STATES = 30_000

_STATE = REQUEST_COLUMNS.index("state")


class _Requests:
    """The requests of a partition: the lately touched as states, the others as finished rows."""

    def __init__(self, hot: int = HOT_STATES) -> None:
        self._hot_limit = hot
        self._hot: OrderedDict[str, RequestState] = OrderedDict()
        self._rows: dict[str, tuple[Any, ...]] = {}

    def find(self, keys: Iterable[str]) -> dict[str, RequestState]:
        found: dict[str, RequestState] = {}
        for key in keys:
            state = self._hot.get(key)
            if state is None and key in self._rows:
                state = decode_state(from_jsonb(self._rows[key][_STATE]))
            if state is not None:
                found[key] = state
        return found

    def keep(self, states: dict[str, RequestState]) -> None:
        for key, state in states.items():
            self._hot[key] = state
            self._hot.move_to_end(key)
            self._rows.pop(key, None)
        while len(self._hot) > self._hot_limit:
            key, state = self._hot.popitem(last=False)
            self._rows[key] = _request_row(state)

    def rows(self) -> Iterable[tuple[Any, ...]]:
        yield from self._rows.values()
        for state in self._hot.values():
            yield _request_row(state)


def _request_row(state: RequestState) -> tuple[Any, ...]:
    row = row_of(state)
    return tuple(row[name] for name in REQUEST_COLUMNS)


class PartitionFold:
    """What one partition makes of the tables, but for the facts, which are written as they come."""

    def __init__(self, hot_states: int = HOT_STATES) -> None:
        self.requests = _Requests(hot_states)
        self.book = LaneBook()
        self.heads: dict[int, ChainHead] = {}
        self.letters: dict[str, DeadLetterRow] = {}
        self.lane_facts: list[LaneFactRow] = []
        self.pauses: list[PauseRow] = []
        self.faults: list[FaultRow] = []

    def fold(self, reading: Reading) -> Sequence[FactRow]:
        known = Known(self.requests.find(reading.request_keys), self.book, self.heads)
        changes = fold(reading, known)
        self.requests.keep(changes.requests)
        for name, row in changes.dead_letters.items():
            self.letters.setdefault(name, row)
        self.lane_facts += changes.lane_facts
        self.pauses += changes.pauses
        self.faults += changes.faults
        return changes.facts


async def load_partition(
    connection: Connection,
    reader: LogReader,
    seat: tuple[str, int],
    end: int,
    tell: Callable[[int], Awaitable[None]],
) -> None:
    """Fill the tables from offset 0 of this partition to `end`. Raises psycopg.Error; then nothing
    of it was written. `tell` is awaited with the position after each batch."""
    folded = PartitionFold()
    async with connection.transaction(), connection.cursor() as cursor:
        async for batch, moved in reader.read({seat: 0}, {seat: end}, BATCH_RECORDS):
            await _copy(cursor, "request_facts", columns_of(FactRow), folded.fold(read(batch)))
            await tell(moved[seat])
        book = folded.book
        sent = (astuple(row) for peers in book.nonces.values() for row in peers.values())
        await _copy(cursor, "requests", REQUEST_COLUMNS, folded.requests.rows())
        await _copy(cursor, "lanes", columns_of(Lane), map(astuple, book.lanes.values()))
        await _copy(cursor, "lane_transactions", columns_of(Transaction), sent)
        await _copy(cursor, "lane_work", columns_of(Work), map(astuple, book.works.values()))
        await _copy(cursor, "lane_facts", columns_of(LaneFactRow), folded.lane_facts)
        await _copy(cursor, "pause_facts", columns_of(PauseRow), folded.pauses)
        await _copy(
            cursor, "chain_heads", columns_of(ChainHead), map(astuple, folded.heads.values())
        )
        await _copy(cursor, "dead_letters", columns_of(DeadLetterRow), folded.letters.values())
        await _copy(cursor, "projection_faults", columns_of(FaultRow), folded.faults)
        await cursor.execute(
            "INSERT INTO projection_offsets (topic, partition, next_offset) VALUES (%s, %s, %s)",
            [*seat, end],
        )


async def _copy(
    cursor: Any, table: LiteralString, names: Sequence[LiteralString], rows: Iterable[Any]
) -> None:
    async with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            await copy.write_row(row)
