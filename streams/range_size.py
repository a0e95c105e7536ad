"""How many blocks to ask for at a time, and telling how far a catch-up has come."""

from __future__ import annotations

import structlog

log = structlog.get_logger(__name__)

FIRST_RANGE = 1_000
LARGEST_RANGE = 10_000
MOST_LOGS = 5_000
"""An answer with more of them makes the next range smaller, whatever the provider allows."""
TRUST_AFTER = 50
"""So many ranges in a row that worked, and a larger one is tried although it was refused once."""
TELL_EVERY_SECONDS = 2.0


class RangeSize:
    """Grows to twice its size while that works; after a refusal it closes in on the largest range
    that works, by halves, and stays there. Pure: it is told what happened."""

    def __init__(self) -> None:
        self.blocks = FIRST_RANGE
        self._works = 0
        self._refused = LARGEST_RANGE + 1
        self._in_a_row = 0

    def worked(self, blocks: int, logs: int) -> None:
        """A range of so many blocks was read. A shorter one than asked for (the head is near)
        teaches nothing but the size of its answer."""
        self._in_a_row += 1
        if logs > MOST_LOGS:
            self.blocks = max(1, blocks // 2)
            return
        if blocks < self.blocks:
            return
        self._works = blocks
        if self._in_a_row >= TRUST_AFTER:
            self._in_a_row, self._refused = 0, LARGEST_RANGE + 1
        if self._refused - blocks <= max(1, blocks // 8):
            return
        self.blocks = min(2 * blocks, (blocks + self._refused) // 2, LARGEST_RANGE)
        if self._refused > LARGEST_RANGE:
            self.blocks = min(2 * blocks, LARGEST_RANGE)

    def refused(self, blocks: int) -> None:
        """The provider wants fewer blocks than that."""
        self._in_a_row = 0
        self._refused = min(self._refused, blocks)
        if self._works >= blocks:
            self._works = 0
        self.blocks = max(1, min(self._works or blocks // 2, blocks - 1))

    def failed(self) -> None:
        """No answer; a range that is too heavy for a node looks like that as well."""
        self._in_a_row = 0
        self.blocks = max(min(self.blocks, 16), self.blocks // 2)


class Progress:
    """A line every two seconds while many blocks wait. Times are the caller's clock, seconds."""

    def __init__(self, chain_id: int) -> None:
        self._log = log.bind(chain_id=chain_id)
        self._began: tuple[float, int] | None = None
        self._told_at = 0.0
        self.blocks_per_second = 0.0

    def behind(self, now: float, block: int, goal: int) -> None:
        """`block` is on the log, `goal` is where the catch-up ends now."""
        if self._began is None:
            self._began, self._told_at = (now, block), now
            self._log.info("catching up", block=block, goal=goal, behind=goal - block)
            return
        started_at, first = self._began
        self.blocks_per_second = (block - first) / max(now - started_at, 1e-9)
        if now - self._told_at < TELL_EVERY_SECONDS:
            return
        self._told_at = now
        self._log.info(
            "catching up",
            block=block,
            goal=goal,
            percent=round(100 * (block - first) / max(goal - first, 1), 1),
            blocks_per_second=round(self.blocks_per_second),
            eta_seconds=round((goal - block) / max(self.blocks_per_second, 1e-9)),
        )

    def abreast(self, now: float, block: int) -> None:
        if self._began is None:
            return
        started_at, first = self._began
        self._began = None
        self._log.info(
            "caught up", block=block, blocks=block - first, seconds=round(now - started_at, 1)
        )
