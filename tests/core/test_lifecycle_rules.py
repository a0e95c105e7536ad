"""Identity, attempts, evidence and retractions of a request, rule by rule."""

from __future__ import annotations

import pytest

from orchestrator.core.keys import mint_key, redeem_key
from orchestrator.core.lifecycle import Stage, Verdict, evolve
from orchestrator.core.owing import pending
from schemas.requests import ApprovalNonceGranted, FailureReason, RejectionReason
from tests.core.facts import (
    KEY,
    ORIGIN,
    OTHER_ORIGIN,
    OTHER_USER,
    ROUTES,
    START,
    TERMS,
    TTL,
    WALLETS,
    assigned,
    cancelled,
    completed,
    drafted,
    evidence,
    expired,
    failed,
    folded,
    given_up,
    gone,
    included,
    orphaned,
    received,
    record,
    refused,
    rejected,
    retracted,
    retried,
    seat,
    signed,
    submitted,
    word,
)

RELAYING = ROUTES[Stage.RELAYING]
INCLUDED = ROUTES[Stage.INCLUDED]
COMPLETED = ROUTES[Stage.COMPLETED]
EXPIRED = ROUTES[Stage.EXPIRED]


def verdict_after(route, fact):
    before = folded(route)
    after, verdict = evolve(before, record(fact, 500))
    if verdict is not Verdict.APPLIED:
        assert after is before
    return verdict


@pytest.mark.parametrize(
    ("stage", "fact"),
    [
        (Stage.RECEIVED, received(amount="1001")),
        (Stage.RECEIVED, received(user=OTHER_USER)),
        (Stage.RECEIVED, received(chain_id=5921)),
        (Stage.DRAFTED, received(OTHER_ORIGIN)),
        (Stage.DRAFTED, drafted(deadline=7)),
        (Stage.DRAFTED, signed(digest=word(77))),
        (Stage.SIGNED, signed(digest=word(77))),
        (Stage.SUBMITTED, submitted(nonce=6)),
        (Stage.INCLUDED, included(ok=False)),
        (Stage.EXPIRED, refused(detail="other")),
        (Stage.COMPLETED, completed(tx=9)),
        (Stage.COMPLETED, evidence(amount=999)),
        (Stage.COMPLETED, evidence(2)),
        (Stage.FAILED, failed(detail="other")),
    ],
)
def test_the_same_id_with_other_content_is_a_conflict(stage, fact):
    assert verdict_after(ROUTES[stage], fact) is Verdict.CONFLICT


@pytest.mark.parametrize(
    ("stage", "fact"),
    [
        (Stage.RECEIVED, received(origin="evm.events/3/99")),
        (Stage.SIGNED, signed(fill="cd")),
        (Stage.RELAYING, assigned(wallet=WALLETS[2])),
        (Stage.REJECTED, rejected("in other words")),
    ],
)
def test_circumstances_may_differ_and_the_first_telling_counts(stage, fact):
    before = folded(ROUTES[stage])
    assert verdict_after(ROUTES[stage], fact) is Verdict.REPEATED
    assert folded(ROUTES[stage]) == before


def test_a_rejection_rests_on_its_receipt_and_its_retry():
    unknown = RejectionReason.UNKNOWN_CHAIN
    rejections = [rejected(reason=unknown), rejected(reason=unknown, order="r-1")]
    again = [received(), rejections[0], retried(), rejections[1]]
    assert folded(again).stage is Stage.REJECTED
    assert len({fact.id for fact in rejections}) == 2
    for fact in rejections:
        assert verdict_after(again, fact) is Verdict.REPEATED
    before = folded(again[:3])
    assert before.stage is Stage.RECEIVED
    assert verdict_after(again[:3], rejections[0]) is Verdict.REPEATED, "its ground is gone"


def test_a_draft_from_before_a_retry_or_a_retraction_is_no_longer_meant():
    late = pending(folded([received()]), TERMS).fact
    anew = {
        "retried": [received(), cancelled(), given_up(0), retried()],
        "at work": [received(), retried()],
        "another block": [received(), retracted(ORIGIN), received(OTHER_ORIGIN)],
        "taken back": [received(), evidence(), completed(), retracted()],
    }
    for what, route in anew.items():
        meant = pending(folded(route), TERMS).fact
        assert meant.id != late.id, what
        assert verdict_after(route, late) is Verdict.REPEATED, what
        assert verdict_after([*route, meant], late) is Verdict.REPEATED, what
        assert verdict_after([*route, meant], meant) is Verdict.REPEATED, what
        assert verdict_after([received()], meant) is Verdict.OUT_OF_ORDER, what
    told_before = late.model_copy(update={"opening": None})
    assert verdict_after([received(), late], told_before) is Verdict.REPEATED


