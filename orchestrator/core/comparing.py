"""Would the code at hand decide as the log says? Each decision on the log, held against it.

A decision was made for the state that its author had read. By the time that it was appended, other
facts may have stood before it. So a decision counts as the same when the code at hand owed it in
any state since the last one. What differs is a change of the code or of the terms (or of whoever
appended it), and someone should know of it before a new version is started on that log.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.lifecycle import RequestState, Verdict, evolve
from orchestrator.core.owing import Append, pending
from orchestrator.core.terms import Terms
from schemas.base import Record
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    RelayAssigned,
    RequestCompleted,
    RequestFact,
    RequestFailed,
    RequestRejected,
    RequestRetracted,
)

DECISIONS = (
    RequestRejected,
    ApprovalDrafted,
    RelayAssigned,
    ApprovalExpired,
    RequestCompleted,
    RequestFailed,
    RequestRetracted,
)
"""What `pending` gives for the topic `requests`; all else there is reported from elsewhere."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision on the log that the code at hand would not make. `owed` is what it would have
    decided instead, in the states since the decision before; empty for nothing."""

    record: Record
    owed: tuple[RequestFact, ...]
    verdict: Verdict


@dataclass(slots=True)
class Comparison:
    """Reads the records of `requests` in log order, per partition. `unmade` are decisions that are
    owed at the end of the log; a service at work will always have some."""

    terms: Terms
    decisions: int = 0
    differences: list[Difference] = field(default_factory=list)
    states: dict[str, RequestState] = field(default_factory=dict)
    _owed: dict[str, list[RequestFact]] = field(default_factory=dict)

    def read(self, record: Record) -> None:
        fact = record.fact
        assert isinstance(fact, RequestFact)
        key = fact.request_key
        state, verdict = evolve(self.states.get(key), record)
        if isinstance(fact, DECISIONS) and verdict is not Verdict.REPEATED:
            self.decisions += 1
            owed = self._owed.get(key, [])
            same = any(item.id == fact.id and item.agrees_with(fact) for item in owed)
            if verdict is not Verdict.APPLIED or not same:
                self.differences.append(Difference(record, tuple(owed), verdict))
            if verdict is Verdict.APPLIED:
                self._owed.pop(key, None)
        if verdict is Verdict.APPLIED and state is not None:
            self.states[key] = state
            self._expect(key, state)

    def _expect(self, key: str, state: RequestState) -> None:
        item = pending(state, self.terms)
        if isinstance(item, Append) and isinstance(item.fact, RequestFact):
            owed = self._owed.setdefault(key, [])
            if item.fact not in owed:
                owed.append(item.fact)

    @property
    def unmade(self) -> list[RequestFact]:
        """What the code at hand would decide next, for each request that waits for a decision."""
        found = []
        for key, state in self.states.items():
            item = pending(state, self.terms)
            if isinstance(item, Append) and isinstance(item.fact, RequestFact) and self._owed[key]:
                found.append(item.fact)
        return found
