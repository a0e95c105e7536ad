"""The pure functions: states to JSON and back, texts, times."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.lifecycle import RequestState, Stage, evolve
from projections.fold import moment_of_seconds
from projections.queries import Cursor
from projections.rows import decode_state, encode_state, outcome, row_of
from projections.text import from_column, from_jsonb, moment, to_column, to_jsonb
from schemas.base import Fact, Record, RequestType, instant
from schemas.evm import EventName
from schemas.lanes import RelayRefusal
from schemas.policies import Breach, LapseReason, PolicyRule
from schemas.requests import (
    ApprovalExpired,
    ApprovalNonceGranted,
    CancelReported,
    ClearanceReported,
    HoldLapseReported,
    HoldReported,
    RequestRetracted,
    RetractionReported,
    RetryReported,
)
from tests.projections.facts import (
    START,
    evidence,
    included,
    refused,
    rejected,
    to_submitted,
    whole_life,
)

KEY = "m-1"
FACTS: list[Fact] = [
    *whole_life(KEY),
    *to_submitted(KEY, 2),
    included(KEY),
    included(KEY, 2),
    evidence(KEY, log_index=1),
    refused(KEY),
    refused(KEY, RelayRefusal.EXPIRED),
    rejected(KEY),
    ApprovalExpired(request_key=KEY, attempt=1, block_number=1, block_timestamp=1),
    RetractionReported(request_key=KEY, event=EventName.MINTED, seat=evidence(KEY).seat),
    RequestRetracted(request_key=KEY, seat=evidence(KEY).seat),
    CancelReported(request_key=KEY, order="o-1", who="ann", why="asked for"),
    RetryReported(request_key=KEY, order="o-2", who="bob", why="mended"),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FACTS), min_size=1, max_size=25))
def test_any_state_survives_json_and_makes_a_row(facts: list[Fact]) -> None:
    state = None
    for number, fact in enumerate(facts):
        state, _ = evolve(state, Record(fact, instant(START + number)))
        if state is not None:
            assert decode_state(from_jsonb(to_jsonb(encode_state(state)))) == state
            row = row_of(state)
            assert row["status"] == state.status and row["request_key"] == KEY
            assert (row["error_message"] is not None) == (state.status == "FAILED")


def test_every_field_of_the_state_is_encoded() -> None:
    state, written = None, set()
    orders = FACTS[-2:]
    granted = ApprovalNonceGranted(
        request_key=KEY, attempt=1, approval_nonce=2**200, deadline=START + 86_400
    )
    first, *life = whole_life(KEY)
    over = refused(KEY, RelayRefusal.EXPIRED)
    expired = ApprovalExpired(
        request_key=KEY,
        attempt=1,
        block_number=over.block_number,
        block_timestamp=over.block_timestamp,
    )
    held = HoldReported(
        request_key=KEY,
        ticket="1.0.0",
        version="0x" + "ab" * 32,
        breaches=(Breach(rule=PolicyRule.REQUEST_AMOUNT, limit="1", value="2"),),
        approvals_needed=1,
    )
    lapsed = HoldLapseReported(request_key=KEY, ticket="1.0.0", reason=LapseReason.POLICY_CHANGED)
    cleared = ClearanceReported(request_key=KEY, ticket="1.0.1", version="0x" + "ab" * 32)
    life = [first, granted, held, lapsed, cleared, *life[:-2], over, expired, *orders, *life[-2:]]
    for number, fact in enumerate(life):
        state, _ = evolve(state, Record(fact, instant(START + number)))
        assert state is not None
        written |= set(orjson.loads(encode_state(state))) - {"ending_kind"}
    assert written == {item.name for item in fields(RequestState)}


def test_a_redeem_known_only_by_its_evidence_and_even_without() -> None:
    key = "redeem:5920:r:1"
    state, _ = evolve(None, Record(evidence(key, EventName.REDEEMED), instant(START)))
    assert state is not None and state.stage is Stage.UNBACKED
    row = row_of(state)
    assert (row["request_id"], row["type"], row["chain_id"]) == ("r:1", RequestType.REDEEM, 5920)
    gone = RetractionReported(request_key=key, event=EventName.REDEEMED, seat=evidence(key).seat)
    state, _ = evolve(state, Record(gone, instant(START + 1)))
    assert state is not None
    row = row_of(state)
    assert (row["type"], row["chain_id"], row["reason"]) == (RequestType.REDEEM, None, "RETRACTED")
    assert outcome(state)[1]


@given(st.text(alphabet=st.sampled_from('a0␀\x00\\u"😀'), max_size=12))
def test_texts_without_nul_and_without_loss(text: str) -> None:
    column = to_column(text)
    assert "\x00" not in column and from_column(column) == text
    body = {"k": [text, {text: 1}]}
    stored = to_jsonb(orjson.dumps(body))
    assert "\\u0000" not in stored.replace("\\\\", "") and from_jsonb(stored) == body


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("2026-01-02T03:04:05.678Z", 2026),
        ("2026-01-02", 2026),
        ("0001-01-01T00:00:00+14:00", 1970),
        ("9999-12-31T23:59:59-14:00", 9000),
    ],
)
def test_moments_fit_the_calendar(text: str, year: int) -> None:
    assert moment(text).year == year and moment(text).tzinfo is not None


def test_block_times_fit_the_calendar() -> None:
    assert moment_of_seconds(START) == datetime.fromtimestamp(START, UTC)
    assert moment_of_seconds(2**63 - 1).year == 9000


@given(st.datetimes(timezones=st.just(UTC)), st.text(max_size=50))
def test_cursors_come_back(created_at: datetime, key: str) -> None:
    cursor = Cursor(created_at, key)
    assert Cursor.decode(cursor.encode()) == cursor


def test_a_whole_life_ends_completed() -> None:
    state = None
    for fact in whole_life("x", type=RequestType.REDEEM):
        state, _ = evolve(state, Record(fact, instant(START)))
    assert state is not None and state.stage is Stage.COMPLETED
