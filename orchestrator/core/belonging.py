"""Which request a fact belongs to, and the trace that its whole life is.

A request's trace id is a digest of its key, and a fact's span id one of its own id. So every
process names the same trace without being told, a replay names it again, and whoever knows the key
can ask a tracing back end for it. Format: W3C Trace Context, `00-<trace id>-<span id>-01`.
"""

from __future__ import annotations

import hashlib

from orchestrator.core.keys import mint_key, redeem_key
from schemas.base import Fact
from schemas.controls import CancelOrdered, RetryOrdered
from schemas.evm import ContractEvent, EventName, EventRetracted
from schemas.kuro import MintOk
from schemas.lanes import CancellationRequested, RelayRequested
from schemas.policies import ApproveOrdered, PolicyFact
from schemas.requests import RequestFact
from schemas.sequences import SequenceFact


def request_key_of(fact: Fact) -> str | None:
    """The request whose timeline the fact belongs to; None when it tells of none."""
    match fact:
        case (
            RequestFact()
            | RelayRequested()
            | CancellationRequested()
            | RetryOrdered()
            | CancelOrdered()
            | ApproveOrdered()
        ):
            return fact.request_key
        case MintOk():
            return mint_key(fact.request_id)
        case ContractEvent() | EventRetracted() if fact.approval_nonce is not None:
            return None  # the chain's sequences say whose it is
        case ContractEvent() | EventRetracted():
            if fact.event is EventName.MINTED:
                return mint_key(fact.request_id)
            return redeem_key(fact.chain_id, fact.request_id)
        case SequenceFact() | PolicyFact():
            return getattr(fact, "request_key", None)
    relay: str | None = getattr(fact, "relay", None)
    return relay.rpartition(":")[0] or None if relay else None


def trace_id(request_key: str) -> str:
    """32 hex digits."""
    return hashlib.sha256(b"trace:" + request_key.encode()).hexdigest()[:32]


def span_id(name: str) -> str:
    """16 hex digits for a fact's id, or for the request's key: the span of its whole life."""
    return hashlib.sha256(b"span:" + name.encode()).hexdigest()[:16]


def traceparent(fact: Fact) -> str | None:
    """The header of a fact's record; None for a fact that tells of no request."""
    key = request_key_of(fact)
    return None if key is None else f"00-{trace_id(key)}-{span_id(fact.id)}-01"
