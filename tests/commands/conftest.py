"""Two brokers: one whose log is looked at and archived, and one without topics to restore into."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from orchestrator.cli import app
from orchestrator.dev.stack import EmbeddedStack
from streams.topics import prepare_topics


@pytest_asyncio.fixture(scope="module")
async def brokers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[str]]:
    found = []
    folders = [tmp_path_factory.mktemp(name) for name in ("source", "target")]
    async with (
        EmbeddedStack(folders[0], chain_ids=[], parts={"kafka"}) as source,
        EmbeddedStack(folders[1], chain_ids=[], parts={"kafka"}) as target,
    ):
        await prepare_topics(source.kafka.access, 1)
        for stack in (source, target):
            found.append(stack.kafka.bootstrap_servers)
        yield found


def command(servers: str, *arguments: str) -> Result:
    """What `orchestrator` answers, in this process."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": servers, "COLUMNS": "200"}
    return CliRunner().invoke(app, list(arguments), env=environment)
