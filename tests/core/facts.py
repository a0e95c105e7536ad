"""Facts, records and states for the tests of the core: one small world around one request."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.lifecycle import RequestState, Stage, Verdict, evolve
from orchestrator.core.orchestrator_profile import approval_nonce
from orchestrator.core.terms import ChainTerms, Terms
from schemas.base import Record, RequestType, instant
from schemas.evm import EventName
from schemas.lanes import RelayRefusal
from schemas.policies import Breach, LapseReason, PolicyRule
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalSigned,
    ApproveReported,
    CancelReported,
    ClearanceReported,
    DraftRecalled,
    EvidenceReported,
    FailureReason,
    HoldLapseReported,
    HoldReported,
    InclusionReported,
    OrphaningReported,
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

CHAIN = 5920
KEY = "redeem:5920:redeem-7"
MINT_KEY = "mint-7"
USER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER_USER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
CONTRACT = "0xde709f2102306220921060314715629080e2fb77"
WALLETS = ("0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20)
TTL = 86_400
START = 1_800_000_000
TERMS = Terms({CHAIN: ChainTerms(CHAIN, CONTRACT, WALLETS)}, TTL)


def word(number: int) -> str:
    """A hash that is easy to tell from others."""
    return f"0x{number:064x}"


def seat(number: int) -> str:
    """The seat of `evidence(number)`, or an origin."""
    return f"{CHAIN}:{word(number)}:0"


ORIGIN, OTHER_ORIGIN = seat(101), seat(102)


def record(fact: RequestFact, second: int = 0) -> Record:
    return Record(fact, instant(START + second))


def received(
    origin_event: str | None = ORIGIN,
    *,
    key: str = KEY,
    user: str = USER,
    amount: str = "1000",
    chain_id: int = CHAIN,
    origin: str = "evm.events/0/0",
) -> RequestReceived:
    return RequestReceived(
        request_key=key,
        request_id=key.rpartition(":")[2],
        type=RequestType.REDEEM if key == KEY else RequestType.MINT,
        chain_id=chain_id,
        user=user,
        amount=amount,
        origin=origin,
        origin_event=origin_event if key == KEY else None,
    )


def rejected(
    detail: str = "no",
    reason: RejectionReason = RejectionReason.INVALID_AMOUNT,
    origin_event: str | None = ORIGIN,
    order: str | None = None,
) -> RequestRejected:
    return RequestRejected(
        request_key=KEY, reason=reason, detail=detail, origin_event=origin_event, order=order
    )


def drafted(attempt: int = 1, deadline: int = START + TTL) -> ApprovalDrafted:
    return ApprovalDrafted(
        request_key=KEY,
        attempt=attempt,
        contract=CONTRACT,
        approval_nonce=approval_nonce(KEY),
        deadline=deadline,
        digest=word(attempt),
    )


def signed(attempt: int = 1, fill: str = "ab", digest: str | None = None) -> ApprovalSigned:
    return ApprovalSigned(
        request_key=KEY,
        attempt=attempt,
        digest=digest or word(attempt),
        signature="0x" + fill * 65,
        signer=USER,
    )


def assigned(attempt: int = 1, wallet: str = WALLETS[0]) -> RelayAssigned:
    return RelayAssigned(request_key=KEY, attempt=attempt, wallet=wallet)


def submitted(attempt: int = 1, tx: int = 1, nonce: int = 5) -> SubmissionReported:
    return SubmissionReported(
        request_key=KEY, attempt=attempt, wallet=WALLETS[0], nonce=nonce, tx_hash=word(tx)
    )


def included(attempt: int = 1, tx: int = 1, block: int = 1, ok: bool = True) -> InclusionReported:
    return InclusionReported(
        request_key=KEY,
        attempt=attempt,
        tx_hash=word(tx),
        block_number=block,
        block_hash=word(block),
        succeeded=ok,
    )


def orphaned(attempt: int = 1, tx: int = 1, block: int = 1) -> OrphaningReported:
    return OrphaningReported(
        request_key=KEY, attempt=attempt, tx_hash=word(tx), block_hash=word(block)
    )


def refused(
    attempt: int = 1, reason: RelayRefusal = RelayRefusal.EXPIRED, detail: str = "why"
) -> RefusalReported:
    return RefusalReported(
        request_key=KEY,
        attempt=attempt,
        reason=reason,
        detail=detail,
        block_number=9,
        block_timestamp=START + TTL + 1,
    )


def recalled(attempt: int = 1, order: str = "p-2") -> DraftRecalled:
    return DraftRecalled(request_key=KEY, attempt=attempt, order=order)


def expired(attempt: int = 1) -> ApprovalExpired:
    return ApprovalExpired(
        request_key=KEY, attempt=attempt, block_number=9, block_timestamp=START + TTL + 1
    )


def evidence(
    number: int = 1,
    *,
    key: str = KEY,
    amount: int = 1000,
    account: str = USER,
    event: EventName | None = None,
    chain_id: int = CHAIN,
) -> EvidenceReported:
    return EvidenceReported(
        request_key=key,
        chain_id=chain_id,
        event=event or (EventName.REDEEMED if key == KEY else EventName.MINTED),
        account=account,
        amount=amount,
        tx_hash=word(1),
        block_number=number,
        block_hash=word(number),
        log_index=0,
    )


def retracted(place: str = seat(1), key: str = KEY) -> RetractionReported:
    return RetractionReported(request_key=key, event=EventName.REDEEMED, seat=place)


def completed(place: str = seat(1), tx: int = 1) -> RequestCompleted:
    return RequestCompleted(request_key=KEY, seat=place, tx_hash=word(tx), block_number=1)


def failed(
    attempt: int = 1,
    reason: FailureReason = FailureReason.CONTRACT_REVERTED,
    detail: str = "why",
    order: str | None = None,
) -> RequestFailed:
    return RequestFailed(
        request_key=KEY, attempt=attempt, reason=reason, detail=detail, order=order
    )


def cancelled(order: str = "c-1", why: str = "asked for") -> CancelReported:
    return CancelReported(request_key=KEY, order=order, who="ann", why=why)


def retried(order: str = "r-1", why: str = "mended") -> RetryReported:
    return RetryReported(request_key=KEY, order=order, who="bob", why=why)


def given_up(attempt: int = 1, order: str = "c-1") -> RequestFailed:
    return failed(attempt, FailureReason.CANCELLED, order=order)


def gone(place: str = ORIGIN) -> RequestRetracted:
    return RequestRetracted(request_key=KEY, seat=place)


def folded(facts: Iterable[RequestFact]) -> RequestState | None:
    """The state after facts that must all be applied, one second apart."""
    state: RequestState | None = None
    for second, fact in enumerate(facts):
        state, verdict = evolve(state, record(fact, second))
        assert verdict is Verdict.APPLIED, (fact, verdict)
    return state


REVERTED = RelayRefusal.REVERTED
_SIGNED = [received(), drafted(), signed()]
_RELAYING = [*_SIGNED, assigned()]
_SUBMITTED = [*_RELAYING, submitted()]
_INCLUDED = [*_SUBMITTED, included()]


def cleared(ticket: str = "1.0.0", by: tuple[str, ...] = (), key: str = KEY) -> ClearanceReported:
    return ClearanceReported(request_key=key, ticket=ticket, version=word(1), approved_by=by)


def held(
    ticket: str = "1.0.0",
    needed: int = 2,
    rule: PolicyRule = PolicyRule.REQUEST_AMOUNT,
    key: str = KEY,
) -> HoldReported:
    breach = Breach(rule=rule, limit="999", value="1000")
    return HoldReported(
        request_key=key,
        ticket=ticket,
        version=word(1),
        breaches=(breach,),
        approvals_needed=needed,
    )


def lapsed(ticket: str = "1.0.0") -> HoldLapseReported:
    return HoldLapseReported(request_key=KEY, ticket=ticket, reason=LapseReason.POLICY_CHANGED)


def approved(
    order: str = "a-1", who: str = "ann", ticket: str = "1.0.0", key: str = KEY
) -> ApproveReported:
    return ApproveReported(request_key=key, order=order, who=who, why="looked", ticket=ticket)


ROUTES: dict[Stage, list[RequestFact]] = {
    Stage.UNBACKED: [evidence()],
    Stage.RECEIVED: [received()],
    Stage.HELD: [received(), held()],
    Stage.DRAFTED: [received(), drafted()],
    Stage.SIGNED: _SIGNED,
    Stage.RELAYING: _RELAYING,
    Stage.SUBMITTED: _SUBMITTED,
    Stage.INCLUDED: _INCLUDED,
    Stage.EXPIRED: [*_RELAYING, refused(), expired()],
    Stage.COMPLETED: [*_INCLUDED, evidence(), completed()],
    Stage.REJECTED: [received(), rejected()],
    Stage.FAILED: [*_RELAYING, refused(reason=REVERTED), failed()],
    Stage.RETRACTED: [*_SUBMITTED, retracted(ORIGIN), gone()],
}
"""The usual way to each stage."""

SITUATIONS: dict[str, list[RequestFact]] = {
    **{stage.value: route for stage, route in ROUTES.items()},
    "RELAYING, time is over": [*_RELAYING, refused()],
    "RELAYING, reverted": [*_RELAYING, refused(reason=REVERTED)],
    "INCLUDED, proved": [*_INCLUDED, evidence()],
    "SUBMITTED, origin gone": [*_SUBMITTED, retracted(ORIGIN)],
    "DRAFTED, being cancelled": [received(), drafted(), cancelled()],
    "RELAYING, being cancelled": [*_RELAYING, cancelled()],
    "RELAYING, given up": [*_RELAYING, cancelled(), refused(reason=RelayRefusal.CANCELLED)],
    "SUBMITTED, processed": [*_SUBMITTED, refused(reason=RelayRefusal.ALREADY_PROCESSED)],
    "HELD, approved by one": [received(), held(), approved()],
    "HELD, being cancelled": [received(), held(), cancelled()],
    "RECEIVED, cleared": [received(), held(), cleared()],
    "RECEIVED, recalled": [received(), drafted(), recalled()],
    "FAILED, cancelled": [received(), drafted(), cancelled(), given_up()],
    "FAILED, retried": [*_RELAYING, refused(reason=REVERTED), failed(), retried()],
    "REJECTED, chain unknown": [received(), rejected(reason=RejectionReason.UNKNOWN_CHAIN)],
}
