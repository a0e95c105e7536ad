"""`EvmNode` against nodes and proxies that misbehave; several URLs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from orchestrator.adapters import evm_endpoint
from orchestrator.adapters.evm_endpoint import LONGEST_COOL_DOWN_SECONDS, Endpoint
from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.errors import RpcError, RpcProblem, StartRefused
from orchestrator.ports import Call

from .conftest import CHAIN_ID
from .fake_node import (
    ADDRESS,
    CALL,
    HASH,
    FakeNode,
    answering,
    block,
    failure,
    good_node,
    hang,
    node_over,
    serving_node,
)

ANSWERS = [
    (200, "garbage", RpcProblem.UNAVAILABLE),
    (200, "", RpcProblem.UNAVAILABLE),
    (200, "[]", RpcProblem.UNAVAILABLE),
    (200, "null", RpcProblem.UNAVAILABLE),
    (200, '{"jsonrpc":"2.0","id":1}', RpcProblem.UNAVAILABLE),
    (200, '{"jsonrpc":"2.0","id":99999,"result":"0x1"}', RpcProblem.UNAVAILABLE),
    (200, "<html><title>Login</title></html>", RpcProblem.UNAVAILABLE),
    (301, "moved", RpcProblem.UNAVAILABLE),
    (403, "no", RpcProblem.UNAVAILABLE),
    (429, "slow down", RpcProblem.RATE_LIMITED),
    (429, '{"error":{"code":-32000,"message":"hm"}}', RpcProblem.RATE_LIMITED),
    (500, '{"error":{"code":-32000,"message":"hm"}}', RpcProblem.UNAVAILABLE),
    (500, '{"error":{"code":-32000,"message":"nonce too low"}}', RpcProblem.NONCE_TOO_LOW),
    (502, "<html>bad</html>", RpcProblem.UNAVAILABLE),
    (200, '{"id":null,"error":"text, not an object"}', RpcProblem.UNEXPECTED),
    (200, '{"id":null,"error":{"code":"x","message":7,"data":[[]]}}', RpcProblem.UNEXPECTED),
    (200, '{"id":null,"error":{}}', RpcProblem.UNEXPECTED),
    (200, '{"id":null,"result":7}', RpcProblem.UNEXPECTED),
    (200, '{"id":null,"result":"12"}', RpcProblem.UNEXPECTED),
    (200, '{"id":null,"result":{"a":1}}', RpcProblem.UNEXPECTED),
]


@pytest.mark.parametrize(("status", "text", "expected"), ANSWERS)
async def test_odd_answers(status: int, text: str, expected: RpcProblem) -> None:
    fake = good_node()
    async with node_over(fake) as node:
        await node.check_chain()
        fake.answer = answering(status, text)
        assert (await failure(node)).problem is expected


@pytest.mark.parametrize(("status", "text", "expected"), ANSWERS)
async def test_odd_answers_to_batches(status: int, text: str, expected: RpcProblem) -> None:
    """Every item carries an error, nothing is raised, nothing is answered with a wrong value."""
    fake = good_node()
    async with node_over(fake) as node:
        await node.check_chain()
        fake.answer = answering(status, text)
        answers = await node.estimate_gas([CALL] * 3)
        assert len(answers) == 3
        assert all(isinstance(answer, RpcError) for answer in answers)


async def test_slow_and_refused() -> None:
    slow = good_node()
    async with node_over(slow, timeout_seconds=0.3) as node:
        await node.check_chain()
        slow.answer = hang
        assert "in time" in str(await failure(node))
    node = EvmNode(CHAIN_ID, ["http://127.0.0.1:1"])
    assert (await failure(node)).problem is RpcProblem.UNAVAILABLE
    await node.close()


async def test_batch_answers_are_matched_by_id() -> None:
    """In any order, with one missing, one twice and one that was never asked."""
    fake = good_node(eth_estimateGas=lambda call, tag: call["data"])
    async with node_over(fake) as node:
        await node.check_chain()

        async def shuffled(body: Any) -> web.StreamResponse:
            if not isinstance(body, list):
                return web.json_response(fake.result(body))
            results = [fake.result(call) for call in body]
            stray = {"jsonrpc": "2.0", "id": 10**6, "result": "0x1"}
            return web.json_response([stray, None, *reversed(results[1:]), results[2]])

        fake.answer = shuffled
        calls = [Call(ADDRESS, ADDRESS, hex(number)) for number in range(10, 15)]
        first, *others = await node.estimate_gas(calls)
        assert others == [11, 12, 13, 14]
        assert isinstance(first, RpcError)
        assert first.problem is RpcProblem.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, '{"error":{"code":-32600,"message":"batching is not supported"}}'),
        (200, '{"error":{"code":-32005,"message":"batch limit 10 exceeded"}}'),
        (400, "<html>bad request</html>"),
        (413, "too large"),
        (200, '"hm"'),
    ],
)
@pytest.mark.parametrize("largest", [1, 10])
async def test_a_provider_that_refuses_batches(status: int, text: str, largest: int) -> None:
    """Halves down to what it takes; remembered, so that later calls are not refused again."""
    fake = good_node(eth_estimateGas=lambda call, tag: call["data"])
    refused: list[int] = []
    plain = fake.answer

    async def picky(body: Any) -> web.StreamResponse:
        if isinstance(body, list) and len(body) > largest:
            refused.append(len(body))
            return web.Response(status=status, text=text)
        return await plain(body)

    fake.answer = picky
    async with node_over(fake) as node:
        calls = [Call(ADDRESS, ADDRESS, hex(number)) for number in range(60)]
        assert await node.estimate_gas(calls) == list(range(60))
        assert refused
        refused.clear()
        assert await node.estimate_gas(calls) == list(range(60))
        assert refused == []


async def test_reads_fail_over_and_come_back() -> None:
    first, second = good_node(), good_node(eth_getBalance=lambda address, tag: "0x20")
    async with node_over(first, second) as node:
        await node.check_chain()
        plain = first.answer
        first.answer = answering(503, "")
        assert await node.balance(ADDRESS) == 0x20
        [cooling, _] = node._endpoints.all
        assert cooling.cool_until > 0
        cooling.cool_until = time.monotonic() + 300
        asked = len(first.calls)
        assert await node.balance(ADDRESS) == 0x20
        assert len(first.calls) == asked, "a URL that cools down is left alone"
        first.answer = plain
        cooling.cool_until = time.monotonic()
        assert await node.balance(ADDRESS) == 0x10


async def test_what_is_pinned_is_answered_by_one_node_or_by_none() -> None:
    first, second = good_node(), good_node(eth_getBalance=lambda address, tag: "0x20")
    async with node_over(first, second) as node:
        await node.check_chain()
        plain = first.answer
        first.answer = answering(503, "")
        pinned = node.pinned()
        assert await pinned.balance(ADDRESS) == 0x20, "the first one that answers"
        first.answer, second.answer = plain, answering(503, "")
        await asyncio.sleep(0.5)
        assert (await failure(pinned)).problem is RpcProblem.UNAVAILABLE
        assert await node.balance(ADDRESS) == 0x10
        assert await node.pinned().balance(ADDRESS) == 0x10


async def test_a_url_that_leaves_what_is_pinned_halfway_is_not_pinned_again_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It always answers the first question: by its cool-down alone it would be pinned for ever."""
    down = {"error": {"code": -32603, "message": "internal error"}}
    first = good_node(eth_gasPrice=lambda: down)
    second = good_node(eth_getBalance=lambda address, tag: "0x20", eth_gasPrice=lambda: "0x2")
    async with node_over(first, second) as node:
        [preferred, _] = node._endpoints.all
        pinned = node.pinned()
        assert await pinned.balance(ADDRESS) == 0x10
        with pytest.raises(RpcError):
            await pinned.gas_price()
        for _ in range(3):
            preferred.cool_until = 0.0
            pinned = node.pinned()
            assert await pinned.balance(ADDRESS) == 0x20
            assert await pinned.gas_price() == 2
            assert await node.balance(ADDRESS) == 0x10, "for single questions it is well"
        second.methods["eth_gasPrice"] = lambda: down
        with pytest.raises(RpcError):
            await pinned.gas_price()
        for endpoint in node._endpoints.all:
            endpoint.cool_until = 0.0
        assert await node.pinned().balance(ADDRESS) == 0x10, "both did: the one longer ago"
        second.methods["eth_gasPrice"] = lambda: "0x2"
        monkeypatch.setattr(evm_endpoint, "LONGEST_COOL_DOWN_SECONDS", 0.0)
        assert await node.pinned().balance(ADDRESS) == 0x10, "after a while the preferred one"


