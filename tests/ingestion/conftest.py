"""One stack for the folder, and quiet logs: thousands of faults are on purpose here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import structlog

from orchestrator.dev.stack import EmbeddedStack
from streams.topics import prepare_topics

CHAIN_ID = 5920


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    """Kafka with the topics, one chain, and Kuro."""
    folder = tmp_path_factory.mktemp("ingestion")
    parts = {"kafka", "chains", "kuro"}
    async with EmbeddedStack(folder, chain_ids=[CHAIN_ID], parts=parts) as running:
        await prepare_topics(running.kafka.access, 1)
        yield running
