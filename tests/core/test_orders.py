"""Operators' retries and cancellations in a request's own order: what they move, and when not."""

from __future__ import annotations

import pytest

from orchestrator.core.lifecycle import RequestState, Stage, Verdict, evolve
from orchestrator.core.owing import Append, Sign, pending
from orchestrator.core.reporting import reported
from schemas.base import Record
from schemas.controls import CancelOrdered, RetryOrdered, WorkPaused
from schemas.lanes import CancellationRequested, RelayRefusal
from schemas.requests import ApprovalDrafted, FailureReason, RequestFact, RequestFailed
from tests.core.facts import (
    KEY,
    ROUTES,
    SITUATIONS,
    START,
    TERMS,
    TTL,
    assigned,
    cancelled,
    completed,
    drafted,
    evidence,
    expired,
    failed,
    folded,
    given_up,
    included,
    received,
    record,
    refused,
    retried,
    signed,
    submitted,
)

REVERTED = RelayRefusal.REVERTED
_FAILED = ROUTES[Stage.FAILED]


def owed_fact(state: RequestState | None) -> RequestFact:
    assert state is not None
    owed = pending(state, TERMS)
    assert isinstance(owed, Append)
    assert isinstance(owed.fact, RequestFact)
    return owed.fact


def test_orders_enter_the_requests_own_order_with_who_and_why():
    told = {"order": "o-7", "who": "ann", "why": "the bank asked", "request_key": KEY}
    for order in (RetryOrdered(**told), CancelOrdered(**told)):
        [fact] = reported(Record(order, "2027-01-15T08:00:00.000Z"))
        assert fact.model_dump() == told
        assert fact.kind == order.kind.replace("Ordered", "Reported")
    pause = WorkPaused(order="o-8", who="ann", why="a look", scope="all")
    assert reported(Record(pause, "2027-01-15T08:00:00.000Z")) == []


def test_a_retry_drafts_the_same_digest_while_the_old_approval_may_execute():
    first = owed_fact(folded([received()]))
    assert isinstance(first, ApprovalDrafted)
    life = [received(), first, signed(digest=first.digest), assigned(), refused(reason=REVERTED)]
    again = owed_fact(folded([*life, failed(), retried()]))
    assert isinstance(again, ApprovalDrafted)
    assert again.attempt == 2
    assert (again.digest, again.deadline) == (first.digest, first.deadline)


def test_a_fresh_digest_follows_only_the_proof_that_the_old_one_expired():
    life = [*_FAILED, retried(), drafted(2), signed(2), assigned(2), refused(2), expired(2)]
    state = folded(life)
    fresh = owed_fact(state)
    assert isinstance(fresh, ApprovalDrafted)
    assert fresh.attempt == 3
    assert fresh.deadline == START + len(life) - 1 + TTL


def test_a_retry_before_any_draft_opens_a_time_of_its_own():
    state = folded([received(), cancelled(), given_up(0), retried()])
    assert state is not None and state.stage is Stage.RECEIVED
    fact = owed_fact(state)
    assert isinstance(fact, ApprovalDrafted)
    assert (fact.attempt, fact.deadline) == (1, START + 3 + TTL)


@pytest.mark.parametrize("stage", [Stage.RECEIVED, Stage.DRAFTED, Stage.SIGNED, Stage.EXPIRED])
def test_a_cancellation_without_a_lane_fails_the_request_at_once(stage):
    before = folded(ROUTES[stage])
    assert before is not None
    state = folded([*ROUTES[stage], cancelled()])
    fact = owed_fact(state)
    assert isinstance(fact, RequestFailed)
    assert fact.reason is FailureReason.CANCELLED
    assert (fact.order, fact.attempt) == ("c-1", before.attempt)
    assert "ann: asked for" in fact.detail
    if stage in (Stage.SIGNED, Stage.EXPIRED):
        assert "whoever holds it may still execute it until" in fact.detail
    ended, verdict = evolve(state, record(fact, 90))
    assert verdict is Verdict.APPLIED and ended is not None
    assert ended.stage is Stage.FAILED
    assert pending(ended, TERMS) is None


