"""What a request asks of the owner of the policies, and when a draft is recalled to be asked about
anew: from its state, and from the policy that is known to be in force."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.hashing import checksummed
from orchestrator.core.policy import normalised_amount
from orchestrator.core.stages import RequestState
from schemas.base import Record, RequestType
from schemas.controls import OrderId
from schemas.policies import ClearanceRequested, ReleaseRequested
from schemas.requests import DraftRecalled, RequestReceived


@dataclass(frozen=True, slots=True)
class InForce:
    """The newest policy that a process has read, one with rules: its order and its version.
    `before` are the versions of all that stood before it."""

    order: OrderId
    version: str
    before: frozenset[str] = frozenset()


def clearance(
    state: RequestState, received: RequestReceived, policy: InForce | None
) -> ClearanceRequested | None:
    """The question to the owner of the policies, where the draft that comes next needs its answer
    and nothing stands on the log about it yet. Policies are about mints alone."""
    if policy is None or received.type is not RequestType.MINT:
        return None
    if state.cleared or state.standing_hold is not None:
        return None
    return ClearanceRequested(
        request_key=state.key,
        ticket=state.ticket,
        order=policy.order,
        chain_id=received.chain_id,
        account=checksummed(received.user),
        amount=int(normalised_amount(received.amount)),
        fiat_ref=received.fiat_ref or "",
        received_seconds=Record(received, state.created_at).at_seconds,
        told_at_ms=received.told_at_ms,
    )


def release(state: RequestState) -> ReleaseRequested | None:
    """Owed once as many operators as the hold needs have approved it."""
    held, approved_by = state.standing_hold, state.approved_by
    if held is None or not 0 < held.approvals_needed <= len(approved_by):
        return None
    return ReleaseRequested(request_key=state.key, ticket=held.ticket, approved_by=approved_by)


def cleared_by(state: RequestState) -> str | None:
    """The version of the policy that cleared the draft that stands; None where none did."""
    drafted, cleared = state.drafted, state.clearance
    if drafted is None or cleared is None:
        return None
    meant = f"{drafted.attempt}.{drafted.opening or 0}"
    return cleared.version if cleared.ticket.rpartition(".")[0] == meant else None


def unjudged(state: RequestState, policy: InForce | None) -> bool:
    """True for the draft of a mint that the policy in force has not cleared: it is not signed. What
    cleared it may be older, or so new that this process has not read of it."""
    if policy is None or state.type is not RequestType.MINT:
        return False
    return cleared_by(state) != policy.version


def recall(state: RequestState, policy: InForce | None) -> DraftRecalled | None:
    """Owed by a draft that an older policy cleared, or none did. The request must be drafted."""
    if policy is None or not unjudged(state, policy):
        return None
    version = cleared_by(state)
    if version is not None and version not in policy.before:
        return None
    return DraftRecalled(request_key=state.key, attempt=state.attempt, order=policy.order)