def submitted_anew(attempt):
    return submitted(attempt, tx=50 + attempt)


def included_anew(attempt):
    return included(attempt, tx=50 + attempt)


OF_ATTEMPT = [drafted, signed, assigned, submitted, included, orphaned, refused, expired]
OF_ATTEMPT += [submitted_anew, included_anew]


@pytest.mark.parametrize("stage", [s for s in Stage if s not in (Stage.UNBACKED, Stage.REJECTED)])
@pytest.mark.parametrize("make", OF_ATTEMPT)
def test_attempts_of_the_past_are_seen_and_of_the_future_refused(stage, make):
    route = [*EXPIRED, drafted(2)]
    assert verdict_after(route, make(1)) is Verdict.REPEATED
    later = verdict_after(route, make(3))
    assert later is Verdict.OUT_OF_ORDER
    if make not in (submitted, included):  # these are named by their transaction alone
        assert verdict_after(ROUTES[stage], make(4)) is Verdict.OUT_OF_ORDER


def test_a_second_attempt_forgets_what_belonged_to_the_first():
    state = folded([*RELAYING, submitted(), included(), refused(), expired(), drafted(2)])
    assert (state.stage, state.attempt) == (Stage.DRAFTED, 2)
    held = (state.signed, state.assigned, state.submission, state.inclusion, state.refusal)
    assert held == (None,) * 5


def test_an_expiry_opens_the_next_attempt_at_its_own_time():
    state = folded(ROUTES[Stage.RELAYING])
    opened = state.opened_seconds
    state, _ = evolve(state, record(refused(), 100))
    state, verdict = evolve(state, record(expired(), 90_000))
    assert verdict is Verdict.APPLIED
    assert state.opened_seconds == opened + 90_000


def test_an_expiry_without_the_lanes_proof_is_refused():
    assert verdict_after(RELAYING, expired()) is Verdict.OUT_OF_ORDER


def test_a_second_execution_is_a_conflict_and_keeps_the_first():
    state = folded(COMPLETED)
    after, verdict = evolve(state, record(evidence(2), 500))
    assert verdict is Verdict.CONFLICT
    assert after is state


def test_evidence_before_the_request_is_unbacked_until_it_is_received():
    state = folded([evidence()])
    assert (state.stage, state.received) == (Stage.UNBACKED, None)
    state, verdict = evolve(state, record(received(), 9))
    assert (state.stage, verdict) == (Stage.RECEIVED, Verdict.APPLIED)
    assert state.evidence == evidence()


def test_a_request_completes_on_evidence_only():
    assert verdict_after(INCLUDED, completed()) is Verdict.OUT_OF_ORDER
    assert verdict_after([*INCLUDED, evidence(2)], completed(seat(1))) is Verdict.OUT_OF_ORDER
    assert folded([*INCLUDED, evidence(2), completed(seat(2))]).stage is Stage.COMPLETED


def test_a_completion_that_was_overtaken_by_the_retraction_of_its_evidence_changes_nothing():
    """Whoever owed it had not read the retraction yet; both were on their way to the log."""
    route = [*INCLUDED, evidence(), retracted(seat(1))]
    assert verdict_after(route, completed(seat(1))) is Verdict.REPEATED
    assert folded(route).stage is Stage.INCLUDED


def test_a_failure_that_was_overtaken_by_the_retraction_of_its_evidence_changes_nothing():
    route = [*INCLUDED, evidence(amount=999), retracted(seat(1))]
    late = failed(reason=FailureReason.EVIDENCE_MISMATCH)
    assert verdict_after(route, late) is Verdict.REPEATED


def test_retracted_evidence_takes_the_completion_back_and_does_not_count_again():
    state = folded([*COMPLETED, retracted(seat(1))])
    assert (state.stage, state.evidence, state.ending) == (Stage.RECEIVED, None, None)
    assert state.attempt == 1
    for again in (evidence(1), retracted(seat(1)), completed(seat(1))):
        after, verdict = evolve(state, record(again, 500))
        assert (after, verdict) == (state, Verdict.REPEATED)
    state, verdict = evolve(state, record(evidence(2), 501))
    assert verdict is Verdict.APPLIED
    assert evolve(state, record(completed(seat(2)), 502))[0].stage is Stage.COMPLETED


def test_the_retraction_of_another_event_moves_nothing():
    state = folded([*COMPLETED, retracted(seat(9))])
    assert state.stage is Stage.COMPLETED
    assert state.evidence is not None
    assert state.ending == completed()


