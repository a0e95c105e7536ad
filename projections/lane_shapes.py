"""A lane as the outside sees it: its open nonces, who owns each, what waits, what blocks. Pure.

Made from rows, so that the present (the tables) and a past moment (a fold of facts up to then) go
through the same code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from projections.lanes import OPEN_STATES, Lane, Transaction, TransactionState, Work
from projections.rows import rfc3339
from projections.text import from_column
from schemas.lanes import relay_parts


class Block(StrEnum):
    """What keeps a lane's work from going on."""

    HALTED = "HALTED"
    SET_ASIDE = "SET_ASIDE"
    STUCK = "STUCK"
    NOT_TAKEN = "NOT_TAKEN"
    """No node has acknowledged the transaction yet."""
    NOT_MINED = "NOT_MINED"


@dataclass(frozen=True, slots=True)
class Slot:
    """One nonce. `versions` from the first to the newest; `blocks` since it is out, or, once a
    block holds it, above that block; None where no head is known."""

    nonce: int
    state: TransactionState
    relay: str | None
    versions: tuple[Transaction, ...]
    current: Transaction
    since: datetime
    blocks: int | None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def is_mined(self) -> bool:
        return self.state in (TransactionState.INCLUDED, TransactionState.FINAL)

    @property
    def request_key(self) -> str | None:
        return None if self.relay is None else key_in(self.relay)


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane at one moment. `slots` by nonce, open ones and the latest closed ones."""

    lane: Lane
    slots: tuple[Slot, ...]
    waiting: tuple[Work, ...]
    waiting_count: int
    stuck: tuple[Slot, ...]

    @property
    def open_slots(self) -> tuple[Slot, ...]:
        return tuple(slot for slot in self.slots if slot.is_open)

    @property
    def lowest(self) -> Slot | None:
        """The lowest nonce that no block holds: nothing above it can be mined before it."""
        return next((slot for slot in self.open_slots if not slot.is_mined), None)

    def slot_of(self, relay: str) -> Slot | None:
        """The open slot of a piece of work (its name as in a column)."""
        return next((slot for slot in self.open_slots if slot.relay == relay), None)

    def blocked_by(self) -> tuple[int | None, Block, str] | None:
        """The nonce, if it is one, a code and a sentence; None when nothing blocks."""
        lowest = self.lowest
        nonce = lowest.nonce if lowest else None
        if self.lane.halted_reason is not None:
            return nonce, Block.HALTED, from_column(self.lane.halted_reason)
        if self.stuck:
            first = self.stuck[0]
            return first.nonce, Block.STUCK, f"nonce {first.nonce} has not moved {_age(first)}"
        if self.lane.set_aside_reason is not None and self.waiting_count:
            return nonce, Block.SET_ASIDE, from_column(self.lane.set_aside_reason)
        behind = self.waiting_count + sum(not slot.is_mined for slot in self.open_slots) - 1
        if lowest is None or behind < 1:
            return None
        if lowest.state in (TransactionState.PREPARED, TransactionState.ORPHANED):
            return nonce, Block.NOT_TAKEN, f"no node has taken nonce {nonce} yet"
        return nonce, Block.NOT_MINED, f"nonce {nonce} is not mined yet{_age(lowest, ' after ')}"


def _age(slot: Slot, before: str = "for ") -> str:
    return "" if slot.blocks is None else f"{before}{slot.blocks} blocks"


def key_in(relay: str) -> str:
    """The request key in a piece of work's name, both as in a column."""
    try:
        return relay_parts(relay)[0] or relay
    except ValueError:
        return relay


def view_of(
    lane: Lane,
    transactions: Iterable[Transaction],
    waiting: Sequence[Work],
    waiting_count: int,
    head: int | None,
    stuck_after_blocks: int,
) -> LaneView:
    """`head` is the chain's newest block as far as it is known."""
    by_nonce: defaultdict[int, list[Transaction]] = defaultdict(list)
    for row in transactions:
        by_nonce[row.nonce].append(row)
    seen = [head or 0]
    for rows in by_nonce.values():
        seen += [row.prepared_block or 0 for row in rows]
        seen += [row.broadcast_block or 0 for row in rows]
    newest = max(seen) or None
    slots = tuple(_slot(nonce, rows, newest) for nonce, rows in sorted(by_nonce.items()))
    stuck = _stuck(slots, newest, stuck_after_blocks)
    return LaneView(lane, slots, tuple(waiting), waiting_count, stuck)


