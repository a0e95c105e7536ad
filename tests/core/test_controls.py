"""What is paused now, and by which order: precedence, repetition, conflicts."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.controls import ControlState, covering, evolve
from orchestrator.core.order_reasons import why_refused
from orchestrator.core.stages import Verdict
from schemas.base import Record, instant
from schemas.controls import (
    EVERYTHING,
    CancelOrdered,
    OrderFact,
    WorkPaused,
    WorkResumed,
    chain_scope,
    request_scope,
    wallet_scope,
)
from tests.core.facts import CHAIN, OTHER_USER, SITUATIONS, START, USER, folded, retried

WALLET, OTHER_WALLET = USER, OTHER_USER
KEY = "m-1"
SCOPES = {
    EVERYTHING: EVERYTHING,
    "chain": chain_scope(CHAIN),
    "wallet": wallet_scope(CHAIN, WALLET),
    "request": request_scope(KEY),
}


def paused(scope: str, order: str = "o-1", why: str = "a look") -> WorkPaused:
    return WorkPaused(order=order, who="ann", why=why, scope=scope)


def resumed(scope: str, order: str = "o-2") -> WorkResumed:
    return WorkResumed(order=order, who="bob", why="well again", scope=scope)


def after(*facts: OrderFact) -> ControlState:
    state = ControlState()
    for second, fact in enumerate(facts):
        assert evolve(state, Record(fact, instant(START + second))) is Verdict.APPLIED
    return state


@pytest.mark.parametrize(
    ("scope", "work", "covered"),
    [
        (EVERYTHING, (CHAIN, WALLET, KEY), True),
        (EVERYTHING, (1, None, None), True),
        ("chain", (CHAIN, WALLET, KEY), True),
        ("chain", (CHAIN, None, KEY), True),
        ("chain", (1, None, KEY), False),
        ("wallet", (CHAIN, WALLET, None), True),
        ("wallet", (CHAIN, WALLET.lower(), None), True),
        ("wallet", (CHAIN, OTHER_WALLET, KEY), False),
        ("wallet", (1, WALLET, KEY), False),
        ("wallet", (CHAIN, None, KEY), False),
        ("request", (CHAIN, None, KEY), True),
        ("request", (CHAIN, WALLET, "M-1"), False),
        ("request", (CHAIN, WALLET, None), False),
    ],
)
def test_a_pause_covers_its_scope_and_nothing_else(scope, work, covered):
    pause = covering(after(paused(SCOPES[scope])), *work)
    assert (pause is not None) is covered
    if pause is not None:
        assert "ann" in pause.reason and "a look" in pause.reason


@pytest.mark.parametrize("held", SCOPES)
@pytest.mark.parametrize("freed", SCOPES)
def test_resuming_lifts_the_pause_of_exactly_that_scope(held, freed):
    state = after(paused(SCOPES[held]), resumed(SCOPES[freed]))
    assert (covering(state, CHAIN, WALLET, KEY) is None) is (held == freed)


def test_the_widest_pause_is_named_and_the_first_of_a_scope_stays():
    chain = SCOPES["chain"]
    state = after(
        paused(chain, "o-1"), paused(chain, "o-2", "again"), paused(EVERYTHING, "o-3", "all")
    )
    pause = covering(state, CHAIN)
    assert pause is not None and pause.order == "o-3"
    assert evolve(state, Record(resumed(EVERYTHING, "o-4"), instant(START))) is Verdict.APPLIED
    pause = covering(state, CHAIN)
    assert pause is not None and pause.order == "o-1"


def test_an_order_id_means_one_order_for_ever():
    state = after(paused(EVERYTHING), resumed(EVERYTHING))
    before = copy.deepcopy(state)
    again = Record(paused(EVERYTHING), instant(START + 60))
    assert evolve(state, again) is Verdict.REPEATED
    others = [
        paused(EVERYTHING, why="another"),
        paused(SCOPES["chain"]),
        resumed(EVERYTHING, "o-1"),
        CancelOrdered(order="o-1", who="ann", why="a look", request_key=KEY),
    ]
    for other in others:
        assert evolve(state, Record(other, instant(START))) is Verdict.CONFLICT
    assert state == before


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(list(SCOPES.values()))), max_size=20))
def test_what_is_paused_is_what_was_paused_last_and_not_resumed(orders):
    facts = [
        (paused if pauses else resumed)(scope, f"o-{number}")
        for number, (pauses, scope) in enumerate(orders)
    ]
    last = {scope: pauses for pauses, scope in orders}
    state = after(*facts)
    assert {pause.scope for pause in state.pauses.values()} == {s for s, p in last.items() if p}
    again = copy.deepcopy(state)
    for fact in facts:
        assert evolve(again, Record(fact, instant(START))) is Verdict.REPEATED
    assert again == state


@pytest.mark.parametrize(
    ("situation", "hint"),
    [
        (None, "no such request"),
        ("UNBACKED", "no fact allows it"),
        ("COMPLETED", "has executed it already"),
        ("INCLUDED, proved", "has executed it already"),
        ("RETRACTED", "reorganisation"),
        ("REJECTED", "INVALID_AMOUNT"),
        ("RELAYING, being cancelled", "retry it when it has FAILED"),
        ("FAILED", "it is FAILED"),
    ],
)
def test_a_refused_order_says_why(situation, hint):
    state = folded(SITUATIONS[situation]) if situation else None
    assert hint in why_refused(state, retried())
