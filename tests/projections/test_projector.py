"""The projector on real Kafka and PostgreSQL: start order, restarts, take-over, outages."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from orchestrator.dev.stack import EmbeddedStack
from orchestrator.kafka_access import KafkaAccess
from projections.consumer import Projector
from projections.database import connect, migrate
from projections.kafka import missing_topics
from projections.lag import LogProbe, lag_by_topic
from schemas.base import Fact, Record, encode_value, instant
from schemas.topics import TOPICS
from tests.projections.conftest import Client
from tests.projections.facts import (
    START,
    followed,
    mint_ok,
    partition_of,
    received,
    to_submitted,
    topic_of,
    whole_life,
)


async def create_topics(kafka: KafkaAccess) -> None:
    admin = kafka.admin()
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic.name, topic.partitions, 1) for topic in TOPICS.values()]
        )
    finally:
        await admin.close()


@asynccontextmanager
async def producing(stack: EmbeddedStack, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = stack.kafka.access.producer(**options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, facts: Iterable[Fact]) -> None:
    sent = [
        await producer.send(
            topic_of(fact),
            encode_value(Record(fact, instant(START + number))),
            key=fact.key.encode(),
            partition=partition_of(fact),
        )
        for number, fact in enumerate(facts)
    ]
    await asyncio.gather(*sent)


@asynccontextmanager
async def projecting(stack: EmbeddedStack, database: str, **more: Any) -> AsyncIterator[Projector]:
    projector = Projector(database, stack.kafka.access, **more)
    stop = asyncio.Event()
    task = asyncio.create_task(projector.run(stop, lambda: migrate(database)))
    try:
        yield projector
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await task


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(psycopg.OperationalError):
            if await holds():
                return
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.05)


async def rows(database: str, statement: str) -> list[tuple[Any, ...]]:
    link = await connect(database)
    try:
        return await (await link.execute(statement)).fetchall()
    finally:
        await link.close()


def completed(database: str, prefix: str, count: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        found = await rows(
            database,
            "SELECT count(*) FROM requests WHERE stage = 'COMPLETED' "
            f"AND request_key LIKE '{prefix}%'",
        )
        return found == [(count,)]

    return holds


@pytest.fixture
async def new_broker(tmp_path: Path) -> AsyncIterator[EmbeddedStack]:
    """Nobody has made topics on it yet."""
    async with EmbeddedStack(tmp_path, chain_ids=[], parts={"kafka"}) as started:
        yield started


async def test_waits_for_topics_then_follows_them(
    new_broker: EmbeddedStack, empty_database: str
) -> None:
    stack = new_broker
    async with projecting(stack, empty_database) as projector:

        async def waits() -> bool:
            return "waiting for topics" in (projector.health.problem or "")

        await until(waits)
        await create_topics(stack.kafka.access)
        async with producing(stack) as producer:
            await send(producer, [mint_ok("first"), *whole_life("first"), followed(5920, 7)])
        await until(completed(empty_database, "first", 1))

        async def fresh() -> bool:
            return projector.health.fresh_at is not None and projector.health.problem is None

        await until(fresh)
    assert await rows(empty_database, "SELECT to_block FROM chain_heads") == [(7,)]


@pytest.fixture(scope="module")
async def topics(stack: EmbeddedStack) -> EmbeddedStack:
    if await missing_topics(stack.kafka.access):
        await create_topics(stack.kafka.access)
    return stack


async def test_restarts_in_the_middle_lose_and_double_nothing(
    topics: EmbeddedStack, database: str
) -> None:
    """Cancelled (as a kill: nothing is tidied that the loop does not do by itself) at random
    points of 160 lives with duplicates, garbage and aborted transactions between them."""
    lives = [fact for number in range(160) for fact in whole_life(f"r-{number}")]
    kafka = topics.kafka.access
    async with producing(topics) as producer, producing(topics, transactional_id="t") as fenced:
        await send(producer, lives[:600])
        await producer.send_and_wait("requests", b"garbage", partition=3)
        await fenced.begin_transaction()
        await send(fenced, [received("r-aborted")])
        await fenced.abort_transaction()
        async with fenced.transaction():
            await send(fenced, [followed(5921, 40)])
        await send(producer, [*lives[600:], *lives[:200]])
    for pause in (0.05, 0.3, 0.5, 0.15):
        projector = Projector(database, kafka, batch_records=37)
        task = asyncio.create_task(projector.run(asyncio.Event()))
        await asyncio.sleep(pause)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    async with projecting(topics, database):
        await until(completed(database, "r-", 160))
        probe = LogProbe(kafka)

        async def caught_up() -> bool:
            held = {
                (topic, partition): offset
                for topic, partition, offset in await rows(
                    database, "SELECT topic, partition, next_offset FROM projection_offsets"
                )
            }
            return not any(lag_by_topic(await probe.ends(), held).values())

        await until(caught_up)
        await probe.close()
    verdicts = await rows(
        database,
        "SELECT verdict, count(*) FROM request_facts WHERE request_key LIKE 'r-%' GROUP BY 1",
    )
    assert dict(verdicts) == {"APPLIED": len(lives), "REPEATED": 200}
    assert await rows(database, "SELECT reason FROM projection_faults WHERE value = 'garbage'")
    assert await rows(database, "SELECT to_block FROM chain_heads WHERE chain_id = 5921") == [(40,)]


async def test_one_writes_the_other_takes_over(topics: EmbeddedStack, database: str) -> None:
    async with projecting(topics, database) as second:
        first = second

        async def writes() -> bool:
            return first.health.role == "writing"

        await until(writes)
        async with projecting(topics, database) as standby:

            async def stands_by() -> bool:
                return standby.health.role == "standby"

            await until(stands_by)
            terminated = await rows(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND granted AND database = (SELECT oid FROM pg_database "
                "WHERE datname = current_database())",
            )
            assert terminated == [(True,)]

            async def some_one_writes() -> bool:
                return "writing" in (first.health.role, standby.health.role)

            async with producing(topics) as producer:
                await send(producer, whole_life("over"))
            await until(completed(database, "over", 1))
            await until(some_one_writes)


async def test_outages_of_both_heal_by_themselves(
    topics: EmbeddedStack, database: str, serve: Callable[..., Awaitable[Client]]
) -> None:
    api = await serve(database, LogProbe(topics.kafka.access))

    async def ready() -> bool:
        return (await api.get("/health/ready")).status == 200

    async with projecting(topics, database) as projector:
        await until(ready)
        await topics.postgres.kill()

        async def unready() -> bool:
            answer = await api.get("/health/ready")
            body = await answer.json()
            return answer.status == 503 and not body["checks"]["database"]["ok"]

        await until(unready)
        assert (await api.get("/status")).status == 503
        metrics = await (await api.get("/metrics")).text()
        assert "orchestrator_database_up 0.0" in metrics
        assert "orchestrator_requests{" not in metrics
        async with producing(topics) as producer:
            await send(producer, whole_life("dark"))
        await topics.postgres.start()
        await until(completed(database, "dark", 1))
        await until(ready)

        await topics.kafka.kill()

        async def sees_kafka_down() -> bool:
            body = await (await api.get("/health")).json()
            return projector.health.problem is not None and not body["checks"]["kafka"]["ok"]

        await until(sees_kafka_down)
        password = topics.postgres.url.split(":")[2].split("@")[0]
        assert password not in await (await api.get("/health")).text()
        await topics.kafka.start()
        async with producing(topics) as producer:
            await send(producer, whole_life("after"))
        await until(completed(database, "after", 1))


async def test_a_log_that_was_made_anew_is_told_and_changes_nothing(
    topics: EmbeddedStack, database: str
) -> None:
    await rows(
        database,
        "INSERT INTO projection_offsets VALUES ('requests', 0, 1000000) RETURNING next_offset",
    )
    async with projecting(topics, database) as projector:

        async def told() -> bool:
            return "ahead of the log" in (projector.health.problem or "")

        await until(told)
    problems = await rows(database, "SELECT problem, fresh_at FROM projection_state")
    assert "ahead of the log" in problems[0][0] and problems[0][1] is None


@pytest.mark.skipif("MEASURE" not in os.environ, reason="a measurement, not a test")
@pytest.mark.parametrize("abreast", [200, 5000])
async def test_measure_throughput(topics: EmbeddedStack, database: str, abreast: int) -> None:
    """Facts a second from an empty database; `abreast` requests advance together, so that 5000
    makes every fact of a batch touch another row (the worst case)."""
    count = 5000
    prefix = f"p{abreast}-"
    async with producing(topics, linger_ms=20) as producer:
        for first in range(0, count, abreast):
            lives = [whole_life(f"{prefix}{number}") for number in range(first, first + abreast)]
            await send(producer, [life[step] for step in range(8) for life in lives])
    [(before,)] = await rows(database, "SELECT count(*) FROM request_facts")
    begun, burnt = time.monotonic(), time.process_time()
    async with projecting(topics, database):
        await until(completed(database, prefix, count), 120)
    seconds, cpu = time.monotonic() - begun, time.process_time() - burnt
    [(facts,)] = await rows(database, "SELECT count(*) FROM request_facts")
    rate = (facts - before) / seconds
    print(f"{facts - before} facts in {seconds:.1f} s, {rate:.0f}/s; own CPU {cpu:.1f} s")


async def test_an_open_request_is_there_at_once(topics: EmbeddedStack, database: str) -> None:
    """The time from the log to the table, projector idle."""
    async with projecting(topics, database) as projector:

        async def fresh() -> bool:
            return projector.health.fresh_at is not None

        await until(fresh)
        async with producing(topics) as producer:
            await send(producer, [received("quick"), *to_submitted("quick")])

        async def there() -> bool:
            found = await rows(database, "SELECT stage FROM requests WHERE request_key = 'quick'")
            return found == [("SUBMITTED",)]

        await until(there)
