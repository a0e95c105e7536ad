"""Chromium and two services: one whose tables hold a day, without a feed; one that follows a real
Kafka with its feed. Both are the real API."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from aiohttp import web

from orchestrator.adapters.kafka_log import KafkaWriter
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.errors import StartRefused
from orchestrator.kafka_access import KafkaAccess
from projections.api import make_app
from projections.consumer import Projector
from projections.database import connect, migrate
from projections.feed.serving import FeedDoor
from projections.lag import LogProbe
from projections.store import Store
from projections.writer import Writer, load_offsets
from schemas.base import Fact
from schemas.topics import TOPICS
from streams.topics import prepare_topics
from tests.page.world import CHAINS, day, records
from tests.projections.conftest import ALL_PARTITIONS
from tests.projections.facts import MemoryLog, topic_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = (
    "NO BROWSER TESTS: there is no chromium on this machine. The page at / was NOT tested. "
    "Debian and Ubuntu: apt-get install chromium"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if "tests/page" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=MISSING))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if CHROMIUM is None:
        terminalreporter.write_line(MISSING, red=True, bold=True)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with EmbeddedStack(
        tmp_path_factory.mktemp("page"), chain_ids=[], parts={"postgres", "kafka"}
    ) as started:
        yield started


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def database(stack: EmbeddedStack, name: str) -> str:
    with psycopg.connect(stack.postgres.url, autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name}")
    url = stack.postgres.url.rpartition("/")[0] + "/" + name
    await migrate(url)
    return url


async def tell(url: str, facts: Any, log: MemoryLog) -> None:
    """Through the projection's own writer, which then says that it is fresh."""
    link = await connect(url)
    try:
        start = await load_offsets(link, ALL_PARTITIONS)
        batch = records(log, facts)
        await Writer(link).write(batch, start, {**start, **log.ends})
        await beat(link)
    finally:
        await link.close()


async def beat(link: Any) -> None:
    await link.execute(
        "INSERT INTO projection_state (writer, beat_at, fresh_at) VALUES ('test', now(), now()) "
        "ON CONFLICT (only_row) DO UPDATE SET beat_at = now(), fresh_at = now()"
    )


@dataclass
class Service:
    """An API on tables that tests may write to."""

    url: str
    database: str
    log: MemoryLog = field(default_factory=MemoryLog)

    async def tell(self, *facts: Any) -> None:
        await tell(self.database, facts, self.log)


@pytest_asyncio.fixture(scope="session")
async def filled(stack: EmbeddedStack) -> AsyncIterator[Service]:
    """A day in the tables; no Kafka, so the page polls. The writer keeps saying that it lives."""
    url = await database(stack, "page_filled")
    service = Service("", url)
    await service.tell(*day(time.time()))
    link = await connect(url)

    async def beating() -> None:
        while True:
            await asyncio.sleep(5)
            await beat(link)

    task = asyncio.create_task(beating())
    async with serving(make_app(Store(url), None, CHAINS)) as address:
        service.url = address
        yield service
    task.cancel()
    await link.close()


@pytest_asyncio.fixture(scope="session")
async def quiet(stack: EmbeddedStack) -> AsyncIterator[Service]:
    """Tables that hold nothing yet, and no chain."""
    url = await database(stack, "page_quiet")
    async with serving(make_app(Store(url), None, [])) as address:
        yield Service(address, url)


@dataclass
class Live:
    """A service that follows a real log: what is appended reaches the page by its feed."""

    url: str
    writer: KafkaWriter

    async def append(self, *facts: Fact) -> None:
        for fact in facts:
            await self.writer.append(TOPICS[topic_of(fact)], [fact])


async def topics_ready(kafka: KafkaAccess) -> None:
    """A broker that has just begun may not yet know a topic that it has just created."""
    for attempt in range(20):
        try:
            return await prepare_topics(kafka, 1)
        except StartRefused:
            if attempt == 19:
                raise
            await asyncio.sleep(0.5)


@pytest_asyncio.fixture(scope="session")
async def live(stack: EmbeddedStack) -> AsyncIterator[Live]:
    kafka = stack.kafka.access
    await topics_ready(kafka)
    url = await database(stack, "page_live")
    writer, stop, store = KafkaWriter(kafka, "page-tests"), asyncio.Event(), Store(url)
    await writer.start()
    projecting = asyncio.create_task(Projector(url, kafka).run(stop))
    app = make_app(store, LogProbe(kafka), [], None, FeedDoor(store, kafka))
    async with serving(app) as address:
        yield Live(address, writer)
    stop.set()
    await projecting
    await writer.close()


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield started
        await started.close()


@dataclass
class Seen:
    """What the browser said and asked while a page was open."""

    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)


BUSY = re.compile(r"Failed to load resource: .* status of 50[34]\b")
"""Of an API that a busy machine kept waiting; the page shows it and asks again."""

PATIENCE_MILLISECONDS = 60_000

Open = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture
async def opened(browser: Any) -> AsyncIterator[Open]:
    """Opens an address in a context of its own, `page.seen` beside it. Whatever a test does, a
    script's exception fails it; so does a complaint in the console, unless the test takes it out
    of `seen.errors` itself."""
    contexts, sights = [], []

    from playwright.async_api import expect

    expect.set_options(timeout=PATIENCE_MILLISECONDS)

    async def start(url: str, **options: Any) -> Any:
        options = {"viewport": {"width": 1440, "height": 900}, **options}
        context = await browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        contexts.append(context)
        page, seen = await context.new_page(), Seen()
        sights.append(seen)
        page.seen = seen

        def asked(request: Any) -> None:
            address = urlsplit(request.url)
            seen.hosts.add(address.netloc)
            seen.paths.append(address.path)

        def said(message: Any) -> None:
            if message.type in ("error", "warning"):
                seen.errors.append(f"{message.text} {message.location.get('url')}")

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        await page.goto(url, wait_until="domcontentloaded")
        return page

    yield start
    for context in contexts:
        await context.close()
    left = [text for seen in sights for text in seen.errors if not BUSY.match(text)]
    assert left == []