def test_a_mismatch_keeps_its_reason_when_its_evidence_goes():
    mismatch = failed(reason=FailureReason.EVIDENCE_MISMATCH)
    state = folded([*INCLUDED, evidence(amount=999), mismatch, retracted(seat(1))])
    assert (state.stage, state.ending, state.evidence) == (Stage.FAILED, mismatch, None)


BACK = [Stage.RECEIVED, Stage.DRAFTED, Stage.SIGNED, Stage.RELAYING, Stage.SUBMITTED]
BACK += [Stage.INCLUDED, Stage.EXPIRED, Stage.FAILED, Stage.REJECTED]


@pytest.mark.parametrize("stage", BACK)
def test_an_origin_comes_back_in_another_block_before_its_retraction_is_decided(stage):
    """A follower appends retraction and new event in one go; the decision comes after both."""
    state = folded([*ROUTES[stage], retracted(ORIGIN), received(OTHER_ORIGIN)])
    assert state.stage is Stage.RECEIVED
    assert state.received.origin_event == OTHER_ORIGIN
    for late in (gone(ORIGIN), received(ORIGIN), received(OTHER_ORIGIN), retracted(ORIGIN)):
        after, verdict = evolve(state, record(late, 900))
        assert (after, verdict) == (state, Verdict.REPEATED)


def test_an_origin_comes_back_after_its_retraction_was_decided():
    state = folded([*ROUTES[Stage.RETRACTED], received(OTHER_ORIGIN)])
    assert (state.stage, state.ending) == (Stage.RECEIVED, None)
    assert state.received.origin_event == OTHER_ORIGIN
    assert evolve(state, record(gone(ORIGIN), 900)) == (state, Verdict.REPEATED)


def test_a_failure_of_the_former_life_does_not_end_the_new_one():
    reverted = refused(reason="REVERTED")
    route = [*RELAYING, reverted, retracted(ORIGIN), received(OTHER_ORIGIN)]
    assert verdict_after(route, failed(1)) is Verdict.REPEATED
    assert verdict_after([*route, drafted(2)], failed(1)) is Verdict.REPEATED


def test_reports_of_the_former_life_are_no_disorder():
    route = [*RELAYING, retracted(ORIGIN), gone(), received(OTHER_ORIGIN)]
    for late in (submitted(), included(), orphaned(), refused()):
        assert verdict_after(route, late) is Verdict.APPLIED
        assert evolve(folded(route), record(late, 900))[0].stage is Stage.RECEIVED


def test_a_retraction_of_an_origin_that_still_stands_is_refused():
    assert verdict_after(RELAYING, gone(ORIGIN)) is Verdict.OUT_OF_ORDER
    assert verdict_after([*RELAYING, retracted(ORIGIN)], gone(seat(55))) is Verdict.OUT_OF_ORDER


def test_an_orphan_of_another_block_leaves_the_inclusion():
    state = folded([*INCLUDED, included(tx=2, block=2)])
    for other in (orphaned(tx=1, block=1), orphaned(tx=2, block=1)):
        after, _ = evolve(state, record(other, 500))
        assert (after.stage, after.inclusion) == (Stage.INCLUDED, included(tx=2, block=2))
    after, _ = evolve(state, record(orphaned(tx=2, block=2), 500))
    assert (after.stage, after.inclusion) == (Stage.SUBMITTED, None)


def test_a_replacement_and_its_inclusion_are_recorded():
    state = folded([*INCLUDED, submitted(tx=2), orphaned(), included(tx=2, block=2)])
    assert state.stage is Stage.INCLUDED
    assert (state.submission.tx_hash, state.inclusion.tx_hash) == (word(2), word(2))


def test_keys_of_mints_and_redeems():
    assert mint_key("a") == "a"
    assert redeem_key(5920, "a") == "redeem:5920:a"
    assert redeem_key(5920, "a") != redeem_key(5921, "a")


def test_a_grant_that_comes_after_the_end_counts_when_the_request_begins_anew():
    """The sequence tells a grant once; asked again, it holds that it has told."""
    grant = ApprovalNonceGranted(request_key=KEY, attempt=1, approval_nonce=7, deadline=START + TTL)
    ended = folded([received(), cancelled(), given_up(0)])
    kept, verdict = evolve(ended, record(grant, 10))
    assert (verdict, kept.stage) == (Verdict.APPLIED, Stage.FAILED)
    again, verdict = evolve(kept, record(retried(), 11))
    assert (verdict, again.stage, again.granted) == (Verdict.APPLIED, Stage.RECEIVED, grant)
