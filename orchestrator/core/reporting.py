"""How a fact of another topic enters a request's own order: one fact of `requests`, or none.

Stateless on purpose: whoever reads the source forwards, whoever owns the request folds. A fact
forwarded twice is the same fact twice.
"""

from __future__ import annotations

from orchestrator.core.keys import mint_key, redeem_key
from orchestrator.core.policy import normalised_amount, normalised_user
from schemas.base import Record, RequestType
from schemas.controls import CancelOrdered, RetryOrdered
from schemas.evm import ContractEvent, EventName, EventRetracted
from schemas.kuro import MintOk
from schemas.lanes import (
    RelayRefused,
    TransactionBroadcast,
    TransactionIncluded,
    TransactionOrphaned,
    relay_parts,
)
from schemas.requests import (
    CancelReported,
    EvidenceReported,
    InclusionReported,
    OrphaningReported,
    RefusalReported,
    RequestFact,
    RequestReceived,
    RetractionReported,
    RetryReported,
    SubmissionReported,
)


def reported(record: Record) -> RequestFact | None:
    """What a record of `kuro.events`, `evm.events`, `lanes` or `controls` says about a request."""
    match record.fact:
        case MintOk() as mint:
            return RequestReceived(
                request_key=mint_key(mint.request_id),
                request_id=mint.request_id,
                type=RequestType.MINT,
                chain_id=mint.chain_id,
                user=normalised_user(mint.user),
                amount=normalised_amount(mint.amount),
                fiat_ref=mint.fiat_ref,
                origin=str(record.position),
            )
        case ContractEvent() as event:
            return _of_event(event, str(record.position))
        case EventRetracted() as event:
            return RetractionReported(
                request_key=_key(event.event, event.chain_id, event.request_id),
                event=event.event,
                seat=event.seat,
            )
        case TransactionBroadcast() | TransactionIncluded() | TransactionOrphaned() as step:
            return _of_lane(step) if step.relay is not None else None
        case RelayRefused() as refused:
            request_key, attempt, assignment = relay_parts(refused.relay)
            return RefusalReported(
                request_key=request_key,
                attempt=attempt,
                assignment=assignment,
                reason=refused.reason,
                detail=refused.detail,
                block_number=refused.block_number,
                block_timestamp=refused.block_timestamp,
            )
        case RetryOrdered() | CancelOrdered() as order:
            told = RetryReported if isinstance(order, RetryOrdered) else CancelReported
            return told(
                request_key=order.request_key, order=order.order, who=order.who, why=order.why
            )
    return None


def _key(event: EventName, chain_id: int, request_id: str) -> str:
    return mint_key(request_id) if event is EventName.MINTED else redeem_key(chain_id, request_id)


def _of_event(event: ContractEvent, origin: str) -> RequestFact:
    key = _key(event.event, event.chain_id, event.request_id)
    if event.event is EventName.REDEEM_REQUESTED:
        return RequestReceived(
            request_key=key,
            request_id=event.request_id,
            type=RequestType.REDEEM,
            chain_id=event.chain_id,
            user=event.account,
            amount=str(event.amount),
            origin=origin,
            origin_event=event.seat,
        )
    return EvidenceReported(
        request_key=key,
        chain_id=event.chain_id,
        event=event.event,
        account=event.account,
        amount=event.amount,
        tx_hash=event.tx_hash,
        block_number=event.block_number,
        block_hash=event.block_hash,
        log_index=event.log_index,
    )


def _of_lane(step: TransactionBroadcast | TransactionIncluded | TransactionOrphaned) -> RequestFact:
    request_key, attempt, _ = relay_parts(step.relay or "")
    match step:
        case TransactionBroadcast():
            return SubmissionReported(
                request_key=request_key,
                attempt=attempt,
                wallet=step.wallet,
                nonce=step.nonce,
                tx_hash=step.tx_hash,
            )
        case TransactionIncluded():
            return InclusionReported(
                request_key=request_key,
                attempt=attempt,
                tx_hash=step.tx_hash,
                block_number=step.block_number,
                block_hash=step.block_hash,
                succeeded=step.succeeded,
            )
        case TransactionOrphaned():
            return OrphaningReported(
                request_key=request_key,
                attempt=attempt,
                tx_hash=step.tx_hash,
                block_hash=step.block_hash,
            )
