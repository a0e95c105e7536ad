"""The life of a request: every stage, every fact that may move it, and what it still owes.

Three rules hold the whole file together:

1. `TABLE` owns every transition. A fact that the table does not admit changes nothing; the reader
   dead-letters it.
2. "Seen before?" is asked first. The first fact with an id counts, the same again is a no-op, the
   same id with other content is refused (`Verdict.CONFLICT`).
3. `pending` looks at the state alone, never at which fact has just arrived, so reading any fact
   twice, or starting anew, owes the same again until its effect is on the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.base import Record, RequestType
from schemas.lanes import RelayRefusal
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalSigned,
    AttemptFact,
    EvidenceReported,
    FailureReason,
    InclusionReported,
    OrphaningReported,
    RefusalReported,
    RelayAssigned,
    RequestCompleted,
    RequestFact,
    RequestFailed,
    RequestReceived,
    RequestRejected,
    RequestRetracted,
    RetractionReported,
    SubmissionReported,
)


class Stage(StrEnum):
    UNBACKED = "UNBACKED"
    """The chain executed a request that no fact allows. An alarm, never a normal stage."""
    RECEIVED = "RECEIVED"
    DRAFTED = "DRAFTED"
    SIGNED = "SIGNED"
    RELAYING = "RELAYING"
    SUBMITTED = "SUBMITTED"
    INCLUDED = "INCLUDED"
    EXPIRED = "EXPIRED"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    RETRACTED = "RETRACTED"


class Status(StrEnum):
    """What the outside sees."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


STATUS_OF = {
    Stage.UNBACKED: Status.FAILED,
    Stage.RECEIVED: Status.PENDING,
    Stage.DRAFTED: Status.PROCESSING,
    Stage.SIGNED: Status.PROCESSING,
    Stage.RELAYING: Status.PROCESSING,
    Stage.SUBMITTED: Status.PROCESSING,
    Stage.INCLUDED: Status.PROCESSING,
    Stage.EXPIRED: Status.PROCESSING,
    Stage.COMPLETED: Status.COMPLETED,
    Stage.REJECTED: Status.FAILED,
    Stage.FAILED: Status.FAILED,
    Stage.RETRACTED: Status.FAILED,
}

TERMINAL = frozenset({Stage.COMPLETED, Stage.REJECTED, Stage.FAILED, Stage.RETRACTED})
"""Nothing more is owed here. Only evidence, or a retraction, leads out again."""

_LEFT = TERMINAL | {Stage.RECEIVED}
"""Where a request stands that ended during an attempt, or began anew after it."""

_Row = dict[type[RequestFact], Stage | None]

_ALWAYS: _Row = {EvidenceReported: None, RetractionReported: None, RequestReceived: Stage.RECEIVED}
"""`RequestReceived` once more only from another block, after its origin event was retracted: the
new block may be read before `RequestRetracted` is on the log."""
_ENDINGS: _Row = {
    RequestCompleted: Stage.COMPLETED,
    RequestFailed: Stage.FAILED,
    RequestRetracted: Stage.RETRACTED,
}
_REPORTS: _Row = {
    SubmissionReported: None,
    InclusionReported: None,
    OrphaningReported: None,
    RefusalReported: None,
}
_WITH_A_LANE: _Row = {ApprovalExpired: Stage.EXPIRED, **_ENDINGS, **_ALWAYS}

TABLE: dict[Stage | None, _Row] = {
    None: {RequestReceived: Stage.RECEIVED, EvidenceReported: Stage.UNBACKED},
    Stage.UNBACKED: {
        RequestReceived: Stage.RECEIVED,
        EvidenceReported: None,
        RetractionReported: Stage.RETRACTED,
    },
    Stage.RECEIVED: {
        RequestRejected: Stage.REJECTED,
        ApprovalDrafted: Stage.DRAFTED,
        **_REPORTS,
        **_ENDINGS,
        **_ALWAYS,
    },
    Stage.DRAFTED: {ApprovalSigned: Stage.SIGNED, **_ENDINGS, **_ALWAYS},
    Stage.SIGNED: {RelayAssigned: Stage.RELAYING, **_ENDINGS, **_ALWAYS},
    Stage.RELAYING: {
        **_REPORTS,
        RelayAssigned: None,
        SubmissionReported: Stage.SUBMITTED,
        InclusionReported: Stage.INCLUDED,
        **_WITH_A_LANE,
    },
    Stage.SUBMITTED: {**_REPORTS, InclusionReported: Stage.INCLUDED, **_WITH_A_LANE},
    Stage.INCLUDED: {**_REPORTS, OrphaningReported: Stage.SUBMITTED, **_WITH_A_LANE},
    Stage.EXPIRED: {ApprovalDrafted: Stage.DRAFTED, **_REPORTS, **_ENDINGS, **_ALWAYS},
    Stage.COMPLETED: {**_REPORTS, EvidenceReported: None, RetractionReported: Stage.RECEIVED},
    Stage.REJECTED: {**_REPORTS, **_ALWAYS},
    Stage.FAILED: {
        RequestCompleted: Stage.COMPLETED,
        RequestRetracted: Stage.RETRACTED,
        **_REPORTS,
        **_ALWAYS,
    },
    Stage.RETRACTED: {**_REPORTS, **_ALWAYS},
}
"""Which fact moves a request from which stage to which. `None` as a goal: the fact is recorded and
the stage stays. `None` as a start: nothing is known of the request yet."""


