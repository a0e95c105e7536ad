"""Properties of the fold over any sequence of facts, sensible or not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.lifecycle import TERMINAL, Stage, Verdict, evolve
from orchestrator.core.owing import Append, Sign, pending
from schemas.evm import EventName
from schemas.lanes import RelayRefusal
from schemas.requests import (
    ApprovalDrafted,
    FailureReason,
    OrphaningReported,
    RejectionReason,
    RequestFact,
)
from schemas.topics import REQUESTS
from tests.core.facts import (
    OTHER_USER,
    TERMS,
    USER,
    assigned,
    cancelled,
    completed,
    drafted,
    evidence,
    expired,
    failed,
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
)

ATTEMPTS = st.integers(1, 3)
FEW = st.integers(1, 3)
SEATS = FEW.map(seat)
ORIGINS = st.sampled_from([seat(101), seat(102), None])
ORDERS = st.sampled_from(["o-1", "o-2", "o-3"])
AMOUNTS = st.sampled_from([0, 999, 1000, 2**256 - 1])

# Input that no draft could be made of is left to test_policy: nobody drafts it.
FACTS: st.SearchStrategy[RequestFact] = st.one_of(
    st.builds(
        received,
        ORIGINS,
        user=st.sampled_from([USER, OTHER_USER, USER.lower()]),
        amount=st.sampled_from(["1000", "01000"]),
        chain_id=st.sampled_from([5920, 5921]),
    ),
    st.builds(
        rejected,
        st.sampled_from(["a", "b"]),
        st.sampled_from([RejectionReason.INVALID_AMOUNT, RejectionReason.UNKNOWN_CHAIN]),
    ),
    st.builds(drafted, ATTEMPTS, st.sampled_from([1_800_086_400, 1])),
    st.builds(signed, ATTEMPTS, st.sampled_from(["aa", "bb"])),
    st.builds(assigned, ATTEMPTS),
    st.builds(submitted, ATTEMPTS, FEW),
    st.builds(included, ATTEMPTS, FEW, FEW, st.booleans()),
    st.builds(orphaned, ATTEMPTS, FEW, FEW),
    st.builds(refused, ATTEMPTS, st.sampled_from(RelayRefusal)),
    st.builds(expired, ATTEMPTS),
    st.builds(
        evidence,
        FEW,
        amount=AMOUNTS,
        account=st.sampled_from([USER, OTHER_USER]),
        event=st.sampled_from([EventName.MINTED, EventName.REDEEMED]),
    ),
    st.builds(retracted, SEATS | st.sampled_from([seat(101), seat(102)])),
    st.builds(completed, SEATS),
    st.builds(
        failed,
        st.integers(0, 3),
        st.sampled_from(FailureReason),
        order=st.sampled_from([None, "o-1", "o-2"]),
    ),
    st.builds(cancelled, ORDERS),
    st.builds(retried, ORDERS),
    st.builds(gone, st.sampled_from([seat(101), seat(102)])),
)

OWED = "what is owed"
LOGS = st.lists(st.just(OWED) | FACTS, max_size=40)
"""Facts from anywhere, and in between the very fact that the request owes at that point."""


def chosen(state, item):
    """The fact of a log's item; None when nothing is owed to `requests`."""
    if item is not OWED:
        return item
    owed = pending(state, TERMS) if state else None
    if isinstance(owed, Sign):
        return signed(owed.attempt, digest=owed.digest)
    return owed.fact if owed and owed.topic is REQUESTS else None


def runs(log):
    """Each fact with the states before and after it."""
    state = None
    for second, item in enumerate(log):
        fact = chosen(state, item)
        if fact is not None:
            entry = record(fact, second)
            after, verdict = evolve(state, entry)
            yield state, entry, after, verdict
            state = after


