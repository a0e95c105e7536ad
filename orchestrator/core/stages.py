"""Where a request can stand, what is known of it, and what can become of a fact about it. The rules
that move a request from stage to stage are in `lifecycle`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

from schemas.base import RequestType
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalNonceGranted,
    ApprovalSigned,
    ApproveReported,
    CancelReported,
    ClearanceReported,
    EvidenceReported,
    HoldReported,
    InclusionReported,
    OrderReported,
    RefusalReported,
    RejectionReason,
    RelayAssigned,
    RequestCompleted,
    RequestFailed,
    RequestReceived,
    RequestRejected,
    RequestRetracted,
    RetryReported,
    SubmissionReported,
)


class Stage(StrEnum):
    UNBACKED = "UNBACKED"
    """The chain executed a request that no fact allows. An alarm, never a normal stage."""
    RECEIVED = "RECEIVED"
    HELD = "HELD"
    """It breaches a policy, and waits for operators or for time to pass."""
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
    Stage.HELD: Status.PENDING,
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
    the time of the fact that opened the current attempt (Unix seconds). `expired` is the last
    proof that an approval of it was dead. `orders` are those of operators that were taken in;
    `cancelling` is one of them that neither a retry nor evidence has overcome. `lapses` counts the
    holds that ended unanswered. `renewing`: the approval of the current attempt is proved dead, and
    nothing has come of that yet."""

    key: str
    stage: Stage
    created_at: str
    changed_at: str
    updated_at: str
    opened_seconds: int
    received: RequestReceived | None = None
    granted: ApprovalNonceGranted | None = None
    drafted: ApprovalDrafted | None = None
    expired: ApprovalExpired | None = None
    signed: ApprovalSigned | None = None
    assigned: RelayAssigned | None = None
    submission: SubmissionReported | None = None
    inclusion: InclusionReported | None = None
    refusal: RefusalReported | None = None
    evidence: EvidenceReported | None = None
    retracted_seats: tuple[str, ...] = ()
    orders: tuple[OrderReported, ...] = ()
    cancelling: CancelReported | None = None
    clearance: ClearanceReported | None = None
    hold: HoldReported | None = None
    lapses: int = 0
    renewing: bool = False
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
    def newest_retry(self) -> str | None:
        """The order of an operator that had it tried again, the newest one."""
        retries = (held.order for held in reversed(self.orders) if isinstance(held, RetryReported))
        return next(retries, None)

    @property
    def opening(self) -> int:
        """How many retries and retractions stand on the log so far."""
        retries = sum(isinstance(held, RetryReported) for held in self.orders)
        return retries + len(self.retracted_seats)

    @property
    def ticket(self) -> str:
        """Names the draft that would come next, to the owner of the policies."""
        return f"{self.attempt + 1}.{self.opening}.{self.lapses}"

    @property
    def cleared(self) -> bool:
        """The draft that would come next was cleared."""
        return self.clearance is not None and self.clearance.ticket == self.ticket

    @property
    def standing_hold(self) -> HoldReported | None:
        """The hold that is about the draft that would come next."""
        held = self.hold
        return held if held is not None and held.ticket == self.ticket else None

    @property
    def approved_by(self) -> tuple[str, ...]:
        """The operators who approved the standing hold, each once, in log order."""
        ticket = self.ticket
        return tuple(
            held.who
            for held in self.orders
            if isinstance(held, ApproveReported) and held.ticket == ticket
        )

    @property
    def origin_retracted(self) -> bool:
        return self.origin_event in self.retracted_seats


def rests_elsewhere(state: RequestState, fact: RequestRejected) -> bool:
    """True for a rejection of an earlier receipt, or of what was there before the newest retry."""
    if state.received is None or fact.reason is RejectionReason.ID_TAKEN:
        return False
    return (fact.origin_event, fact.order) != (state.origin_event, state.newest_retry)


_PLACES = {field.name: place for place, field in enumerate(fields(RequestState))}
_values = attrgetter(*_PLACES)


def changed(state: RequestState, changes: Mapping[str, Any]) -> RequestState:
    """As `dataclasses.replace`, which takes three times as long and was most of a fold."""
    values = list(_values(state))
    for name, value in changes.items():
        values[_PLACES[name]] = value
    return RequestState(*values)


HELD_AS: Mapping[type, str] = {
    ClearanceReported: "clearance",
    HoldReported: "hold",
    ApprovalNonceGranted: "granted",
    ApprovalDrafted: "drafted",
    ApprovalSigned: "signed",
    RelayAssigned: "assigned",
    SubmissionReported: "submission",
    InclusionReported: "inclusion",
    RefusalReported: "refusal",
    RequestRejected: "ending",
    RequestFailed: "ending",
    RequestCompleted: "ending",
    RequestRetracted: "ending",
}
"""Where a state holds the newest fact of a kind."""
