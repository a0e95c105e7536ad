"""Which keys an archive holds, in 8 bytes a key: a file that says "not found" is asked no second
time, so it must be known whether it may say so.

A key that was added is always in it. One that was not is, once in 2**64 times the number of keys:
then an archive is doubted for nothing, and the log is replayed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b

MOST_RECENT = 20_000
"""So many are taken in among the others at once."""


class KeySet:
    """One thread adds, others may ask meanwhile."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._sorted = array("Q", sorted({_print(key) for key in keys}))
        self._recent: set[int] = set()

    def add(self, keys: Iterable[str]) -> None:
        recent = self._recent | {_print(key) for key in keys}
        if len(recent) <= MOST_RECENT:
            self._recent = recent
            return
        self._sorted = array("Q", sorted(recent.union(self._sorted)))
        self._recent = set()

    def __contains__(self, key: str) -> bool:
        number = _print(key)
        if number in self._recent:
            return True
        held = self._sorted
        place = bisect_left(held, number)
        return place < len(held) and held[place] == number


def _print(key: str) -> int:
    raw = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "big")
