"""What the read side asks of Kafka beside records: which topics exist."""

from __future__ import annotations

import asyncio

from orchestrator.closing import closed
from orchestrator.errors import StartRefused
from orchestrator.kafka_access import KafkaAccess
from schemas.topics import TOPICS

FOLLOWED = tuple(topic for topic in TOPICS.values() if topic.kinds)
"""A topic that may hold no kind yet has nothing to read."""

ANSWER_SECONDS = 5.0


async def missing_topics(kafka: KafkaAccess) -> list[str]:
    """The topics that do not exist yet. Raises KafkaError, TimeoutError; StartRefused for a topic
    with other partition counts than `schemas.topics`."""
    admin = kafka.admin(client_id="projections")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await admin.start()
            answer = await admin.describe_topics([topic.name for topic in FOLLOWED])
    finally:
        await closed(admin.close())
    counts = {
        row["topic"]: len(row["partitions"]) for row in answer if row.get("error_code", 0) == 0
    }
    for topic in FOLLOWED:
        found = counts.get(topic.name, topic.partitions)
        if found != topic.partitions:
            raise StartRefused(f"{topic.name} has {found} partitions, not {topic.partitions}")
    return [topic.name for topic in FOLLOWED if topic.name not in counts]
