"""Why an operator's order about a request is refused, in words for the person who gave it."""

from __future__ import annotations

from orchestrator.core.grounds import why_not_approved
from orchestrator.core.stages import RequestState, Stage
from schemas.requests import ApproveReported, OrderReported, RequestRejected, RetryReported


def why_refused(state: RequestState | None, order: OrderReported) -> str:
    """For an order that the fold does not admit; `state` is the request's before it."""
    if state is None:
        return (
            "no such request is known; a redeem's key is redeem:<chain>:<id>, and there are no "
            "orders about what Kuro has not told yet"
        )
    if isinstance(order, ApproveReported):
        why = why_not_approved(state, order)
        if why is not None:
            return why
    if state.stage is Stage.UNBACKED:
        return "the contract executed it, and no fact allows it: there is nothing to do but look"
    if state.stage is Stage.COMPLETED or state.evidence is not None:
        return "the contract has executed it already"
    if state.stage is Stage.RETRACTED or state.origin_retracted:
        return "a chain reorganisation took back the event that it came from"
    if isinstance(state.ending, RequestRejected):
        return f"it was rejected ({state.ending.reason}): {state.ending.detail}"
    if state.cancelling is not None and state.stage is not Stage.FAILED:
        again = "; retry it when it has FAILED" if isinstance(order, RetryReported) else ""
        return f"it is being cancelled by order {state.cancelling.order}{again}"
    return f"it is {state.stage}, where there is nothing to order about"
