"""Requests at rest: those that owe nothing are kept packed, until a fact asks for one of them.

`MemoryArchive` keeps them in this process, at a tenth of the size; it begins empty. An archive on
disk (`orchestrator/adapters/sqlite_archive.py`) is found again by the next process, which then
replays only what came after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from orchestrator.core.contract import Approval
from orchestrator.core.owing import at_rest
from orchestrator.core.stages import RequestState
from orchestrator.ports import Resting, Saved
from streams.packing import approval_in, packed, unpacked

AT_ONCE = 300
"""So many states are some milliseconds of the event loop."""


class MemoryArchive:
    """The states at rest of one partition, packed."""

    every_seconds = inf

    def __init__(self, partition: int = 0, every: int = 400) -> None:
        """Packing so many facts' states is a few milliseconds of the event loop."""
        self.every = every
        self._packed: dict[str, bytes] = {}
        self._size_bytes = 0

    async def load(self) -> Saved | None:
        return None

    def find(self, key: str) -> RequestState | None:
        raw = self._packed.get(key)
        return None if raw is None else unpacked(raw)

    def approvals(self) -> Iterator[Sequence[tuple[str, Approval]]]:
        held = list(self._packed.items())
        for start in range(0, len(held), AT_ONCE):
            found = [(key, approval_in(raw)) for key, raw in held[start : start + AT_ONCE]]
            yield [(key, approval) for key, approval in found if approval is not None]

    async def save(self, saved: Saved) -> None:
        for key, state in saved.changed.items():
            self._size_bytes -= len(self._packed.pop(key, b""))
            if at_rest(state):
                self._packed[key] = raw = packed(state)
                self._size_bytes += len(raw)

    def resting(self) -> Resting:
        return Resting(len(self._packed), self._size_bytes, on_disk=False)

    def wipe(self) -> None:
        self._packed.clear()
        self._size_bytes = 0

    def close(self) -> None:
        pass
