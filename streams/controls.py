"""Operators' orders, as this process knows them. One reader serves all roles of a process.

Fail safe: until the topic has been read to its end, and whenever its end could not be asked for
lately, everything new is held back. So a pause that readers can see is obeyed by every process
within `STALE_SECONDS` at the latest, also by one that was frozen or cut off; usually at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from orchestrator.core.asking import InForce
from orchestrator.core.controls import ControlState, Pause, covering, evolve, in_force
from orchestrator.core.stages import Verdict
from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogEnds, LogReader, Message
from schemas.base import Position, UnreadableRecord
from schemas.controls import OrderFact
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.topics import CONTROLS
from streams.retrying import Backoff

log = structlog.get_logger(__name__)

STALE_SECONDS = 5.0

Listener = Callable[[OrderFact | None], None]
"""Told of each order that counts; of None when what was held back for want of news may go on."""


def _now() -> float:
    return asyncio.get_running_loop().time()


def heard(task: asyncio.Task[Any]) -> None:
    """Whoever waits for it may have ended meanwhile: its failure is then nobody's."""
    if not task.cancelled():
        task.exception()


class Controls:
    """Tails `controls` from its start. `holds` is asked right before each effect."""

    def __init__(self, reader: LogReader, ends: LogEnds) -> None:
        self.state = ControlState()
        self._reader = reader
        self._ends = ends
        self._next_offset = 0
        self._fresh_at: float | None = None
        self._held_for_news = False
        self._letters: dict[int, DeadLetter] = {}
        self._listeners: list[Listener] = []
        self._moved = asyncio.Event()
        self._asking = asyncio.Lock()
        self._question: asyncio.Task[tuple[int, float]] | None = None

    def hear(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def pause(
        self, chain_id: int, wallet: str | None = None, request_key: str | None = None
    ) -> Pause | None:
        """The pause that covers this work, by what is known so far."""
        return covering(self.state, chain_id, wallet, request_key)

    def holds(
        self, chain_id: int, wallet: str | None = None, request_key: str | None = None
    ) -> str | None:
        """Why nothing new may begin for this work now; None when it may."""
        pause = self.pause(chain_id, wallet, request_key)
        if pause is not None and self._fresh_at is not None:
            return pause.reason
        return self.stale()

    def stale(self) -> str | None:
        """Why what is known may be of long ago; None when it is of now."""
        if self._fresh_at is None:
            self._held_for_news = True
            return "operators' controls have not been read yet"
        age = _now() - self._fresh_at
        if age > STALE_SECONDS:
            self._held_for_news = True
            return f"operators' controls could not be read for {age:.0f} s"
        return None

    @property
    def read(self) -> bool:
        """All that stood on the topic at some time since the start is folded."""
        return self._fresh_at is not None

    @property
    def policy(self) -> InForce | None:
        """None where no mint is to be asked about."""
        return in_force(self.state)

    async def caught_up(self) -> None:
        """Returns when all is folded that stood on the topic when this was called. Who comes while
        a question for the topic's end is under way shares the next one. Raises LogUnavailable."""
        if self._question is None:
            self._question = asyncio.create_task(self._asked_for_end(), name="end of controls")
            self._question.add_done_callback(heard)
        end, asked = await asyncio.shield(self._question)
        while self._next_offset < end and (self._fresh_at or -1.0) < asked:
            self._moved.clear()
            await self._moved.wait()

    async def _asked_for_end(self) -> tuple[int, float]:
        async with self._asking:
            self._question = None
            asked = _now()
            return await self._ends.end(CONTROLS, 0), asked

    async def judged(self, offset: int) -> DeadLetter | None:
        """Wait until the record at `offset` is folded; its dead letter when it was refused."""
        while self._next_offset <= offset:
            self._moved.clear()
            await self._moved.wait()
        return self._letters.get(offset)

    async def run(self) -> None:
        """Read until cancelled."""
        backoff = Backoff(longest_seconds=2)
        while True:
            asked = _now()
            try:
                async for batch in self._reader.tail(CONTROLS, 0, self._next_offset):
                    for message in batch:
                        self._fold(message)
                    if not batch:
                        self._is_fresh(asked)
                    backoff.reset()
                    asked = _now()
            except LogUnavailable as error:
                log.warning("operators' controls cannot be read", reason=str(error))
            await backoff.sleep()

    def _is_fresh(self, asked: float) -> None:
        if self._fresh_at is None:
            paused = [pause.reason for pause in self.state.pauses.values()]
            log.info("operators' controls are read", orders=len(self.state.orders), paused=paused)
        self._fresh_at = asked
        self._moved.set()
        if self._held_for_news:
            self._held_for_news = False
            self._tell(None)

    def _fold(self, message: Message) -> None:
        if message.offset < self._next_offset:
            return
        position = Position(message.topic, message.partition, message.offset)
        try:
            record = CONTROLS.decode(message.value, position)
        except UnreadableRecord as error:  # the deciding role dead-letters it
            log.error("unreadable order", position=str(position), reason=str(error))
        else:
            fact = record.fact
            assert isinstance(fact, OrderFact)
            verdict = evolve(self.state, record)
            if verdict is Verdict.APPLIED:
                log.warning("order", fact=fact)
                self._tell(fact)
            elif verdict is Verdict.CONFLICT:
                self._letters[message.offset] = DeadLetter.of(
                    DeadLetterReason.CONFLICT,
                    f"{fact.kind} {fact.id}: another order was given under this id, and the first "
                    "counts",
                    message.value or b"",
                    origin=str(position),
                )
        self._next_offset = message.offset + 1
        self._moved.set()

    def _tell(self, fact: OrderFact | None) -> None:
        for listener in self._listeners:
            listener(fact)
