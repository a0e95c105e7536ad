"""Counts what a batch brought, once it is committed: each place on the log is counted once,
whichever process writes and however often it was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from orchestrator import metrics
from orchestrator.core.lifecycle import RequestState, Stage, Verdict
from projections.fold import Changes, Reading
from schemas.base import Fact
from schemas.evm import ChainHalted, EventRetracted
from schemas.lanes import TransactionOrphaned, TransactionPrepared

OTHER = "other"
"""The chain of what was never drafted: anybody may ask for a chain that there is not."""


def measure(reading: Reading, changes: Changes) -> None:
    kinds = Counter((raw.topic, record.fact.kind) for raw, record in reading.records)
    for (topic, kind), count in kinds.items():
        metrics.FACTS.labels(topic, kind).inc(count)
    verdicts = Counter(row.verdict for row in changes.facts if row.verdict is not None)
    for verdict, count in verdicts.items():
        if verdict != Verdict.APPLIED:
            metrics.REFUSED_FACTS.labels(verdict).inc(count)
    _count_chains([record.fact for _, record in reading.records])
    for before, after in changes.moves:
        _observe(before, after)


def _count_chains(facts: Sequence[Fact]) -> None:
    for fact in facts:
        match fact:
            case ChainHalted():
                metrics.DEEP_REORGS.labels(str(fact.chain_id)).inc()
            case EventRetracted():
                metrics.RETRACTIONS.labels(str(fact.chain_id)).inc()
            case TransactionOrphaned():
                metrics.ORPHANED.labels(str(fact.chain_id)).inc()
            case TransactionPrepared() if fact.replaces is not None:
                metrics.REPLACED.labels(str(fact.chain_id)).inc()


def _observe(before: RequestState, after: RequestState) -> None:
    if after.type is None or after.received is None:
        return
    chain = str(after.received.chain_id) if after.drafted is not None else OTHER
    step = _seconds(before.changed_at, after.changed_at)
    metrics.STEP_SECONDS.labels(after.type, chain, after.stage).observe(step)
    if after.stage is Stage.COMPLETED:
        whole = _seconds(after.created_at, after.changed_at)
        metrics.REQUEST_SECONDS.labels(after.type, chain).observe(whole)


def _seconds(begin: str, end: str) -> float:
    """Writers' clocks may differ a little."""
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds())


def expect(chain_ids: Sequence[int]) -> None:
    """Counters of rare events begin at 0, so that the first one is an increase."""
    for chain_id in map(str, chain_ids):
        for rare in (metrics.DEEP_REORGS, metrics.RETRACTIONS, metrics.ORPHANED, metrics.REPLACED):
            rare.labels(chain_id)
    for verdict in Verdict:
        if verdict is not Verdict.APPLIED:
            metrics.REFUSED_FACTS.labels(verdict)
