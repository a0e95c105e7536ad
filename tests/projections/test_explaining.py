"""Every situation has its explanation: pure, over all stages and all that can stand around them."""

from __future__ import annotations

import shlex
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from orchestrator.core.controls import Pause
from orchestrator.core.lifecycle import RequestState, Stage, evolve
from projections.explaining import Circumstances, Explanation, Head, explain
from projections.explaining_words import WORDS, Code, Turn, actions_of
from projections.lane_shapes import LaneView, view_of
from projections.lanes import Lane, Transaction, TransactionState, Work, WorkState
from projections.usual import Duration, measured
from schemas.base import Record, instant
from schemas.lanes import RelayRefusal
from schemas.policies import Breach, PolicyRule
from schemas.requests import (
    ApprovalExpired,
    ApprovalNonceGranted,
    ApproveReported,
    CancelReported,
    FailureReason,
    HoldReported,
    OrphaningReported,
    RequestFailed,
    RequestRetracted,
    RetractionReported,
)
from tests.projections.facts import (
    CHAIN,
    START,
    WALLET,
    evidence,
    included,
    received,
    refused,
    rejected,
    to_signed,
    to_submitted,
    whole_life,
)

NOW = datetime.fromtimestamp(START + 60, UTC)
RELAY = "m:1"


def state_of(*facts: Any) -> RequestState:
    state = None
    for number, fact in enumerate(facts):
        state, verdict = evolve(state, Record(fact, instant(START + 50 + number / 10)))
        assert verdict == "APPLIED", fact
    assert state is not None
    return state


RECEIVED = received("m")
SUBMITTED = [RECEIVED, *to_submitted("m")]
CANCEL = CancelReported(request_key="m", order="o-1", who="ann", why="asked to")


def failed(reason: FailureReason, order: str | None = None) -> RequestFailed:
    return RequestFailed(request_key="m", attempt=1, reason=reason, detail="because", order=order)


def refused_then(reason: RelayRefusal, *more: Any) -> RequestState:
    return state_of(*SUBMITTED, refused("m", reason), *more)


EXPIRED = ApprovalExpired(request_key="m", attempt=1, block_number=101, block_timestamp=START)
MISMATCH = evidence("m").model_copy(update={"amount": 1})
ORIGIN = received("m").model_copy(update={"origin_event": "5920:0x1:0"})

HELD = HoldReported(
    request_key="m",
    ticket="1.0.0",
    version="0x" + "ab" * 32,
    breaches=(Breach(rule=PolicyRule.REQUEST_AMOUNT, limit="1", value="1000"),),
    approvals_needed=2,
)


def approved(order: str, who: str) -> ApproveReported:
    return ApproveReported(request_key="m", order=order, who=who, why="looked", ticket="1.0.0")


