"""A JSON-RPC node whose answers a test decides, and what it usually answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.errors import RpcError
from orchestrator.ports import Call

from .conftest import CHAIN_ID, serving

Answering = Callable[[Any], Awaitable[web.StreamResponse]]


class FakeNode:
    """A JSON-RPC server whose answers are functions of the parameters; counts what it was asked.

    `answer` may be replaced to misbehave: it is given the parsed body and returns a response.
    """

    def __init__(self, chain_id: int = CHAIN_ID, **methods: Callable[..., Any]) -> None:
        self.methods: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(chain_id),
            **methods,
        }
        self.calls: list[str] = []
        self.batch_sizes: list[int] = []
        self.url = ""
        self.drops = 0
        """This many requests are received, then their connection is closed without an answer."""
        self.answer: Answering = self.usual_answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        calls = body if isinstance(body, list) else [body]
        if isinstance(body, list):
            self.batch_sizes.append(len(body))
        self.calls += [call["method"] for call in calls]
        if self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return await self.answer(body)

    async def usual_answer(self, body: Any) -> web.StreamResponse:
        if isinstance(body, list):
            return web.json_response([self.result(call) for call in body])
        return web.json_response(self.result(body))

    def result(self, call: dict[str, Any]) -> dict[str, Any]:
        head = {"jsonrpc": "2.0", "id": call["id"]}
        method = self.methods.get(call["method"])
        if method is None:
            return {**head, "error": {"code": -32601, "message": "the method does not exist"}}
        outcome = method(*call["params"])
        if isinstance(outcome, dict) and "error" in outcome:
            return {**head, "error": outcome["error"]}
        return {**head, "result": outcome}


@asynccontextmanager
async def serving_node(node: FakeNode) -> AsyncIterator[FakeNode]:
    async with serving(("POST", "/{key:.*}", node.handle)) as url:
        node.url = url
        yield node


HASH = "0x" + "ab" * 32
OTHER_HASH = "0x" + "cd" * 32
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TOPIC = "0x" + "11" * 32
CALL = Call(ADDRESS, ADDRESS, "0x")


def block(number: int = 5) -> dict[str, Any]:
    return {
        "number": hex(number),
        "hash": HASH,
        "parentHash": OTHER_HASH,
        "timestamp": "0x64",
        "baseFeePerGas": "0x7",
    }


def log(number: int = 5, index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "address": ADDRESS.lower(),
        "topics": [TOPIC],
        "data": "0x",
        "blockNumber": hex(number),
        "blockHash": HASH,
        "transactionHash": HASH,
        "logIndex": hex(index),
        "removed": False,
        **changes,
    }


def good_node(**methods: Any) -> FakeNode:
    usual = {
        "eth_getBalance": lambda address, tag: "0x10",
        "eth_getBlockByNumber": lambda tag, full: block(),
        "eth_estimateGas": lambda call, tag: "0x5208",
        "eth_getTransactionReceipt": lambda tx_hash: None,
    }
    return FakeNode(**{**usual, **methods})


@asynccontextmanager
async def node_over(*fakes: FakeNode, **options: Any) -> AsyncIterator[EvmNode]:
    async with AsyncExitStack() as running:
        for fake in fakes:
            await running.enter_async_context(serving_node(fake))
        node = EvmNode(
            CHAIN_ID, [fake.url for fake in fakes], **{"timeout_seconds": 20.0, **options}
        )
        running.push_async_callback(node.close)
        yield node


def answering(status: int, text: str, kind: str = "text/html") -> Answering:
    async def answer(_body: Any) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind)

    return answer


async def hang(_body: Any) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def failure(node: EvmNode) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await node.balance(ADDRESS)
    return caught.value
