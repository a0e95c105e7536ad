"""A working model of the archives on disk: each role's partitions, kept over kills, held by one
process at a time. Between any two steps of a save the process may die."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from orchestrator.core.contract import Approval
from orchestrator.core.owing import at_rest
from orchestrator.core.stages import RequestState
from orchestrator.errors import ArchiveUnavailable
from orchestrator.ports import Resting, Saved
from schemas.dead_letters import DeadLetter
from streams.packing import approval_in, packed, unpacked
from tests.simulation.loop import Process


@dataclass
class Shelf:
    """What is on disk for one partition of a role."""

    rows: dict[str, bytes] = field(default_factory=dict)
    next_offset: int = 0
    last_digest: bytes = b""
    refused: dict[int, DeadLetter] = field(default_factory=dict)
    holder: Process | None = None


class Shelves:
    """The disk."""

    def __init__(self) -> None:
        self._shelves: dict[tuple[str, int], Shelf] = {}

    def shelf(self, role: str, partition: int) -> Shelf:
        return self._shelves.setdefault((role, partition), Shelf())


class SimulatedArchive:
    every = 5
    every_seconds = inf

    def __init__(self, shelves: Shelves, role: str, process: Process, partition: int) -> None:
        self._shelf = shelves.shelf(role, partition)
        self._process = process

    async def load(self) -> Saved | None:
        shelf = self._shelf
        await asyncio.sleep(0)
        if shelf.holder is not None and shelf.holder.alive:
            raise ArchiveUnavailable("another process holds it")
        shelf.holder = self._process
        if not shelf.next_offset:
            return None
        states = {key: unpacked(raw) for key, raw in shelf.rows.items()}
        awake = {key: state for key, state in states.items() if not at_rest(state)}
        return Saved(shelf.next_offset, shelf.last_digest, awake, dict(shelf.refused))

    def find(self, key: str) -> RequestState | None:
        raw = self._shelf.rows.get(key)
        return None if raw is None else unpacked(raw)

    def approvals(self) -> Iterator[Sequence[tuple[str, Approval]]]:
        for key, raw in sorted(self._shelf.rows.items()):
            approval = approval_in(raw) if at_rest(unpacked(raw)) else None
            yield [] if approval is None else [(key, approval)]

    async def save(self, saved: Saved) -> None:
        await asyncio.sleep(0)
        shelf = self._shelf
        if shelf.holder is not self._process:
            raise ArchiveUnavailable("closed meanwhile")
        shelf.rows.update({key: packed(state) for key, state in saved.changed.items()})
        shelf.next_offset, shelf.last_digest = saved.next_offset, saved.last_digest
        shelf.refused = dict(saved.refused)
        await asyncio.sleep(0)

    def resting(self) -> Resting:
        return Resting(len(self._shelf.rows), 0, on_disk=True)

    def wipe(self) -> None:
        shelf = self._shelf
        shelf.rows, shelf.next_offset, shelf.refused = {}, 0, {}

    def close(self) -> None:
        if self._shelf.holder is self._process:
            self._shelf.holder = None
