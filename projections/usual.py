"""How long each step usually takes, measured on the latest completed requests. Pure, but for the
one that reads them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.core.lifecycle import Stage
from projections.store import Store

MEASURED_REQUESTS = 200
KEPT_SECONDS = 30.0

STEPS: Mapping[Stage, tuple[str, str]] = {
    Stage.RECEIVED: ("RequestReceived", "ApprovalDrafted"),
    Stage.DRAFTED: ("ApprovalDrafted", "ApprovalSigned"),
    Stage.SIGNED: ("ApprovalSigned", "RelayAssigned"),
    Stage.RELAYING: ("RelayAssigned", "SubmissionReported"),
    Stage.SUBMITTED: ("SubmissionReported", "InclusionReported"),
    Stage.INCLUDED: ("InclusionReported", "RequestCompleted"),
}
"""A stage lasts from its first fact to the first one that leaves it."""
_KINDS = sorted({kind for pair in STEPS.values() for kind in pair})


@dataclass(frozen=True, slots=True)
class Duration:
    """Of so many completed requests, half and 95 % needed no longer. Seconds."""

    count: int
    median_seconds: float
    p95_seconds: float


Usual = Mapping[Stage, Duration]


def measured(moments: Iterable[tuple[str, str, datetime]]) -> Usual:
    """From the time of each kind's first fact of each request: key, kind, time."""
    lives: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for key, kind, at in moments:
        lives[key][kind] = at
    found: dict[Stage, Duration] = {}
    for stage, (begin, end) in STEPS.items():
        took = sorted(
            max(0.0, (life[end] - life[begin]).total_seconds())
            for life in lives.values()
            if begin in life and end in life
        )
        if took:
            found[stage] = Duration(len(took), _rank(took, 0.5), _rank(took, 0.95))
    return found


def _rank(ordered: list[float], share: float) -> float:
    """Nearest rank."""
    return round(ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)], 3)


class UsualTimes:
    """Asks the tables, and keeps the answer for a while."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[tuple[str, int], tuple[float, Usual]] = {}

    async def of(self, kind: str, chain_id: int, at: datetime | None = None) -> Usual:
        """For a type of request on a chain. Raises StoreUnavailable."""
        if at is not None:
            return await self._ask(kind, chain_id, at)
        held = self._kept.get((kind, chain_id))
        if held is None or time.monotonic() - held[0] > KEPT_SECONDS:
            held = (time.monotonic(), await self._ask(kind, chain_id, None))
            self._kept[kind, chain_id] = held
        return held[1]

    async def _ask(self, kind: str, chain_id: int, at: datetime | None) -> Usual:
        values: list[Any] = [kind, chain_id, at, at, MEASURED_REQUESTS, _KINDS]
        rows = await self._store.rows(
            "SELECT facts.request_key, facts.kind, min(facts.at) AS at FROM ("
            "SELECT request_key FROM requests WHERE status = 'COMPLETED' AND type = %s "
            "AND chain_id = %s AND (%s::timestamptz IS NULL OR updated_at <= %s) "
            "ORDER BY created_at DESC, request_key DESC LIMIT %s"
            ") AS latest JOIN request_facts AS facts USING (request_key) "
            "WHERE facts.topic = 'requests' AND facts.verdict = 'APPLIED' "
            "AND facts.kind = ANY(%s) GROUP BY 1, 2",
            values,
        )
        return measured((row["request_key"], row["kind"], row["at"]) for row in rows)
