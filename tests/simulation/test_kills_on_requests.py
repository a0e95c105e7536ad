"""A kill before, at and after every arrow of a request's life; then the next owner does the rest.

What the log says in the end is what it says without the kill.
"""

from __future__ import annotations

from functools import cache

import pytest

from orchestrator.core.lifecycle import Stage
from tests.simulation.aiming import Moment
from tests.simulation.staging import ARROWS, NEVER_APPLIED, Arrow, Play, outcome
from tests.simulation.staging import told as told_as


@cache
def without_a_kill(arrow: Arrow) -> Play:
    return Play(arrow, None).run()


def name_of(arrow: Arrow) -> str:
    start, kind, goal = arrow
    return f"{start or 'nothing'}-{kind}-{goal or 'stays'}"


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AT, Moment.AFTER])
@pytest.mark.parametrize("arrow", ARROWS, ids=name_of)
def test_a_kill_at_an_arrow_of_a_request(arrow, moment):
    start, kind, goal = arrow
    told, killed = without_a_kill(arrow), Play(arrow, moment).run()
    assert told.problems == []
    assert killed.problems == []
    assert killed.aim.fell is not None
    assert killed.ledger.refused == told.ledger.refused
    assert killed.ledger.letters == told.ledger.letters
    [fact] = [fact for fact in killed.aim.errand.facts if fact.kind == kind]
    on_the_log = told_as(fact) in killed.told_when_it_fell
    assert on_the_log is (moment is Moment.AFTER) or arrow[:2] in NEVER_APPLIED
    for play in (told, killed):
        times = [a for a in play.ledger.applied if a[:2] == (start, kind)]
        stage = start if goal is None else goal
        never = arrow[:2] in NEVER_APPLIED
        assert set(times) == (set() if never else {(start, kind, stage)})
        assert len(times) <= 1 or goal is None, "a stage moves once"
    assert outcome(killed.state) == outcome(told.state)
    assert killed.state is None or isinstance(killed.state.stage, Stage)
