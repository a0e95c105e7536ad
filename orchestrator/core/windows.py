"""What was cleared lately: counts and amounts of a user, a chain, or all, in any window up to
`LONGEST_WINDOW_SECONDS`. What lies before that is forgotten.

Running sums per scope, so that a window costs two look-ups however much it holds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.policies import LONGEST_WINDOW_SECONDS, Per, Window

FORGET_AT_ONCE = 1000
"""Entries of a scope that are let go together; it costs as much as what stays."""

Scope = tuple[Per, str]


class Entry(NamedTuple):
    """One cleared mint. `at` in Unix seconds, `amount` in base units."""

    at: int
    account: str
    chain_id: int
    amount: int

    def scope(self, per: Per) -> Scope:
        return scope_of(per, self.account, self.chain_id)


class Sum(NamedTuple):
    mints: int
    amount: int


def scope_of(per: Per, account: str, chain_id: int) -> Scope:
    match per:
        case Per.USER:
            return per, account
        case Per.CHAIN:
            return per, str(chain_id)
    return per, ""


@dataclass(slots=True)
class _Line:
    """One scope's mints by time; `sums[i]` is the amount of all before place `i`."""

    times: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=lambda: [0])

    def add(self, at: int, amount: int) -> None:
        self.times.append(at)
        self.sums.append(self.sums[-1] + amount)

    def since(self, moment: int) -> Sum:
        """Of all later than `moment`."""
        place = bisect_right(self.times, moment)
        return Sum(len(self.times) - place, self.sums[-1] - self.sums[place])

    def take_out(self, at: int, amount: int) -> None:
        """One of this time and amount; nothing where it is forgotten. Rare, so slow it may be."""
        for place in range(bisect_left(self.times, at), bisect_right(self.times, at)):
            if self.sums[place + 1] - self.sums[place] == amount:
                del self.times[place]
                later = [total - amount for total in self.sums[place + 2 :]]
                self.sums[place + 1 :] = later
                return

    def forget(self, before: int) -> None:
        place = bisect_left(self.times, before)
        if place >= FORGET_AT_ONCE or place == len(self.times):
            del self.times[:place]
            del self.sums[:place]


@dataclass(slots=True)
class Windows:
    """Entries come in the order of their times."""

    lines: dict[Scope, _Line] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    """By request, the oldest first."""

    def add(self, key: str, entry: Entry) -> None:
        """A request that is cleared once more counts once, at the newer time."""
        before = self.entries.pop(key, None)
        for per in Per:
            if before is not None:
                self._line(before.scope(per)).take_out(before.at, before.amount)
            self._line(entry.scope(per)).add(entry.at, entry.amount)
        self.entries[key] = entry
        self._forget(entry.at - LONGEST_WINDOW_SECONDS)

    def _line(self, scope: Scope) -> _Line:
        return self.lines.setdefault(scope, _Line())

    def _forget(self, before: int) -> None:
        while True:
            key, oldest = next(iter(self.entries.items()))
            if oldest.at >= before:
                return
            del self.entries[key]
            for per in Per:
                scope = oldest.scope(per)
                line = self.lines.get(scope)
                if line is not None:
                    line.forget(before)
                    if not line.times:
                        del self.lines[scope]

    def used(self, window: Window, scope: Scope, now: int, but: str) -> Sum:
        """What counts in the window now, without the request `but`."""
        line = self.lines.get(scope)
        found = Sum(0, 0) if line is None else line.since(now - window.seconds)
        own = self.entries.get(but)
        if own is not None and own.at > now - window.seconds and own.scope(scope[0]) == scope:
            found = Sum(found.mints - 1, found.amount - own.amount)
        return found

    def room_at(self, window: Window, scope: Scope, now: int, amount: int) -> int | None:
        """When enough will have left the window for one more of this amount; None: never."""
        if window.max_amount is not None and amount > window.max_amount:
            return None
        line = self.lines.get(scope, _Line())
        for place in range(bisect_right(line.times, now - window.seconds), len(line.times) + 1):
            count, total = len(line.times) - place, line.sums[-1] - line.sums[place]
            fits = window.max_count is None or count < window.max_count
            if fits and (window.max_amount is None or total + amount <= window.max_amount):
                return line.times[place - 1] + window.seconds if place else now
        return now
