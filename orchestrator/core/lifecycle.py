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

from collections.abc import Callable
from typing import Any

from orchestrator.core.grounds import (
    DEADLY,
    WITH_A_LANE,
    groundless,
    may_be_given_up,
    overtaken,
    relied_on,
)
from orchestrator.core.stages import (
    HELD_AS,
    STATUS_OF,
    TERMINAL,
    RequestState,
    Stage,
    Status,
    Verdict,
    changed,
)
from schemas.base import Record
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalNonceGranted,
    ApprovalSigned,
    ApproveReported,
    AttemptFact,
    CancelReported,
    ClearanceReported,
    DraftRecalled,
    EvidenceReported,
    HoldLapseReported,
    HoldReported,
    InclusionReported,
    OrderReported,
    OrphaningReported,
    PolicyReported,
    RefusalReported,
    RelayAssigned,
    RequestCompleted,
    RequestFact,
    RequestFailed,
    RequestReceived,
    RequestRejected,
    RequestRetracted,
    RetractionReported,
    RetryReported,
    SubmissionReported,
)

__all__ = [
    "DEADLY",
    "STATUS_OF",
    "TABLE",
    "TERMINAL",
    "WITH_A_LANE",
    "RequestState",
    "Stage",
    "Status",
    "Verdict",
    "evolve",
    "may_be_given_up",
]


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
_LATE: _Row = {ApprovalNonceGranted: None, **_REPORTS}
"""A grant is kept where the request has ended: it is told once, and counts if all begins anew."""
_ORDERS: _Row = {RetryReported: None, CancelReported: None}
"""A retry at work moves nothing here: whoever waits in a backoff is woken by the order itself."""
_WITH_A_LANE: _Row = {
    ApprovalExpired: Stage.EXPIRED,
    RetryReported: Stage.RECEIVED,
    CancelReported: None,
    **_ENDINGS,
    **_ALWAYS,
}
"""A retry moves only what its lane gave back for processed while no evidence of that appears."""

TABLE: dict[Stage | None, _Row] = {
    None: {RequestReceived: Stage.RECEIVED, EvidenceReported: Stage.UNBACKED},
    Stage.UNBACKED: {
        RequestReceived: Stage.RECEIVED,
        EvidenceReported: None,
        RetractionReported: Stage.RETRACTED,
    },
    Stage.RECEIVED: {
        ApprovalNonceGranted: None,
        ClearanceReported: None,
        HoldReported: Stage.HELD,
        RequestRejected: Stage.REJECTED,
        ApprovalDrafted: Stage.DRAFTED,
        **_REPORTS,
        **_ORDERS,
        **_ENDINGS,
        **_ALWAYS,
    },
    Stage.HELD: {
        ClearanceReported: Stage.RECEIVED,
        HoldLapseReported: Stage.RECEIVED,
        HoldReported: None,
        ApproveReported: None,
        **_LATE,
        **_ORDERS,
        RetryReported: Stage.RECEIVED,
        **_ENDINGS,
        **_ALWAYS,
    },
    Stage.DRAFTED: {
        ApprovalSigned: Stage.SIGNED,
        DraftRecalled: Stage.RECEIVED,
        **_ORDERS,
        **_ENDINGS,
        **_ALWAYS,
    },
    Stage.SIGNED: {RelayAssigned: Stage.RELAYING, **_ORDERS, **_ENDINGS, **_ALWAYS},
    Stage.RELAYING: {
        **_REPORTS,
        RelayAssigned: None,
        SubmissionReported: Stage.SUBMITTED,
        InclusionReported: Stage.INCLUDED,
        **_WITH_A_LANE,
    },
    Stage.SUBMITTED: {**_REPORTS, InclusionReported: Stage.INCLUDED, **_WITH_A_LANE},
    Stage.INCLUDED: {**_REPORTS, OrphaningReported: Stage.SUBMITTED, **_WITH_A_LANE},
    Stage.EXPIRED: {
        ApprovalNonceGranted: None,
        ClearanceReported: None,
        HoldReported: Stage.HELD,
        ApprovalDrafted: Stage.DRAFTED,
        **_REPORTS,
        **_ORDERS,
        **_ENDINGS,
        **_ALWAYS,
    },
    Stage.COMPLETED: {**_LATE, EvidenceReported: None, RetractionReported: Stage.RECEIVED},
    Stage.REJECTED: {RetryReported: Stage.RECEIVED, **_LATE, **_ALWAYS},
    Stage.FAILED: {
        RequestCompleted: Stage.COMPLETED,
        RequestRetracted: Stage.RETRACTED,
        RetryReported: Stage.RECEIVED,
        **_LATE,
        **_ALWAYS,
    },
    Stage.RETRACTED: {**_LATE, **_ALWAYS},
}
"""Which fact moves a request from which stage to which. `None` as a goal: the fact is recorded and
the stage stays. `None` as a start: nothing is known of the request yet."""


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
    if type(fact) not in admitted or (state and groundless(state, fact)):
        return state, Verdict.OUT_OF_ORDER
    goal = admitted[type(fact)]
    if state is None:
        state = _opened(fact, record)
    elif not relied_on(state, fact):
        goal = None
    changes = _recorded(state, fact, record, goal or state.stage)
    changes["updated_at"] = record.at
    if goal is not None and goal is not state.stage:
        changes["stage"], changes["changed_at"] = goal, record.at
    return changed(state, changes), Verdict.APPLIED


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


