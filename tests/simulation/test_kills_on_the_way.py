"""A kill before, halfway, at and after every arrow of lanes and of ingestion, and at each effect
outside of the log. Each falls exactly there, in a whole cluster, and every invariant holds."""

from __future__ import annotations

import pytest

from schemas.topics import EVM_EVENTS, KURO_EVENTS, LANES
from tests.simulation.provoking import EFFECTS, FACTS, TARGETS, kill_at

SEEDS = range(1, 6)
"""The first in which what is aimed at comes to be: not in each is a mint held, for example."""


@pytest.mark.parametrize(
    ("name", "moment"),
    [(name, moment) for name, target in TARGETS.items() for moment in target.moments()],
)
def test_a_kill_on_the_way(name, moment):
    for seed in SEEDS:
        aim, outcome = kill_at(TARGETS[name], moment, seed)
        told = "\n".join(list(outcome.story.lines)[-60:])
        assert not outcome.violations, f"{outcome.violations}\n{told}"
        if aim.fell is not None:
            break
    assert aim.fell is not None, f"no kill fell at {name}"
    assert outcome.counts["kills"] == 1
    if name in FACTS and aim.errand.facts:
        assert name in {fact.kind for fact in aim.errand.facts}


def test_every_kind_of_lanes_and_ingestion_is_a_target():
    kinds = [kind for topic in (LANES, EVM_EVENTS, KURO_EVENTS) for kind in topic.kinds]
    assert sorted(FACTS) == sorted(kinds)
    assert not FACTS.keys() & EFFECTS.keys()
