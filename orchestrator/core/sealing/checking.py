"""The log against its seals: what differs, where, and since which day.

Each stretch between two sealed chain values is judged by itself: after a difference the walk goes
on from the value that was sealed, so that every damaged stretch is named, and only those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.core.sealing.growing import Seat
from orchestrator.core.sealing.hashing import Logged, chain_start, chained, record_digest
from orchestrator.core.sealing.seals import (
    NONE,
    Seal,
    UnreadableSeal,
    next_day,
    read_seal,
    seal_problem,
)


class Difference(StrEnum):
    CHANGED = "CHANGED"
    """Records of a stretch are not those that were sealed."""
    SHORTER = "SHORTER"
    """The log ends before what was sealed."""
    DELETED = "DELETED"
    """The log begins after what was sealed."""
    UNREADABLE = "UNREADABLE"
    """What stands in the anchor is no seal."""
    UNTRUSTED = "UNTRUSTED"
    """A seal's signature, key or root does not hold."""
    UNLINKED = "UNLINKED"
    """A seal does not follow the one of the day before."""
    MISSING = "MISSING"
    """A day between two seals, or a day that is long over, has none."""
    DISAGREEING = "DISAGREEING"
    """Two anchors, or one anchor twice, hold different seals of a day, or only one holds one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. `day` is "" where none can be told; bounds are offsets, `end` exclusive."""

    kind: Difference
    day: str
    text: str
    topic: str | None = None
    partition: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass
class Anchored:
    """What one anchor holds: places with their documents, in its order."""

    anchor: str
    documents: Sequence[tuple[str, bytes]]


@dataclass
class Judged:
    """Seals that can be believed, by day in order, and what is wrong with all that was found."""

    seals: list[Seal] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    days: int = 0


def judged(
    anchors: Sequence[Anchored], keys: Mapping[str, bytes], log: str, *, due: str | None
) -> Judged:
    """`due` is the newest day that must be sealed by now, None when that is not asked.

    A seal that two anchors tell differently is believed when one telling of it holds.
    """
    verdict = Judged()
    told = [_read(item, verdict) for item in anchors]
    for day in sorted({day for seals in told for day in seals}):
        verdict.days += 1
        copies = [seals.get(day) for seals in told]
        holders = [item.anchor for item, copy in zip(anchors, copies, strict=True) if copy]
        lacking = [item.anchor for item in anchors if item.anchor not in holders]
        if lacking:
            text = f"is sealed in {', '.join(holders)}, and not in {', '.join(lacking)}"
            verdict.found.append(Finding(Difference.DISAGREEING, day, text))
        candidates = list(dict.fromkeys(copy for copy in copies if copy is not None))
        if len(candidates) > 1:
            text = f"has different seals in {', '.join(holders)}"
            verdict.found.append(Finding(Difference.DISAGREEING, day, text))
        problems = {seal: _problem(seal, keys, log) for seal in candidates}
        good = [seal for seal, problem in problems.items() if problem is None]
        for problem in problems.values():
            if problem is not None:
                text = f"its seal {problem}"
                verdict.found.append(Finding(Difference.UNTRUSTED, day, text))
        verdict.seals += good[:1]
    _follow(verdict, due)
    return verdict


def _problem(seal: Seal, keys: Mapping[str, bytes], log: str) -> str | None:
    if seal.statement.log != log:
        return f"is of the log {seal.statement.log!r}, not of {log!r}"
    return seal_problem(seal, keys)


def _read(item: Anchored, verdict: Judged) -> dict[str, Seal]:
    seals: dict[str, Seal] = {}
    for place, document in item.documents:
        try:
            seal = read_seal(document)
        except UnreadableSeal as error:
            text = f"{item.anchor}, {place}: {error}"
            verdict.found.append(Finding(Difference.UNREADABLE, "", text))
            continue
        if seal.day in seals:
            text = f"is sealed more than once in {item.anchor} ({place})"
            verdict.found.append(Finding(Difference.DISAGREEING, seal.day, text))
        seals.setdefault(seal.day, seal)
    return seals


