"""A line of `orchestrator doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    WELL = "well"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `remedy` is empty when there is nothing to do."""

    subject: str
    state: State
    detail: str
    remedy: str = ""
