"""How a fact of another topic enters a request's own order: a fact of `requests`, mostly one.

A mint of a contract with sequential nonces names no request but a 32-byte id: it enters the order
of its chain's sequences first, whose owner knows the request (`schemas.sequences`).

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
from schemas.policies import (
    ApproveOrdered,
    HoldLapsed,
    PolicyAdopted,
    PolicyApplied,
    PolicyFact,
    RequestCleared,
    RequestHeld,
)
from schemas.requests import (
    ApprovalNonceGranted,
    ApproveReported,
    CancelReported,
    ClearanceReported,
    EvidenceReported,
    HoldLapseReported,
    HoldReported,
    InclusionReported,
    OrphaningReported,
    RefusalReported,
    RejectionReason,
    RequestFact,
    RequestReceived,
    RequestRejected,
    RetractionReported,
    RetryReported,
    SubmissionReported,
)
from schemas.sequences import (
    AttributionRetracted,
    MintAttributed,
    MintRetracted,
    MintSeen,
    NameRefused,
    NonceGranted,
    SequenceFact,
)

Told = list[RequestFact | SequenceFact | PolicyFact]


def reported(record: Record) -> Told:
    """What a record of `kuro.events`, `evm.events`, `lanes` or `controls` says about a request."""
    match record.fact:
        case MintOk() as mint:
            return [
                RequestReceived(
                    request_key=mint_key(mint.request_id),
                    request_id=mint.request_id,
                    type=RequestType.MINT,
                    chain_id=mint.chain_id,
                    user=normalised_user(mint.user),
                    amount=normalised_amount(mint.amount),
                    fiat_ref=mint.fiat_ref,
                    origin=str(record.position),
                    told_at_ms=mint.timestamp_ms,
                )
            ]
        case ContractEvent() as event:
            return _of_event(event, str(record.position))
        case EventRetracted() as event:
            return [_of_retraction(event)]
        case TransactionBroadcast() | TransactionIncluded() | TransactionOrphaned() as step:
            return [_of_lane(step)] if step.relay is not None else []
        case RelayRefused() as refused:
            request_key, attempt, assignment = relay_parts(refused.relay)
            return [
                RefusalReported(
                    request_key=request_key,
                    attempt=attempt,
                    assignment=assignment,
                    reason=refused.reason,
                    detail=refused.detail,
                    block_number=refused.block_number,
                    block_timestamp=refused.block_timestamp,
                )
            ]
        case RetryOrdered() | CancelOrdered() as order:
            told = RetryReported if isinstance(order, RetryOrdered) else CancelReported
            return [
                told(request_key=order.request_key, order=order.order, who=order.who, why=order.why)
            ]
        case SequenceFact() as fact:
            return _of_sequence(fact)
        case PolicyFact() | PolicyApplied() | ApproveOrdered() as fact:
            return _of_policies(fact)
    return []


def _key(event: EventName, chain_id: int, request_id: str) -> str:
    return mint_key(request_id) if event is EventName.MINTED else redeem_key(chain_id, request_id)


def _of_event(event: ContractEvent, origin: str) -> Told:
    """A redemption that burns at once is a request and its evidence, in this order."""
    if event.approval_nonce is not None:
        return [_mint_seen(event, event.approval_nonce)]
    key = _key(event.event, event.chain_id, event.request_id)
    facts: Told = []
    if event.event in (EventName.REDEEM_REQUESTED, EventName.REDEEMED_AT_ONCE):
        facts.append(
            RequestReceived(
                request_key=key,
                request_id=event.request_id,
                type=RequestType.REDEEM,
                chain_id=event.chain_id,
                user=event.account,
                amount=str(event.amount),
                origin=origin,
                origin_event=event.seat,
            )
        )
    if event.event is not EventName.REDEEM_REQUESTED:
        facts.append(_evidence(key, event))
    return facts


def _evidence(key: str, event: ContractEvent) -> EvidenceReported:
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


def _mint_seen(event: ContractEvent, nonce: int) -> MintSeen:
    return MintSeen(
        chain_id=event.chain_id,
        recipient=event.account,
        seat=event.seat,
        contract_id=event.request_id,
        nonce=nonce,
        amount=event.amount,
        tx_hash=event.tx_hash,
        block_number=event.block_number,
        block_hash=event.block_hash,
        log_index=event.log_index,
    )


def _of_retraction(event: EventRetracted) -> RequestFact | SequenceFact:
    if event.approval_nonce is not None and event.account is not None:
        return MintRetracted(
            chain_id=event.chain_id,
            recipient=event.account,
            seat=event.seat,
            contract_id=event.request_id,
        )
    key = _key(event.event, event.chain_id, event.request_id)
    return RetractionReported(request_key=key, event=event.event, seat=event.seat)


def _of_sequence(fact: SequenceFact) -> Told:
    match fact:
        case NonceGranted():
            return [
                ApprovalNonceGranted(
                    request_key=fact.request_key,
                    attempt=fact.attempt,
                    approval_nonce=fact.nonce,
                    deadline=fact.deadline,
                )
            ]
        case MintAttributed():
            return [
                EvidenceReported(
                    request_key=fact.request_key,
                    chain_id=fact.chain_id,
                    event=EventName.MINTED,
                    account=fact.recipient,
                    amount=fact.amount,
                    tx_hash=fact.tx_hash,
                    block_number=fact.block_number,
                    block_hash=fact.block_hash,
                    log_index=fact.log_index,
                )
            ]
        case AttributionRetracted():
            key, seat = fact.request_key, fact.seat
            return [RetractionReported(request_key=key, event=EventName.MINTED, seat=seat)]
        case NameRefused():
            return [
                RequestRejected(
                    request_key=fact.request_key,
                    reason=RejectionReason.ID_TAKEN,
                    detail=f"on chain its id is {fact.contract_id}, as that of {fact.named}",
                )
            ]
    return []


def _of_policies(
    fact: PolicyFact | PolicyApplied | ApproveOrdered,
) -> Told:
    match fact:
        case PolicyApplied(order=order, who=who, why=why, version=version, policy=policy):
            return [PolicyAdopted(order=order, who=who, why=why, version=version, policy=policy)]
        case ApproveOrdered(request_key=key, order=order, who=who, why=why, ticket=ticket):
            return [ApproveReported(request_key=key, order=order, who=who, why=why, ticket=ticket)]
        case RequestCleared():
            return [
                ClearanceReported(
                    request_key=fact.request_key,
                    ticket=fact.ticket,
                    version=fact.version,
                    approved_by=fact.approved_by,
                )
            ]
        case RequestHeld():
            return [
                HoldReported(
                    request_key=fact.request_key,
                    ticket=fact.ticket,
                    version=fact.version,
                    breaches=fact.breaches,
                    approvals_needed=fact.approvals_needed,
                    until=fact.until,
                )
            ]
        case HoldLapsed(request_key=key, ticket=ticket, reason=reason):
            return [HoldLapseReported(request_key=key, ticket=ticket, reason=reason)]
    return []


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
