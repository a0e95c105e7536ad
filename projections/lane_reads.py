"""Reading lanes from the tables. Raises StoreUnavailable when there is no answer to be had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import LiteralString

from projections.context import ApiTerms
from projections.lane_shapes import LaneView, view_of
from projections.lanes import (
    OPEN_STATES,
    Lane,
    LaneKey,
    Transaction,
    TransactionState,
    Work,
    WorkState,
)
from projections.store import Row, Store
from projections.text import to_column
from projections.writer import selection

CLOSED_SHOWN = 16
"""The latest nonces that are spent for good, shown before the open ones."""
SLOTS_SHOWN = 2000
WAITING_SHOWN = 1000

_LANES = selection("lanes", Lane)
_SENT = selection("lane_transactions", Transaction)
_WORK = selection("lane_work", Work)
_COUNT: LiteralString = "SELECT count(*) AS count FROM lane_work"
_ALL_OPEN: LiteralString = (
    f"{_SENT} WHERE state IN ('PREPARED', 'BROADCAST', 'INCLUDED', 'ORPHANED') "  # noqa: S608
    f"UNION ALL SELECT last.* FROM lanes CROSS JOIN LATERAL ({_SENT} AS done "
    "WHERE done.chain_id = lanes.chain_id AND done.wallet = lanes.wallet "
    "AND done.state = 'FINAL' ORDER BY done.nonce DESC LIMIT 1) AS last"
)
"""The last one that is final tells when the lane last moved."""


async def all_lanes(store: Store, terms: ApiTerms) -> list[LaneView]:
    """By chain and wallet. Without the waiting work itself, only its count."""
    lanes = [Lane(**row) for row in await store.rows(_LANES + " ORDER BY chain_id, wallet")]
    sent: defaultdict[LaneKey, list[Transaction]] = defaultdict(list)
    for row in await store.rows(_ALL_OPEN):
        transaction = transaction_of(row)
        sent[transaction.chain_id, transaction.wallet].append(transaction)
    counts = {
        (row["chain_id"], row["wallet"]): row["count"]
        for row in await store.rows(
            "SELECT chain_id, wallet, count(*) AS count FROM lane_work "
            "WHERE state IN ('WAITING', 'REVERTED') GROUP BY chain_id, wallet"
        )
    }
    heads = await heads_of(store, terms)
    return [
        view_of(
            lane,
            sent[lane.chain_id, lane.wallet],
            (),
            counts.get((lane.chain_id, lane.wallet), 0),
            heads.get(lane.chain_id),
            terms.stuck_after_blocks,
        )
        for lane in lanes
    ]


async def one_lane(store: Store, terms: ApiTerms, chain_id: int, wallet: str) -> LaneView | None:
    """The wallet in any spelling of its hex digits."""
    where: LiteralString = " WHERE chain_id = %s AND lower(wallet) = lower(%s)"
    rows = await store.rows(_LANES + where, [chain_id, to_column(wallet)])
    if not rows:
        return None
    lane = Lane(**rows[0])
    seat: list[object] = [chain_id, lane.wallet]
    sent = await store.rows(
        _SENT + " WHERE chain_id = %s AND wallet = %s AND state = ANY(%s) ORDER BY nonce LIMIT %s",
        [*seat, list(OPEN_STATES), SLOTS_SHOWN],
    )
    closed = await store.rows(
        _SENT + " WHERE chain_id = %s AND wallet = %s AND state IN ('FINAL', 'DROPPED') "
        "ORDER BY nonce DESC LIMIT %s",
        [*seat, CLOSED_SHOWN],
    )
    open_work: LiteralString = (
        " WHERE chain_id = %s AND wallet = %s AND state IN ('WAITING', 'REVERTED') "
    )
    waiting = await store.rows(
        _WORK + open_work + "ORDER BY requested_at, relay LIMIT %s", [*seat, WAITING_SHOWN]
    )
    counted = await store.rows(_COUNT + open_work, seat)
    heads = await heads_of(store, terms)
    return view_of(
        lane,
        [transaction_of(row) for row in (*closed, *sent)],
        [work_of(row) for row in waiting],
        counted[0]["count"],
        heads.get(chain_id),
        terms.stuck_after_blocks,
    )


async def one_work(store: Store, chain_id: int, wallet: str, relay: str) -> Work | None:
    """`relay` as in a column."""
    where: LiteralString = " WHERE chain_id = %s AND wallet = %s AND relay = %s"
    rows = await store.rows(_WORK + where, [chain_id, wallet, relay])
    return work_of(rows[0]) if rows else None


async def heads_of(store: Store, terms: ApiTerms) -> Mapping[int, int]:
    """Each chain's newest block: as many above the followed one as it takes to be final."""
    rows = await store.rows("SELECT chain_id, to_block FROM chain_heads")
    return {
        row["chain_id"]: row["to_block"] + terms.confirmations.get(row["chain_id"], 0)
        for row in rows
        if row["to_block"] is not None
    }


def transaction_of(row: Row) -> Transaction:
    found = Transaction(**row)
    found.state = TransactionState(found.state)
    for name in ("max_fee_per_gas_wei", "max_priority_fee_per_gas_wei"):
        value = getattr(found, name)
        setattr(found, name, None if value is None else str(value))
    return found


def work_of(row: Row) -> Work:
    found = Work(**row)
    found.state = WorkState(found.state)
    return found