def _slot(nonce: int, rows: list[Transaction], head: int | None) -> Slot:
    versions = tuple(_in_order(rows))
    state = next(
        found
        for found in (
            TransactionState.FINAL,
            TransactionState.INCLUDED,
            TransactionState.BROADCAST,
            TransactionState.ORPHANED,
            TransactionState.PREPARED,
            TransactionState.DROPPED,
        )
        if any(row.state is found for row in rows)
    )
    current = next(row for row in reversed(versions) if row.state is state)
    relay = next((row.relay for row in versions if row.relay is not None), None)
    since = {
        TransactionState.INCLUDED: current.included_at,
        TransactionState.BROADCAST: current.broadcast_at,
        TransactionState.PREPARED: current.prepared_at,
    }.get(state, current.closed_at)
    start = current.block_number
    if start is None:
        start = max((row.broadcast_block or row.prepared_block or 0) for row in versions) or None
    blocks = None if head is None or start is None else max(0, head - start)
    return Slot(nonce, state, relay, versions, current, since or current.updated_at, blocks)


def _in_order(rows: list[Transaction]) -> list[Transaction]:
    """Each after the one that it replaces; what replaces nothing stands first."""
    left = sorted(
        rows, key=lambda row: (row.replaces is not None, row.prepared_at or row.updated_at)
    )
    ordered: list[Transaction] = []
    placed: set[str] = set()
    while left:
        row = next((row for row in left if row.replaces in placed), left[0])
        left.remove(row)
        ordered.append(row)
        placed.add(row.tx_hash)
    return ordered


def _stuck(slots: Sequence[Slot], head: int | None, after_blocks: int) -> tuple[Slot, ...]:
    """As `orchestrator.core.lane_views.stuck`: out for so long, and nothing of ours was mined in
    all that time."""
    if head is None:
        return ()
    moved = max((slot.current.block_number or 0 for slot in slots if slot.is_mined), default=0)
    return tuple(
        slot
        for slot in slots
        if slot.is_open
        and not slot.is_mined
        and head - max(slot.versions[0].prepared_block or head, moved) >= after_blocks
    )


def lane_path(chain_id: int, wallet: str) -> str:
    return f"/lanes/{chain_id}/{quote(wallet, safe='')}"


def summary_object(view: LaneView) -> dict[str, Any]:
    lane = view.lane
    path = lane_path(lane.chain_id, lane.wallet)
    return {
        "chainId": lane.chain_id,
        "wallet": lane.wallet,
        "nextNonce": lane.next_nonce,
        "inFlight": len(view.open_slots),
        "waiting": view.waiting_count,
        "stuck": len(view.stuck),
        "halted": _stop(lane.halted_reason, lane.halted_at),
        "setAside": _stop(lane.set_aside_reason, lane.set_aside_at),
        "links": {"self": path, "feed": f"/feed?topic=lanes&chainId={lane.chain_id}"},
    }


def _stop(reason: str | None, at: datetime | None) -> dict[str, Any] | None:
    if reason is None or at is None:
        return None
    return {"reason": from_column(reason), "at": rfc3339(at)}


def lane_object(view: LaneView) -> dict[str, Any]:
    blocked = view.blocked_by()
    return {
        **summary_object(view),
        "slots": [slot_object(slot) for slot in view.slots],
        "waitingRequests": [from_column(work.request_key) for work in view.waiting],
        "blockedBy": None
        if blocked is None
        else {"nonce": blocked[0], "code": blocked[1], "reason": blocked[2]},
    }


def slot_object(slot: Slot) -> dict[str, Any]:
    key = slot.request_key
    return {
        "nonce": slot.nonce,
        "state": slot.state,
        "requestKey": None if key is None else from_column(key),
        "txHash": slot.current.tx_hash,
        "versions": [
            {
                "txHash": row.tx_hash,
                "maxFeePerGasWei": row.max_fee_per_gas_wei,
                "maxPriorityFeePerGasWei": row.max_priority_fee_per_gas_wei,
                "replaces": row.replaces,
                "at": rfc3339(row.prepared_at or row.updated_at),
            }
            for row in slot.versions
        ],
        "since": rfc3339(slot.since),
        "blocks": slot.blocks,
    }
