"""A page of a book: one partition's requests, those in memory and those that its archive holds.

What changed is given to the archive beside the stream. Until the archive says that it has it, it
counts as not saved, whatever happens meanwhile: a save that fails or is cancelled is made good by
the next one, and never leaves a position behind which something is missing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256

import structlog

from orchestrator.core.lifecycle import RequestState
from orchestrator.core.owing import at_rest
from orchestrator.errors import ArchiveUnavailable
from orchestrator.ports import Archive, Saved
from schemas.base import Record, encode_value
from schemas.dead_letters import DeadLetter

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Page:
    """One partition: states by request key, and the offset that is folded next. `changed` are the
    keys that moved since the archive was given them."""

    number: int
    archive: Archive
    states: dict[str, RequestState] = field(default_factory=dict)
    next_offset: int = 0
    refused: dict[int, DeadLetter] = field(default_factory=dict)
    """Found while replaying, by offset; dead-lettered when the stream delivers the same offset, for
    only then is it sure that nobody has done so yet."""
    changed: set[str] = field(default_factory=set)
    last: bytes | Record = b""
    unsaved: int = 0
    saved_at: float = 0.0
    streamed: bool = False
    """The stream has read here: its dead letters may be on their way."""
    saving: asyncio.Task[None] | None = None
    confirming: bytes | None = None
    """What the record before `next_offset` must be for the archive to count; None once it is."""

    def folded(self, offset: int, what: bytes | Record) -> None:
        """`what` stands at this offset: its value, or what its value is the encoding of."""
        self.next_offset, self.last = offset + 1, what
        self.unsaved += 1

    def passed(self, offset: int) -> DeadLetter | None:
        """The stream is at this offset, which is folded already: what to dead-letter of it. It has
        delivered all that stood before, and committed it only with its dead letters out."""
        while self.refused and (first := next(iter(self.refused))) <= offset:
            letter = self.refused.pop(first)
            if first == offset:
                return letter
        return None

    def find(self, key: str) -> RequestState | None:
        """Raises ArchiveUnavailable."""
        held = self.states.get(key)
        return self.archive.find(key) if held is None else held

    def save(self) -> None:
        """Begin to give the archive what changed, if it is time."""
        now = asyncio.get_running_loop().time()
        due = self.unsaved >= self.archive.every
        due |= self.unsaved > 0 and now - self.saved_at >= self.archive.every_seconds
        if due and self.confirming is None and (self.saving is None or self.saving.done()):
            self.saved_at = now
            self.saving = asyncio.create_task(self._put_away(self._taken()), name="put states away")

    async def settled(self) -> None:
        """What was begun has ended, one way or the other. It is not cancelled with the caller."""
        if self.saving is not None:
            await asyncio.wait({self.saving})

    def _taken(self) -> Saved:
        keys, self.changed, self.unsaved = self.changed, set(), 0
        last = encode_value(self.last) if isinstance(self.last, Record) else self.last
        changed = {key: self.states[key] for key in sorted(keys)}
        return Saved(self.next_offset, sha256(last).digest(), changed, dict(self.refused))

    async def _put_away(self, saved: Saved) -> None:
        """What rests then leaves memory."""
        taken = False
        try:
            await self.archive.save(saved)
            taken = True
        except ArchiveUnavailable as error:
            log.warning("states could not be put away", partition=self.number, reason=str(error))
        finally:
            if not taken:
                self.changed |= saved.changed.keys()
        if not taken:
            return
        for key, state in saved.changed.items():
            if self.states.get(key) is state and at_rest(state):
                del self.states[key]