def _follow(verdict: Judged, due: str | None) -> None:
    """Each seal after the one before."""
    previous: Seal | None = None
    for seal in verdict.seals:
        if previous is None:
            if seal.statement.previous != NONE:
                text = "is the first seal that can be believed, but not the first that was made"
                verdict.found.append(Finding(Difference.UNLINKED, seal.day, text))
        elif next_day(previous.day) != seal.day:
            _missing(verdict, next_day(previous.day), next_day(seal.day, -1))
        elif fault := _fault(previous, seal):
            verdict.found.append(Finding(Difference.UNLINKED, seal.day, f"its seal {fault}"))
        previous = seal
    if previous is not None and due is not None and previous.day < due:
        _missing(verdict, next_day(previous.day), due)


def _missing(verdict: Judged, first: str, last: str) -> None:
    days = first if first == last else f"{first} to {last}"
    text = f"no seal that can be believed covers {days}: never made, or removed"
    verdict.found.append(Finding(Difference.MISSING, first, text))


def _fault(previous: Seal, seal: Seal) -> str | None:
    if seal.statement.previous != previous.statement.hash:
        return f"does not name the statement of {previous.day} as the previous one"
    before = {item.seat: item.end for item in previous.partitions}
    after = {item.seat: item.start for item in seal.partitions}
    for seat, end in before.items():
        if seat not in after:
            return f"lacks {seat[0]}/{seat[1]}, which {previous.day} has"
        if after[seat] != end:
            return f"begins {seat[0]}/{seat[1]} at {after[seat]}, and {previous.day} ends at {end}"
    new = next((seat for seat, start in after.items() if seat not in before and start), None)
    return None if new is None else f"begins {new[0]}/{new[1]} not at its beginning"


class Walk:
    """One partition of the log beside the chain values that its seals name."""

    def __init__(self, seat: Seat, seals: Iterable[Seal], after: str | None = None) -> None:
        """`after` is a day whose seal is taken for granted: the walk begins where it ends."""
        self.seat = seat
        self.found: list[Finding] = []
        self.records = 0
        self._goals: list[tuple[int, bytes, str]] = []
        self.start, self._chain = 0, chain_start(*seat)
        for seal in seals:
            for item in seal.partitions:
                if item.seat != seat:
                    continue
                if after is not None and seal.day <= after:
                    self.start, self._chain = item.end, bytes.fromhex(item.chain)
                    continue
                for end, chain in (*item.checkpoints, (item.end, item.chain)):
                    self._goals.append((end, bytes.fromhex(chain), seal.day))
        self.end = max((end for end, _, _ in self._goals), default=self.start)
        self._proved = self.start
        self._unknown = False
        self._next = 0

    def begin(self, log_start: int) -> None:
        """Where the log begins now; what was sealed before it is gone."""
        if log_start <= self.start:
            return
        lost = [day for end, _, day in self._goals if end > self.start]
        if not lost:
            return
        text = f"the log begins at {log_start}: what was sealed before it was deleted"
        self._find(Difference.DELETED, lost[0], text, self.start, log_start)
        self.start = log_start
        self._unknown = True

    def take(self, records: Iterable[Logged]) -> None:
        for record in records:
            self._close(record.offset)
            self.records += 1
            self._chain = chained(self._chain, record_digest(record))

    def finish(self, log_end: int) -> None:
        """The log's end now, one above its last offset."""
        self._close(log_end)
        if self._next < len(self._goals):
            day = self._goals[self._next][2]
            text = f"the log ends at {log_end}: it was sealed up to {self.end}"
            self._find(Difference.SHORTER, day, text, log_end, self.end)

    def _close(self, offset: int) -> None:
        while self._next < len(self._goals) and self._goals[self._next][0] <= offset:
            end, chain, day = self._goals[self._next]
            if not self._unknown and chain != self._chain:
                text = f"what stands from {self._proved} to {end - 1} is not what was sealed"
                self._find(Difference.CHANGED, day, text, self._proved, end)
            self._unknown = self._unknown and end < self.start
            self._chain, self._proved = chain, end
            self._next += 1

    def _find(self, kind: Difference, day: str, text: str, start: int, end: int) -> None:
        topic, partition = self.seat
        text = f"{topic}/{partition}: {text}"
        self.found.append(Finding(kind, day, text, topic, partition, start, end))


def walks(seals: Sequence[Seal], after: str | None = None) -> dict[Seat, Walk]:
    """One for each partition that any seal names."""
    seats = sorted({item.seat for seal in seals for item in seal.partitions})
    return {seat: Walk(seat, seals, after) for seat in seats}


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """By day, what concerns the seals first, then by place."""
    return sorted(
        found, key=lambda f: (f.day, f.topic is not None, f.topic or "", f.partition, f.start or 0)
    )
