"""A batch of records to what changes in the tables. Pure: what is known comes in, rows come out.

Two steps, so that the writer can load what the batch touches in one query a table: `read` decodes
and names the touched keys; `fold` applies. Neither does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from orchestrator.core.belonging import request_key_of
from orchestrator.core.lifecycle import RequestState, Verdict, evolve
from projections.lanes import LaneBook, LaneKey, NonceKey, WorkKey
from projections.text import moment, to_column, to_jsonb
from schemas.base import Position, Record, UnreadableRecord
from schemas.controls import WorkPaused, WorkResumed
from schemas.dead_letters import DeadLetter
from schemas.evm import BlocksFollowed, ChainHalted, ChainResumed, SupplyCompared
from schemas.lanes import LaneFact, NonceFact
from schemas.requests import RequestFact
from schemas.topics import TOPICS

LARGEST_FAULT_BYTES = 64 * 1024
LARGEST_FAULT_REASON = 2000
PACE_WEIGHT = 0.2
"""Of the newest look at a chain in the smoothed time between two of its blocks."""


class RawRecord(NamedTuple):
    """A record as Kafka gives it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None


class FactRow(NamedTuple):
    """A row of `request_facts`."""

    topic: str
    partition: int
    offset: int
    request_key: str
    kind: str
    fact_id: str
    at: datetime
    value: str
    verdict: str | None


class LaneFactRow(NamedTuple):
    """A row of `lane_facts`."""

    topic: str
    partition: int
    offset: int
    chain_id: int
    wallet: str
    nonce: int | None
    kind: str
    at: datetime
    value: str


class PauseRow(NamedTuple):
    """A row of `pause_facts`."""

    topic: str
    partition: int
    offset: int
    scope: str
    paused: bool
    order: str
    who: str
    why: str
    at: datetime


class FaultRow(NamedTuple):
    """A row of `projection_faults`."""

    topic: str
    partition: int
    offset: int
    reason: str
    value: bytes


class DeadLetterRow(NamedTuple):
    """A row of `dead_letters`."""

    fact_id: str
    origin: str
    reason: str
    detail: str
    raw_bytes: int
    raw_sha256: str
    at: datetime
    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class ChainHead:
    """A row of `chain_heads`."""

    chain_id: int
    to_block: int | None = None
    to_hash: str | None = None
    to_timestamp: datetime | None = None
    followed_at: datetime | None = None
    halted_reason: str | None = None
    halted_at: datetime | None = None
    block_seconds: float | None = None
    halt: str | None = None
    resumed_at: datetime | None = None
    """When a person let it go on, until the follower has written its next range."""
    supply_block: int | None = None
    supply_total: str | None = None
    supply_by_events: str | None = None
    supply_at: datetime | None = None