async def test_a_pinned_url_that_lacks_its_own_blocks_is_left() -> None:
    """A balancer's nodes: one tells the head, the other does not have the blocks below it yet."""
    first = good_node(eth_getBlockByNumber=lambda tag, full: block() if tag == "latest" else None)
    second = good_node(eth_getBlockByNumber=lambda tag, full: block(9 if tag == "latest" else 5))
    async with node_over(first, second) as node:
        pinned = node.pinned()
        assert (await pinned.head()).number == 5
        with pytest.raises(RpcError):
            await pinned.headers(5, 5)
        pinned = node.pinned()
        assert (await pinned.head()).number == 9
        assert [head.number for head in await pinned.headers(5, 5)] == [5]


async def test_only_what_failed_is_asked_elsewhere() -> None:
    limited = {"error": {"code": -32005, "message": "rate limit"}}
    refused = {"error": {"code": 3, "message": "execution reverted"}}
    first = good_node(
        eth_estimateGas=lambda call, tag: {"0x1": "0x1", "0x2": limited}.get(call["data"], refused)
    )
    second = good_node(eth_estimateGas=lambda call, tag: "0x22")
    async with node_over(first, second) as node:
        answers = await node.estimate_gas([Call(ADDRESS, ADDRESS, hex(n)) for n in (1, 2, 3)])
        assert answers[:2] == [1, 0x22]
        assert isinstance(answers[2], RpcError)
        assert answers[2].problem is RpcProblem.REVERTED
        assert second.calls.count("eth_estimateGas") == 1


