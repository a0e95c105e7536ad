"""The delivering role: each endpoint gets its facts in order, one at a time, until it takes them.

The cursor is committed after the answer, so a kill repeats at most the event in turn: receivers
tell repetitions by `webhook-id`. An endpoint that fails holds up only itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

import structlog

from orchestrator.config import Config
from orchestrator.kafka_access import KafkaAccess
from orchestrator.metrics import WEBHOOK_DELIVERIES
from projections.consumer import FORESEEN, Backoff, pause
from projections.database import connection_parameters, describe, trace_of
from projections.feed.cursor import Cursor
from projections.feed.events import Event
from projections.feed.following import Feed
from projections.store import Store, StoreUnavailable
from projections.webhooks.endpoints import Endpoint, load_endpoints
from projections.webhooks.ledger import Ledger
from projections.webhooks.sending import Message, Sender, message_of

log = structlog.get_logger(__name__)

FIRST_DELAY_SECONDS = 1.0
STANDBY_SECONDS = 2.0
TICK_SECONDS = 1.0
BEAT_SECONDS = 5.0
"""How often an endpoint without events has its cursor committed, and gives a sign of life."""


class _Stopping(Exception):
    """The process is to end while an event waits for its next attempt."""


def delay_seconds(attempts: int, longest: float, chance: float) -> float:
    """After so many failures: 1 s, doubling up to the longest, times 0.5 to 1 by chance (0 to 1),
    so that many endpoints of one receiver do not come back in step."""
    whole = min(FIRST_DELAY_SECONDS * 2.0 ** min(attempts - 1, 30), longest)
    return whole * (0.5 + chance / 2)


class Deliverer:
    """Serves one endpoint while it holds its lock; stands by otherwise."""

    def __init__(
        self, database_url: str, feed: Feed, endpoint: Endpoint, stop: asyncio.Event
    ) -> None:
        self._database_url = database_url
        self._feed = feed
        self._endpoint = endpoint
        self._stop = stop
        self._sender = Sender(endpoint)
        self._beaten = self._looked = 0.0
        self._log = log.bind(endpoint=endpoint.name)

    async def run(self) -> None:
        """Until `stop`. Whatever fails, what is kept is read anew and it goes on from there."""
        backoff = Backoff()
        try:
            while not self._stop.is_set():
                try:
                    await self._session(backoff)
                except _Stopping:
                    break
                except Exception as error:  # noqa: BLE001 - for ever: shown and tried again
                    foreseen = isinstance(error, FORESEEN)
                    more = {} if foreseen else {"trace": trace_of(error)}
                    self._log.warning("webhook_retrying", problem=describe(error), **more)
                    await pause(self._stop, backoff.delay())
        finally:
            await self._sender.close()

    async def _session(self, backoff: Backoff) -> None:
        ledger = await Ledger.opened(self._database_url, self._endpoint)
        try:
            while not await ledger.lock():
                await pause(self._stop, STANDBY_SECONDS)
                if self._stop.is_set():
                    return
            cursor = await self._begin(ledger)
            self._log.info("webhook_serving")
            backoff.reset()
            async with aclosing(
                self._feed.follow(cursor, self._endpoint.wanted, TICK_SECONDS)
            ) as steps:
                async for step in steps:
                    for event in step.events:
                        await self._deliver(ledger, event, cursor)
                    cursor.advance(step.positions or {})
                    await self._between(ledger, cursor, step.waits_for)
                    if self._stop.is_set():
                        await ledger.moved(str(cursor))
                        return
        finally:
            await ledger.close()

    async def _begin(self, ledger: Ledger) -> Cursor:
        kept = await ledger.cursor()
        if kept is not None:
            cursor = Cursor.decode(kept)
        elif isinstance(self._endpoint.begin, Cursor):
            cursor = Cursor.decode(str(self._endpoint.begin))
        else:
            cursor = await self._feed.begin(self._endpoint.begin)
        await ledger.begin(str(cursor))
        return cursor

    async def _deliver(self, ledger: Ledger, event: Event, cursor: Cursor) -> None:
        """Until the endpoint takes it, refuses it for good, or an operator gives it up."""
        message = message_of(event)
        told = self._log.bind(request=event.request_key, fact=event.fact_id)
        behind = {event.seat: event.offset + 1}
        attempts = await ledger.attempts(message)
        while True:
            answer = await self._sender.send(message)
            attempts += 1
            if answer.problem is None:
                self._count("delivered")
                cursor.advance(behind)
                return await ledger.moved(str(cursor), 1)
            reason = answer.problem
            worn_out = self._endpoint.attempts is not None and attempts >= self._endpoint.attempts
            if answer.status not in self._endpoint.refusals and not worn_out:
                self._count("failed")
                delay = answer.wait_seconds or delay_seconds(
                    attempts,
                    self._endpoint.longest_delay_seconds,
                    random.random(),  # noqa: S311
                )
                await ledger.failed(message, attempts, reason, delay)
                if attempts in (1, 10) or attempts % 100 == 0:
                    told.warning("webhook_failed", attempts=attempts, reason=reason)
                given_up = await self._rest(ledger, message, delay)
                if given_up is None:
                    continue
                reason = f"{reason}; {given_up}"
            self._count("dead_lettered")
            told.error("webhook_dead_lettered", webhook_id=message.webhook_id, reason=reason)
            cursor.advance(behind)
            return await ledger.bury(message, attempts, reason, str(cursor))

    async def _rest(self, ledger: Ledger, message: Message, seconds: float) -> str | None:
        """Wait for the next attempt; text when an operator gives the event up meanwhile. Raises
        _Stopping."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while True:
            skip = await ledger.skip(message)
            if skip is not None:
                return f"skipped by {skip.who}: {skip.why}"
            left = until - clock()
            if left <= 0:
                return None
            await pause(self._stop, min(left, TICK_SECONDS))
            if self._stop.is_set():
                raise _Stopping

    async def _between(self, ledger: Ledger, cursor: Cursor, waits_for: str | None) -> None:
        """Now and then: commit the cursor, say so, and see to what an operator has ordered."""
        now = asyncio.get_running_loop().time()
        if now - self._beaten >= BEAT_SECONDS:
            self._beaten = now
            await ledger.moved(str(cursor))
            if waits_for is not None:
                await ledger.waiting(waits_for)
        if now - self._looked >= TICK_SECONDS:
            self._looked = now
            for row in await ledger.ordered():
                await self._redeliver(ledger, row)

    async def _redeliver(self, ledger: Ledger, row: dict[str, object]) -> None:
        """Once an order, out of order: it is older than the cursor."""
        seat, offset = (str(row["topic"]), int(str(row["partition"]))), int(str(row["offset"]))
        event = await self._feed.event_at(seat, offset, self._endpoint.wanted)
        number = int(str(row["number"]))
        if event is None:
            return await ledger.redelivered(number, "the log does not hold this record any more")
        answer = await self._sender.send(message_of(event))
        self._count("delivered" if answer.problem is None else "failed")
        self._log.info("webhook_redelivered", number=number, problem=answer.problem)
        await ledger.redelivered(number, answer.problem)

    def _count(self, outcome: str) -> None:
        WEBHOOK_DELIVERIES.labels(self._endpoint.name, outcome).inc()


