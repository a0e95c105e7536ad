"""The typed client against the real API: pages, waits, feeds across breaks, its own example."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.client import ApiError, ApiUnavailable, Client, FeedLost, Filters
from orchestrator.client.feed import Message, Parser
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.tokens import Scope, Token, new_token, sha256_of
from projections.access import Access
from projections.api import make_app
from projections.feed.serving import FeedDoor
from projections.kafka import missing_topics
from projections.limits import Budget, Limiter, rate_limit
from projections.store import Store
from tests.projections.conftest import Client as TestClient
from tests.projections.conftest import Tables
from tests.projections.facts import CHAIN, START, WALLET, received, whole_life
from tests.projections.test_past import story
from tests.projections.test_projector import create_topics, producing, send
from tests.tidy.project import ROOT

Serve = Callable[..., Awaitable[TestClient]]


def url_of(api: TestClient) -> str:
    return str(api.make_url("")).rstrip("/")


async def test_every_question(api: TestClient, tables: Tables) -> None:
    await tables.write(*story())
    async with Client(url_of(api)) as client:
        one = await client.status("m-1")
        assert (one.status, one.chain_id, one.links.self_) == ("COMPLETED", CHAIN, "/status/m-1")
        assert one.created_at == datetime.fromtimestamp(START + 1, UTC)
        assert one.timeline[0].kind == "RequestReceived" and one.timeline[0].offset == 0
        past = await client.status("m-1", at=datetime.fromtimestamp(START + 2, UTC))
        assert past.stage == "DRAFTED"
        assert (await client.explain("m-1")).code == "COMPLETED"
        lane = await client.lane(CHAIN, WALLET)
        assert [slot.state for slot in lane.slots] == ["FINAL", "BROADCAST", "PREPARED"]
        assert (await client.lanes()).items[0].in_flight == 2
        assert (await client.controls()).paused == []
        assert (await client.queues()).mint.completed == 1
        assert (await client.health()).status == "down"
        assert (await client.ended("m-1")).status == "COMPLETED"


async def test_paging_and_filters(api: TestClient, tables: Tables) -> None:
    keys = [f"m-{number:03}" for number in range(23)]
    await tables.write(*(received(key) for key in keys), *whole_life("a/ö ?#"))
    async with Client(url_of(api)) as client:
        found = [item.request_key async for item in client.requests(Filters(search="m-"), limit=5)]
        assert found == keys[::-1]
        odd = [item async for item in client.requests(Filters(status="COMPLETED"))]
        assert [item.request_key for item in odd] == ["a/ö ?#"]
        assert (await client.status("a/ö ?#")).request_id == "a/ö ?#"
        assert (await client.page(limit=3)).next is not None
    with pytest.raises(ValueError, match="zone"):
        Filters(created_from=datetime(2026, 1, 1)).parameters()


async def test_refusals_are_raised_at_once(api: TestClient) -> None:
    async with Client(url_of(api)) as client:
        with pytest.raises(ApiError, match="no request 'nope'") as caught:
            await client.status("nope")
        assert caught.value.status == 404 and caught.value.problem is not None
        assert caught.value.problem.type == "/docs#problem-unknown-request"
        with pytest.raises(ApiError, match="cursor: not one of ours"):
            await client.page(cursor="x")


async def test_it_waits_as_long_as_the_limit_asks(serve: Serve, database: str) -> None:
    limits = Limiter({Budget.DEFAULT: rate_limit("2/second")})
    api = await serve(database, access=Access(limiter=limits))
    begun = time.monotonic()
    async with Client(url_of(api)) as client:
        for _ in range(5):
            assert (await client.page()).items == []
    assert time.monotonic() - begun >= 1
    strict = await serve(
        database, access=Access(limiter=Limiter({Budget.DEFAULT: rate_limit("1/hour")}))
    )
    async with Client(url_of(strict), patience_seconds=1) as client:
        await client.page()
        with pytest.raises(ApiUnavailable, match="more than 1 requests") as caught:
            await client.page()
        assert caught.value.status == 429


async def test_tokens_and_absence(serve: Serve, database: str) -> None:
    token = new_token()
    api = await serve(database, access=Access((Token("t", Scope.READ, sha256_of(token)),)))
    async with Client(url_of(api), token) as client:
        assert (await client.page()).items == []
    async with Client(url_of(api)) as client:
        with pytest.raises(ApiError) as caught:
            await client.page()
        assert caught.value.status == 401
    async with Client("http://127.0.0.1:1", patience_seconds=0.5) as client:
        with pytest.raises(ApiUnavailable):
            await client.page()


def test_the_stream_is_parsed_as_the_standard_says() -> None:
    parser = Parser()
    stream = (
        ": hello\nretry: 5\nid: 1\n\nid:2\nevent: A\ndata: x\ndata:y\n\nid: b\0d\nnoise\n\ndata\n\n"
    )
    found = [message for line in stream.split("\n") if (message := parser.feed(line))]
    assert found == [Message("1"), Message("2", "A", "x\ny")]


def event(number: int) -> str:
    body = {
        "topic": "requests",
        "partition": 0,
        "offset": number,
        "at": "2026-01-01T00:00:00.000Z",
        "kind": "K",
        "requestKey": None,
        "chainId": None,
        "fact": None,
    }
    return f"id: c{number}\nevent: K\ndata: {json.dumps(body)}\n\n"


async def test_a_broken_feed_goes_on_where_it_was() -> None:
    """A server that breaks off within a line, refuses, and at last says that the log was cut."""
    asked: list[tuple[str | None, str | None]] = []

    async def feed(request: web.Request) -> web.StreamResponse:
        asked.append((request.query.get("from"), request.headers.get("Last-Event-ID")))
        if len(asked) == 2:
            return web.Response(status=503, headers={"Retry-After": "0"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = {1: event(1) + event(2)[:40], 3: "id: c7\n\n", 4: event(8)}
        if len(asked) == 5:
            await response.write(b'event: error\ndata: {"error": "cut"}\n\n')
            return response
        await response.write(text[len(asked)].encode())
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/feed", feed)
    async with TestServer(app) as server, Client(str(server.make_url(""))) as client:
        seen = []
        with pytest.raises(FeedLost, match="cut"):
            async for item in client.feed("start"):
                seen.append((item.cursor, item.event.offset))
    assert seen == [("c1", 1), ("c8", 8)]
    assert asked == [
        ("start", None),
        ("start", "c1"),
        ("start", "c1"),
        ("start", "c7"),
        ("start", "c8"),
    ]


@pytest.fixture
async def live(stack: EmbeddedStack, database: str) -> AsyncIterator[TestServer]:
    kafka = stack.kafka.access
    if await missing_topics(kafka):
        await create_topics(kafka)
    store = Store(database)
    server = TestServer(make_app(store, None, [CHAIN], feed=FeedDoor(store, kafka)))
    await server.start_server()
    yield server
    await server.close()


async def test_the_real_feed(stack: EmbeddedStack, live: TestServer) -> None:
    life: list[Any] = whole_life("client-feed")
    async with Client(str(live.make_url(""))) as client, producing(stack) as producer:
        async with asyncio.timeout(120):
            await send(producer, life[:4])
            seen, cursor = [], "start"
            async for item in client.feed("start", request_key="client-feed"):
                seen.append(item.event.kind)
                cursor = item.cursor
                if len(seen) == 4:
                    break
            await send(producer, life[4:])
            async for item in client.feed(cursor, topics=["requests"], request_key="client-feed"):
                seen.append(item.event.kind)
                if len(seen) == len(life):
                    break
    assert seen == [fact.kind for fact in life]


async def test_the_documented_example_runs(api: TestClient, tables: Tables) -> None:
    await tables.write(*story())
    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    room: dict[str, Any] = {}
    exec(compile(example, "docs/client.md", "exec"), room)
    told = await room["main"](url_of(api))
    assert told[0].startswith("m-2: CHAIN_NOT_SEEN") or told[0].startswith("m-2: TO_BE_MINED")
    assert f"{CHAIN}:{WALLET}: 2 in flight" in told
    assert "no request 'nobody-knows-it'" in told[-1]
