"""What a request owes: by stage, again and again, up to its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.lifecycle import TERMINAL, Stage, Verdict, evolve
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from orchestrator.core.owing import Append, Sign, approval_of, pending, relay
from orchestrator.core.terms import ChainTerms, Terms
from schemas.evm import EventName
from schemas.lanes import CancellationRequested, LaneFact, RelayRefusal, RelayRequested
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalSigned,
    FailureReason,
    RejectionReason,
    RelayAssigned,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestRetracted,
)
from schemas.topics import LANES, REQUESTS
from tests.core.facts import (
    CHAIN,
    CONTRACT,
    KEY,
    MINT_KEY,
    ORIGIN,
    OTHER_ORIGIN,
    OTHER_USER,
    ROUTES,
    SITUATIONS,
    START,
    TERMS,
    TTL,
    USER,
    WALLETS,
    drafted,
    evidence,
    expired,
    failed,
    folded,
    gone,
    received,
    record,
    refused,
    retracted,
    seat,
    signed,
    word,
)

NOWHERE = Terms({}, TTL)

OWED = {
    "UNBACKED": None,
    "RECEIVED": ApprovalDrafted,
    "HELD": None,
    "HELD, approved by one": None,
    "HELD, being cancelled": RequestFailed,
    "RECEIVED, cleared": ApprovalDrafted,
    "RECEIVED, recalled": ApprovalDrafted,
    "DRAFTED": Sign,
    "SIGNED": RelayAssigned,
    "RELAYING": RelayRequested,
    "SUBMITTED": None,
    "INCLUDED": None,
    "EXPIRED": ApprovalDrafted,
    "COMPLETED": None,
    "REJECTED": None,
    "FAILED": None,
    "RETRACTED": None,
    "RELAYING, time is over": ApprovalExpired,
    "RELAYING, reverted": RequestFailed,
    "INCLUDED, proved": RequestCompleted,
    "SUBMITTED, origin gone": RequestRetracted,
    "DRAFTED, being cancelled": RequestFailed,
    "RELAYING, being cancelled": CancellationRequested,
    "RELAYING, given up": RequestFailed,
    "SUBMITTED, processed": None,
    "FAILED, cancelled": None,
    "FAILED, retried": ApprovalDrafted,
    "REJECTED, chain unknown": None,
}


def kind_of(owed):
    return type(owed.fact) if isinstance(owed, Append) else type(owed) if owed else None


@pytest.mark.parametrize("situation", SITUATIONS)
def test_each_situation_owes_one_thing_and_the_same_again(situation):
    state = folded(SITUATIONS[situation])
    owed = pending(state, TERMS)
    assert kind_of(owed) is OWED[situation]
    assert pending(state, TERMS) == owed
    assert pending(folded(SITUATIONS[situation]), TERMS) == owed
    if isinstance(owed, Append):
        assert owed.topic is (LANES if isinstance(owed.fact, LaneFact) else REQUESTS)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_owed_to_the_requests_is_admitted(situation):
    state = folded(SITUATIONS[situation])
    owed = pending(state, TERMS)
    if isinstance(owed, Append) and owed.topic is REQUESTS:
        after, verdict = evolve(state, record(owed.fact, 50))
        assert verdict is Verdict.APPLIED
        assert pending(after, TERMS) != owed


@pytest.mark.parametrize("key", [KEY, MINT_KEY])
@pytest.mark.parametrize("proof_at", range(5))
def test_a_request_runs_to_completion_whenever_the_proof_arrives(key, proof_at):
    """Each time around, what is owed is owed twice and folded twice."""
    state, _ = evolve(None, record(received(key=key)))
    signature, kinds = "0x" + "1b" * 65, []
    for step in range(12):
        if step == proof_at:
            state, _ = evolve(state, record(evidence(key=key), step))
        owed = pending(state, TERMS)
        assert pending(state, TERMS) == owed
        if owed is None:
            break
        kinds.append(kind_of(owed).__name__)
        if isinstance(owed, Sign):
            fact = ApprovalSigned(
                request_key=owed.request_key,
                attempt=owed.attempt,
                digest=owed.digest,
                signature=signature,
                signer=USER,
            )
        else:
            fact = owed.fact
        if isinstance(fact, RelayRequested):
            continue
        for _ in range(2):
            state, _ = evolve(state, record(fact, step))
    assert state.stage is Stage.COMPLETED
    assert kinds[-1] == "RequestCompleted"
    assert kinds[:-1] == ["ApprovalDrafted", "Sign", "RelayAssigned", "RelayRequested"][:proof_at]


def test_a_draft_fixes_everything_that_is_signed():
    state = folded([received()])
    draft = pending(state, TERMS).fact
    assert draft.deadline == START + TTL
    assert draft.contract == CONTRACT
    assert draft.approval_nonce == approval_nonce(KEY)
    state, _ = evolve(state, record(draft, 5))
    owed = pending(state, TERMS)
    assert owed == Sign(KEY, 1, approval_of(state), draft.digest)
    assert ORCHESTRATOR.digest(owed.approval) == draft.digest
    approval = owed.approval
    assert (approval.account, approval.amount, approval.request_id) == (USER, 1000, "redeem-7")


def test_a_redraft_has_another_deadline_and_the_same_nonce():
    """Two approvals of one request can never both be executed: the contract takes a nonce once."""
    state = folded([received()])
    first = pending(state, TERMS).fact
    state, _ = evolve(state, record(first, 1))
    for fact, second in (
        (signed(digest=first.digest), 2),
        (pending_assignment(), 3),
        (refused(), 90_000),
        (expired(), 90_001),
    ):
        state, verdict = evolve(state, record(fact, second))
        assert verdict is Verdict.APPLIED
    again = pending(state, TERMS).fact
    assert again.attempt == 2
    assert again.deadline == START + 90_001 + TTL
    assert again.approval_nonce == first.approval_nonce
    assert again.digest != first.digest


def pending_assignment():
    return RelayAssigned(request_key=KEY, attempt=1, wallet=WALLETS[0])


@pytest.mark.parametrize(
    "route",
    [
        [retracted(ORIGIN), gone(), received(OTHER_ORIGIN)],
        [retracted(ORIGIN), received(OTHER_ORIGIN)],
        [evidence(), "complete", retracted(seat(1))],
    ],
)
def test_a_request_that_begins_anew_owes_the_same_approval_as_before(route):
    """The earlier one may still be executed, so no second one may stand beside it."""
    state = folded([received()])
    first = pending(state, TERMS).fact
    state, _ = evolve(state, record(first, 1))
    for second, step in enumerate(route, 5000):
        fact = pending(state, TERMS).fact if step == "complete" else step
        state, verdict = evolve(state, record(fact, second))
        assert verdict is Verdict.APPLIED
    assert state.stage is Stage.RECEIVED
    later = replace(TERMS, approval_ttl_seconds=5)
    again = pending(state, later).fact
    assert again.attempt == 2
    assert (again.digest, again.deadline) == (first.digest, first.deadline)


def test_the_work_for_a_lane_is_the_signed_call():
    state = folded(ROUTES[Stage.RELAYING])
    owed = pending(state, TERMS)
    assert owed == Append(LANES, relay(state, ORCHESTRATOR))
    work = owed.fact
    assert work.id == f"relay:{KEY}:1"
    assert work.data == ORCHESTRATOR.calldata(approval_of(state), signed().signature)
    assert (work.chain_id, work.wallet, work.contract) == (CHAIN, WALLETS[0], CONTRACT)
    assert work.deadline == drafted().deadline


def test_wallets_share_the_requests():
    counts = dict.fromkeys(WALLETS, 0)
    for number in range(600):
        state = replace(folded(ROUTES[Stage.SIGNED]), key=f"m-{number}")
        counts[pending(state, TERMS).fact.wallet] += 1
    assert min(counts.values()) > 150


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 999},
        {"account": OTHER_USER},
        {"event": EventName.MINTED},
        {"chain_id": 5921},
    ],
)
@pytest.mark.parametrize("stage", [Stage.RECEIVED, Stage.DRAFTED, Stage.INCLUDED, Stage.EXPIRED])
def test_evidence_that_tells_another_story_fails_the_request_once(stage, wrong):
    state, _ = evolve(folded(ROUTES[stage]), record(evidence(**wrong), 50))
    failure = pending(state, TERMS).fact
    assert isinstance(failure, RequestFailed)
    assert failure.reason is FailureReason.EVIDENCE_MISMATCH
    assert failure.attempt == state.attempt
    assert word(1) in failure.detail
    state, verdict = evolve(state, record(failure, 51))
    assert (state.stage, verdict) == (Stage.FAILED, Verdict.APPLIED)
    assert pending(state, TERMS) is None


@pytest.mark.parametrize(
    ("user", "amount"),
    [(USER.lower(), "1000"), ("0x" + USER[2:].upper(), "1000"), (USER, "0001000")],
)
def test_evidence_is_compared_with_what_was_meant_not_how_it_was_written(user, amount):
    state = folded([received(user=user, amount=amount), evidence()])
    assert isinstance(pending(state, TERMS).fact, RequestCompleted)


def test_evidence_completes_a_failed_request():
    state = folded([*ROUTES[Stage.FAILED], evidence()])
    done = pending(state, TERMS).fact
    state, verdict = evolve(state, record(done, 50))
    assert (state.stage, verdict) == (Stage.COMPLETED, Verdict.APPLIED)
    assert evolve(state, record(failed(), 51)) == (state, Verdict.REPEATED)


@pytest.mark.parametrize("stage", [s for s in ROUTES if s not in (Stage.UNBACKED, *TERMINAL)])
def test_a_lost_origin_retracts_the_request_before_anything_else_is_owed(stage):
    state = folded([*ROUTES[stage], retracted(ORIGIN)])
    owed = pending(state, TERMS).fact
    assert owed == gone(ORIGIN)
    state, _ = evolve(state, record(owed, 50))
    assert (state.stage, pending(state, TERMS)) == (Stage.RETRACTED, None)


def test_a_failed_redeem_whose_origin_is_lost_is_retracted_and_may_come_back():
    """It failed because its origin was gone: the call reverted before the follower told."""
    state = folded([*ROUTES[Stage.FAILED], retracted(ORIGIN)])
    owed = pending(state, TERMS).fact
    state, verdict = evolve(state, record(owed, 50))
    assert (state.stage, verdict) == (Stage.RETRACTED, Verdict.APPLIED)
    state, _ = evolve(state, record(received(OTHER_ORIGIN), 51))
    assert pending(state, TERMS).fact.attempt == 2


def test_already_processed_waits_for_the_evidence():
    waiting = refused(reason=RelayRefusal.ALREADY_PROCESSED)
    state = folded([*ROUTES[Stage.RELAYING], waiting])
    assert pending(state, TERMS) is None
    state, _ = evolve(state, record(evidence(), 50))
    assert isinstance(pending(state, TERMS).fact, RequestCompleted)


def test_an_unknown_chain_is_rejected_before_a_draft_and_waited_for_after_it():
    rejection = pending(folded([received()]), NOWHERE).fact
    assert isinstance(rejection, RequestRejected)
    assert rejection.reason is RejectionReason.UNKNOWN_CHAIN
    for stage in (Stage.SIGNED, Stage.EXPIRED):
        assert pending(folded(ROUTES[stage]), NOWHERE) is None
    no_wallets = Terms({CHAIN: ChainTerms(CHAIN, CONTRACT, ())}, TTL)
    assert pending(folded(ROUTES[Stage.SIGNED]), no_wallets) is None


def test_completion_without_any_approval_of_ours_can_be_taken_back():
    """Proved before anything was drafted, then reorganised away: never raise."""
    state = folded([evidence(), received()])
    state, _ = evolve(state, record(pending(state, TERMS).fact, 5))
    assert state.stage is Stage.COMPLETED
    state, _ = evolve(state, record(retracted(seat(1)), 6))
    owed = pending(state, TERMS).fact
    assert isinstance(owed, ApprovalDrafted)
    assert owed.attempt == 1
