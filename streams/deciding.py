"""Deciding: what other topics say enters each request's order, and what each request owes as a fact
is appended. Nothing here touches a chain, a key or a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.core.lifecycle import RequestState
from orchestrator.core.owing import Append, pending
from orchestrator.core.pool import Pool
from orchestrator.core.reporting import reported
from orchestrator.core.terms import Terms
from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogWriter, Message
from schemas.base import Fact, Position, UnreadableRecord
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.requests import RequestReceived
from schemas.topics import DEAD_LETTERS, REQUESTS, TOPICS, Topic
from streams.books import Book
from streams.retrying import Backoff

log = structlog.get_logger(__name__)


class Decider:
    """Owns some partitions of `requests`, reads its share of the other topics."""

    def __init__(self, book: Book, writer: LogWriter, terms: Terms) -> None:
        self._book = book
        self._writer = writer
        self._terms = terms
        self._awake = asyncio.Event()
        self._delivered: dict[str, tuple[str, str]] = {}
        self._pool = Pool()

    async def own(self, partitions: set[int]) -> None:
        """Called when the partitions of `requests` are assigned anew."""
        await self._book.own(partitions)
        self._delivered.clear()
        self._pool = Pool()
        self._awake.set()

    async def read(self, messages: Sequence[Message]) -> None:
        """Fold a batch of `requests`; returns when its dead letters are delivered."""
        letters = await self._book.read(messages)
        self._awake.set()
        await self._deliver(DEAD_LETTERS, letters)

    async def forward(self, messages: Sequence[Message]) -> None:
        """Carry a batch of another topic into `requests`; returns when it is delivered, so that
        the batch's offsets may be committed."""
        facts: list[Fact] = []
        letters: list[Fact] = []
        for message in messages:
            position = Position(message.topic, message.partition, message.offset)
            try:
                fact = reported(TOPICS[message.topic].decode(message.value, position))
            except UnreadableRecord as error:
                letters.append(
                    DeadLetter.of(
                        DeadLetterReason.MALFORMED,
                        str(error),
                        message.value or b"",
                        origin=str(position),
                    )
                )
                continue
            if fact is not None and not self._known(fact):
                facts.append(fact)
        await self._deliver(REQUESTS, facts)
        await self._deliver(DEAD_LETTERS, letters)

    def _known(self, fact: Fact) -> bool:
        """True when the log of `requests` itself holds this very fact: Kuro repeats itself."""
        if not isinstance(fact, RequestReceived):
            return False
        state = self._book.state(fact.request_key)
        return state is not None and state.received is not None and state.received.agrees_with(fact)

    async def _deliver(self, topic: Topic, facts: Sequence[Fact]) -> None:
        """Append until it is done: bounded delays, no limit in count."""
        backoff = Backoff(longest_seconds=10)
        while facts:
            try:
                await self._writer.append(topic, facts)
                return
            except LogUnavailable as error:
                log.warning("log unavailable, trying again", error=str(error))
                await backoff.sleep()

    async def run(self) -> None:
        """Append what is owed, whenever a state has moved; until cancelled."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            keys, self._book.touched = self._book.touched, set()
            for topic, facts in self._owed(keys).items():
                await self._deliver(TOPICS[topic], facts)
                if topic == REQUESTS.name:
                    self._log_endings(facts)

    def _owed(self, keys: set[str]) -> dict[str, list[Fact]]:
        """What these requests owe, per topic, less what this process has delivered since the stage
        last changed: its effect is on its way back to us. A request that came to the same stage
        once more, and was folded there and back in one go, owes the same fact anew."""
        owed: dict[str, list[Fact]] = {}
        now = asyncio.get_running_loop().time()
        states = {key: self._book.state(key) for key in sorted(keys)}
        for state in states.values():
            if state is not None:
                self._pool.saw(state, now)
        for key, state in states.items():
            item = pending(state, self._terms, self._choose) if state else None
            if state is None or not isinstance(item, Append):
                self._delivered.pop(key, None)
                continue
            mark = item.fact.id, state.changed_at
            if self._delivered.get(key) == mark:
                continue
            self._delivered[key] = mark
            owed.setdefault(item.topic.name, []).append(item.fact)
        return owed

    def _choose(self, state: RequestState, wallets: tuple[str, ...]) -> str:
        return self._pool.choose(state, wallets, asyncio.get_running_loop().time())

    def _log_endings(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact.kind in ("RequestFailed", "RequestRejected"):
                log.warning("request ended", request=fact.key, **fact.model_dump(mode="json"))