STATES: dict[str, RequestState] = {
    "received": state_of(RECEIVED),
    "drafted": state_of(RECEIVED, to_signed("m")[0]),
    "signed": state_of(RECEIVED, *to_signed("m")),
    "relaying": state_of(*SUBMITTED[:-1]),
    "relaying-in-order": state_of(
        RECEIVED,
        ApprovalNonceGranted(request_key="m", attempt=1, approval_nonce=2, deadline=START + 3600),
        *to_submitted("m")[:-1],
    ),
    "submitted": state_of(*SUBMITTED),
    "included": state_of(*SUBMITTED, included("m")),
    "orphaned": state_of(
        *SUBMITTED,
        included("m"),
        OrphaningReported(
            request_key="m",
            attempt=1,
            tx_hash=included("m").tx_hash,
            block_hash=included("m").block_hash,
        ),
    ),
    "evidence": state_of(*SUBMITTED, included("m"), evidence("m")),
    "completed": state_of(*whole_life("m")),
    "rejected": state_of(RECEIVED, rejected("m")),
    "unbacked": state_of(evidence("m")),
    "refused-reverted": refused_then(RelayRefusal.REVERTED),
    "refused-expired": refused_then(RelayRefusal.EXPIRED),
    "refused-processed": refused_then(RelayRefusal.ALREADY_PROCESSED),
    "refused-unfit": state_of(*SUBMITTED[:-1], refused("m", RelayRefusal.WALLET_UNFIT)),
    "refused-cancelled": state_of(*SUBMITTED, CANCEL, refused("m", RelayRefusal.CANCELLED)),
    "held": state_of(RECEIVED, HELD),
    "held-quiet": state_of(RECEIVED, HELD.model_copy(update={"until": START + 60})),
    "held-for-good": state_of(RECEIVED, HELD.model_copy(update={"approvals_needed": 0})),
    "released": state_of(RECEIVED, HELD, approved("a-1", "ann"), approved("a-2", "bob")),
    "cancelling-early": state_of(RECEIVED, CANCEL),
    "cancelling-in-lane": state_of(*SUBMITTED, CANCEL),
    "cancelled": state_of(
        RECEIVED,
        to_signed("m")[0],
        CANCEL,
        failed(FailureReason.CANCELLED, "o-1"),
    ),
    "expired": refused_then(RelayRefusal.EXPIRED, EXPIRED),
    "failed": refused_then(RelayRefusal.REVERTED, failed(FailureReason.CONTRACT_REVERTED)),
    "mismatch": state_of(*SUBMITTED, MISMATCH, failed(FailureReason.EVIDENCE_MISMATCH)),
    "origin-gone": state_of(
        ORIGIN, RetractionReported(request_key="m", event="RedeemRequested", seat="5920:0x1:0")
    ),
    "retracted": state_of(
        ORIGIN,
        RetractionReported(request_key="m", event="RedeemRequested", seat="5920:0x1:0"),
        RequestRetracted(request_key="m", seat="5920:0x1:0"),
    ),
    "anew": state_of(
        *whole_life("m"),
        RetractionReported(request_key="m", event="Minted", seat=evidence("m").seat),
    ),
}


def lane(
    *sent: Transaction, next_nonce: int | None = 7, waiting: int = 0, head: int = 100, **stops: Any
) -> LaneView:
    held = Lane(CHAIN, WALLET, NOW, next_nonce=next_nonce, **stops)
    works = [
        Work(CHAIN, WALLET, f"w-{n}:1", f"w-{n}", WorkState.WAITING, NOW - timedelta(9), NOW)
        for n in range(waiting)
    ]
    return view_of(held, sent, works, waiting, head, 20)


def sent(
    nonce: int, state: TransactionState, block: int = 99, relay: str = RELAY, **more: Any
) -> Transaction:
    return Transaction(
        CHAIN,
        WALLET,
        nonce,
        f"0x{nonce:064x}",
        state,
        NOW,
        relay=relay,
        prepared_at=NOW,
        prepared_block=block,
        **more,
    )


def work(state: WorkState, changed: datetime = NOW, asked: datetime = NOW) -> Work:
    return Work(CHAIN, WALLET, RELAY, "m", state, asked, changed)


OUT, PREPARED = TransactionState.BROADCAST, TransactionState.PREPARED
MINED = TransactionState.INCLUDED
WORKING, WAITING = work(WorkState.WORKING), work(WorkState.WAITING)
OTHER = "other:1"
IN_98 = {"block_number": 98, "included_at": NOW, "succeeded": True}
BAD_98 = {**IN_98, "succeeded": False}