async def run_webhooks(config: Config, stop: asyncio.Event) -> None:
    """Serve all configured endpoints until `stop`. Several processes may run: one serves each.

    Raises ConfigurationError; anything else is retried.
    """
    connection_parameters(config.database_url)
    await serve(config.database_url, config.kafka, load_endpoints(config.settings), stop)


async def serve(
    database_url: str, kafka: KafkaAccess, endpoints: Sequence[Endpoint], stop: asyncio.Event
) -> None:
    store = Store(database_url)
    await store.open()
    feed = Feed(kafka, store, "webhooks")
    log.info("webhooks_started", endpoints=[endpoint.name for endpoint in endpoints])
    try:
        await _schema_is_there(store, stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(stop.wait())
            for endpoint in endpoints:
                group.create_task(Deliverer(database_url, feed, endpoint, stop).run())
    finally:
        await feed.close()
        await store.close()


async def _schema_is_there(store: Store, stop: asyncio.Event) -> None:
    """Whoever may change the schema does so (`init`, `project`); this role only waits for it."""
    backoff = Backoff()
    while not stop.is_set():
        try:
            if await store.at_head():
                return
            problem = "the database has not this version's schema yet"
        except StoreUnavailable as error:
            problem = describe(error)
        log.warning("webhooks_waiting", problem=problem)
        await pause(stop, backoff.delay())
