"""What a measurement gives: samples of one figure, its target, and whether it is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One figure, measured once or several times. `at_least` or `at_most` is its target.

    `is_ratio`: compared with earlier runs, for it depends less on the machine and its load.
    """

    part: str
    name: str
    unit: str
    samples: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    is_ratio: bool = False
    less_is_better: bool = False
    note: str = ""

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def meets(self) -> bool | None:
        """None without a target."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"at least {shown(self.at_least)}"
        return "" if self.at_most is None else f"at most {shown(self.at_most)}"

    @property
    def spread(self) -> str:
        if len(self.samples) < 2:
            return "once"
        return f"{shown(min(self.samples))} to {shown(max(self.samples))} of {len(self.samples)}"


@dataclass
class Chart:
    """Lines over a common axis: by name, points of (x, y)."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass
class Findings:
    """Of one part: its figures, its charts and what a reader has to know about them."""

    figures: list[Figure] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` 0.5 is the median. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * share // 1).__int__() - 1))]


def shown(value: float) -> str:
    """For people: three digits, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
