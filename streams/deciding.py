"""Deciding: what other topics say enters each request's order, and what each request owes as a fact
is appended. Nothing here touches a chain, a key or a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.core.lifecycle import RequestState, Stage
from orchestrator.core.owing import Append, pending
from orchestrator.core.pool import Pool
from orchestrator.core.reporting import reported
from orchestrator.core.terms import Terms
from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogWriter, Message
from schemas.base import Fact, Position, Record, UnreadableRecord
from schemas.controls import OrderFact
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.lanes import CancellationRequested, RelayRequested
from schemas.policies import (
    ClearanceRequested,
    PolicyApplied,
    PolicyFact,
    ReleaseRequested,
    TicketFact,
)
from schemas.requests import (
    ApprovalDrafted,
    DraftRecalled,
    RelayAssigned,
    RequestFact,
    RequestReceived,
)
from schemas.sequences import NonceRequested, SequenceFact
from schemas.topics import CONTROLS, DEAD_LETTERS, LANES, REQUESTS, TOPICS, Topic
from streams.books import Book
from streams.controls import Controls
from streams.retrying import Backoff

log = structlog.get_logger(__name__)


BEGINS = (ApprovalDrafted, RelayAssigned, NonceRequested, ClearanceRequested, ReleaseRequested)
"""What a pause holds."""


class Decider:
    """Owns some partitions of `requests`, reads its share of the other topics."""

    def __init__(self, book: Book, writer: LogWriter, terms: Terms, controls: Controls) -> None:
        self._book = book
        self._writer = writer
        self._terms = terms
        self._controls = controls
        self._held: set[str] = set()
        self._awake = asyncio.Event()
        self._delivered: dict[str, tuple[str, str]] = {}
        self._backoff = Backoff(longest_seconds=10)
        self._pool = Pool()

    async def own(self, partitions: set[int]) -> None:
        """Called when the partitions of `requests` are assigned anew."""
        await self._book.own(partitions)
        self._delivered.clear()
        self._held.clear()
        self._pool = Pool()
        self._awake.set()

    def hear(self, order: OrderFact | None) -> None:
        """An order came, or what was held for want of news may go on: it is considered again. So is
        all that is drafted, under another policy."""
        self._book.touched |= self._held
        if isinstance(order, PolicyApplied):
            drafts = (state for state in self._book.states() if state.stage is Stage.DRAFTED)
            self._book.touched.update(state.key for state in drafts)
        self._held.clear()
        self._awake.set()

    async def read(self, messages: Sequence[Message]) -> None:
        """Fold a batch of `requests`; returns when its dead letters are delivered."""
        letters = await self._book.read(messages)
        self._awake.set()
        await self._deliver(DEAD_LETTERS, letters)

    async def forward(self, messages: Sequence[Message]) -> None:
        """Carry a batch of another topic into `requests` (or `lanes`); returns when it is
        delivered, so that the batch's offsets may be committed."""
        facts: list[Fact] = []
        letters: list[Fact] = []
        others: list[Fact] = []
        for message in messages:
            position = Position(message.topic, message.partition, message.offset)
            try:
                found = reported(TOPICS[message.topic].decode(message.value, position))
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
            if message.topic == CONTROLS.name:
                refused = await self._controls.judged(message.offset)
                if refused is not None:
                    letters.append(refused)
                    continue
            others += [fact for fact in found if isinstance(fact, SequenceFact | PolicyFact)]
            facts += [fact for fact in found if isinstance(fact, RequestFact)]
        await self._deliver(LANES, others)
        await self._deliver(REQUESTS, [fact for fact in facts if not self._known(fact)])
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
                self._wrote(topic, await self._writer.append(topic, facts))
                for fact in facts:
                    if isinstance(fact, DeadLetter):
                        log.warning("dead letter", fact=fact)
                return
            except LogUnavailable as error:
                log.warning("log unavailable, trying again", reason=str(error))
                await backoff.sleep()

    def _wrote(self, topic: Topic, records: Sequence[Record]) -> None:
        """What now stands on the log moves a state, and may owe the next fact already."""
        if topic is REQUESTS:
            self._book.wrote(records)
            self._awake.set()

    async def run(self) -> None:
        """Append what is owed, whenever a state has moved; until cancelled. Nothing is owed while
        partitions are replayed: a draft may have followed what was read so far."""
        while True:
            await self._awake.wait()
            await self._book.ready()
            self._awake.clear()
            keys, self._book.touched = self._book.touched, set()
            owed = self._owed(keys).items()
            await asyncio.gather(*(self._append(TOPICS[topic], facts) for topic, facts in owed))

    async def _append(self, topic: Topic, facts: Sequence[Fact]) -> None:
        """Once; when the log is away, what is owed is looked at again before it is tried again: an
        order may have come in the meantime. The partition may move away in the meantime as well, so
        what the log is to say of it is asked before."""
        chains = [self._chain_of(_request_key(fact)) for fact in facts]
        try:
            self._wrote(topic, await self._writer.append(topic, facts))
        except LogUnavailable as error:
            log.warning("log unavailable, trying again", reason=str(error))
            for fact in facts:
                key = _request_key(fact)
                self._delivered.pop(key, None)
                self._book.touched.add(key)
            await self._backoff.sleep()
            self._awake.set()
            return
        self._backoff.reset()
        _tell(facts, chains)

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
            policy = self._controls.policy
            item = pending(state, self._terms, self._choose, policy) if state else None
            if state is None or not isinstance(item, Append):
                self._delivered.pop(key, None)
                continue
            mark = item.fact.id, state.changed_at
            if self._delivered.get(key) == mark:
                continue
            if self._is_held(state, item.fact):
                self._held.add(key)
                continue
            self._delivered[key] = mark
            owed.setdefault(item.topic.name, []).append(item.fact)
        return owed

    def _is_held(self, state: RequestState | None, fact: Fact) -> bool:
        """A pause holds what begins something new: a draft, and its way to a wallet. What is known
        of the policy must be of now where a draft is recalled for it."""
        if state is None or state.received is None:
            return False
        if isinstance(fact, DraftRecalled):
            return self._controls.stale() is not None
        if not isinstance(fact, BEGINS):
            return False
        wallet = fact.wallet if isinstance(fact, RelayAssigned) else None
        chain_id = state.received.chain_id
        return self._controls.holds(chain_id, wallet, state.key) is not None

    def _choose(self, state: RequestState, wallets: tuple[str, ...]) -> str:
        """Among the wallets that are not paused, where there are any."""
        assert state.received is not None
        chain_id = state.received.chain_id
        free = [wallet for wallet in wallets if self._controls.pause(chain_id, wallet) is None]
        now = asyncio.get_running_loop().time()
        return self._pool.choose(state, tuple(free) or wallets, now)

    def _chain_of(self, key: str) -> int | None:
        state = self._book.state(key)
        return state.received.chain_id if state is not None and state.received is not None else None


def _tell(facts: Sequence[Fact], chains: Sequence[int | None]) -> None:
    for fact, chain_id in zip(facts, chains, strict=True):
        told = log if chain_id is None else log.bind(chain_id=chain_id)
        told.debug("fact appended", fact=fact)
        if isinstance(fact, DraftRecalled):
            told.warning("draft recalled: another policy is in force", fact=fact)
        if fact.kind in ("RequestFailed", "RequestRejected"):
            told.warning("request ended", fact=fact)


def _request_key(fact: Fact) -> str:
    asking = RelayRequested | CancellationRequested | NonceRequested | TicketFact
    assert isinstance(fact, RequestFact | asking)
    return fact.request_key