LANES: dict[str, tuple[LaneView | None, Work | None]] = {
    "not-known": (None, None),
    "not-handed-over": (lane(), None),
    "not-open": (lane(next_nonce=None), WAITING),
    "halted": (lane(halted_reason="reset", halted_at=NOW), WORKING),
    "aside": (lane(set_aside_reason="empty", set_aside_at=NOW), WAITING),
    "waiting": (lane(waiting=2), WAITING),
    "waiting-again": (lane(), work(WorkState.WAITING, NOW + timedelta(1))),
    "waiting-stuck": (lane(sent(5, OUT, 70, OTHER), waiting=1), WAITING),
    "refused": (lane(), work(WorkState.REFUSED)),
    "done": (lane(), work(WorkState.DONE)),
    "reverted": (lane(), work(WorkState.REVERTED)),
    "slot-gone": (lane(), WORKING),
    "prepared": (lane(sent(6, PREPARED)), WORKING),
    "not-taken": (lane(sent(6, PREPARED, 94)), WORKING),
    "orphaned": (lane(sent(6, TransactionState.ORPHANED)), WORKING),
    "out": (lane(sent(6, OUT)), WORKING),
    "out-long": (lane(sent(6, OUT, 94)), WORKING),
    "stuck": (lane(sent(6, OUT, 70)), WORKING),
    "behind": (lane(sent(5, OUT, 99, OTHER), sent(6, OUT)), WORKING),
    "behind-stuck": (lane(sent(5, OUT, 70, OTHER), sent(6, OUT)), WORKING),
    "behind-stuck-itself": (lane(sent(5, OUT, 70, OTHER), sent(6, OUT, 71)), WORKING),
    "mined": (lane(sent(6, MINED, **IN_98)), WORKING),
    "mined-badly": (lane(sent(6, MINED, **BAD_98)), WORKING),
}

FOLLOWED = Head(94, NOW, NOW, block_seconds=2.0, depth=6)
HEADS: dict[str, Head | None] = {
    "none": None,
    "near": FOLLOWED,
    "past-it": replace(FOLLOWED, block=98),
    "quiet": replace(FOLLOWED, followed_at=NOW - timedelta(seconds=61)),
    "halted": replace(FOLLOWED, halted_reason="deep fork", halted_at=NOW),
    "old": replace(FOLLOWED, supply_at=NOW - timedelta(seconds=300)),
}
PAUSE = Pause("chain:5920", "o-2", "bob", "fees", instant(START))
USUAL = {stage: Duration(9, 1.0, 2.0) for stage in Stage}


def around(lane_name: str = "not-known", head: str = "near", **more: Any) -> Circumstances:
    view, held = LANES[lane_name]
    fields: dict[str, Any] = {"served_chains": (CHAIN,), "usual": USUAL, **more}
    return Circumstances(
        now=more.pop("now", NOW),
        lane=view,
        work=held,
        head=HEADS[head],
        **{name: value for name, value in fields.items() if name != "now"},
    )


LATER = NOW + timedelta(seconds=100)

