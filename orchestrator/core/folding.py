"""A whole log folded: every request and every lane, from zero. What replays and golden logs show.

Of the topics `requests` and `lanes` alone anything follows; the others are counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core import lanes, lifecycle, sequences
from orchestrator.core.stages import RequestState, Verdict
from schemas.base import Position, Record, UnreadableRecord
from schemas.lanes import LaneFact
from schemas.requests import RequestFact
from schemas.sequences import SequenceFact
from schemas.topics import TOPICS

REFUSED = (Verdict.CONFLICT, Verdict.OUT_OF_ORDER)


@dataclass(frozen=True, slots=True)
class Step:
    """A record, what became of it, and where its request stands behind it. `verdict` is None for
    what no fold takes."""

    record: Record
    verdict: Verdict | None
    stage: str | None


@dataclass(slots=True)
class Folding:
    """Takes records in log order, per partition. `facts` counts the readable ones."""

    requests: dict[str, RequestState] = field(default_factory=dict)
    lanes: dict[str, lanes.LaneState] = field(default_factory=dict)
    sequences: dict[int, sequences.Sequences] = field(default_factory=dict)
    facts: int = 0
    unreadable: int = 0
    refused: int = 0

    def read(self, position: Position, value: bytes | None) -> Step | None:
        """None for a record that cannot be read; it is counted."""
        try:
            record = TOPICS[position.topic].decode(value, position)
        except UnreadableRecord:
            self.unreadable += 1
            return None
        return self.take(record)

    def take(self, record: Record) -> Step:
        self.facts += 1
        fact = record.fact
        verdict: Verdict | None = None
        stage: str | None = None
        match fact:
            case RequestFact():
                key = fact.request_key
                state, verdict = lifecycle.evolve(self.requests.get(key), record)
                if state is not None and verdict is Verdict.APPLIED:
                    self.requests[key] = state
                stage = self.requests[key].stage if key in self.requests else None
            case SequenceFact():
                held = self.sequences.setdefault(fact.chain_id, sequences.Sequences(fact.chain_id))
                verdict = sequences.evolve(held, fact)
            case LaneFact():
                lane = self.lanes.setdefault(fact.key, lanes.LaneState(fact.chain_id, fact.wallet))
                verdict = lanes.evolve(lane, fact)
        self.refused += verdict in REFUSED
        return Step(record, verdict, stage)

    def counts(self) -> Counter[tuple[str, str, str]]:
        """Requests by type (empty where only evidence is known), status and stage."""
        return Counter(
            (state.type or "", state.status, state.stage) for state in self.requests.values()
        )


def requests_object(folding: Folding) -> dict[str, Any]:
    """Every request as JSON: where it stands and each fact that its state holds."""
    return {key: _request(state) for key, state in sorted(folding.requests.items())}


def _request(state: RequestState) -> dict[str, Any]:
    held = (
        "received",
        "granted",
        "drafted",
        "signed",
        "assigned",
        "submission",
        "inclusion",
        "refusal",
        "evidence",
        "cancelling",
        "ending",
    )
    facts = {name: getattr(state, name) for name in held}
    return {
        "type": state.type,
        "status": state.status,
        "stage": state.stage,
        "attempt": state.attempt,
        "createdAt": state.created_at,
        "changedAt": state.changed_at,
        "updatedAt": state.updated_at,
        "openedSeconds": state.opened_seconds,
        "retractedSeats": list(state.retracted_seats),
        "orders": [
            {"kind": fact.kind, **fact.model_dump(mode="json", exclude_none=True)}
            for fact in state.orders
        ],
        "facts": {
            name: {"kind": fact.kind, **fact.model_dump(mode="json", exclude_none=True)}
            for name, fact in facts.items()
            if fact is not None
        },
    }


def lanes_object(folding: Folding) -> dict[str, Any]:
    """Every lane as JSON: nonces, open slots with their versions, work and its ends."""
    return {key: _lane(lane) for key, lane in sorted(folding.lanes.items())}


def _lane(lane: lanes.LaneState) -> dict[str, Any]:
    return {
        "firstNonce": lane.first_nonce,
        "nextNonce": lane.next_nonce,
        "spent": lane.spent,
        "finalBlock": lane.final_block,
        "open": [
            {
                "nonce": nonce,
                "relay": slot.relay,
                "versions": [version.tx_hash for version in slot.versions],
                "included": slot.inclusion.block_hash if slot.inclusion else None,
            }
            for nonce, slot in sorted(lane.slots.items())
        ],
        "waiting": sorted(lane.waiting),
        "settled": sorted(lane.settled),
        "cancelled": sorted(lane.cancelled),
        "halted": lane.halted.reason if lane.halted else None,
        "setAside": lane.set_aside.reason if lane.set_aside else None,
    }