class Verdict(StrEnum):
    """What became of a fact."""

    APPLIED = "APPLIED"
    REPEATED = "REPEATED"
    """Seen before, or overtaken by what stands before it on the log: a no-op, and no error."""
    CONFLICT = "CONFLICT"
    """The same id with other content, or a second execution of one request."""
    OUT_OF_ORDER = "OUT_OF_ORDER"
    """The table does not admit it."""


@dataclass(frozen=True, slots=True)
class RequestState:
    """One request, folded. `changed_at` is when the stage last changed; `opened_seconds` is
    the time of the fact that opened the current attempt (Unix seconds)."""

    key: str
    stage: Stage
    created_at: str
    changed_at: str
    updated_at: str
    opened_seconds: int
    received: RequestReceived | None = None
    drafted: ApprovalDrafted | None = None
    signed: ApprovalSigned | None = None
    assigned: RelayAssigned | None = None
    submission: SubmissionReported | None = None
    inclusion: InclusionReported | None = None
    refusal: RefusalReported | None = None
    evidence: EvidenceReported | None = None
    retracted_seats: tuple[str, ...] = ()
    ending: RequestRejected | RequestFailed | RequestCompleted | RequestRetracted | None = None

    @property
    def attempt(self) -> int:
        """0 before the first draft."""
        return self.drafted.attempt if self.drafted else 0

    @property
    def status(self) -> Status:
        return STATUS_OF[self.stage]

    @property
    def type(self) -> RequestType | None:
        return self.received.type if self.received else None

    @property
    def origin_event(self) -> str | None:
        """The contract event that a redeem began with; None for a mint."""
        return self.received.origin_event if self.received else None

    @property
    def origin_retracted(self) -> bool:
        return self.origin_event in self.retracted_seats


def evolve(state: RequestState | None, record: Record) -> tuple[RequestState | None, Verdict]:
    """The state after one record of `requests`, and what became of the record.

    The state is unchanged (the very same object) unless the verdict is APPLIED.
    """
    fact = record.fact
    assert isinstance(fact, RequestFact)
    if state is not None:
        seen = _seen_before(state, fact)
        if seen is not None:
            return state, seen
    admitted = TABLE[state.stage if state else None]
    if type(fact) not in admitted or (state and _groundless(state, fact)):
        return state, Verdict.OUT_OF_ORDER
    goal = admitted[type(fact)]
    if state is None:
        state = _opened(fact, record)
    elif not _relied_on(state, fact):
        goal = None
    if goal is not None and goal is not state.stage:
        state = replace(state, stage=goal, changed_at=record.at)
    return _recorded(replace(state, updated_at=record.at), fact, record), Verdict.APPLIED


def _opened(fact: RequestFact, record: Record) -> RequestState:
    stage = TABLE[None][type(fact)]
    assert stage is not None
    return RequestState(
        key=fact.request_key,
        stage=stage,
        created_at=record.at,
        changed_at=record.at,
        updated_at=record.at,
        opened_seconds=record.at_seconds,
    )


_SINGLE = ("drafted", "signed", "assigned", "submission", "inclusion", "refusal", "ending")


def _seen_before(state: RequestState, fact: RequestFact) -> Verdict | None:
    """REPEATED or CONFLICT when the state already holds this fact, None when it is new."""
    if isinstance(fact, RetractionReported):
        return Verdict.REPEATED if fact.seat in state.retracted_seats else None
    if isinstance(fact, EvidenceReported):
        return _evidence_seen(state, fact)
    if isinstance(fact, RequestReceived):
        return _receipt_seen(state, fact)
    if isinstance(fact, AttemptFact) and fact.attempt < state.attempt:
        return Verdict.REPEATED
    for held in (getattr(state, name) for name in _SINGLE):
        if held is not None and type(held) is type(fact) and held.id == fact.id:
            return Verdict.REPEATED if held.agrees_with(fact) else Verdict.CONFLICT
    if isinstance(fact, ApprovalSigned) and fact.attempt == state.attempt:
        assert state.drafted is not None
        if fact.digest != state.drafted.digest:
            return Verdict.CONFLICT
    return Verdict.REPEATED if _overtaken(state, fact) else None


def _receipt_seen(state: RequestState, fact: RequestReceived) -> Verdict | None:
    """An origin that was taken back stays so; only then may another one take its place."""
    known = state.received
    if fact.origin_event is not None and fact.origin_event in state.retracted_seats:
        return Verdict.REPEATED
    if known is None or state.origin_retracted:
        return None
    return Verdict.REPEATED if known.agrees_with(fact) else Verdict.CONFLICT