@dataclass(slots=True)
class Reading:
    """Decoded records, in log order, and the keys that they touch."""

    records: list[tuple[RawRecord, Record]] = field(default_factory=list)
    faults: list[FaultRow] = field(default_factory=list)
    request_keys: set[str] = field(default_factory=set)
    lanes: set[LaneKey] = field(default_factory=set)
    nonces: set[NonceKey] = field(default_factory=set)
    works: set[WorkKey] = field(default_factory=set)
    chains: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Known:
    """What the tables hold on the touched keys; `fold` works on these objects."""

    requests: dict[str, RequestState] = field(default_factory=dict)
    book: LaneBook = field(default_factory=LaneBook)
    heads: dict[int, ChainHead] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What the batch does to the tables."""

    requests: dict[str, RequestState] = field(default_factory=dict)
    facts: list[FactRow] = field(default_factory=list)
    lane_facts: list[LaneFactRow] = field(default_factory=list)
    pauses: list[PauseRow] = field(default_factory=list)
    dead_letters: dict[str, DeadLetterRow] = field(default_factory=dict)
    faults: list[FaultRow] = field(default_factory=list)
    book: LaneBook = field(default_factory=LaneBook)
    heads: Mapping[int, ChainHead] = field(default_factory=dict)
    moves: list[tuple[RequestState, RequestState]] = field(default_factory=list)
    """Requests before and after each fact that changed their stage."""


def fault(raw: RawRecord, reason: str) -> FaultRow:
    value = (raw.value or b"")[:LARGEST_FAULT_BYTES]
    text = to_column(reason[:LARGEST_FAULT_REASON])
    return FaultRow(raw.topic, raw.partition, raw.offset, text, value)


def read(batch: Iterable[RawRecord]) -> Reading:
    """Decode; what cannot be read becomes a fault, never an exception."""
    reading = Reading()
    for raw in batch:
        position = Position(raw.topic, raw.partition, raw.offset)
        try:
            record = TOPICS[raw.topic].decode(raw.value, position)
        except UnreadableRecord as error:
            reading.faults.append(fault(raw, str(error)))
            continue
        reading.records.append((raw, record))
        fact = record.fact
        if isinstance(fact, RequestFact):
            reading.request_keys.add(fact.request_key)
        elif isinstance(fact, LaneFact):
            reading.lanes.add((fact.chain_id, fact.wallet))
            if isinstance(fact, NonceFact):
                reading.nonces.add((fact.chain_id, fact.wallet, fact.nonce))
            relay: str | None = getattr(fact, "relay", None)
            if relay is not None:
                reading.works.add((fact.chain_id, fact.wallet, to_column(relay)))
        elif isinstance(fact, BlocksFollowed | ChainHalted | ChainResumed | SupplyCompared):
            reading.chains.add(fact.chain_id)
    return reading


def fold(reading: Reading, known: Known) -> Changes:
    changes = Changes(faults=list(reading.faults), book=known.book, heads=known.heads)
    states = known.requests
    for raw, record in reading.records:
        fact = record.fact
        verdict: Verdict | None = None
        if isinstance(fact, RequestFact):
            before = states.get(fact.request_key)
            state, verdict = evolve(before, record)
            if state is not None and verdict is Verdict.APPLIED:
                if before is not None and before.stage is not state.stage:
                    changes.moves.append((before, state))
                states[fact.request_key] = changes.requests[fact.request_key] = state
        elif isinstance(fact, LaneFact):
            known.book.fold(fact, record)
        elif isinstance(fact, BlocksFollowed | ChainHalted | ChainResumed):
            _follow(known.heads, fact, record)
        elif isinstance(fact, SupplyCompared):
            _compare(known.heads, fact, record)
        elif isinstance(fact, WorkPaused | WorkResumed):
            changes.pauses.append(_pause_row(fact, raw, record))
        elif isinstance(fact, DeadLetter):
            row = _dead_letter(fact, record, raw)
            changes.dead_letters.setdefault(row.fact_id, row)
        key = request_key_of(fact)
        if key is not None:
            changes.facts.append(_fact_row(key, raw, record, verdict))
        elif isinstance(fact, LaneFact):
            changes.lane_facts.append(_lane_fact_row(fact, raw, record))
    return changes


def _fact_row(key: str, raw: RawRecord, record: Record, verdict: Verdict | None) -> FactRow:
    return FactRow(
        raw.topic,
        raw.partition,
        raw.offset,
        to_column(key),
        record.fact.kind,
        to_column(record.fact.id),
        moment(record.at),
        to_jsonb(raw.value or b""),
        verdict,
    )


def _pause_row(fact: WorkPaused | WorkResumed, raw: RawRecord, record: Record) -> PauseRow:
    return PauseRow(
        raw.topic,
        raw.partition,
        raw.offset,
        to_column(fact.scope),
        isinstance(fact, WorkPaused),
        fact.order,
        to_column(fact.who),
        to_column(fact.why),
        moment(record.at),
    )


def _lane_fact_row(fact: LaneFact, raw: RawRecord, record: Record) -> LaneFactRow:
    return LaneFactRow(
        raw.topic,
        raw.partition,
        raw.offset,
        fact.chain_id,
        fact.wallet,
        fact.nonce if isinstance(fact, NonceFact) else None,
        fact.kind,
        moment(record.at),
        to_jsonb(raw.value or b""),
    )


def _follow(
    heads: dict[int, ChainHead],
    fact: BlocksFollowed | ChainHalted | ChainResumed,
    record: Record,
) -> None:
    if isinstance(fact, ChainResumed) and fact.chain_id not in heads:
        return
    head = heads.setdefault(fact.chain_id, ChainHead(fact.chain_id))
    if isinstance(fact, ChainHalted):
        head.halted_reason, head.halted_at = to_column(fact.reason), moment(record.at)
        head.halt, head.resumed_at = to_column(fact.id), None
        return
    if isinstance(fact, ChainResumed):
        if head.halt is not None and head.halt == to_column(fact.halt):
            head.halted_reason = head.halted_at = head.halt = None
            head.resumed_at = moment(record.at)
        return
    seen_at = moment_of_seconds(fact.to_timestamp)
    if (
        head.to_block is not None
        and head.to_timestamp is not None
        and fact.to_block > head.to_block
    ):
        pace = (seen_at - head.to_timestamp).total_seconds() / (fact.to_block - head.to_block)
        held = pace if head.block_seconds is None else head.block_seconds
        head.block_seconds = max(0.0, held + (pace - held) * PACE_WEIGHT)
    head.to_block, head.to_hash = fact.to_block, fact.to_hash
    head.to_timestamp = seen_at
    head.followed_at = moment(record.at)
    head.halted_reason = head.halted_at = head.halt = head.resumed_at = None


def _compare(heads: dict[int, ChainHead], fact: SupplyCompared, record: Record) -> None:
    """What was there before the first followed block is no comparison."""
    if fact.baseline:
        return
    head = heads.setdefault(fact.chain_id, ChainHead(fact.chain_id))
    head.supply_block, head.supply_at = fact.block_number, moment(record.at)
    head.supply_total, head.supply_by_events = str(fact.total_supply), str(fact.by_events)


def moment_of_seconds(seconds: int) -> datetime:
    """A block's time; what no calendar can hold is moved to the border, as in `moment`."""
    try:
        return moment(datetime.fromtimestamp(seconds, UTC).isoformat())
    except (OverflowError, OSError, ValueError):
        return moment("9999-01-01T00:00:00+00:00")


def _dead_letter(fact: DeadLetter, record: Record, raw: RawRecord) -> DeadLetterRow:
    return DeadLetterRow(
        to_column(fact.id),
        to_column(fact.origin),
        fact.reason,
        to_column(fact.detail),
        fact.raw_bytes,
        to_column(fact.raw_sha256),
        moment(record.at),
        raw.topic,
        raw.partition,
        raw.offset,
    )
