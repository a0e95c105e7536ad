"""What a request still owes, from its state alone: facts to append, and one digest to sign."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.asking import InForce, clearance, recall, release
from orchestrator.core.contract import EVIDENCE_OF, Approval, Profile
from orchestrator.core.guarding import Proof
from orchestrator.core.hashing import checksummed
from orchestrator.core.lifecycle import (
    DEADLY,
    WITH_A_LANE,
    RequestState,
    Stage,
    may_be_given_up,
)
from orchestrator.core.policy import normalised_amount, normalised_user, screen
from orchestrator.core.pool import Choose, by_recipient, in_turn
from orchestrator.core.terms import ChainTerms, Terms
from schemas.base import Fact, instant
from schemas.lanes import CancellationRequested, RelayRefusal, RelayRequested
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    EvidenceReported,
    FailureReason,
    RelayAssigned,
    RequestCompleted,
    RequestFailed,
    RequestReceived,
    RequestRejected,
    RequestRetracted,
)
from schemas.sequences import NonceRequested
from schemas.topics import LANES, REQUESTS, Topic


@dataclass(frozen=True, slots=True)
class Append:
    """A fact owed to a topic. It is owed until the fold of `requests` shows its effect."""

    topic: Topic
    fact: Fact


@dataclass(frozen=True, slots=True)
class Sign:
    """A signature owed: KMS is to sign `approval`, whose digest is on the log."""

    request_key: str
    attempt: int
    approval: Approval
    digest: str
    proof: Proof | None = None
    """Of the death of an approval before it, where the log tells of one."""


Owed = Append | Sign


def pending(
    state: RequestState, terms: Terms, choose: Choose = in_turn, policy: InForce | None = None
) -> Owed | None:
    """The one thing that this request waits for us to do; None when it waits for others, or ended.

    A pure function of the log and the terms: called twice, it owes the same with the same ids.
    `choose` names the wallet of an assignment, the one circumstance that may differ.
    `policy` is the newest known one; None where nothing is asked before a draft.
    A request whose chain, or whose chain's wallets, are no longer configured waits for them.
    """
    received = state.received
    if received is None or state.stage in (Stage.COMPLETED, Stage.REJECTED, Stage.RETRACTED):
        return None
    if state.evidence is not None:
        return _judged(state, received, state.evidence)
    if state.origin_retracted:
        assert received.origin_event is not None
        return _request(RequestRetracted(request_key=state.key, seat=received.origin_event))
    if state.cancelling is not None and state.stage is not Stage.FAILED:
        return _cancelled(state)
    chain = terms.chains.get(received.chain_id)
    if chain is not None and received.type not in chain.profile.approved:
        return None
    match state.stage:
        case Stage.RECEIVED:
            rejection = screen(received, terms)
            if rejection is None:
                asked = clearance(state, received, policy)
                return _lane(asked) or _first_draft(state, received, terms)
            return _request(
                RequestRejected(
                    request_key=state.key,
                    reason=rejection.reason,
                    detail=rejection.detail,
                    origin_event=received.origin_event,
                    order=state.newest_retry,
                )
            )
        case Stage.HELD:
            return _lane(release(state) or clearance(state, received, policy))
        case Stage.EXPIRED if chain is not None:
            asked = clearance(state, received, policy)
            return _lane(asked) or _next_draft(state, received, chain, terms)
        case Stage.DRAFTED:
            recalled = None if chain is None else recall(state, policy)
            return _signature(state) if recalled is None else _request(recalled)
        case Stage.SIGNED:
            return _assignment(state, chain, choose)
        case Stage.RELAYING if _gave_back(state):
            return _assignment(state, chain, choose)
        case Stage.RELAYING | Stage.SUBMITTED | Stage.INCLUDED if state.refusal is not None:
            return _refused(state)
        case Stage.RELAYING if chain is not None:
            return Append(LANES, relay(state, chain.profile))
    return None


def at_rest(state: RequestState) -> bool:
    """True for a request that owes nothing, whatever the terms are, until the log tells more of it:
    such a state may be put away, and need not be looked at when a process starts."""
    if state.stage is Stage.FAILED:
        return state.evidence is None and not state.origin_retracted
    return state.stage in (Stage.COMPLETED, Stage.REJECTED, Stage.RETRACTED)


def _request(fact: Fact) -> Append:
    return Append(REQUESTS, fact)


def _lane(fact: Fact | None) -> Append | None:
    return None if fact is None else Append(LANES, fact)


def _judged(state: RequestState, received: RequestReceived, event: EvidenceReported) -> Owed | None:
    """Completed by evidence, whoever sent the transaction; failed when it tells another story."""
    proving = EVIDENCE_OF[received.type]
    expected = (
        received.chain_id,
        event.event if event.event in proving else proving[0],
        normalised_user(received.user),
        normalised_amount(received.amount),
    )
    found = (event.chain_id, event.event, event.account, str(event.amount))
    if expected == found:
        return _request(
            RequestCompleted(
                request_key=state.key,
                seat=event.seat,
                tx_hash=event.tx_hash,
                block_number=event.block_number,
            )
        )
    if state.stage is Stage.FAILED:
        return None
    return _request(
        RequestFailed(
            request_key=state.key,
            attempt=state.attempt,
            reason=FailureReason.EVIDENCE_MISMATCH,
            detail=f"the contract executed {found[1]} of {found[3]} for {found[2]} on chain "
            f"{found[0]} in transaction {event.tx_hash}; the request is {expected[1]} of "
            f"{expected[3]} for {expected[2]} on chain {expected[0]}",
        )
    )


def _first_draft(state: RequestState, received: RequestReceived, terms: Terms) -> Append:
    """The first draft, or the same approval once more for a request that began anew (its origin or
    its evidence was retracted): the old one may still execute, so no other may stand beside it. If
    its time is over, the lane proves that, and then a fresh one is drafted."""
    chain, held = terms.chains[received.chain_id], state.drafted
    if held is not None and not state.renewing:
        nonce, deadline = held.approval_nonce, held.deadline
        return _drafted(state, received, chain.profile, held.contract, nonce, deadline)
    return _next_draft(state, received, chain, terms)


def _next_draft(
    state: RequestState, received: RequestReceived, chain: ChainTerms, terms: Terms
) -> Append:
    """A fresh approval. Where nonces are the recipient's, in order, the sequence is asked for one
    first; the grant fixes the deadline too: the sequence must know when the approval is dead."""
    profile = chain.profile
    deadline = state.opened_seconds + terms.approval_ttl_seconds
    nonce = profile.derived_nonce(state.key)
    if nonce is not None:
        return _drafted(state, received, profile, chain.contract, nonce, deadline)
    granted = state.granted
    if granted is not None and granted.attempt == state.attempt + 1:
        nonce, deadline = granted.approval_nonce, granted.deadline
        return _drafted(state, received, profile, chain.contract, nonce, deadline)
    return Append(
        LANES,
        NonceRequested(
            chain_id=received.chain_id,
            recipient=checksummed(received.user),
            request_key=state.key,
            attempt=state.attempt + 1,
            contract_id=profile.contract_id(received.request_id),
            deadline=deadline,
        ),
    )


def _drafted(
    state: RequestState,
    received: RequestReceived,
    profile: Profile,
    contract: str,
    nonce: int,
    deadline: int,
) -> Append:
    approval = Approval(
        type=received.type,
        chain_id=received.chain_id,
        contract=contract,
        request_id=received.request_id,
        account=checksummed(received.user),
        amount=int(normalised_amount(received.amount)),
        nonce=nonce,
        deadline=deadline,
    )
    return _request(
        ApprovalDrafted(
            request_key=state.key,
            attempt=state.attempt + 1,
            contract=contract,
            approval_nonce=approval.nonce,
            deadline=deadline,
            digest=profile.digest(approval),
            opening=state.opening,
        )
    )


def approval_of(state: RequestState) -> Approval:
    """The approval as it stands on the log. The request must be drafted."""
    received, drafted = state.received, state.drafted
    assert received is not None and drafted is not None
    return Approval(
        type=received.type,
        chain_id=received.chain_id,
        contract=drafted.contract,
        request_id=received.request_id,
        account=checksummed(received.user),
        amount=int(normalised_amount(received.amount)),
        nonce=drafted.approval_nonce,
        deadline=drafted.deadline,
    )


def _signature(state: RequestState) -> Sign:
    assert state.drafted is not None
    dead = state.expired
    proof = (
        None
        if dead is None
        else Proof(dead.attempt, dead.reason.value, dead.block_number, dead.block_timestamp)
    )
    return Sign(state.key, state.attempt, approval_of(state), state.drafted.digest, proof)


def _gave_back(state: RequestState) -> bool:
    return state.refusal is not None and state.refusal.reason is RelayRefusal.WALLET_UNFIT


def _assignment(state: RequestState, chain: ChainTerms | None, choose: Choose) -> Append | None:
    """The same approval for the first wallet, or for the next after one gave it back. Mints that
    must execute in order go through one wallet, whose nonces keep the order."""
    if chain is None or not chain.wallets:
        return None
    number = state.assigned.assignment + 1 if state.assigned else 1
    chosen = by_recipient if chain.profile.sequential else choose
    return _request(
        RelayAssigned(
            request_key=state.key,
            attempt=state.attempt,
            assignment=number,
            wallet=chosen(state, chain.wallets),
        )
    )


def relay(state: RequestState, profile: Profile) -> RelayRequested:
    """The work for the lane. The request must be signed and assigned."""
    assert state.received and state.drafted and state.signed and state.assigned
    return RelayRequested(
        chain_id=state.received.chain_id,
        wallet=state.assigned.wallet,
        request_key=state.key,
        request_id=state.received.request_id,
        attempt=state.attempt,
        assignment=state.assigned.assignment,
        contract=state.drafted.contract,
        data=profile.calldata(approval_of(state), state.signed.signature),
        deadline=state.drafted.deadline,
    )


def cancellation(state: RequestState) -> CancellationRequested:
    """For the lane that has the work. The request must be assigned and being cancelled."""
    assert state.received and state.assigned and state.cancelling
    return CancellationRequested(
        chain_id=state.received.chain_id,
        wallet=state.assigned.wallet,
        request_key=state.key,
        attempt=state.attempt,
        assignment=state.assigned.assignment,
        order=state.cancelling.order,
    )


def _cancelled(state: RequestState) -> Owed | None:
    """Ended when nothing of ours can execute it any more; before that, its lane gives it back. What
    the lane gave back as processed waits for the evidence."""
    order = state.cancelling
    assert order is not None
    if state.stage in WITH_A_LANE and state.refusal is None:
        return Append(LANES, cancellation(state))
    if not may_be_given_up(state):
        return None
    return _request(
        RequestFailed(
            request_key=state.key,
            attempt=state.attempt,
            reason=FailureReason.CANCELLED,
            detail=_as_cancelled(state, f"cancelled by {order.who}: {order.why}"),
            order=order.order,
        )
    )


def _as_cancelled(state: RequestState, by_whom: str) -> str:
    if state.drafted is None:
        return f"{by_whom}; no approval was drafted"
    deadline = _moment(state.drafted.deadline)
    if state.signed is None and state.attempt == 1:
        return (
            f"{by_whom}; its approval was drafted, and no signature of it is on the log (one that "
            f"KMS was being asked for is thrown away, and would be valid until {deadline})"
        )
    return (
        f"{by_whom}; its approval was signed, and whoever holds it may still execute it until "
        f"{deadline}: the evidence of that would complete the request all the same"
    )


def _moment(seconds: int) -> str:
    try:
        return instant(seconds)
    except (OverflowError, OSError, ValueError):  # no calendar holds it
        return f"{seconds} (Unix seconds)"


def _refused(state: RequestState) -> Owed | None:
    refusal = state.refusal
    assert refusal is not None
    match refusal.reason:
        case reason if reason in DEADLY:
            return _request(
                ApprovalExpired(
                    request_key=state.key,
                    attempt=state.attempt,
                    reason=reason,
                    block_number=refusal.block_number,
                    block_timestamp=refusal.block_timestamp,
                )
            )
        case RelayRefusal.REVERTED:
            return _request(
                RequestFailed(
                    request_key=state.key,
                    attempt=state.attempt,
                    reason=FailureReason.CONTRACT_REVERTED,
                    detail=refusal.detail,
                )
            )
    return None
