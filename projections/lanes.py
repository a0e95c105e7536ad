"""The tables of the lanes, folded from their facts. Pure; one book a batch.

A lane is one wallet on one chain, all on one partition, so its facts come in total order. The core
folds a lane whole, to act on it; here every nonce and every piece of work is a row of its own, so
that a batch loads and writes only what it touches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from projections.text import moment, optional_column, to_column
from schemas.base import Record
from schemas.lanes import (
    LaneFact,
    LaneHalted,
    LaneOpened,
    LaneReconciled,
    NonceFact,
    NonceTaken,
    RelayRefused,
    RelayRequested,
    RelayResumed,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionOrphaned,
    TransactionPrepared,
    WalletRestored,
    WalletSetAside,
    relay_parts,
)


class TransactionState(StrEnum):
    PREPARED = "PREPARED"
    BROADCAST = "BROADCAST"
    INCLUDED = "INCLUDED"
    ORPHANED = "ORPHANED"
    FINAL = "FINAL"
    DROPPED = "DROPPED"
    """Another transaction spent the nonce for good: this one can never be mined."""


OPEN_STATES = ("PREPARED", "BROADCAST", "INCLUDED", "ORPHANED")
"""The nonce is not spent for good yet."""


class WorkState(StrEnum):
    """Where a piece of work (one assignment of one attempt of one request) stands in its lane."""

    WAITING = "WAITING"
    WORKING = "WORKING"
    """It has a nonce."""
    REVERTED = "REVERTED"
    """Mined as a failure, final; the lane still finds out why."""
    DONE = "DONE"
    REFUSED = "REFUSED"
    """Given back."""


LaneKey = tuple[int, str]
NonceKey = tuple[int, str, int]
WorkKey = tuple[int, str, str]
"""Chain, wallet, and the work's name as it stands in a column."""


@dataclass(slots=True)
class Lane:
    """A row of `lanes`."""

    chain_id: int
    wallet: str
    updated_at: datetime
    first_nonce: int | None = None
    next_nonce: int | None = None
    halted_reason: str | None = None
    halted_at: datetime | None = None
    set_aside_number: int | None = None
    set_aside_reason: str | None = None
    set_aside_at: datetime | None = None


@dataclass(slots=True)
class Transaction:
    """A row of `lane_transactions`. Blocks are the head when it was prepared or taken by a node."""

    chain_id: int
    wallet: str
    nonce: int
    tx_hash: str
    state: TransactionState
    updated_at: datetime
    relay: str | None = None
    replaces: str | None = None
    gas_limit: int | None = None
    max_fee_per_gas_wei: str | None = None
    max_priority_fee_per_gas_wei: str | None = None
    block_number: int | None = None
    block_hash: str | None = None
    succeeded: bool | None = None
    gas_used: int | None = None
    prepared_at: datetime | None = None
    prepared_block: int | None = None
    broadcast_at: datetime | None = None
    broadcast_block: int | None = None
    included_at: datetime | None = None
    closed_at: datetime | None = None


@dataclass(slots=True)
class Work:
    """A row of `lane_work`. `closed_at` while it neither waits nor stands in a slot."""

    chain_id: int
    wallet: str
    relay: str
    request_key: str
    state: WorkState
    requested_at: datetime
    changed_at: datetime
    nonce: int | None = None
    closed_at: datetime | None = None


