"""One partition's day while it is read, for a seal of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.core.sealing.hashing import Logged, chain_start, chained, record_digest
from orchestrator.core.sealing.seals import Seal, SealedPartition

CHECKPOINT_RECORDS = 1000
Seat = tuple[str, int]
"""Topic and partition."""


class Growth:
    """Takes records in the order of their offsets until one of a later day comes.

    Such is the first one whose time is at or after the day's end, but not after the time of
    sealing: a time from the future ends no day, or one wrong clock would keep a partition open
    until then. A record behind that one is of a later day whatever its time says.
    """

    def __init__(self, seat: Seat, start: int, chain: bytes, *, end_ms: int, now_ms: int) -> None:
        self.seat = seat
        self.start = self.end = start
        self.records = 0
        self.over = False
        self._chain = chain
        self._end_ms = end_ms
        self._now_ms = now_ms
        self._checkpoints: list[tuple[int, str]] = []

    def take(self, records: Iterable[Logged]) -> None:
        for record in records:
            self.over = self.over or self._end_ms <= record.timestamp_ms <= self._now_ms
            if self.over:
                return
            if self.records and self.records % CHECKPOINT_RECORDS == 0:
                self._checkpoints.append((self.end, self._chain.hex()))
            self._chain = chained(self._chain, record_digest(record))
            self.end = record.offset + 1
            self.records += 1

    def sealed(self) -> SealedPartition:
        return SealedPartition(
            *self.seat,
            self.start,
            self.end,
            self.records,
            self._chain.hex(),
            tuple(self._checkpoints),
        )


def growths(
    seats: Sequence[Seat], previous: Seal | None, day: str, now_ms: int
) -> dict[Seat, Growth]:
    """Every partition, where the seal of the day before left it."""
    before: Mapping[Seat, SealedPartition] = (
        {} if previous is None else {item.seat: item for item in previous.partitions}
    )
    end_ms = day_end_ms(day)
    found = {}
    for seat in sorted({*seats, *before}):
        last = before.get(seat)
        start = 0 if last is None else last.end
        chain = chain_start(*seat) if last is None else bytes.fromhex(last.chain)
        found[seat] = Growth(seat, start, chain, end_ms=end_ms, now_ms=now_ms)
    return found


def day_end_ms(day: str) -> int:
    """The first millisecond after a UTC day (Unix time)."""
    end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    return int(end.timestamp() * 1000)