EXPECTED: list[tuple[Code, str, Circumstances]] = [
    (Code.COMPLETED, "completed", around()),
    (Code.REJECTED, "rejected", around()),
    (Code.RETRACTED, "retracted", around()),
    (Code.EXECUTED_WITHOUT_FACT, "unbacked", around()),
    (Code.FAILED_REVERTED, "failed", around()),
    (Code.FAILED_MISMATCH, "mismatch", around()),
    (Code.FAILED_CANCELLED, "cancelled", around()),
    (Code.PAUSED, "drafted", around(pause=PAUSE)),
    (Code.HELD, "held", around()),
    (Code.HELD_UNTIL, "held-quiet", around()),
    (Code.HELD_FOR_GOOD, "held-for-good", around()),
    (Code.RELEASE_TO_BE_JUDGED, "released", around()),
    (Code.EVIDENCE_TO_BE_JUDGED, "evidence", around("mined")),
    (Code.RETRACTION_TO_BE_RECORDED, "origin-gone", around()),
    (Code.CANCELLATION_TO_BE_RECORDED, "cancelling-early", around()),
    (Code.CANCELLATION_TO_BE_RECORDED, "refused-cancelled", around("refused")),
    (Code.REVERT_TO_BE_RECORDED, "refused-reverted", around("refused")),
    (Code.EXPIRY_TO_BE_RECORDED, "refused-expired", around("refused")),
    (Code.PROCESSED_AWAITING_EVIDENCE, "refused-processed", around("refused")),
    (Code.TO_BE_REASSIGNED, "refused-unfit", around("refused")),
    (Code.CHAIN_NOT_SERVED, "signed", around(served_chains=(1,))),
    (Code.CHAIN_HALTED, "submitted", around("out", "halted")),
    (Code.CHAIN_NOT_SEEN, "submitted", around("out", "quiet")),
    (Code.TO_BE_DRAFTED, "received", around()),
    (Code.TO_BE_DRAFTED_AGAIN, "anew", around()),
    (Code.TO_BE_REDRAFTED, "expired", around()),
    (Code.DRAFTING_LATE, "received", around(now=LATER)),
    (Code.DRAFTING_LATE, "expired", around(now=LATER)),
    (Code.SUPPLY_NOT_COMPARED, "drafted", around(compared_within_seconds=120)),
    (Code.SUPPLY_NOT_COMPARED, "drafted", around(head="old", compared_within_seconds=120)),
    (Code.TO_BE_SIGNED, "drafted", around(head="old", compared_within_seconds=900)),
    (Code.TO_BE_SIGNED, "drafted", around(head="old")),
    (Code.TO_BE_SIGNED, "drafted", around()),
    (Code.SIGNING_LATE, "drafted", around(now=LATER)),
    (Code.TO_BE_ASSIGNED, "signed", around()),
    (Code.ASSIGNING_LATE, "signed", around(now=LATER)),
    (Code.TO_BE_HANDED_OVER, "relaying", around("not-handed-over")),
    (Code.LANE_NOT_OPEN, "relaying", around("not-open")),
    (Code.LANE_HALTED, "submitted", around("halted")),
    (Code.WALLET_SET_ASIDE, "relaying", around("aside")),
    (Code.WAITING_FOR_NONCE, "relaying", around("waiting")),
    (Code.WAITING_FOR_ANOTHER_NONCE, "submitted", around("waiting-again")),
    (Code.WAITING_FOR_TURN, "relaying-in-order", around("waiting")),
    (Code.WAITING_BEHIND_STUCK_NONCE, "relaying", around("waiting-stuck")),
    (Code.CANCELLATION_IN_LANE, "cancelling-in-lane", around("waiting")),
    (Code.CANCELLATION_IN_LANE, "cancelling-in-lane", around("out")),
    (Code.REFUSAL_TO_BE_CARRIED, "relaying", around("refused")),
    (Code.REVERT_BEING_STUDIED, "included", around("reverted")),
    (Code.TO_BE_BROADCAST, "relaying", around("prepared")),
    (Code.NOT_TAKEN_BY_NODES, "relaying", around("not-taken")),
    (Code.TO_BE_SENT_AGAIN, "orphaned", around("orphaned")),
    (Code.TO_BE_MINED, "submitted", around("out")),
    (Code.BEHIND_NONCE, "submitted", around("behind")),
    (Code.BEHIND_STUCK_NONCE, "submitted", around("behind-stuck")),
    (Code.BEHIND_STUCK_NONCE, "submitted", around("behind-stuck-itself")),
    (Code.REPLACEMENT_DUE, "submitted", around("out-long")),
    (Code.NONCE_STUCK, "submitted", around("stuck")),
    (Code.FAILED_IN_BLOCK, "included", around("mined-badly")),
    (Code.CONFIRMING, "included", around("mined")),
    (Code.AWAITING_EVIDENCE, "included", around("mined", "past-it")),
    (Code.AWAITING_EVIDENCE, "included", around("done")),
]


@pytest.mark.parametrize(
    ("code", "state", "circumstances"), EXPECTED, ids=[f"{code}-{s}" for code, s, _ in EXPECTED]
)
def test_each_situation_has_its_code(code: Code, state: str, circumstances: Circumstances) -> None:
    found = explain(STATES[state], circumstances)
    assert found.code is code
    assert "?" not in found.summary.replace("get through?", "").replace("run, and", "")


