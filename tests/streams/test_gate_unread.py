"""A gate that has never read the log tells how long, so that its alert can fire: with a principal
that may not read, as before an upgrade's rights are given, it never will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogWriter, Message
from schemas.topics import Topic
from streams.conserving import Gate
from streams.controls import Controls


class Forbidden:
    """Lets nobody read."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def follow(
        self, topics: Sequence[Topic], places: Mapping[tuple[str, int], int]
    ) -> AsyncGenerator[Sequence[Message], None]:
        self.asked.set()
        raise LogUnavailable("reading kuro.events: not allowed")
        yield []


async def test_never_read_is_told_as_unread_since_the_start() -> None:
    forbidden = Forbidden()
    unused: Any = None
    writer: LogWriter = unused
    gate = Gate(forbidden, writer, Controls(unused, unused), {})
    assert gate.unread_seconds is None, "it does not read yet"
    task = asyncio.create_task(gate.run())
    await forbidden.asked.wait()
    first = gate.unread_seconds
    await asyncio.sleep(0.05)
    assert first is not None and gate.unread_seconds is not None
    assert gate.unread_seconds > first, "it grows"
    assert gate.read_age_seconds is None, "and nothing is judged by it"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
