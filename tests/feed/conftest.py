"""One Kafka and one PostgreSQL for this folder; facts are appended as the service appends them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.adapters.kafka_log import KafkaWriter
from orchestrator.dev.stack import EmbeddedStack
from projections.database import migrate
from streams.topics import prepare_topics


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    folder = tmp_path_factory.mktemp("feed")
    async with EmbeddedStack(folder, chain_ids=[], parts={"postgres", "kafka"}) as started:
        await prepare_topics(started.kafka.access, 1)
        await migrate(started.postgres.url)
        yield started


@pytest_asyncio.fixture(scope="session")
async def writer(stack: EmbeddedStack) -> AsyncIterator[KafkaWriter]:
    appending = KafkaWriter(stack.kafka.access, "feed-tests")
    await appending.start()
    yield appending
    await appending.close()