async def test_sending_fails_over_and_stops_at_a_dead_end() -> None:
    first, second = good_node(), good_node(eth_sendRawTransaction=lambda raw: HASH)
    async with node_over(first, second, batch_size=2) as node:
        await node.check_chain()
        first.answer = answering(503, "")
        assert await node.send_raw(["0x01"] * 5) == [HASH] * 5
        second.answer = answering(503, "")
        asked = len(first.calls) + len(second.calls)
        answers = await node.send_raw(["0x01"] * 20)
        assert len(answers) == 20
        assert {type(answer) for answer in answers} == {RpcError}
        assert len(first.calls) + len(second.calls) - asked <= 4


async def test_a_lost_answer_then_already_known() -> None:
    """The first node took the bytes and dropped the connection; the second one knows them."""
    known = {"error": {"code": -32000, "message": "already known"}}
    first, second = good_node(), good_node(eth_sendRawTransaction=lambda raw: known)
    async with node_over(first, second) as node:
        await node.check_chain()
        first.answer = answering(502, "")
        (answer,) = await node.send_raw(["0x01"])
        assert isinstance(answer, RpcError)
        assert answer.problem is RpcProblem.ALREADY_KNOWN


class TestChainId:
    async def test_a_wrong_chain_is_named_by_number_and_host(self) -> None:
        right, wrong = good_node(), FakeNode(chain_id=1)
        async with serving_node(right), serving_node(wrong):
            url = wrong.url.replace("http://", "http://user:SECRET@") + "/v3/SECRET?key=SECRET"
            node = EvmNode(CHAIN_ID, [right.url, url])
            with pytest.raises(StartRefused, match=r"URL 2 \(127\.0\.0\.1:\d+\) serves chain 1,"):
                await node.check_chain()
            assert "SECRET" not in repr(node)
            await node.close()

    async def test_an_unreachable_url_is_tolerated_beside_a_working_one(self) -> None:
        fake = good_node()
        async with serving_node(fake):
            node = EvmNode(CHAIN_ID, ["http://127.0.0.1:1/SECRET", fake.url])
            with capture_logs() as logs:
                await node.check_chain()
                assert await node.balance(ADDRESS) == 0x10
            assert "SECRET" not in str(logs)
            await node.close()

    async def test_no_url_reachable(self) -> None:
        node = EvmNode(CHAIN_ID, ["http://127.0.0.1:1/SECRET", "http://127.0.0.1:2"])
        with pytest.raises(RpcError) as caught:
            await node.check_chain()
        assert "SECRET" not in str(caught.value)
        await node.close()

    async def test_a_url_that_turns_up_later_with_another_chain_is_not_used(self) -> None:
        """It was unreachable at the start; nothing is read from it or sent to it."""
        late, good = FakeNode(chain_id=1, eth_getBalance=lambda *_: "0x99"), good_node()
        plain = late.answer
        async with node_over(late, good) as node:
            late.answer = answering(503, "")
            await node.check_chain()
            late.answer = plain
            await asyncio.sleep(0.5)
            with capture_logs() as logs:
                assert await node.balance(ADDRESS) == 0x10
            assert "eth_getBalance" not in late.calls
            assert any(entry["log_level"] == "error" for entry in logs)

    async def test_a_node_that_changes_its_chain_while_away(self) -> None:
        fake = good_node()
        async with node_over(fake) as node:
            await node.check_chain()
            plain = fake.answer
            fake.answer = answering(503, "")
            await failure(node)
            fake.answer = plain
            fake.methods["eth_chainId"] = lambda: "0x1"
            assert "serves chain 1" in str(await failure(node))


