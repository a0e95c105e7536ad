"""Listening to Kuro: every message as a fact, or as a dead letter that says what is wrong."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

import structlog

from orchestrator.adapters.kuro import Ignored, KuroSource, MalformedMessage, Received, parse
from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogWriter
from schemas.base import Fact
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.topics import DEAD_LETTERS, KURO_EVENTS
from streams.retrying import Backoff

log = structlog.get_logger(__name__)

BATCH = 500
REMEMBERED = 100_000
"""How many recent facts are known not to need appending again: the REST list repeats itself. The
memory is a courtesy to the log's readers; a fact appended twice is the same fact twice."""


class KuroListener:
    """Appends what Kuro says. Kuro never waits for us: a bounded queue stands between."""

    def __init__(self, source: KuroSource, writer: LogWriter, default_chain_id: int) -> None:
        self._source = source
        self._writer = writer
        self._default_chain_id = default_chain_id
        self._queue: asyncio.Queue[Received] = asyncio.Queue(maxsize=20 * BATCH)
        self._remembered: OrderedDict[str, None] = OrderedDict()

    async def run(self) -> None:
        """Listen until cancelled."""
        reading = asyncio.create_task(self._read())
        try:
            while True:
                await self._append(await self._batch(reading))
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(self) -> None:
        async for received in self._source.messages():
            await self._queue.put(received)

    async def _batch(self, reading: asyncio.Task[None]) -> list[Received]:
        first = asyncio.create_task(self._queue.get())
        await asyncio.wait({first, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            first.cancel()
            reading.result()
            raise RuntimeError("the Kuro source ended, which it never should")
        batch = [first.result()]
        while len(batch) < BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    async def _append(self, batch: list[Received]) -> None:
        facts: dict[str, Fact] = {}
        letters: dict[str, Fact] = {}
        for received in batch:
            try:
                fact = parse(received.raw, received.via, self._default_chain_id)
            except MalformedMessage as error:
                letter = DeadLetter.of(
                    DeadLetterReason.MALFORMED, str(error), received.raw, origin=None, source="kuro"
                )
                letters[letter.id] = letter
                continue
            if not isinstance(fact, Ignored):
                facts[f"{fact.id} {sorted(fact.essence().items())}"] = fact
        fresh = {mark: fact for mark, fact in facts.items() if mark not in self._remembered}
        unread = {mark: fact for mark, fact in letters.items() if mark not in self._remembered}
        backoff = Backoff()
        while True:
            try:
                await self._writer.append(KURO_EVENTS, list(fresh.values()))
                await self._writer.append(DEAD_LETTERS, list(unread.values()))
                break
            except LogUnavailable as error:
                log.warning("log unavailable; Kuro's messages wait", reason=str(error))
                await backoff.sleep()
        if unread:
            log.warning("malformed messages from Kuro", count=len(unread))
        for mark in (*fresh, *unread):
            self._remembered[mark] = None
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