def test_every_code_is_reached() -> None:
    missing = set(Code) - {code for code, _, _ in EXPECTED}
    assert missing == {Code.FAILED}, "FAILED stands for reasons that a later version adds"
    assert set(WORDS) == set(Code)


def _sound(found: Explanation, state: RequestState) -> None:
    assert found.summary and "unknown" not in found.summary.lower()
    assert found.since
    ended = state.stage in (Stage.COMPLETED, Stage.REJECTED, Stage.FAILED, Stage.RETRACTED)
    assert (found.waiting_for is None) is ended
    assert found.turn is not Turn.NOBODY or ended
    assert found.next_attempt_at is None or found.next_attempt_at >= NOW
    for action in found.actions:
        assert action.command.startswith("orchestrator ") and action.text
        assert "?" not in action.command


def test_every_combination_is_explained() -> None:
    """Every state × lane × head × pause × age: also those that only a fault could bring about."""
    stages: set[Stage] = set()
    seen: set[Code] = set()
    for name, lane_name, head, pause, now in product(
        STATES, LANES, HEADS, (None, PAUSE), (NOW, LATER)
    ):
        for usual, within in ((USUAL, 0), ({}, 120)):
            state = STATES[name]
            more = {"usual": usual, "compared_within_seconds": within}
            found = explain(state, around(lane_name, head, pause=pause, now=now, **more))
            _sound(found, state)
            stages.add(state.stage)
            seen.add(found.code)
            if pause and state.stage not in (*found_ends(), Stage.UNBACKED):
                assert found.code is Code.PAUSED
    assert stages == set(Stage), "a stage that no state of this test has"
    assert seen >= set(Code) - {Code.FAILED, Code.CHAIN_NOT_SERVED}


def found_ends() -> tuple[Stage, ...]:
    return (Stage.COMPLETED, Stage.REJECTED, Stage.FAILED, Stage.RETRACTED)


def test_situations_are_told_apart() -> None:
    templates = [words.summary for words in WORDS.values()]
    assert len(set(templates)) == len(templates)
    for words in WORDS.values():
        assert [
            field for _, field, _, _ in string.Formatter().parse(words.summary) if field == ""
        ] == []


def test_moments_that_the_log_knows() -> None:
    waits = explain(STATES["submitted"], around("out"))
    assert waits.next_attempt_at == NOW + timedelta(seconds=8), "4 of 5 blocks, 2 s each"
    confirming = explain(STATES["included"], around("mined"))
    assert confirming.next_attempt_at == NOW + timedelta(seconds=8), "98 is 4 above 94"
    assert explain(STATES["drafted"], around()).next_attempt_at is None
    assert explain(STATES["submitted"], around("out", "none")).next_attempt_at is None


def test_commands_stand_a_shell() -> None:
    hostile = "x'; rm -rf / #\n$(id)"
    [action] = actions_of(Code.FAILED_REVERTED, {"key": hostile})
    assert hostile in shlex.split(action.command)
    for scope, option in (
        ("all", ["--all"]),
        ("chain:5920", ["--chain", "5920"]),
        (f"wallet:5920:{WALLET}", ["--wallet", f"5920:{WALLET}"]),
        ("request:a b", ["--request", "a b"]),
    ):
        resume = actions_of(Code.PAUSED, {"key": "m", "scope": scope})[0]
        assert shlex.split(resume.command)[2 : 2 + len(option)] == option


def test_usual_times_are_measured() -> None:
    moments = []
    for number in range(100):
        begun = NOW + timedelta(hours=number)
        moments += [
            (str(number), "RequestReceived", begun),
            (str(number), "ApprovalDrafted", begun + timedelta(seconds=number + 1)),
        ]
    usual = measured(moments)
    assert usual[Stage.RECEIVED] == Duration(100, 50.0, 95.0)
    assert set(usual) == {Stage.RECEIVED}
    assert measured([]) == {}
    one = measured([("k", "RequestReceived", NOW), ("k", "ApprovalDrafted", NOW)])
    assert one[Stage.RECEIVED] == Duration(1, 0.0, 0.0)