def _evidence_seen(state: RequestState, fact: EvidenceReported) -> Verdict | None:
    if fact.seat in state.retracted_seats:
        return Verdict.REPEATED
    if state.evidence is None:
        return None
    if state.evidence.seat == fact.seat:
        return Verdict.REPEATED if state.evidence.agrees_with(fact) else Verdict.CONFLICT
    return Verdict.CONFLICT


def _overtaken(state: RequestState, fact: RequestFact) -> bool:
    """True for a decision whose ground is gone: its author had not yet read what now stands before
    it on the log. What is owed instead follows from the state as it is."""
    stage = state.stage
    match fact:
        case RequestCompleted():
            return fact.seat in state.retracted_seats
        case RequestRetracted():
            moved_on = fact.seat != state.origin_event or stage in TERMINAL - {Stage.FAILED}
            return fact.seat in state.retracted_seats and moved_on
        case RequestFailed() if fact.attempt != state.attempt:
            return fact.attempt < state.attempt
        case RequestFailed(reason=FailureReason.EVIDENCE_MISMATCH):
            return state.evidence is None or stage in TERMINAL
        case RequestFailed():
            return stage in _LEFT
        case ApprovalDrafted():
            return fact.attempt == state.attempt + 1 and stage in TERMINAL
        case RelayAssigned() | RefusalReported() if _assignment_before(state, fact):
            return True
        case ApprovalSigned() | RelayAssigned():
            return fact.attempt == state.attempt and stage in _LEFT
        case ApprovalExpired():
            return fact.attempt == state.attempt and stage in _LEFT | {Stage.EXPIRED}
        case RequestRejected():
            return stage in TERMINAL
    return False


def _groundless(state: RequestState, fact: RequestFact) -> bool:
    """True for what cannot follow from this state. A draft opens the next attempt, all else
    belongs to the current one; and an ending rests on what the log reported."""
    match fact:
        case ApprovalDrafted():
            return fact.attempt != state.attempt + 1
        case ApprovalExpired():
            return fact.attempt != state.attempt or not _refused(state, RelayRefusal.EXPIRED)
        case RequestFailed(reason=FailureReason.CONTRACT_REVERTED):
            return fact.attempt != state.attempt or not _refused(state, RelayRefusal.REVERTED)
        case RelayAssigned():
            return fact.attempt != state.attempt or not _may_be_assigned(state, fact.assignment)
        case AttemptFact() | RequestFailed():
            return fact.attempt != state.attempt
        case RequestCompleted():
            return state.evidence is None or state.evidence.seat != fact.seat
        case RequestRetracted():
            return not state.origin_retracted or fact.seat != state.origin_event
    return False


def _assignment_before(state: RequestState, fact: RelayAssigned | RefusalReported) -> bool:
    held = state.assigned
    return held is not None and (fact.attempt, fact.assignment) < (held.attempt, held.assignment)


def _may_be_assigned(state: RequestState, assignment: int) -> bool:
    """The first wallet, or the next one after the lane before gave the attempt back."""
    before = state.assigned.assignment if state.assigned else 0
    given_back = before == 0 or _refused(state, RelayRefusal.WALLET_UNFIT)
    return assignment == before + 1 and given_back


def _refused(state: RequestState, reason: RelayRefusal) -> bool:
    return state.refusal is not None and state.refusal.reason is reason


def _relied_on(state: RequestState, fact: RequestFact) -> bool:
    """False for the loss of something that the state does not stand on: it moves no stage."""
    match fact:
        case RetractionReported():
            return state.evidence is not None and state.evidence.seat == fact.seat
        case OrphaningReported():
            held, gone = state.inclusion, (fact.tx_hash, fact.block_hash)
            return held is not None and (held.tx_hash, held.block_hash) == gone
    return True


def _recorded(state: RequestState, fact: RequestFact, record: Record) -> RequestState:
    """The state with the fact's content kept."""
    match fact:
        case RequestReceived():
            opened = record.at_seconds
            return replace(state, received=fact, opened_seconds=opened, ending=None)
        case ApprovalDrafted():
            return replace(
                state,
                drafted=fact,
                signed=None,
                assigned=None,
                submission=None,
                inclusion=None,
                refusal=None,
            )
        case ApprovalSigned():
            return replace(state, signed=fact)
        case RelayAssigned():
            return replace(state, assigned=fact, refusal=None)
        case SubmissionReported():
            return replace(state, submission=fact)
        case InclusionReported():
            return replace(state, inclusion=fact)
        case OrphaningReported():
            return replace(state, inclusion=None) if _relied_on(state, fact) else state
        case RefusalReported():
            return replace(state, refusal=fact)
        case ApprovalExpired():
            return replace(state, opened_seconds=record.at_seconds)
        case EvidenceReported():
            return replace(state, evidence=fact)
        case RetractionReported():
            gone = (*state.retracted_seats, fact.seat)
            if _relied_on(state, fact):
                ending = None if state.stage is Stage.RECEIVED else state.ending
                return replace(state, evidence=None, ending=ending, retracted_seats=gone)
            return replace(state, retracted_seats=gone)
        case RequestRejected() | RequestFailed() | RequestCompleted() | RequestRetracted():
            return replace(state, ending=fact)
    raise AssertionError(f"no rule keeps {fact.kind}")
