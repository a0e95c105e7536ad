"""What operators paused, and who: the core's fold of their orders, as the tables hold these."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orchestrator.core.controls import ControlState, Pause, evolve
from projections.rows import rfc3339
from projections.store import Store
from projections.text import from_column
from schemas.base import Record
from schemas.controls import WorkPaused, WorkResumed


def in_force(rows: list[dict[str, Any]]) -> ControlState:
    """Of rows of `pause_facts` in log order."""
    state = ControlState()
    for row in rows:
        model = WorkPaused if row["paused"] else WorkResumed
        fact = model(
            scope=from_column(row["scope"]),
            order=row["order"],
            who=from_column(row["who"]),
            why=from_column(row["why"]),
        )
        evolve(state, Record(fact, rfc3339(row["at"])))
    return state


async def pauses(store: Store, at: datetime | None = None) -> ControlState:
    """Now, or as of a past moment. Raises StoreUnavailable."""
    rows = await store.rows('SELECT * FROM pause_facts ORDER BY partition, "offset"')
    return in_force([row for row in rows if at is None or row["at"] <= at])


def pause_object(pause: Pause) -> dict[str, Any]:
    return {
        "scope": pause.scope,
        "order": pause.order,
        "who": pause.who,
        "why": pause.why,
        "at": pause.since,
    }
