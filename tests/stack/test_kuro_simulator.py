"""The Kuro simulator speaks Kuro's protocol and misbehaves on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from orchestrator.dev.kuro_simulator import GARBAGE, Behaviour
from orchestrator.dev.services import Kuro
from orchestrator.dev.stack import EmbeddedStack


@pytest.fixture
async def kuro(servers: EmbeddedStack) -> AsyncIterator[Kuro]:
    yield servers.kuro
    defaults = Behaviour()
    await servers.kuro.behave(**vars(defaults))
    await servers.kuro.settle()


@asynccontextmanager
async def _socket(kuro: Kuro) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(kuro.websocket_url) as socket,
    ):
        hello = json.loads((await socket.receive()).data)
        assert hello["type"] == "connection"
        yield socket


async def _texts(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[str]:
    return [(await asyncio.wait_for(socket.receive(), 60)).data for _ in range(count)]


def _bare(text: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(text)
    return message["data"] if message.get("type") == "mintOk" else message


async def _pending(kuro: Kuro) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{kuro.rest_url}/mint-requests/pending") as answer,
    ):
        assert answer.status == 200
        listed: list[dict[str, Any]] = await answer.json()
        return listed


@pytest.mark.asyncio
async def test_mints_arrive_bare_and_wrapped_and_stay_pending(kuro: Kuro) -> None:
    async with _socket(kuro) as socket:
        ids = await kuro.mint_many(4, amount="5")
        texts = await _texts(socket, 4)
    assert [_bare(text)["requestId"] for text in texts] == ids
    assert {json.loads(text).get("type") for text in texts} == {"mintOk", None}
    listed = await _pending(kuro)
    assert [mint["requestId"] for mint in listed] == ids
    assert set(listed[0]) == {"requestId", "user", "amount", "fiatRef", "timestamp"}
    assert len(listed[0]["user"]) == 42
    assert await kuro.settle(ids[:3]) == 3
    assert [mint["requestId"] for mint in await _pending(kuro)] == ids[3:]


@pytest.mark.asyncio
async def test_unheard_mints_are_only_in_the_list_and_survive_a_kill(kuro: Kuro) -> None:
    [request_id] = await kuro.mint({"requestId": "unheard", "chainId": 5921})
    await kuro.kill()
    await kuro.start()
    async with _socket(kuro) as socket:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.receive(), 0.2)
    [listed] = await _pending(kuro)
    assert (listed["requestId"], listed["chainId"]) == (request_id, 5921)


@pytest.mark.asyncio
async def test_repeats_and_changed_amounts(kuro: Kuro) -> None:
    await kuro.behave(repeat=1, change_amount_every=1, wrap="never")
    async with _socket(kuro) as socket:
        await kuro.mint({"requestId": "a", "amount": "1"}, {"requestId": "b", "amount": "1"})
        mints = [json.loads(text) for text in await _texts(socket, 6)]
    seen = [(mint["requestId"], mint["amount"]) for mint in mints]
    assert seen == [("a", "1")] * 2 + [("a", "2")] + [("b", "1")] * 2 + [("b", "2")]
    assert [mint["amount"] for mint in await _pending(kuro)] == ["1", "1"]


@pytest.mark.asyncio
async def test_garbage_comes_between_good_messages(kuro: Kuro) -> None:
    await kuro.behave(garbage_every=2, wrap="always")
    async with _socket(kuro) as socket:
        ids = await kuro.mint_many(20)
        texts = await _texts(socket, 30)
        await kuro.send_text("anything")
        assert await _texts(socket, 1) == ["anything"]
    garbage = [text for text in texts if text in GARBAGE]
    good = [text for text in texts if text not in GARBAGE]
    assert len(garbage) == 10
    assert [_bare(text)["requestId"] for text in good] == ids


@pytest.mark.asyncio
async def test_out_of_order(kuro: Kuro) -> None:
    await kuro.behave(shuffle_window=50)
    async with _socket(kuro) as socket:
        ids = await kuro.mint_many(50)
        seen = [_bare(text)["requestId"] for text in await _texts(socket, 50)]
    assert seen != ids
    assert sorted(seen) == sorted(ids)


@pytest.mark.asyncio
async def test_dropped_and_half_open_sockets(kuro: Kuro) -> None:
    async with _socket(kuro) as socket:
        assert await kuro.drop_sockets() == 1
        assert (await asyncio.wait_for(socket.receive(), 60)).type in (
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.ERROR,
        )
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(kuro.websocket_url, autoping=False) as socket,
    ):
        await socket.receive()
        await socket.ping()
        assert (await asyncio.wait_for(socket.receive(), 60)).type is aiohttp.WSMsgType.PONG
        await kuro.behave(half_open=True)
        await socket.ping()
        await kuro.mint_many(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.receive(), 0.3)
        assert not socket.closed


@pytest.mark.asyncio
async def test_down_and_failing_rest(kuro: Kuro) -> None:
    async with aiohttp.ClientSession() as session:
        await kuro.behave(rest_status=503)
        async with session.get(f"{kuro.rest_url}/mint-requests/pending") as answer:
            assert answer.status == 503
        await kuro.behave(down=True)
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{kuro.rest_url}/mint-requests/pending")
        with pytest.raises(aiohttp.ClientError):
            await session.ws_connect(kuro.websocket_url)
    await kuro.behave(down=False, rest_status=0)
    assert await _pending(kuro) == []
