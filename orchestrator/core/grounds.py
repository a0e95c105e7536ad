"""What a fact about a request rests on: whether it can follow from the state that it meets."""

from __future__ import annotations

from typing import cast

from orchestrator.core.stages import TERMINAL, RequestState, Stage, rests_elsewhere
from schemas.lanes import RelayRefusal
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalNonceGranted,
    ApprovalSigned,
    ApproveReported,
    AttemptFact,
    CancelReported,
    DraftRecalled,
    EvidenceReported,
    FailureReason,
    HoldLapseReported,
    InclusionReported,
    OrphaningReported,
    PolicyReported,
    RefusalReported,
    RejectionReason,
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

DEADLY = frozenset({RelayRefusal.EXPIRED, RelayRefusal.NONCE_TAKEN})
"""Refusals that prove that an approval can never execute: the next one may be drafted."""


_OF_THE_CURRENT_ATTEMPT = frozenset(
    {ApprovalSigned, SubmissionReported, InclusionReported, OrphaningReported, RefusalReported}
)
_FREE = frozenset({RequestReceived, EvidenceReported, RetractionReported})
"""They tell what stands elsewhere on the log or on a chain, whatever the request has come to."""


def groundless(state: RequestState, fact: RequestFact) -> bool:
    """True for what cannot follow from this state. A draft opens the next attempt, all else
    belongs to the current one; and an ending rests on what the log reported."""
    if type(fact) in _OF_THE_CURRENT_ATTEMPT:
        return cast(AttemptFact, fact).attempt != state.attempt
    if type(fact) in _FREE:
        return False
    match fact:
        case ApprovalDrafted() if fact.opening is not None and fact.opening != state.opening:
            return True
        case ApprovalDrafted() | ApprovalNonceGranted():
            return fact.attempt != state.attempt + 1
        case ApprovalExpired():
            proved = fact.reason in DEADLY and _refused(state, fact.reason)
            return fact.attempt != state.attempt or not proved
        case RequestFailed(reason=FailureReason.CONTRACT_REVERTED):
            return fact.attempt != state.attempt or not _refused(state, RelayRefusal.REVERTED)
        case RequestFailed(reason=FailureReason.CANCELLED):
            return fact.attempt != state.attempt or not may_be_given_up(state)
        case RetryReported():
            return not _may_be_retried(state)
        case CancelReported():
            return state.evidence is not None or state.cancelling is not None
        case ApproveReported():
            return why_not_approved(state, fact) is not None
        case HoldLapseReported():
            return state.standing_hold is None
        case RelayAssigned():
            return fact.attempt != state.attempt or not _may_be_assigned(state, fact.assignment)
        case AttemptFact() | RequestFailed():
            return fact.attempt != state.attempt
        case RequestCompleted():
            return state.evidence is None or state.evidence.seat != fact.seat
        case RequestRetracted():
            return not state.origin_retracted or fact.seat != state.origin_event
    return False


_LEFT = TERMINAL | {Stage.RECEIVED, Stage.HELD}
"""Where a request stands that ended during an attempt, or began anew after it."""


def overtaken(state: RequestState, fact: RequestFact) -> bool:
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
        case RequestFailed(reason=FailureReason.CANCELLED):
            held = state.cancelling
            return held is None or held.order != fact.order or stage in TERMINAL
        case RequestFailed(reason=FailureReason.EVIDENCE_MISMATCH):
            return state.evidence is None or stage in TERMINAL
        case RequestFailed():
            return stage in _LEFT
        case ApprovalDrafted():
            if fact.opening is not None and fact.opening < state.opening:
                return True
            left = stage in TERMINAL | {Stage.HELD} or state.cancelling is not None
            return fact.attempt == state.attempt + 1 and left
        case ApprovalNonceGranted():
            useful = stage in TERMINAL | {Stage.RECEIVED, Stage.HELD, Stage.EXPIRED}
            return fact.attempt == state.attempt or not useful
        case RelayAssigned() | RefusalReported() if assignment_before(state, fact):
            return True
        case ApprovalSigned() | RelayAssigned():
            left = stage in _LEFT or state.cancelling is not None
            return fact.attempt == state.attempt and left
        case DraftRecalled():
            left = stage is not Stage.DRAFTED or state.cancelling is not None
            return fact.attempt == state.attempt and left
        case ApprovalExpired():
            return fact.attempt == state.attempt and stage in _LEFT | {Stage.EXPIRED}
        case PolicyReported():
            return stage in TERMINAL or state.cleared
        case RequestRejected():
            return stage in TERMINAL or rests_elsewhere(state, fact)
    return False