def _seen_before(state: RequestState, fact: RequestFact) -> Verdict | None:
    """REPEATED or CONFLICT when the state already holds this fact, None when it is new."""
    rule = _SEEN.get(type(fact))
    if rule is not None:
        return rule(state, fact)
    if isinstance(fact, AttemptFact):
        if fact.attempt < state.attempt:
            return Verdict.REPEATED
    elif isinstance(fact, PolicyReported) and fact.ticket != state.ticket:
        return Verdict.REPEATED
    held = getattr(state, HELD_AS.get(type(fact), "ending"))
    if type(held) is type(fact) and held.id == fact.id:
        return Verdict.REPEATED if held.agrees_with(fact) else Verdict.CONFLICT
    if type(fact) is ApprovalSigned and fact.attempt == state.attempt:
        assert state.drafted is not None
        if fact.digest != state.drafted.digest:
            return Verdict.CONFLICT
    if type(fact) in _NEVER_OVERTAKEN:
        return None
    return Verdict.REPEATED if overtaken(state, fact) else None


def _retraction_seen(state: RequestState, fact: RetractionReported) -> Verdict | None:
    return Verdict.REPEATED if fact.seat in state.retracted_seats else None


def _order_seen(state: RequestState, fact: OrderReported) -> Verdict | None:
    held = next((held for held in state.orders if held.order == fact.order), None)
    if held is None:
        return None
    return Verdict.REPEATED if held.agrees_with(fact) else Verdict.CONFLICT


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


_SEEN: dict[type[RequestFact], Callable[[RequestState, Any], Verdict | None]] = {
    RetractionReported: _retraction_seen,
    EvidenceReported: _evidence_seen,
    RequestReceived: _receipt_seen,
    RetryReported: _order_seen,
    CancelReported: _order_seen,
    ApproveReported: _order_seen,
}
"""Kinds of which a state keeps several, or which another place may tell. (By type here and below:
`isinstance` of a model that does not fit costs a fifth of a microsecond, and a fold asked it thirty
times a fact.)"""

_NEVER_OVERTAKEN = frozenset({SubmissionReported, InclusionReported, OrphaningReported})
"""What a lane saw happen is no decision: it stays true whatever stands before it on the log."""


_KEPT_ALONE: dict[type[RequestFact], str] = {
    ApprovalNonceGranted: "granted",
    ApprovalSigned: "signed",
    SubmissionReported: "submission",
    InclusionReported: "inclusion",
    RefusalReported: "refusal",
    EvidenceReported: "evidence",
    HoldReported: "hold",
    RequestRejected: "ending",
    RequestFailed: "ending",
    RequestRetracted: "ending",
}
"""Facts that change nothing but the field that keeps them."""


def _recorded(
    state: RequestState, fact: RequestFact, record: Record, stage: Stage
) -> dict[str, Any]:
    """The fields that keep the fact's content; `stage` is where the request then stands."""
    alone = _KEPT_ALONE.get(type(fact))
    if alone is not None:
        return {alone: fact}
    match fact:
        case RequestReceived():
            opened = record.at_seconds
            return {"received": fact, "opened_seconds": opened, "ending": None, "renewing": False}
        case ApprovalDrafted():
            return {
                "drafted": fact,
                "renewing": False,
                "signed": None,
                "assigned": None,
                "submission": None,
                "inclusion": None,
                "refusal": None,
            }
        case RelayAssigned():
            return {"assigned": fact, "refusal": None}
        case OrphaningReported():
            return {"inclusion": None} if relied_on(state, fact) else {}
        case ApprovalExpired():
            return {"opened_seconds": record.at_seconds, "expired": fact, "renewing": True}
        case DraftRecalled():
            return {}
        case ClearanceReported():
            return {"opened_seconds": record.at_seconds, "clearance": fact}
        case HoldLapseReported():
            return {"lapses": state.lapses + 1}
        case ApproveReported():
            return {"orders": (*state.orders, fact)}
        case RetractionReported():
            gone = (*state.retracted_seats, fact.seat)
            if relied_on(state, fact):
                ending = None if stage is Stage.RECEIVED else state.ending
                anew = {"ending": ending, "renewing": False}
                return {"evidence": None, "retracted_seats": gone, **anew}
            return {"retracted_seats": gone}
        case CancelReported():
            return {"orders": (*state.orders, fact), "cancelling": fact}
        case RetryReported():
            opened = record.at_seconds if state.ending is not None else state.opened_seconds
            return {
                "orders": (*state.orders, fact),
                "opened_seconds": opened,
                "renewing": state.renewing and state.ending is None,
                "cancelling": None,
                "ending": None,
            }
        case RequestCompleted():
            return {"ending": fact, "cancelling": None}
    raise AssertionError(f"no rule keeps {fact.kind}")