@pytest.mark.parametrize(
    ("before", "late"),
    [
        ([received()], drafted()),
        ([received(), drafted()], signed()),
        ([received(), drafted(), signed()], assigned()),
        (ROUTES[Stage.EXPIRED], drafted(2)),
    ],
)
def test_what_was_decided_before_the_order_was_read_moves_nothing(before, late):
    state = folded([*before, cancelled()])
    after, verdict = evolve(state, record(late, 90))
    assert (after, verdict) == (state, Verdict.REPEATED)
    assert not isinstance(pending(state, TERMS), Sign)


@pytest.mark.parametrize("stage", [Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED])
def test_a_lane_gives_the_work_back_first(stage):
    state = folded([*ROUTES[stage], cancelled()])
    owed = pending(state, TERMS)
    assert isinstance(owed, Append)
    fact = owed.fact
    assert isinstance(fact, CancellationRequested)
    assert (fact.relay, fact.order) == (f"{KEY}:1", "c-1")
    early, verdict = evolve(state, record(given_up(), 90))
    assert (early, verdict) == (state, Verdict.OUT_OF_ORDER)


@pytest.mark.parametrize("reason", RelayRefusal)
def test_any_refusal_but_processed_ends_what_is_being_cancelled(reason):
    state = folded([*ROUTES[Stage.RELAYING], cancelled(), refused(reason=reason)])
    if reason is RelayRefusal.ALREADY_PROCESSED:
        assert state is not None and pending(state, TERMS) is None
        return
    fact = owed_fact(state)
    assert isinstance(fact, RequestFailed) and fact.reason is FailureReason.CANCELLED


@pytest.mark.parametrize("situation", ["RELAYING, being cancelled", "FAILED, cancelled"])
def test_evidence_completes_what_was_cancelled(situation):
    facts = [*SITUATIONS[situation], evidence()]
    fact = owed_fact(folded(facts))
    assert fact == completed()
    state = folded([*facts, fact])
    assert state is not None
    assert (state.stage, state.cancelling) == (Stage.COMPLETED, None)


def test_a_cancellation_outlives_an_origin_that_moved():
    """A redeem that an operator gave up is not revived by a reorganisation that moves its event."""
    from tests.core.facts import ORIGIN, OTHER_ORIGIN, gone, retracted

    cancelled_life = [received(), drafted(), cancelled(), given_up()]
    state = folded([*cancelled_life, retracted(ORIGIN), gone(), received(OTHER_ORIGIN)])
    assert state is not None and state.stage is Stage.RECEIVED
    assert isinstance(owed_fact(state), RequestFailed)


def test_each_order_is_taken_in_once_whatever_stands_between():
    state = folded([received(), cancelled(), given_up(0), retried()])
    for fact in (cancelled(), retried(), given_up(0)):
        assert evolve(state, record(fact, 90)) == (state, Verdict.REPEATED)
    for fact in (cancelled(why="another"), retried(why="another"), retried("c-1")):
        assert evolve(state, record(fact, 90)) == (state, Verdict.CONFLICT)
    again = folded([received(), cancelled(), given_up(0), retried(), cancelled("c-2")])
    second = owed_fact(again)
    assert second.id != given_up(0).id
    assert isinstance(second, RequestFailed) and second.order == "c-2"


@pytest.mark.parametrize(
    "situation",
    ["COMPLETED", "REJECTED", "RETRACTED", "INCLUDED, proved", "RELAYING, being cancelled"],
)
def test_a_retry_that_makes_no_sense_is_refused(situation):
    state = folded(SITUATIONS[situation])
    assert evolve(state, record(retried(), 90)) == (state, Verdict.OUT_OF_ORDER)


def test_a_retry_leaves_alone_what_goes_its_way():
    state = folded([*ROUTES[Stage.SUBMITTED], retried()])
    assert state is not None
    assert (state.stage, state.submission) == (Stage.SUBMITTED, submitted())
    state = folded([*ROUTES[Stage.INCLUDED], retried()])
    assert state is not None and state.inclusion == included()
