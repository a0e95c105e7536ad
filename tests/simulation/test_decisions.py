"""The code at hand would decide as every log of the simulation says; other terms would not."""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import replace

import pytest

from orchestrator.core.comparing import Comparison
from orchestrator.core.lifecycle import Verdict
from orchestrator.core.terms import Terms
from schemas.base import Position, Record, UnreadableRecord
from schemas.requests import RequestFailed
from schemas.topics import REQUESTS
from tests.core.facts import TERMS, assigned, drafted, failed, received, record, signed
from tests.simulation.running import Run, _unheard
from tests.simulation.scenario import Scenario
from tests.simulation.worker import Agents

SEEDS = range(400, 415)


def log_of(seed: int) -> tuple[list[Record], Terms]:
    """Every record of `requests`, and the terms that they were decided under."""
    gc.disable()
    gc.freeze()
    try:
        run = Run(seed, Agents())
        assert not run.run().violations
        partitions, terms = run.world.broker.partitions, run.world.terms
        with _unheard():
            del run
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    records = []
    for (topic, number), partition in sorted(partitions.items()):
        entries, _ = partition.committed(0, len(partition.entries), 10**9)
        for entry in entries if topic == REQUESTS.name else []:
            position = Position(topic, number, entry.offset)
            with suppress(UnreadableRecord):
                records.append(REQUESTS.decode(entry.value, position))
    return records, terms


def compared(records: list[Record], terms: Terms) -> Comparison:
    comparison = Comparison(terms)
    for found in records:
        comparison.read(found)
    return comparison


@pytest.mark.parametrize("seed", SEEDS)
def test_a_log_holds_what_the_code_would_decide(seed):
    comparison = compared(*log_of(seed))
    assert comparison.decisions > len(comparison.states)
    assert comparison.differences == []


def test_other_terms_would_have_decided_otherwise():
    records, terms = log_of(next(seed for seed in SEEDS if not Scenario.of(seed).launchpad))
    longer = replace(terms, approval_ttl_seconds=terms.approval_ttl_seconds + 1)
    changed = compared(records, longer)
    assert {found.record.fact.kind for found in changed.differences} == {"ApprovalDrafted"}
    first = changed.differences[0]
    assert [owed.deadline for owed in first.owed] == [first.record.fact.deadline + 1]


def test_a_decision_that_nobody_owed_is_named():
    comparison = Comparison(TERMS)
    draft = Comparison(TERMS)
    draft.read(record(received()))
    [honest] = draft.unmade
    for fact in (received(), honest, signed(digest=honest.digest), assigned()):
        comparison.read(record(fact))
    assert comparison.differences == []
    comparison.read(record(failed()))
    comparison.read(record(drafted(attempt=7)))
    verdicts = [(type(d.record.fact), d.verdict) for d in comparison.differences]
    assert verdicts[0] == (RequestFailed, Verdict.OUT_OF_ORDER)
    assert verdicts[1][1] is Verdict.OUT_OF_ORDER
