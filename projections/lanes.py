"""The tables of the lanes, folded from their facts. Pure; one book a batch.

A lane is one wallet on one chain, all on one partition, so its facts come in total order.
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
    NonceFact,
    NonceTaken,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionOrphaned,
    TransactionPrepared,
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

LaneKey = tuple[int, str]
NonceKey = tuple[int, str, int]


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


@dataclass(slots=True)
class Transaction:
    """A row of `lane_transactions`."""

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


@dataclass(slots=True)
class LaneBook:
    """The lanes and nonces that a batch touches: first loaded, then folded, then written whole."""

    lanes: dict[LaneKey, Lane] = field(default_factory=dict)
    nonces: dict[NonceKey, dict[str, Transaction]] = field(default_factory=dict)

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
            case NonceFact():
                self._nonce(fact, lane, at)

    def _nonce(self, fact: NonceFact, lane: Lane, at: datetime) -> None:
        lane.next_nonce = max(lane.next_nonce or 0, fact.nonce + 1)
        peers = self.nonces.setdefault((fact.chain_id, fact.wallet, fact.nonce), {})
        if isinstance(fact, NonceTaken):
            _drop(peers, at)
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
        row.updated_at = at
        row.relay = optional_column(fact.relay) or row.relay
        match fact:
            case TransactionPrepared():
                _prepare(row, fact, at)
                lane.halted_reason = lane.halted_at = None
            case TransactionBroadcast():
                if row.state in (TransactionState.PREPARED, TransactionState.ORPHANED):
                    row.state = TransactionState.BROADCAST
            case TransactionIncluded():
                row.state = TransactionState.INCLUDED
                row.block_number, row.block_hash = fact.block_number, fact.block_hash
                row.succeeded, row.gas_used = fact.succeeded, fact.gas_used
            case TransactionOrphaned():
                row.state = TransactionState.ORPHANED
                row.block_number = row.block_hash = row.succeeded = row.gas_used = None
            case TransactionFinal():
                _drop({name: peer for name, peer in peers.items() if peer is not row}, at)
                row.state = TransactionState.FINAL
                row.block_number, row.block_hash = fact.block_number, fact.block_hash
                row.succeeded = fact.succeeded


def _prepare(row: Transaction, fact: TransactionPrepared, at: datetime) -> None:
    """A transaction that is prepared again (after a restart) keeps how far it came."""
    row.replaces = fact.replaces
    row.gas_limit = fact.gas_limit
    row.max_fee_per_gas_wei = str(fact.max_fee_per_gas_wei)
    row.max_priority_fee_per_gas_wei = str(fact.max_priority_fee_per_gas_wei)
    row.prepared_at = row.prepared_at or at


def _drop(peers: dict[str, Transaction], at: datetime) -> None:
    for peer in peers.values():
        peer.state, peer.updated_at = TransactionState.DROPPED, at