@dataclass(slots=True)
class LaneBook:
    """The lanes, nonces and pieces of work that a batch touches: first loaded, then folded, then
    written whole."""

    lanes: dict[LaneKey, Lane] = field(default_factory=dict)
    nonces: dict[NonceKey, dict[str, Transaction]] = field(default_factory=dict)
    works: dict[WorkKey, Work] = field(default_factory=dict)

    def fold(self, fact: LaneFact, record: Record) -> None:
        at = moment(record.at)
        lane = self.lanes.setdefault(
            (fact.chain_id, fact.wallet), Lane(fact.chain_id, fact.wallet, at)
        )
        lane.updated_at = at
        match fact:
            case LaneOpened():
                lane.first_nonce = fact.first_nonce
                lane.next_nonce = max(lane.next_nonce or 0, fact.first_nonce)
            case LaneHalted():
                lane.halted_reason, lane.halted_at = to_column(fact.reason), at
            case WalletSetAside() if fact.number > (lane.set_aside_number or 0):
                lane.set_aside_number = fact.number
                lane.set_aside_reason, lane.set_aside_at = to_column(fact.reason), at
            case WalletRestored() if fact.number == lane.set_aside_number:
                lane.set_aside_reason = lane.set_aside_at = None
            case RelayRequested():
                self._work(fact, to_column(fact.relay), at)
            case RelayRefused():
                work = self._work(fact, to_column(fact.relay), at)
                if work.state is not WorkState.DONE:
                    self._move(work, WorkState.REFUSED, at)
            case RelayResumed():
                self._move(self._work(fact, to_column(fact.relay), at), WorkState.WAITING, at)
            case LaneReconciled():
                lane.halted_reason = lane.halted_at = None
            case NonceFact():
                self._nonce(fact, lane, at)

    def _work(self, fact: LaneFact, relay: str, at: datetime) -> Work:
        """`relay` as it stands in a column."""
        key = (fact.chain_id, fact.wallet, relay)
        if key not in self.works:
            self.works[key] = Work(*key, _request_key(relay), WorkState.WAITING, at, at)
        return self.works[key]

    def _move(self, work: Work, state: WorkState, at: datetime, nonce: int | None = None) -> None:
        work.state, work.changed_at, work.nonce = state, at, nonce
        closed = state in (WorkState.DONE, WorkState.REFUSED)
        work.closed_at = (work.closed_at or at) if closed else None

    def _nonce(self, fact: NonceFact, lane: Lane, at: datetime) -> None:
        lane.next_nonce = max(lane.next_nonce or 0, fact.nonce + 1)
        peers = self.nonces.setdefault((fact.chain_id, fact.wallet, fact.nonce), {})
        owner = next((peer.relay for peer in peers.values() if peer.relay is not None), None)
        if isinstance(fact, NonceTaken):
            if optional_column(fact.relay) == owner:
                _drop(peers, at)
                if owner is not None:
                    self._move(self._work(fact, owner, at), WorkState.WAITING, at)
            return
        if not isinstance(
            fact,
            TransactionPrepared
            | TransactionBroadcast
            | TransactionIncluded
            | TransactionOrphaned
            | TransactionFinal,
        ):
            return
        row = peers.get(fact.tx_hash)
        if row is None:
            row = peers[fact.tx_hash] = Transaction(
                fact.chain_id, fact.wallet, fact.nonce, fact.tx_hash, TransactionState.PREPARED, at
            )
        if row.closed_at is not None and not isinstance(fact, TransactionFinal):
            return
        row.updated_at = at
        row.relay = optional_column(fact.relay) or row.relay
        match fact:
            case TransactionPrepared():
                _prepare(row, fact, at)
                lane.halted_reason = lane.halted_at = None
                if row.relay is not None:
                    work = self._work(fact, row.relay, at)
                    self._move(work, WorkState.WORKING, at, fact.nonce)
            case TransactionBroadcast():
                if row.state in (TransactionState.PREPARED, TransactionState.ORPHANED):
                    row.state = TransactionState.BROADCAST
                row.broadcast_at, row.broadcast_block = at, fact.block_number
            case TransactionIncluded():
                row.state, row.included_at = TransactionState.INCLUDED, at
                row.block_number, row.block_hash = fact.block_number, fact.block_hash
                row.succeeded, row.gas_used = fact.succeeded, fact.gas_used
            case TransactionOrphaned():
                row.state, row.included_at = TransactionState.ORPHANED, None
                row.block_number = row.block_hash = row.succeeded = row.gas_used = None
            case TransactionFinal():
                _drop({name: peer for name, peer in peers.items() if peer is not row}, at)
                row.state, row.closed_at = TransactionState.FINAL, at
                row.block_number, row.block_hash = fact.block_number, fact.block_hash
                row.succeeded = fact.succeeded
                self._finish(fact, owner or row.relay, at)

    def _finish(self, fact: TransactionFinal, owner: str | None, at: datetime) -> None:
        """The nonce's work is done, failed, or, behind a mined no-op, waits again."""
        if owner is None:
            return
        work = self._work(fact, owner, at)
        if fact.relay is None:
            self._move(work, WorkState.WAITING, at)
        elif fact.succeeded:
            self._move(work, WorkState.DONE, at, fact.nonce)
        else:
            self._move(work, WorkState.REVERTED, at, fact.nonce)


def _request_key(relay: str) -> str:
    try:
        return relay_parts(relay)[0] or relay
    except ValueError:
        return relay


def _prepare(row: Transaction, fact: TransactionPrepared, at: datetime) -> None:
    """A transaction that is prepared again (after a restart) keeps how far it came."""
    row.replaces = fact.replaces
    row.gas_limit = fact.gas_limit
    row.max_fee_per_gas_wei = str(fact.max_fee_per_gas_wei)
    row.max_priority_fee_per_gas_wei = str(fact.max_priority_fee_per_gas_wei)
    row.prepared_at = row.prepared_at or at
    row.prepared_block = fact.block_number if row.prepared_block is None else row.prepared_block


def _drop(peers: dict[str, Transaction], at: datetime) -> None:
    for peer in peers.values():
        peer.state, peer.updated_at, peer.closed_at = TransactionState.DROPPED, at, at
