"""Everything before the guard is wrong, and still KMS never sees two live digests of a request."""

from __future__ import annotations

import pytest

from tests.simulation.aiming import Aim, Moment, at_verb
from tests.simulation.defects import DraftsTwice
from tests.simulation.running import Outcome, Run, simulate
from tests.simulation.worker import Agents

SEEDS = range(12)
HARM = "KMS asked for two live digests"
ALARM = "an agent reports: the guard refuses a signature"


def nobody_looks_at_the_log(run: Run) -> None:
    """The log alone tells of the defect; here only what leaves the service counts."""
    run.world.oracle._only_one_lives = lambda before, fact: None  # type: ignore[method-assign]


def with_the_defect(seed: int, guarded: bool) -> Outcome:
    agents = Agents(decider=DraftsTwice, guarded=guarded)
    return simulate(seed, agents, prepare=nobody_looks_at_the_log)


def first_of(outcome: Outcome) -> str:
    return outcome.violations[0].partition(";")[0] if outcome.violations else "nothing"


def test_without_the_guard_kms_signs_twice():
    assert HARM in {first_of(with_the_defect(seed, guarded=False)) for seed in SEEDS}


def test_with_the_guard_it_does_not_and_somebody_is_told():
    told = [with_the_defect(seed, guarded=True) for seed in SEEDS]
    assert not [found for outcome in told for found in outcome.violations if HARM in found]
    assert ALARM in {first_of(outcome) for outcome in told}


@pytest.mark.parametrize("verb", ["claim", "sign"])
def test_a_kill_between_the_record_and_the_signature_changes_nothing(verb):
    """The next owner claims and signs the same digest; the request goes its way."""
    aim = Aim(at_verb(verb), Moment.AT if verb == "claim" else Moment.BEFORE)
    outcome = simulate(1, aim=aim)
    assert aim.fell is not None
    assert not outcome.violations
    assert not [name for name in outcome.counts if name.startswith("guard refusals")]


def test_the_guard_away_signs_nothing_and_heals():
    asked: list[float] = []

    def prepare(run: Run) -> None:
        world = run.world
        world.guard.down = True
        world.kms.on_start = lambda _: asked.append(world.loop.time())
        world.loop.in_world(60, setattr, world.guard, "down", False)

    outcome = simulate(1, prepare=prepare)
    assert not outcome.violations
    assert asked and min(asked) >= 60
