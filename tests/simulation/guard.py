"""A working model of the guard's record: what is claimed stays, whatever becomes of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.core.guarding import Entry, Refusal, conflict, judge
from orchestrator.errors import GuardUnavailable
from tests.simulation.aiming import Errand
from tests.simulation.wire import Wire


class SimulatedGuard:
    """`ports.SigningGuard`. `now` is its own clock, in Unix seconds; `on_refusal` hears each."""

    def __init__(self, wire: Wire, margin_seconds: int, now: Callable[[], float]) -> None:
        self._wire = wire
        self._margin = margin_seconds
        self._now = now
        self._record: list[Entry] = []
        self.down = False
        self.on_refusal: Callable[[Refusal], None] = lambda _: None

    async def claim(self, entry: Entry) -> Refusal | None:
        return await self._wire.exchange(
            lambda: self._claimed(entry),
            lambda: GuardUnavailable("OperationalError"),
            errand=Errand("claim"),
        )

    def _claimed(self, entry: Entry) -> Refusal | None:
        if self.down:
            raise GuardUnavailable("OperationalError")
        held = self._of(entry.request_key)
        refusal = judge(entry, held, self._now(), self._margin)
        if refusal is not None:
            self.on_refusal(refusal)
        elif all(other.digest != entry.digest for other in held):
            self._record.append(entry)
        return refusal

    def _of(self, request_key: str) -> list[Entry]:
        return [entry for entry in self._record if entry.request_key == request_key]

    async def entries(self) -> list[Entry]:
        return list(self._record)

    async def merge(self, given: Sequence[Entry]) -> list[str]:
        before, found = list(self._record), []
        for entry in given:
            held = self._of(entry.request_key)
            why = conflict(entry, held, self._now(), self._margin)
            if why is not None:
                found.append(f"{entry.request_key} {entry.digest}: {why}")
            elif all(other.digest != entry.digest for other in held):
                self._record.append(entry)
        if found:
            self._record = before
        return found
