"""A kill that falls at one chosen request to the outside: before it, halfway, at it, or after it.

The random kills of `faults` may fall at every await; these fall at one arrow of the crash table
(`docs/crash-table.md`), and say whether they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from schemas.base import Fact
from tests.simulation.loop import Process


class Moment(StrEnum):
    BEFORE = "before"
    """The process has decided to ask, and the request never leaves it."""
    HALFWAY = "halfway"
    """Of a transaction only: its records stand on the log, and the commit never leaves."""
    AT = "at"
    """What was asked for is done, and nobody hears the answer."""
    AFTER = "after"
    """The answer has come and was taken in; whatever follows from it never leaves the process."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One request of a process to the outside. `first` and `last`: a transaction has two."""

    verb: str
    facts: tuple[Fact, ...] = ()
    first: bool = True
    last: bool = True

    def carries(self, kinds: Iterable[str]) -> bool:
        wanted = set(kinds)
        return any(fact.kind in wanted for fact in self.facts)

    def __str__(self) -> str:
        kinds = ", ".join(sorted({fact.kind for fact in self.facts}))
        return f"{self.verb} {kinds}".strip()


class Aim:
    """One kill. `victim` is whom it chose, `fell` what it fell at; None until then."""

    def __init__(self, wants: Callable[[Errand], bool], moment: Moment) -> None:
        self.moment = moment
        self.victim: Process | None = None
        self.errand: Errand | None = None
        self.fell: str | None = None
        self.armed = True
        self.answered = False
        self.on_fall: Callable[[], None] = lambda: None
        self._wants = wants

    def fate(self, process: Process | None, errand: Errand | None) -> Moment | None:
        """What becomes of a process that goes on this errand; None for nothing."""
        if process is None or not self.armed or self.fell is not None:
            return None
        if self.victim is not None:
            return Moment.BEFORE if self.answered and process is self.victim else None
        if errand is None or not self._fits(errand) or not self._wants(errand):
            return None
        self.victim, self.errand = process, errand
        return Moment.BEFORE if self.moment is Moment.HALFWAY else self.moment

    def _fits(self, errand: Errand) -> bool:
        match self.moment:
            case Moment.BEFORE:
                return errand.first
            case Moment.HALFWAY:
                return not errand.first
        return errand.last

    def falls(self) -> None:
        assert self.victim is not None and self.errand is not None
        self.fell = f"{self.victim.name} {self.moment} {self.errand}"
        self.on_fall()


def at_kind(kind: str) -> Callable[[Errand], bool]:
    """The append that carries a fact of this kind."""
    return lambda errand: errand.verb == "append" and errand.carries((kind,))


def at_verb(verb: str) -> Callable[[Errand], bool]:
    return lambda errand: errand.verb == verb
