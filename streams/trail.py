"""What the log says of one chain: how far it was followed, where to compare it, what is halted.

A fold of `evm.events`, small however long the log is. Its points are blocks that the log stands on
(marks and events): every one of the newest, ever fewer of the older, so that the place where a
chain forked off is always found between two of them. What lies between is exact only above
`exact_above`; for a fork below, the log is read once more with that point as the floor.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from schemas.base import Fact
from schemas.evm import BlocksFollowed, ChainHalted, ChainResumed, ContractEvent, EventRetracted

MOST_POINTS = 10_000
MOST_EVENTS = 10_000


class Point(NamedTuple):
    """A block that the log stands on."""

    number: int
    hash: str


class Trail:
    """Facts in log order go into `fold`. With a `floor`, only what lies above it is kept, all of
    it: for the second reading of the log."""

    def __init__(self, floor: int | None = None) -> None:
        self.marked: Point | None = None
        """The newest block up to which every event is on the log; after a halt the fork."""
        self.halted: ChainHalted | None = None
        self.next_offset = 0
        self.exact_above = -1 if floor is None else floor
        self._keeps_all = floor is not None
        self._points: list[Point] = []
        self._events: dict[str, ContractEvent] = {}

    @property
    def points(self) -> list[Point]:
        """In ascending order."""
        return self._points

    def events_above(self, number: int) -> list[ContractEvent]:
        """Events that were not retracted, in the order of the log."""
        return [event for event in self._events.values() if event.block_number > number]

    def point_at_or_below(self, number: int) -> Point | None:
        return next((point for point in reversed(self._points) if point.number <= number), None)

    def fold(self, fact: Fact) -> None:
        match fact:
            case BlocksFollowed():
                self.marked = Point(fact.to_block, fact.to_hash)
                self._stand_on(self.marked)
            case ContractEvent():
                if self._wants(fact.block_number):
                    self._events[fact.seat] = fact
                self._stand_on(Point(fact.block_number, fact.block_hash))
                self._forget_events()
            case EventRetracted():
                self._events.pop(fact.seat, None)
            case ChainHalted():
                self._halt(fact)
            case ChainResumed() if self.halted is not None and fact.halt == self.halted.id:
                self.halted = None

    def fold_all(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self.fold(fact)

    def _wants(self, number: int) -> bool:
        return not self._keeps_all or number > self.exact_above

    def _stand_on(self, point: Point) -> None:
        newest = self._points[-1].number if self._points else -1
        if point.number <= newest or not self._wants(point.number):
            return
        self._points.append(point)
        if len(self._points) > MOST_POINTS and not self._keeps_all:
            half = len(self._points) // 2
            self.exact_above = max(self.exact_above, self._points[half - 1].number)
            del self._points[1:half:2]

    def _forget_events(self) -> None:
        if len(self._events) <= MOST_EVENTS or self._keeps_all:
            return
        oldest = list(islice(self._events, MOST_EVENTS // 4))
        gone = [self._events.pop(seat) for seat in oldest]
        self.exact_above = max(self.exact_above, *(event.block_number for event in gone))

    def _halt(self, fact: ChainHalted) -> None:
        self.halted = fact
        fork = -1 if fact.fork_block is None else fact.fork_block
        while self._points and self._points[-1].number > fork:
            self._points.pop()
        self.marked = None
        if fact.fork_block is not None and fact.fork_hash is not None:
            self.marked = Point(fact.fork_block, fact.fork_hash)