def assignment_before(state: RequestState, fact: RelayAssigned | RefusalReported) -> bool:
    held = state.assigned
    return held is not None and (fact.attempt, fact.assignment) < (held.attempt, held.assignment)


def _may_be_assigned(state: RequestState, assignment: int) -> bool:
    """The first wallet, or the next one after the lane before gave the attempt back."""
    before = state.assigned.assignment if state.assigned else 0
    given_back = before == 0 or _refused(state, RelayRefusal.WALLET_UNFIT)
    return assignment == before + 1 and given_back


def _refused(state: RequestState, reason: RelayRefusal) -> bool:
    return state.refusal is not None and state.refusal.reason is reason


WITH_A_LANE = frozenset({Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED})


def may_be_given_up(state: RequestState) -> bool:
    """For a request that is being cancelled: nothing of ours can execute it any more. Without a
    lane that is so at once; a lane has to prove it, by giving the work back."""
    if state.stage not in WITH_A_LANE:
        return True
    return state.refusal is not None and not _refused(state, RelayRefusal.ALREADY_PROCESSED)


def _may_be_retried(state: RequestState) -> bool:
    """Not what the contract has executed, what was taken back, what is just being cancelled; and of
    what was rejected only what another configuration may admit."""
    if state.evidence is not None or state.origin_retracted:
        return False
    if isinstance(state.ending, RequestRejected):
        return state.ending.reason is RejectionReason.UNKNOWN_CHAIN
    return state.cancelling is None or state.stage in TERMINAL


_MAY_BE_BESIDE = frozenset({RetryReported, RetractionReported, OrphaningReported})


def relied_on(state: RequestState, fact: RequestFact) -> bool:
    """False for the loss of something that the state does not stand on: it moves no stage. Nor does
    a retry of what goes its way."""
    if type(fact) not in _MAY_BE_BESIDE:
        return True
    match fact:
        case RetryReported() if state.stage in WITH_A_LANE:
            return _refused(state, RelayRefusal.ALREADY_PROCESSED)
        case RetractionReported():
            return state.evidence is not None and state.evidence.seat == fact.seat
        case OrphaningReported():
            held, gone = state.inclusion, (fact.tx_hash, fact.block_hash)
            return held is not None and (held.tx_hash, held.block_hash) == gone
    return True


def why_not_approved(state: RequestState, fact: ApproveReported) -> str | None:
    """Why this operator's approval of this hold does not count; None when it does."""
    held = state.standing_hold
    if state.stage is not Stage.HELD or held is None:
        return f"no policy holds it: it is {state.stage}"
    if fact.ticket != held.ticket:
        return "it was given for an earlier hold, and the request is held anew: look at why now"
    if not held.approvals_needed:
        rules = ", ".join(breach.rule for breach in held.breaches)
        return f"no approval releases it ({rules}): change the policy, or cancel it"
    if state.cancelling is not None:
        return f"it is being cancelled by order {state.cancelling.order}"
    if _name(fact.who) in {_name(who) for who in state.approved_by}:
        return f"{fact.who} has approved it already: it takes another operator"
    return None


def _name(who: str) -> str:
    """One person, however it is spelt."""
    return " ".join(who.split()).casefold()
