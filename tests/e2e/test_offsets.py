"""What was read is committed, on every partition: a restarted role goes on where it was."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import LANES, REQUESTS
from tests.e2e.harness import World, until

GROUPS = {"decide": (REQUESTS, LANES), "sign": (REQUESTS,), "relay": (LANES,)}


async def test_every_role_commits_what_it_has_read(world: World):
    await world.ended(await world.mint(count=8))
    servers = world.environment["KAFKA_BOOTSTRAP_SERVERS"]
    for role, topics in GROUPS.items():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers,
            group_id=f"orchestrator-{role}",
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        await consumer.start()
        seats = [TopicPartition(topic.name, n) for topic in topics for n in range(topic.partitions)]

        async def level(consumer=consumer, seats=seats) -> bool:
            ends = await consumer.end_offsets(seats)
            behind = [
                seat
                for seat in seats
                if ends[seat] - (await consumer.committed(seat) or 0) > MARKERS
            ]
            return not behind

        try:
            await until(level, f"{role} has committed to the end")
        finally:
            await consumer.stop()


MARKERS = 1
"""A transaction's marker stands behind its records and is never read."""
