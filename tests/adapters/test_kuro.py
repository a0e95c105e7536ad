"""`KuroSource` against the Kuro simulator, and against servers that break the protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from structlog.testing import capture_logs

from orchestrator.adapters.kuro import KuroSource, MalformedMessage, Received, parse
from orchestrator.dev.services import Kuro
from orchestrator.dev.stack import EmbeddedStack
from schemas.kuro import MintOk, Via

from .conftest import serving

FAST = {
    "rest_interval_seconds": 30.0,
    "heartbeat_seconds": 60.0,
    "shortest_delay_seconds": 0.05,
    "longest_delay_seconds": 0.2,
    "timeout_seconds": 20.0,
}


class Listener:
    """Collects what a source yields."""

    def __init__(self, source: KuroSource) -> None:
        self.source = source
        self.received: list[Received] = []

    @property
    def health(self) -> Any:
        return self.source.health

    def ids(self, via: Via | None = None) -> set[str]:
        return {mint.request_id for mint in self.mints(via)}

    def mints(self, via: Via | None = None) -> list[MintOk]:
        found = []
        for item in self.received:
            try:
                mint = parse(item.raw, item.via, 5920)
            except MalformedMessage:
                continue
            if isinstance(mint, MintOk) and via in (None, item.via):
                found.append(mint)
        return found

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.source.health
            await asyncio.sleep(0.01)

    async def collect(self) -> None:
        async with aclosing(self.source.messages()) as messages:
            async for message in messages:
                self.received.append(message)


@asynccontextmanager
async def listening(websocket_url: str, rest_url: str, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(KuroSource(websocket_url, rest_url, **{**FAST, **options}))
    task = asyncio.create_task(listener.collect())
    try:
        yield listener
        assert not task.done(), "the source never ends by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def kuro(stack: EmbeddedStack) -> AsyncIterator[Kuro]:
    usual = await stack.kuro.behave()
    await stack.kuro.settle()
    yield stack.kuro
    await stack.kuro.behave(**usual)
    if not stack.kuro.running:
        await stack.kuro.start()


@asynccontextmanager
async def hearing(kuro: Kuro, **options: Any) -> AsyncIterator[Listener]:
    async with listening(kuro.websocket_url, kuro.rest_url, **options) as listener:
        await listener.until(lambda: listener.health.lists > 0 and listener.health.connected_since)
        yield listener


async def test_both_ways(kuro: Kuro) -> None:
    begun = time.time()
    early = set(await kuro.mint_many(3))
    async with hearing(kuro) as listener:
        await listener.until(lambda: listener.ids(Via.REST) >= early)
        late = set(await kuro.mint_many(50))
        await listener.until(lambda: listener.ids(Via.SOCKET) >= late)
        health = listener.health
        assert (health.connects, health.last_socket_error, health.last_list_error) == (
            1,
            None,
            None,
        )
        assert health.socket_messages >= 50
        assert health.last_message_at >= begun


async def test_messages_while_down_come_by_the_list(kuro: Kuro) -> None:
    async with hearing(kuro) as listener:
        await kuro.mint_many(1)
        await kuro.kill()
        await listener.until(lambda: listener.health.connected_since is None)
        await listener.until(lambda: listener.health.socket_failures > 2)
        await kuro.start()
        missed = set(await kuro.mint_many(20))
        await listener.until(lambda: listener.ids() >= missed)
        assert listener.health.connects >= 2
        assert listener.health.connected_since


async def test_dropped_sockets(kuro: Kuro) -> None:
    async with hearing(kuro) as listener:
        await kuro.behave(drop_every=7)
        sent = set(await kuro.mint_many(100))
        await listener.until(lambda: listener.ids() >= sent)
        assert listener.health.connects > 1


async def test_garbage_between_good_ones(kuro: Kuro) -> None:
    await kuro.behave(garbage_every=2, repeat=1, shuffle_window=5)
    async with hearing(kuro) as listener:
        sent = set(await kuro.mint_many(40))
        await listener.until(lambda: listener.ids(Via.SOCKET) >= sent)
        assert listener.health.connects == 1, "garbage does not cost the connection"
        assert len(listener.received) > len(listener.mints()) > len(sent)


async def test_a_half_open_socket_is_found(kuro: Kuro) -> None:
    """By the heartbeat: the list's own interval does not come in the test's time."""
    async with hearing(kuro, heartbeat_seconds=0.4, rest_interval_seconds=3600.0) as listener:
        await kuro.behave(half_open=True)
        sent = set(await kuro.mint_many(5))
        await listener.until(lambda: listener.ids(Via.REST) >= sent)
        assert listener.health.connects >= 2


async def test_a_half_open_socket_is_no_answer(kuro: Kuro, monkeypatch: pytest.MonkeyPatch) -> None:
    source = KuroSource(kuro.websocket_url, kuro.rest_url)
    assert await source.probe() == (None, None)
    monkeypatch.setattr("orchestrator.adapters.kuro.PONG_SECONDS", 0.2)
    await kuro.behave(half_open=True)
    try:
        socket, listed = await source.probe()
    finally:
        await kuro.behave(half_open=False)
    assert socket is not None and "answers no ping" in socket
    assert listed is None


async def test_the_list_failing_does_not_stop_the_socket(kuro: Kuro) -> None:
    async with hearing(kuro, rest_interval_seconds=0.05) as listener:
        await kuro.behave(rest_status=503)
        await listener.until(lambda: listener.health.list_failures > 1)
        assert listener.health.last_list_error == "HTTP 503"
        sent = set(await kuro.mint_many(10))
        await listener.until(lambda: listener.ids(Via.SOCKET) >= sent)
        assert listener.health.connects == 1
        await kuro.behave(rest_status=0)
        await listener.until(lambda: listener.ids(Via.REST) >= sent)
        assert listener.health.last_list_error is None


async def test_the_socket_failing_does_not_stop_the_list(kuro: Kuro) -> None:
    url = "ws://127.0.0.1:1/SECRET"
    with capture_logs() as logs:
        async with listening(url, kuro.rest_url, rest_interval_seconds=0.1) as listener:
            sent = set(await kuro.mint_many(10))
            await listener.until(lambda: listener.ids(Via.REST) >= sent)
            more = set(await kuro.mint_many(10))
            await listener.until(lambda: listener.ids(Via.REST) >= more)
            assert listener.health.last_socket_error
            assert listener.health.connected_since is None
    assert "SECRET" not in str(logs) + str(listener.health)


def mint(request_id: str) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "user": "0x00000000000000000000000000000000000A11CE",
        "amount": "5",
        "fiatRef": "f",
        "timestamp": 1,
    }


async def no_list(_request: web.Request) -> web.StreamResponse:
    return web.json_response([])


@asynccontextmanager
async def scripted(
    script: Callable[[web.WebSocketResponse, int], Any],
    pending: Callable[[web.Request], Any] = no_list,
    **options: Any,
) -> AsyncIterator[Listener]:
    """A server whose sockets each run `script(socket, number of the connection)`."""
    connections = 0

    async def events(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        connections += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await script(socket, connections)
        return socket

    routes = [("GET", "/events", events), ("GET", "/api/mint-requests/pending", pending)]
    async with (
        serving(*routes) as url,
        listening(url.replace("http", "ws", 1) + "/events", url + "/api/", **options) as listener,
    ):
        yield listener


async def stay(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


async def test_invalid_utf8_is_a_message_not_a_disconnect() -> None:
    async def script(socket: web.WebSocketResponse, _number: int) -> None:
        await socket.send_frame(b"\xff\xfe", WSMsgType.TEXT)
        await socket.send_bytes(b"\x00\x01")
        await socket.send_json(mint("good"))
        await stay(socket)

    async with scripted(script) as listener:
        await listener.until(lambda: listener.ids() == {"good"})
        assert [item.raw for item in listener.received[:2]] == [b"\xff\xfe", b"\x00\x01"]
        assert listener.health.connects == 1


async def test_a_message_that_is_too_large_costs_the_connection_only() -> None:
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        if number == 1:
            await socket.send_str("x" * (1024 * 1024 + 1))
        else:
            await socket.send_json(mint("after"))
        await stay(socket)

    async with scripted(script) as listener:
        await listener.until(lambda: listener.ids() == {"after"})
        assert listener.health.connects == 2
        assert listener.health.socket_failures == 1


async def test_what_is_allowed_while_connecting_is_not_missed() -> None:
    """The list is asked after the socket stands, so there is no moment that neither covers."""
    pending: list[dict[str, Any]] = []

    async def script(socket: web.WebSocketResponse, number: int) -> None:
        pending.append(mint(f"before-{number}"))
        await socket.close()

    async def listed(_request: web.Request) -> web.StreamResponse:
        return web.json_response(pending)

    async with scripted(script, listed) as listener:
        await listener.until(lambda: {"before-1", "before-2", "before-3"} <= listener.ids())


@pytest.mark.parametrize("script_kind", ["close", "refuse"])
async def test_reconnects_are_spaced(script_kind: str) -> None:
    """A server that closes at once, or refuses, is not hammered: 0.05 s doubling to 0.2 s here."""
    started: list[float] = []

    async def script(socket: web.WebSocketResponse, _number: int) -> None:
        started.append(time.monotonic())
        await socket.close()

    async def refuse(_request: web.Request) -> web.StreamResponse:
        started.append(time.monotonic())
        return web.Response(status=503)

    def spaced(listener: Listener) -> None:
        """However slow the machine, no delay is shorter: each begins after the one before."""
        assert all(later - earlier >= 0.02 for earlier, later in pairwise(started))
        assert listener.health.socket_failures >= 3

    if script_kind == "close":
        async with scripted(script) as listener:
            await listener.until(lambda: len(started) >= 6)
            spaced(listener)
    else:
        routes = [("GET", "/events", refuse), ("GET", "/api/mint-requests/pending", no_list)]
        async with (
            serving(*routes) as url,
            listening(url.replace("http", "ws", 1) + "/events", url + "/api") as listener,
        ):
            await listener.until(lambda: len(started) >= 6)
            assert listener.health.last_socket_error == "HTTP 503"
            spaced(listener)


async def test_a_slow_consumer_holds_the_sender_back() -> None:
    """The queue is bounded; nothing is dropped when the consumer comes back in time."""

    async def script(socket: web.WebSocketResponse, _number: int) -> None:
        for number in range(2000):
            await socket.send_json(mint(f"m-{number}"))
        await stay(socket)

    async def run(websocket_url: str, rest_url: str) -> None:
        source = KuroSource(
            websocket_url, rest_url, **{**FAST, "heartbeat_seconds": 60.0}, queue_size=10
        )
        seen: set[str] = set()
        async with aclosing(source.messages()) as messages:
            async for item in messages:
                if not seen:
                    await asyncio.sleep(0.3)
                    assert source.health.socket_messages <= 13
                seen.add(json.loads(item.raw)["requestId"])
                if len(seen) == 2000:
                    break
        assert source.health.connects == 1

    async def events(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await script(socket, 1)
        return socket

    routes = [("GET", "/events", events), ("GET", "/api/mint-requests/pending", no_list)]
    async with serving(*routes) as url:
        await run(url.replace("http", "ws", 1) + "/events", url + "/api")


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (200, "<html>", "the answer is not JSON"),
        (200, "{}", "the answer is not a JSON list"),
        (200, "NaN", "the answer is not JSON"),
        (404, "[]", "HTTP 404"),
        (429, "", "HTTP 429"),
    ],
)
async def test_lists_that_are_none(status: int, text: str, reason: str) -> None:
    async def pending(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    async def script(socket: web.WebSocketResponse, _number: int) -> None:
        await stay(socket)

    async with scripted(script, pending) as listener:
        await listener.until(lambda: listener.health.last_list_error == reason)
        assert listener.received == []


async def test_items_of_the_list_stand_alone() -> None:
    """A bad item becomes a message of its own and spoils no other."""

    async def pending(_request: web.Request) -> web.StreamResponse:
        items = [mint("a"), 7, None, ["x"], {**mint("b"), "amount": 5}, mint("c")]
        return web.json_response(items)

    async def script(socket: web.WebSocketResponse, _number: int) -> None:
        await stay(socket)

    async with scripted(script, pending) as listener:
        await listener.until(lambda: listener.ids() == {"a", "c"})
        assert len(listener.received) == 6


async def test_closing_leaves_nothing_behind(kuro: Kuro) -> None:
    before = len(asyncio.all_tasks())
    async with hearing(kuro):
        assert len(asyncio.all_tasks()) > before
    deadline = time.monotonic() + 60
    while len(asyncio.all_tasks()) != before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    while (await kuro.state())["sockets"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
