"""Kafka and one chain without interval mining; a wallet for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from orchestrator.dev.stack import EmbeddedStack
from streams import lane_owner
from streams.topics import prepare_topics
from tests.lanes.bench import CHAIN_ID

WALLETS = 20


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    folder = tmp_path_factory.mktemp("lanes")
    async with EmbeddedStack(
        folder,
        chain_ids=[CHAIN_ID],
        block_time=1.0,
        wallets_per_chain=WALLETS,
        parts={"kafka", "chains"},
    ) as running:
        await prepare_topics(running.kafka.access, 1)
        await running.chains[CHAIN_ID].pause_mining()
        await running.chains[CHAIN_ID].mine(3)
        yield running


@pytest.fixture(scope="session")
def _keys(stack: EmbeddedStack) -> Iterator[str]:
    return iter(stack.wallets.relayers[CHAIN_ID])


@pytest.fixture
def key(_keys: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh wallet's key; lanes send again after half a second."""
    monkeypatch.setattr(lane_owner, "REBROADCAST_AFTER_SECONDS", 0.5)
    return next(_keys)
