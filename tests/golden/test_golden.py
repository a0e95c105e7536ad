"""What earlier versions wrote is read as they read it, and would be decided as they decided it."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import pytest

from orchestrator.core.comparing import Comparison
from schemas.topics import REQUESTS
from tests.golden.folder import HERE, Golden, all_golden, states_of

LARGEST_BYTES = 200_000
GOLDEN = pytest.mark.parametrize("golden", all_golden(), ids=lambda golden: golden.folder.name)


def test_the_version_at_hand_has_its_log():
    assert HERE / version("stablecoin-orchestrator") in [found.folder for found in all_golden()]


@GOLDEN
def test_a_log_folds_to_the_states_that_were_recorded(golden):
    assert states_of(golden.records()) == golden.states()
    assert sum(path.stat().st_size for path in golden.folder.iterdir()) < LARGEST_BYTES


@GOLDEN
def test_the_code_at_hand_would_decide_the_same(golden):
    comparison = compared(golden, golden.terms())
    assert comparison.decisions > 20
    assert comparison.differences == []
    assert comparison.unmade == []


@GOLDEN
def test_a_log_holds_every_kind_of_ending(golden):
    states = golden.states()
    requests = states["requests"].values()
    assert {state["stage"] for state in requests} == {"COMPLETED", "REJECTED", "FAILED"}
    assert {state["type"] for state in requests} == {"MINT", "REDEEM"}
    orders = [order["kind"] for state in requests for order in state["orders"]]
    assert sorted(orders) == ["CancelReported", "RetryReported"]
    assert any(state["attempt"] == 2 and state["stage"] == "COMPLETED" for state in requests)
    assert sum("granted" in state["facts"] for state in requests) == 2, "of the launchpad"
    assert all(lane["open"] == lane["waiting"] == [] for lane in states["lanes"].values())
    assert states["refused"] == 0


@GOLDEN
def test_a_difference_would_be_seen(golden):
    """These checks can fail: a record less, and other terms, are another story."""
    records = golden.records()
    own = [place for place, _ in records if place.topic == REQUESTS.name]
    less = [item for item in records if item[0] != own[len(own) // 2]]
    assert states_of(less) != golden.states()
    terms = golden.terms()
    longer = replace(terms, approval_ttl_seconds=terms.approval_ttl_seconds + 1)
    assert compared(golden, longer).differences


def compared(golden: Golden, terms) -> Comparison:
    comparison = Comparison(terms)
    for place, value in golden.records():
        if place.topic == REQUESTS.name:
            comparison.read(REQUESTS.decode(value, place))
    return comparison
