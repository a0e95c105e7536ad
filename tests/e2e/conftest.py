"""One stack for the whole folder, started by the run itself; the service comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.dev.stack import DEFAULT_CHAIN_IDS, EmbeddedStack
from tests.containers import container_environment, embedded_parts
from tests.e2e.harness import LAUNCHPAD_CHAIN, World


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    folder = tmp_path_factory.mktemp("e2e")
    async with EmbeddedStack(
        folder,
        block_time=1.0,
        parts=embedded_parts(),
        chain_ids=(*DEFAULT_CHAIN_IDS, LAUNCHPAD_CHAIN),
        launchpad_chain_ids=(LAUNCHPAD_CHAIN,),
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def _world(stack: EmbeddedStack) -> AsyncIterator[World]:
    """Kafka and PostgreSQL come from containers instead where that is asked for."""
    async with container_environment() as values:
        world = World(stack, SUPPLY_COMPARE_SECONDS="5", **values)
        yield world
        await world.service.stop()


@pytest_asyncio.fixture
async def world(_world: World) -> World:
    """The stack with `orchestrator run` beside it; a test may stop or kill it."""
    await _world.service.start()
    return _world
