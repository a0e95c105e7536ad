"""Listening to Kuro: every message as a fact, or as a dead letter that says what is wrong."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing

import structlog

from orchestrator.adapters.kuro import Ignored, KuroSource, MalformedMessage, Received, parse
from orchestrator.errors import LogUnavailable
from orchestrator.metrics import KURO_MESSAGES
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
    """Appends what Kuro says. While the log is away, the source's bounded queue fills, and then
    Kuro waits.

    A process that starts appends Kuro's whole pending list once more: what is remembered is this
    process's own. That is accepted: each is the same fact twice, which the deciders do not forward
    and every fold ignores, and reading the log back at each start would cost more.

    For health and metrics: `reason` says why nothing is heard or kept, `appended` and `malformed`
    count, `source.health` tells the rest.
    """

    def __init__(self, source: KuroSource, writer: LogWriter, default_chain_id: int) -> None:
        self.source = source
        self.appended = 0
        self.malformed = 0
        self._writer = writer
        self._default_chain_id = default_chain_id
        self._log_trouble: str | None = None
        self._remembered: OrderedDict[str, None] = OrderedDict()

    @property
    def reason(self) -> str | None:
        """None while all is well; the socket alone, or the list alone, is not."""
        health = self.source.health
        return self._log_trouble or health.last_socket_error or health.last_list_error

    async def run(self) -> None:
        """Listen until cancelled."""
        async with aclosing(self.source.batches(BATCH)) as batches:
            async for batch in batches:
                await self._append(batch)

    async def _append(self, batch: list[Received]) -> None:
        facts: dict[str, Fact] = {}
        letters: dict[str, Fact] = {}
        told = len(batch)
        for received in batch:
            try:
                fact = parse(received.raw, received.via, self._default_chain_id)
            except MalformedMessage as error:
                letter = DeadLetter.of(
                    DeadLetterReason.MALFORMED, str(error), received.raw, origin=None, source="kuro"
                )
                letters[letter.id] = letter
                continue
            if isinstance(fact, Ignored):
                KURO_MESSAGES.labels("ignored").inc()
                told -= 1
            else:
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
                self._log_trouble = str(error)
                log.warning("log unavailable; Kuro's messages wait", reason=str(error))
                await backoff.sleep()
        self._log_trouble = None
        KURO_MESSAGES.labels("accepted").inc(len(fresh))
        KURO_MESSAGES.labels("malformed").inc(len(unread))
        KURO_MESSAGES.labels("repeated").inc(told - len(fresh) - len(unread))
        self.appended += len(fresh)
        self.malformed += len(unread)
        if unread:
            log.warning("malformed messages from Kuro", count=len(unread))
        for mark in (*fresh, *unread):
            self._remembered[mark] = None
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