async def test_a_connection_closed_while_idle_is_opened_again() -> None:
    """Many servers close idle connections after seconds; that is no trouble of the node."""
    fake = good_node()
    async with node_over(fake) as node:
        await node.check_chain()
        fake.drops = 1
        with capture_logs() as logs:
            assert await node.balance(ADDRESS) == 0x10
        assert logs == []
        fake.drops = 2
        assert (await failure(node)).problem is RpcProblem.UNAVAILABLE


async def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.adapters.evm_endpoint.LARGEST_ANSWER_BYTES", 1000)
    fake = good_node(eth_call=lambda call, tag: "0x" + "00" * 5000)
    async with node_over(fake) as node:
        with pytest.raises(RpcError) as caught:
            await node.call(CALL)
        assert caught.value.problem is RpcProblem.RANGE_TOO_LARGE


async def test_no_more_requests_at_a_time_than_allowed() -> None:
    fake, running, most = good_node(), 0, 0
    plain = fake.answer

    async def counted(body: Any) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return await plain(body)

    fake.answer = counted
    async with node_over(fake, concurrency=3, batch_size=2) as node:
        await node.check_chain()
        assert await node.receipts([HASH] * 60) == [None] * 60
        assert 2 <= most <= 3


@pytest.fixture
def _clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what the machine does between two lines counts for nothing."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)


@pytest.mark.usefixtures("_clock_stands")
def test_cool_downs_are_bounded_and_jittered() -> None:
    endpoint = Endpoint(1, "http://node", batch_size=1)
    waits = []
    for _ in range(2000):
        endpoint.cool_until = 0
        endpoint.failed()
        waits.append(endpoint.cool_until - time.monotonic())
    assert 0 < waits[0] < 0.4
    assert max(waits) <= LONGEST_COOL_DOWN_SECONDS * 1.5
    assert len({round(wait, 3) for wait in waits[100:]}) > 100
    endpoint.succeeded()
    assert endpoint.cool_until == 0


@pytest.mark.usefixtures("_clock_stands")
def test_failing_together_counts_once() -> None:
    """A hundred requests under way when a node restarts are one failure, not a hundred."""
    endpoint = Endpoint(1, "http://node", batch_size=1)
    for _ in range(100):
        endpoint.failed()
    assert endpoint.cool_until - time.monotonic() < 0.4
