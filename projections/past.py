"""The present and the past through one door: a request, its lane and what surrounds them, now or as
of a moment. The past is folded anew from the facts up to then, by the same code that keeps the
tables.

What is not kept: how far each chain was followed at that time. Blocks of the past come from the
facts themselves, and a lag of nodes is not told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, LiteralString

import orjson

from orchestrator.core.lifecycle import RequestState, evolve
from projections.context import ApiTerms
from projections.lane_reads import CLOSED_SHOWN, SLOTS_SHOWN, WAITING_SHOWN, one_lane
from projections.lane_shapes import LaneView, view_of
from projections.lanes import Lane, LaneBook, WorkState
from projections.queries import Cursor, ListQuery, cursor_of
from projections.rows import row_of
from projections.store import Row, Store
from projections.text import from_jsonb, to_column
from schemas.base import Position, Record, UnreadableRecord
from schemas.lanes import LaneFact
from schemas.topics import LANES, REQUESTS, Topic

FACTS_FOLDED = 20_000
PAGES_FOLDED = 5


async def states_at(
    store: Store, request_keys: Sequence[str], at: datetime
) -> dict[str, RequestState]:
    """The requests as all facts up to `at` leave them, by key as in a column; what did not exist
    yet is absent."""
    rows = await store.rows(
        'SELECT topic, partition, "offset", value::text AS value FROM request_facts '
        "WHERE request_key = ANY(%s) AND topic = 'requests' AND at <= %s "
        'ORDER BY partition, "offset" LIMIT %s',
        [list(request_keys), at, FACTS_FOLDED],
    )
    states: dict[str, RequestState] = {}
    for record in _records(REQUESTS, rows):
        state, _ = evolve(states.get(record.fact.key), record)
        if state is not None:
            states[record.fact.key] = state
    return {to_column(key): state for key, state in states.items()}


def shown_row(state: RequestState) -> Row:
    """A state as a row that `status_object` shows."""
    return row_of(state) | {"wallet": state.assigned.wallet if state.assigned else None}


async def page_at(store: Store, query: ListQuery, at: datetime) -> tuple[list[Row], str | None]:
    """A page as of `at`: what was created by then, each folded anew, then filtered by what may have
    changed since. A page may hold fewer than `limit`, even none, and yet have a next one."""
    changing = (query.status, query.stage, query.tx_hash)
    until = at + timedelta(microseconds=1)
    created_to = until if query.created_to is None else min(until, query.created_to)
    steady = replace(query, status=None, stage=None, tx_hash=None, created_to=created_to)
    found: list[Row] = []
    for _ in range(PAGES_FOLDED):
        rows, following = await store.page(steady)
        states = await states_at(store, [row["request_key"] for row in rows], at)
        for row in rows:
            state = states.get(row["request_key"])
            if state is None:
                continue
            past = shown_row(state)
            is_wanted = zip(changing, (past["status"], past["stage"], past["tx_hash"]), strict=True)
            if all(wanted in (None, value) for wanted, value in is_wanted):
                found.append(past)
                if len(found) == query.limit:
                    return found, cursor_of(row) if following or row is not rows[-1] else None
        if following is None:
            return found, None
        steady = replace(steady, cursor=Cursor.decode(following))
    return found, following


async def lane_at(
    store: Store,
    terms: ApiTerms,
    chain_id: int,
    wallet: str,
    at: datetime,
    also: Collection[str] = (),
) -> tuple[LaneView, LaneBook] | None:
    """A lane as all facts up to `at` leave it, with the book of what was folded; None when there
    was none yet. `also` are requests (keys as in a column) whose work is folded in any case."""
    now = await one_lane(store, terms, chain_id, wallet)
    if now is None:
        return None
    seat: list[Any] = [chain_id, now.lane.wallet]
    nonces, keys = await _alive_at(store, seat, at)
    keys = sorted({*keys, *also})
    rows = await store.rows(_FACTS, [*seat, at, nonces, keys, *seat, at])
    book = LaneBook()
    for record in _records(LANES, rows):
        if isinstance(record.fact, LaneFact):
            book.fold(record.fact, record)
    lane = book.lanes.get((chain_id, now.lane.wallet))
    if lane is None:
        return None
    _bring_up(lane, await store.rows(_NEXT, [*seat, at, *seat, at]))
    shown = [
        sent
        for (_, _, nonce), peers in book.nonces.items()
        if nonce in nonces
        for sent in peers.values()
    ]
    waiting = sorted(
        (w for w in book.works.values() if w.state in (WorkState.WAITING, WorkState.REVERTED)),
        key=lambda work: (work.requested_at, work.relay),
    )
    view = view_of(
        lane, shown, waiting[:WAITING_SHOWN], len(waiting), None, terms.stuck_after_blocks
    )
    return view, book


_FACTS: LiteralString = (
    'SELECT topic, partition, "offset", value::text AS value FROM lane_facts '
    "WHERE chain_id = %s AND wallet = %s AND at <= %s AND (nonce IS NULL OR nonce = ANY(%s)) "
    'UNION ALL SELECT topic, partition, "offset", value::text FROM request_facts '
    "WHERE request_key = ANY(%s) AND topic = 'lanes' "
    "AND (value ->> 'chain_id')::bigint = %s AND value ->> 'wallet' = %s AND at <= %s "
    'ORDER BY "offset"'
)
_NEXT: LiteralString = (
    "SELECT max(nonce) AS nonce FROM lane_transactions "
    "WHERE chain_id = %s AND wallet = %s AND prepared_at <= %s "
    "UNION ALL SELECT max(nonce) FROM lane_facts WHERE chain_id = %s AND wallet = %s AND at <= %s"
)


async def _alive_at(store: Store, seat: list[Any], at: datetime) -> tuple[list[int], list[str]]:
    """The nonces that were open at `at`, with the latest closed ones, and the requests whose work
    stood in the lane."""
    was_open: LiteralString = "AND prepared_at <= %s AND (closed_at IS NULL OR closed_at > %s) "
    was_closed: LiteralString = "AND closed_at <= %s "
    found: LiteralString = (
        "SELECT nonce, relay FROM lane_transactions WHERE chain_id = %s AND wallet = %s "
    )
    rows = await store.rows(
        found + was_open + "ORDER BY nonce LIMIT %s", [*seat, at, at, SLOTS_SHOWN]
    )
    rows += await store.rows(
        found + was_closed + "ORDER BY nonce DESC LIMIT %s", [*seat, at, CLOSED_SHOWN]
    )
    nonces = sorted({row["nonce"] for row in rows})
    relays = [row["relay"] for row in rows if row["relay"] is not None]
    works = await store.rows(
        "SELECT request_key FROM lane_work WHERE chain_id = %s AND wallet = %s "
        "AND (relay = ANY(%s) OR (requested_at <= %s AND (closed_at IS NULL OR closed_at > %s))) "
        "ORDER BY requested_at LIMIT %s",
        [*seat, relays, at, at, SLOTS_SHOWN + WAITING_SHOWN],
    )
    return nonces, sorted({row["request_key"] for row in works})


def _bring_up(lane: Lane, rows: Iterable[Row]) -> None:
    """The next nonce follows the highest that was ever used, also of those not loaded."""
    highest = max((row["nonce"] for row in rows if row["nonce"] is not None), default=None)
    if highest is not None:
        lane.next_nonce = max(lane.next_nonce or 0, highest + 1)


def _records(topic: Topic, rows: Iterable[Row]) -> Iterable[Record]:
    for row in rows:
        value = orjson.dumps(from_jsonb(row["value"]))
        try:
            yield topic.decode(value, Position(row["topic"], row["partition"], row["offset"]))
        except UnreadableRecord:  # it would stand in projection_faults, not here
            continue
