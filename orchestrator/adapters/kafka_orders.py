"""Giving operators' orders: what is checked on the log before, the append, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from orchestrator.core.controls import ControlState
from orchestrator.core.controls import evolve as evolve_controls
from orchestrator.core.lanes import LaneState
from orchestrator.core.lanes import evolve as evolve_lane
from orchestrator.core.lifecycle import RequestState, Verdict, evolve
from orchestrator.core.order_reasons import why_refused
from orchestrator.errors import LogUnavailable, OrderRefused
from orchestrator.kafka_access import KafkaAccess
from schemas.base import Fact, Position, Record, UnreadableRecord
from schemas.evm import ChainHalted, ChainResumed
from schemas.lanes import LaneFact
from schemas.requests import OrderReported, RequestFact
from schemas.topics import CONTROLS, EVM_EVENTS, LANES, REQUESTS, Topic

LOOK_EVERY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Place:
    """Where the log is, and the prefix of this deployment's groups."""

    kafka: KafkaAccess
    prefix: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`taken_in` is None when nobody has said so yet: the order stands on the log, and is obeyed
    as soon as it is read."""

    position: Position
    taken_in: bool | None
    detail: str


class RequestWatch:
    """Follows one request by its own partition, as its owners fold it."""

    def __init__(self, log: KafkaLog, key: str) -> None:
        self._log = log
        self._key = key
        self._partition = partition_of(REQUESTS, key)
        self._next_offset = 0
        self.state: RequestState | None = None
        self.refusals: dict[str, str] = {}
        """By order, why it was refused."""

    async def look(self) -> None:
        starts = {self._partition: self._next_offset}
        async for _, messages in self._log.replay(REQUESTS, starts):
            for message in messages:
                self._next_offset = message.offset + 1
                if message.key != self._key.encode():
                    continue
                try:
                    record = REQUESTS.decode(message.value)
                except UnreadableRecord:
                    continue
                self._fold(record)

    def _fold(self, record: Record) -> None:
        fact = record.fact
        assert isinstance(fact, RequestFact)
        before = self.state
        self.state, verdict = evolve(before, record)
        if isinstance(fact, OrderReported) and verdict is Verdict.OUT_OF_ORDER:
            self.refusals.setdefault(fact.order, why_refused(before, fact))

    def admits(self, order: OrderReported) -> str | None:
        """Why the order would be refused now; None when it would be taken in."""
        _, verdict = evolve(self.state, Record(order, "2000-01-01T00:00:00.000Z"))
        return why_refused(self.state, order) if verdict is Verdict.OUT_OF_ORDER else None

    def has_taken_in(self, order: str) -> bool:
        return self.state is not None and any(held.order == order for held in self.state.orders)


def log_of(place: Place) -> KafkaLog:
    return KafkaLog(place.kafka, f"{place.prefix}-command")


@asynccontextmanager
async def writing(place: Place) -> AsyncIterator[KafkaWriter]:
    writer = KafkaWriter(place.kafka, f"{place.prefix}-command")
    await writer.start()
    try:
        yield writer
    finally:
        await writer.close()


async def append(place: Place, topic: Topic, fact: Fact) -> Position:
    async with writing(place) as writer:
        [record] = await writer.append(topic, [fact])
    assert record.position is not None
    return record.position


async def controls_now(place: Place) -> ControlState:
    state = ControlState()
    async for _, messages in log_of(place).replay(CONTROLS, {0: 0}):
        for message in messages:
            try:
                evolve_controls(state, CONTROLS.decode(message.value))
            except UnreadableRecord:
                continue
    return state


async def order_pause(place: Place, fact: Fact, wait_seconds: float) -> Outcome:
    """Append a pause or a resumption; taken in when the deciding role has read beyond it. All
    processes read the topic alike."""
    position = await append(place, CONTROLS, fact)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        if await _decided_offset(place) > position.offset:
            return Outcome(position, True, "the workers have read it")
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    return Outcome(
        position,
        None,
        f"no worker has said so within {wait_seconds:g} s: it is obeyed as soon as one reads it, "
        "and none begins anything before it has",
    )


async def _decided_offset(place: Place) -> int:
    """What the deciding role has committed on `controls`; 0 before it has."""
    seat = TopicPartition(CONTROLS.name, 0)
    admin = place.kafka.admin()
    try:
        await admin.start()
        group = f"{place.prefix}-decide"
        found = await admin.list_consumer_group_offsets(group, partitions=[seat])
        return int(found[seat].offset) if seat in found else 0
    except KafkaError as error:
        raise LogUnavailable(f"asking what was read of {CONTROLS.name}: {error!r}") from error
    finally:
        await admin.close()


async def order_about(
    place: Place, order: Fact, told: OrderReported, wait_seconds: float
) -> Outcome:
    """Append a retry or a cancellation, when the request admits it; what came of it in the
    request's own order. Raises OrderRefused before anything is appended."""
    watch = RequestWatch(log_of(place), told.request_key)
    await watch.look()
    refused = watch.admits(told)
    if refused is not None:
        raise OrderRefused(f"{told.request_key}: {refused}")
    position = await append(place, CONTROLS, order)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        await watch.look()
        if told.order in watch.refusals:
            return Outcome(position, False, watch.refusals[told.order])
        state = watch.state
        if watch.has_taken_in(told.order) and state is not None:
            ended = state.cancelling is None or state.ending is not None
            if ended or deadline - time.monotonic() < 2 * LOOK_EVERY_SECONDS:
                return Outcome(position, True, _standing(state))
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    if watch.has_taken_in(told.order) and watch.state is not None:
        return Outcome(position, True, _standing(watch.state))
    return Outcome(
        position,
        None,
        f"no worker has taken it in within {wait_seconds:g} s; it stands on the log and will be",
    )


def _standing(state: RequestState) -> str:
    words = f"attempt {state.attempt}, {state.stage}"
    detail = getattr(state.ending, "detail", None)
    if detail:
        return f"{words}: {detail}"
    if state.standing_hold is not None and not state.cleared:
        needed, given = state.standing_hold.approvals_needed, ", ".join(state.approved_by)
        return f"{words}: approved by {given or 'nobody'}; it takes {needed} operators"
    if state.cancelling is not None:
        return f"{words}: being cancelled; its lane first frees the nonce of what is out, if any"
    return words


async def halted_lane(place: Place, key: str) -> LaneState | None:
    """The lane as the log has it; None when nothing is known of it."""
    chain_id, _, wallet = key.partition(":")
    state, known = LaneState(int(chain_id), wallet), False
    async for _, messages in log_of(place).replay(LANES, {partition_of(LANES, key): 0}):
        for message in messages:
            if message.key != key.encode():
                continue
            try:
                fact = LANES.decode(message.value).fact
            except UnreadableRecord:
                continue
            assert isinstance(fact, LaneFact)
            evolve_lane(state, fact)
            known = True
    return state if known else None


async def halted_chain(place: Place, chain_id: int) -> ChainHalted | None:
    """The chain's halt that nobody has settled yet."""
    key, halted = str(chain_id), None
    async for _, messages in log_of(place).replay(EVM_EVENTS, {partition_of(EVM_EVENTS, key): 0}):
        for message in messages:
            if message.key != key.encode():
                continue
            try:
                fact = EVM_EVENTS.decode(message.value).fact
            except UnreadableRecord:
                continue
            if isinstance(fact, ChainHalted):
                halted = fact
            elif isinstance(fact, ChainResumed) and halted is not None and fact.halt == halted.id:
                halted = None
    return halted
