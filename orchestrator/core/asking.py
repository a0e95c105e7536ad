"""What a request asks of the owner of the policies, from its state alone."""

from __future__ import annotations

from orchestrator.core.hashing import checksummed
from orchestrator.core.policy import normalised_amount
from orchestrator.core.stages import RequestState
from schemas.base import Record, RequestType
from schemas.controls import OrderId
from schemas.policies import ClearanceRequested, ReleaseRequested
from schemas.requests import RequestReceived


def clearance(
    state: RequestState, received: RequestReceived, policy: OrderId | None
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
        order=policy,
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
