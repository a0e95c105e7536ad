"""One PostgreSQL and one Kafka for this folder; a fresh, migrated database for every test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator.dev.stack import EmbeddedStack
from projections.access import Access
from projections.api import make_app
from projections.database import connect, migrate
from projections.fold import RawRecord
from projections.store import Store
from projections.writer import Writer, load_offsets
from schemas.base import Fact
from schemas.topics import TOPICS
from tests.projections.facts import CHAIN, MemoryLog

_numbers = itertools.count()

ALL_PARTITIONS = [
    (topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions)
]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    folder = tmp_path_factory.mktemp("read-side")
    with EmbeddedStack(folder, chain_ids=[], parts={"postgres", "kafka"}) as started:
        yield started


def at_database(url: str, name: str) -> str:
    return url.rpartition("/")[0] + "/" + name


def new_database(stack: EmbeddedStack, template: str | None = None) -> str:
    name = f"test_{next(_numbers)}"
    source = f" TEMPLATE {template}" if template else ""
    with psycopg.connect(stack.postgres.url, autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name}{source}")
    return at_database(stack.postgres.url, name)


@pytest.fixture
def empty_database(stack: EmbeddedStack) -> str:
    return new_database(stack)


@pytest.fixture(scope="session")
async def template(stack: EmbeddedStack) -> str:
    url = new_database(stack)
    await migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture
def database(stack: EmbeddedStack, template: str) -> str:
    """The URL of a migrated, empty database."""
    return new_database(stack, template)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    link = await connect(database)
    yield link
    await link.close()


@dataclass
class Tables:
    """Writes facts as the projector would, without Kafka."""

    connection: psycopg.AsyncConnection[Any]
    log: MemoryLog = field(default_factory=MemoryLog)

    async def write(self, *facts: Fact) -> None:
        await self.write_raw(self.log.append(facts))

    async def write_raw(self, batch: list[RawRecord], writer: Writer | None = None) -> None:
        start = await load_offsets(self.connection, ALL_PARTITIONS)
        end = {**start, **self.log.ends}
        await (writer or Writer(self.connection)).write(batch, start, end)

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        found = await self.connection.execute(statement, values)
        return await found.fetchall()


@pytest.fixture
def tables(connection: psycopg.AsyncConnection[Any]) -> Tables:
    return Tables(connection)


Client = TestClient[Any, Any]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Start an API on a database URL; all are stopped at the end."""
    clients: list[Client] = []

    async def start(url: str, probe: Any = None, access: Access | None = None) -> Client:
        client = TestClient(TestServer(make_app(Store(url), probe, [CHAIN], access=access)))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def api(serve: Callable[..., Awaitable[Client]], database: str) -> Client:
    return await serve(database)
