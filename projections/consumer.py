"""Follows the log into the tables: one writer, for ever, whatever fails in between.

Three loops inside each other, each with its own reason to start over:
`run` holds a PostgreSQL session (starts over when the database fails, or another writer moved the
offsets); `_lead` holds the writer's lock (others stand by and take over when its session ends);
`_follow` holds a Kafka consumer (starts over when Kafka fails). Every start reads the offsets from
the tables, so nothing is lost or doubled wherever it was killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable, OrchestratorError, StartRefused
from orchestrator.kafka_access import KafkaAccess
from projections.database import WRITER_LOCK, connect, describe, trace_of
from projections.fold import RawRecord
from projections.kafka import ANSWER_SECONDS, FOLLOWED, missing_topics
from projections.writer import Connection, Observe, Offsets, Writer, load_offsets

log = structlog.get_logger()

BATCH_RECORDS = 1000
FETCH_WAIT_MS = 200
GATHERED_SECONDS = 0.1
"""Between two writes: what comes in that time is written together. The first after a pause waits
for nothing; a write of one fact costs nearly what a write of a hundred does."""
BEAT_SECONDS = 2.0
STANDBY_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0


@dataclass(slots=True)
class Health:
    """What the projector knows of itself. `role`: starting, standby or writing. `problem` is None
    while all is well; `fresh_at`, Unix time: all that stood on the log then is in the tables."""

    role: str = "starting"
    problem: str | None = None
    fresh_at: float | None = None
    facts_written: int = 0
    faults_written: int = 0


FORESEEN = (psycopg.Error, SQLAlchemyError, KafkaError, OSError, OrchestratorError)
"""What outages look like; anything else is a fault of this program and is logged with its trace."""


class Backoff:
    """Delays that double from 0.2 s to 5 s, each shortened by up to half at random, so that many
    processes do not come back in step."""

    def __init__(self) -> None:
        self._next = FIRST_DELAY_SECONDS

    def reset(self) -> None:
        self._next = FIRST_DELAY_SECONDS

    def delay(self) -> float:
        whole = self._next
        self._next = min(whole * 2, LONGEST_DELAY_SECONDS)
        return whole * random.uniform(0.5, 1)  # noqa: S311 - not a secret


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or return at once when `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _is_cancelled() -> bool:
    """Whether someone cancelled this task, or a library let out a cancellation of its own."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Projector:
    """The projection's writer; `run` ends only when told to."""

    def __init__(
        self,
        database_url: str,
        kafka: KafkaAccess,
        *,
        batch_records: int = BATCH_RECORDS,
        observe: Observe | None = None,
    ) -> None:
        self.observe = observe
        self._database_url = database_url
        self._kafka = kafka
        self._batch_records = batch_records
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self.health = Health()

    async def run(self, stop: asyncio.Event, prepare: Callable[[], Any] | None = None) -> None:
        """Write until `stop`. `prepare` (the migration) is awaited before the first session and
        again until it succeeds once."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                if prepare is not None:
                    await prepare()
                    prepare = None
                connection = await connect(self._database_url)
                try:
                    await self._lead(connection, stop, backoff)
                finally:
                    await connection.close()
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                await self._trouble(KafkaError("a task of the client ended"), stop, backoff)
            except Exception as error:  # noqa: BLE001 - for ever: every failure is shown and retried
                self.health.role = "starting"
                await self._trouble(error, stop, backoff)
        self.health.role = "stopped"

    async def _trouble(self, error: Exception, stop: asyncio.Event, backoff: Backoff) -> None:
        """Show the reason, then wait."""
        self.health.problem = describe(error)
        delay = backoff.delay()
        foreseen = isinstance(error, FORESEEN)
        log.warning(
            "projection_retrying",
            problem=self.health.problem,
            delay_seconds=round(delay, 2),
            **({} if foreseen else {"trace": trace_of(error)}),
        )
        await pause(stop, delay)

    async def _lead(self, connection: Connection, stop: asyncio.Event, backoff: Backoff) -> None:
        if not await self._lock(connection, stop):
            return
        log.info("projection_writing", writer=self._name)
        self.health.role = "writing"
        inner = Backoff()
        while not stop.is_set():
            try:
                await self._follow(connection, stop, (backoff, inner))
            except (KafkaError, OSError, StartRefused, LogUnavailable) as error:
                self.health.problem = describe(error)
                await self._beat(connection)
                await self._trouble(error, stop, inner)

    async def _lock(self, connection: Connection, stop: asyncio.Event) -> bool:
        """Wait for the writer's lock; it is held as long as this session lives."""
        while not stop.is_set():
            found = await connection.execute("SELECT pg_try_advisory_lock(%s)", [WRITER_LOCK])
            row = await found.fetchone()
            if row is not None and row[0]:
                return True
            if self.health.role != "standby":
                log.info("projection_standing_by", writer=self._name)
            self.health.role, self.health.problem = "standby", None
            await pause(stop, STANDBY_SECONDS)
        return False

    async def _follow(
        self, connection: Connection, stop: asyncio.Event, backoffs: tuple[Backoff, Backoff]
    ) -> None:
        await self._await_topics(connection, stop)
        if stop.is_set():
            return
        wanted = [(topic.name, number) for topic in FOLLOWED for number in range(topic.partitions)]
        offsets = await load_offsets(connection, wanted)
        consumer = self._kafka.consumer(
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            client_id="projections",
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await consumer.start()
            seats = {TopicPartition(topic, number): (topic, number) for topic, number in wanted}
            consumer.assign(list(seats))
            for seat, key in seats.items():
                consumer.seek(seat, offsets[key])
            session = _Session(self, connection, consumer, seats, offsets)
            while not stop.is_set():
                await session.step()
                self.health.problem = None
                for backoff in backoffs:
                    backoff.reset()
        except OffsetOutOfRangeError as error:
            raise _ahead(describe(error)) from None
        finally:
            await closed(consumer.stop())

    async def _await_topics(self, connection: Connection, stop: asyncio.Event) -> None:
        """Until every topic is there. Raises StartRefused for other partition counts than ours."""
        backoff, told = Backoff(), ""
        while not stop.is_set():
            missing = await missing_topics(self._kafka)
            if not missing:
                return
            self.health.problem = f"waiting for topics that do not exist yet: {', '.join(missing)}"
            if told != self.health.problem:
                log.warning("projection_waiting_for_topics", missing=missing)
                told = self.health.problem
            await self._beat(connection)
            await pause(stop, backoff.delay())

    async def _beat(self, connection: Connection) -> None:
        """Say in the tables that a writer lives, how fresh they are, and what is wrong."""
        await connection.execute(
            "INSERT INTO projection_state (writer, beat_at, fresh_at, problem) "
            "VALUES (%s, now(), to_timestamp(%s), %s) ON CONFLICT (only_row) DO UPDATE SET "
            "writer = EXCLUDED.writer, beat_at = EXCLUDED.beat_at, problem = EXCLUDED.problem, "
            "fresh_at = coalesce(EXCLUDED.fresh_at, projection_state.fresh_at)",
            [self._name, self.health.fresh_at, self.health.problem],
        )


def _ahead(detail: str) -> StartRefused:
    return StartRefused(
        "the tables are ahead of the log, which was cut or made anew: "
        f"empty the projection to rebuild it ({detail})"
    )


class _Session:
    """One consumer at work. `_ends` are the log's ends at `_asked_at`; once the offsets reach
    them, the tables are as fresh as that time."""

    def __init__(
        self,
        projector: Projector,
        connection: Connection,
        consumer: Any,
        seats: dict[TopicPartition, tuple[str, int]],
        offsets: Offsets,
    ) -> None:
        self._projector = projector
        self._connection = connection
        self._consumer = consumer
        self._seats = seats
        self._offsets = offsets
        self._writer = Writer(connection, observe=projector.observe)
        self._ends: Offsets | None = None
        self._asked_at = 0.0
        self._beaten = float("-inf")
        self._written_at = float("-inf")

    async def step(self) -> None:
        """Read what there is, write it, and now and then say so."""
        await asyncio.sleep(max(0.0, self._written_at + GATHERED_SECONDS - time.monotonic()))
        fetched = await self._consumer.getmany(
            timeout_ms=FETCH_WAIT_MS, max_records=self._projector._batch_records
        )
        await self._write(fetched)
        self._note_freshness()
        if time.monotonic() - self._beaten < BEAT_SECONDS:
            return
        asked_at, ends = time.time(), await self._log_ends()
        for (topic, number), end in ends.items():
            if self._offsets[topic, number] > end:
                raise _ahead(f"{topic}/{number} ends at {end}")
        if self._ends is None:
            self._ends, self._asked_at = ends, asked_at
            self._note_freshness()
        self._projector.health.problem = None
        await self._projector._beat(self._connection)
        self._beaten = time.monotonic()

    def _note_freshness(self) -> None:
        if self._ends is not None and all(
            self._offsets[key] >= end for key, end in self._ends.items()
        ):
            self._projector.health.fresh_at, self._ends = self._asked_at, None

    async def _log_ends(self) -> Offsets:
        """Also the proof that Kafka answers: a consumer without records cannot tell."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                ends = await self._consumer.end_offsets(list(self._seats))
        except TimeoutError:
            raise LogUnavailable(f"Kafka does not answer within {ANSWER_SECONDS:.0f} s") from None
        return {self._seats[seat]: end for seat, end in ends.items()}

    async def _write(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        """Offsets move to the consumer's position, which is past transaction markers too."""
        batch = [
            RawRecord(record.topic, record.partition, record.offset, record.value)
            for records in fetched.values()
            for record in records
        ]
        end: Offsets = {}
        for seat, key in self._seats.items():
            position = await self._consumer.position(seat)
            if position > self._offsets[key]:
                end[key] = position
        if not end:
            return
        start = {key: self._offsets[key] for key in end}
        self._written_at = time.monotonic()
        await self._writer.write(batch, start, end)
        self._offsets.update(end)
        self._projector.health.facts_written += len(batch)
        self._projector.health.faults_written = self._writer.faults_written