@given(LOGS)
@settings(max_examples=400, deadline=None)
def test_the_fold_is_total_and_changes_only_by_what_it_applies(log):
    for before, _entry, after, verdict in runs(log):
        assert (after is not before) is (verdict is Verdict.APPLIED)
        if after is not None:
            assert pending(after, TERMS) == pending(after, TERMS)


@given(LOGS)
@settings(max_examples=300, deadline=None)
def test_each_record_twice_in_place_is_each_record_once(log):
    for _before, entry, after, verdict in runs(log):
        if verdict is Verdict.APPLIED:
            again, second = evolve(after, entry)
            assert again == after
            assert second is Verdict.REPEATED or isinstance(entry.fact, OrphaningReported)
        elif after is not None:
            assert evolve(after, entry) == (after, verdict)


@given(LOGS)
@settings(max_examples=300, deadline=None)
def test_the_same_log_gives_the_same_states_and_the_same_debts(log):
    first = list(runs(log))
    state = None
    for _, entry, after, verdict in first:
        state, again = evolve(state, entry)
        assert (state, again) == (after, verdict)
        if state is not None:
            assert pending(state, TERMS) == pending(after, TERMS)


REPORTED = ("stage", "changed_at", "updated_at", "submission", "inclusion", "ending", "evidence")


@given(LOGS)
@settings(max_examples=300, deadline=None)
def test_a_whole_log_read_again_moves_no_decision(log):
    """Reports of the current attempt's transactions may tell their story once more, and an ending
    may be reached again; the request, its approval, its signature, its wallet, what is proved and
    what was taken back stay."""
    entries = [entry for _, entry, _, verdict in runs(log) if verdict is Verdict.APPLIED]
    state = None
    for entry in entries:
        state, _ = evolve(state, entry)
    end = state
    for entry in entries:
        state, verdict = evolve(state, entry)
        assert verdict is not Verdict.CONFLICT or entry.fact.kind.endswith("Reported")
    if end is not None:
        kept = {name: getattr(end, name) for name in REPORTED if name != "evidence"}
        assert replace(state, **kept) == end


@given(LOGS)
@settings(max_examples=400, deadline=None)
def test_the_core_never_owes_what_it_would_refuse(log):
    for _, _, state, _ in runs(log):
        fact = chosen(state, OWED)
        if fact is not None:
            after, verdict = evolve(state, record(fact, 99))
            assert verdict is Verdict.APPLIED, (state.stage, fact)
            assert chosen(after, OWED) != fact


@given(LOGS)
@settings(max_examples=400, deadline=None)
def test_ended_requests_owe_nothing_but_what_evidence_or_retraction_calls_for(log):
    for _, _, state, _ in runs(log):
        if state is None or state.stage not in TERMINAL:
            continue
        owed = pending(state, TERMS)
        if owed is not None:
            assert state.stage is Stage.FAILED
            assert isinstance(owed, Append)
            expected = "RequestCompleted" if state.evidence else "RequestRetracted"
            assert owed.fact.kind == expected


@given(LOGS)
@settings(max_examples=300, deadline=None)
def test_nothing_is_completed_without_standing_evidence(log):
    for _, _, state, _ in runs(log):
        if state is not None and state.stage is Stage.COMPLETED:
            assert state.evidence is not None
            assert state.ending.seat == state.evidence.seat
            assert state.evidence.seat not in state.retracted_seats


@given(LOGS)
@settings(max_examples=400, deadline=None)
def test_a_second_approval_is_owed_only_after_the_first_expired_or_is_the_same_one(log):
    for before, entry, state, _ in runs(log):
        owed = pending(state, TERMS) if state else None
        if not isinstance(owed, Append) or not isinstance(owed.fact, ApprovalDrafted):
            continue
        if state.drafted is None or state.stage is Stage.EXPIRED:
            continue
        assert state.stage is Stage.RECEIVED, (before, entry)
        same = (owed.fact.deadline, owed.fact.contract, owed.fact.approval_nonce)
        drawn = state.drafted
        assert same[:2] == (drawn.deadline, drawn.contract)
