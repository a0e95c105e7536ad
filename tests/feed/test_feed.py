"""The feed on real Kafka and PostgreSQL: nothing left out, nothing twice, whatever breaks."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from projections.api import make_app
from projections.consumer import Projector
from projections.feed import tail
from projections.feed.serving import FEED, FeedDoor
from projections.store import Store
from schemas.base import RequestType
from schemas.topics import LANES, REQUESTS
from tests.e2e.harness import free_port, until
from tests.feed.reading import Reader, append, background, in_order, places_on_the_log
from tests.projections.facts import followed, mint_ok, received, to_signed, whole_life
from tests.projections.test_api import lane_story

PER_ADDRESS = 3


@pytest_asyncio.fixture
async def server(stack: EmbeddedStack) -> AsyncIterator[TestServer]:
    """An API in this process."""
    store = Store(stack.postgres.url)
    door = FeedDoor(store, stack.kafka.access, PER_ADDRESS)
    async with TestServer(make_app(store, None, [], feed=door)) as started:
        yield started


@pytest_asyncio.fixture
async def url(server: TestServer) -> str:
    return str(server.make_url("")).rstrip("/")


async def test_replay_from_zero_is_the_content_of_the_topics(
    stack: EmbeddedStack, writer: KafkaWriter, url: str
) -> None:
    """Transactions leave control records between the facts, aborted ones whole batches."""
    owned = KafkaLog(stack.kafka.access, "t").owned("feed-tests")
    await owned.start()
    for fact in lane_story():
        await owned.append(LANES, [fact])
    await append(writer, [mint_ok("z-1"), *whole_life("z-1"), followed(5920, 1)])
    producer = owned._producer
    await producer.begin_transaction()
    await producer.send_and_wait(LANES.name, b"{}", partition=0)
    await producer.abort_transaction()
    await owned.append(LANES, lane_story()[:1])
    await owned.close()
    expected = await places_on_the_log(stack)
    reader = Reader(url)
    await reader.read(lambda r: len(r.events) >= len(expected), **{"from": "start"})
    assert sorted(reader.places) == sorted(expected) and in_order(reader.places)
    by_kind = {event["kind"]: event for event in reader.events}
    assert by_kind["RequestReceived"]["requestKey"] == "z-1"
    assert by_kind["RequestReceived"]["chainId"] == 5920
    assert by_kind["RequestReceived"]["fact"]["amount"] == "1000000000000000000"
    assert "signature" not in by_kind["ApprovalSigned"]["fact"]
    assert "raw" not in by_kind["TransactionPrepared"]["fact"]


async def test_resumed_under_load_across_restarts_without_gap_or_repetition(
    stack: EmbeddedStack, writer: KafkaWriter
) -> None:
    """Two replicas; the reader goes from one to the other, and each ends while it is read from."""
    replicas = [_replica(stack, number) for number in range(2)]
    for part, url in replicas:
        await part.start()
        await until(lambda url=url: _lives(url), "the API lives")

    async def load() -> None:
        for number in itertools.count():
            await append(writer, whole_life(f"load-{number}"))

    reader = Reader("")
    async with background(load()):
        for turn in range(2):
            part, reader.url = replicas[turn]
            goal = len(reader.events) + 100
            query = {"from": "start"}
            reading = asyncio.create_task(reader.read(lambda _: False, **query))
            await until(lambda goal=goal: _true(len(reader.events) >= goal), f"turn {turn}")
            await (part.kill() if turn else part.stop())
            await reading
            await part.start()
            await until(lambda turn=turn: _lives(replicas[turn][1]), "the API lives again")
    expected = await places_on_the_log(stack)
    await reader.read(lambda r: len(r.events) >= len(expected))
    assert in_order(reader.places)
    assert sorted(reader.places) == sorted(expected)
    await asyncio.gather(*(part.stop() for part, _ in replicas))


def _replica(stack: EmbeddedStack, number: int) -> tuple[Service, str]:
    port = free_port()
    environment = service_environment(stack, CHAIN_IDS="5920", PORT=str(port))
    return Service(stack, f"api-{number}", ["api"], environment), f"http://127.0.0.1:{port}"


async def _lives(url: str) -> bool:
    with suppress(aiohttp.ClientError):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{url}/health/live") as answer,
        ):
            return answer.status == 200
    return False


async def test_a_cursor_a_time_now_and_start(writer: KafkaWriter, url: str) -> None:
    await append(writer, whole_life("f-1"))
    await asyncio.sleep(0.01)  # past the millisecond in which the last of them was written
    between = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    await append(writer, [received("f-2")])
    by_time = Reader(url)
    await by_time.read(lambda r: bool(r.events), **{"from": between})
    assert by_time.events[0]["requestKey"] == "f-2"
    live = Reader(url)
    reading = asyncio.create_task(live.read(lambda r: len(r.events) == 2, topic="requests"))
    await until(lambda: _true(live.last_id), "the feed is open")
    await append(writer, [followed(5920, 2), received("f-3"), received("f-4")])
    await reading
    assert sorted(event["requestKey"] for event in live.events) == ["f-3", "f-4"]
    again = Reader(url)
    await again.read(lambda r: len(r.events) == 3, **{"from": by_time.last_id})
    kinds = sorted(event["kind"] for event in again.events)
    assert kinds == ["BlocksFollowed", "RequestReceived", "RequestReceived"], "also other topics"


async def _true(value: object) -> bool:
    return bool(value)


async def test_filters_and_the_cursor_that_moves_past_what_is_filtered(
    stack: EmbeddedStack, writer: KafkaWriter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.feed.serving.KEEP_ALIVE_SECONDS", 0.0)
    other = received("c-2", chain_id=5921)
    redeem = received("c-3", type=RequestType.REDEEM, chain_id=5921)
    life = whole_life("c-1")
    repeated = [life[0], life[1], life[1]]
    await append(writer, [*life, *repeated, other, *to_signed("c-2"), redeem])
    projector, stop = Projector(stack.postgres.url, stack.kafka.access), asyncio.Event()
    task = asyncio.create_task(projector.run(stop))
    begin = {"from": "start"}
    try:
        changes = Reader(url)
        query = {**begin, "changes": "status", "requestKey": "c-1"}
        await changes.read(lambda r: len(r.events) == 3, **query)
        assert [event["status"] for event in changes.events] == [
            {"from": None, "to": "PENDING"},
            {"from": "PENDING", "to": "PROCESSING"},
            {"from": "PROCESSING", "to": "COMPLETED"},
        ]
        quiet = Reader(url, last_id=changes.last_id)
        await quiet.read(lambda r: r.comments > 3, **query)
        assert quiet.events == [], "what was told again changed nothing"
        chain = Reader(url)
        await chain.read(lambda r: len(r.events) == 4, chainId="5921", topic="requests", **begin)
        assert {event["requestKey"] for event in chain.events} == {"c-2", "redeem:5921:c-3"}
        assert {event["chainId"] for event in chain.events} == {5921}
        kinds = Reader(url)
        query = {**begin, "kind": "ApprovalSigned,ApprovalDrafted", "requestKey": "c-2"}
        await kinds.read(lambda r: len(r.events) == 2, **query)
        moved = Reader(url, last_id=kinds.last_id)
        await moved.read(lambda r: r.comments > 3, kind="LaneHalted")
        assert moved.last_id != kinds.last_id, "the cursor moves without an event"
    finally:
        stop.set()
        await task


async def test_a_slow_reader_costs_no_memory_and_misses_nothing(
    stack: EmbeddedStack, writer: KafkaWriter, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring is far smaller than what it misses; a quick reader is not held up meanwhile."""
    monkeypatch.setattr(tail, "RING_EVENTS", 50)
    url = str(server.make_url("")).rstrip("/")
    quick, cursor = Reader(url), Reader(url)
    await cursor.read(lambda r: bool(r.last_id))
    host, port = server.host, server.port
    quiet = socket.create_connection((host, port))
    quiet.sendall(f"GET /feed?from={cursor.last_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    reading = asyncio.create_task(
        quick.read(lambda r: len(r.events) == 4000, **{"from": cursor.last_id})
    )
    facts = [received(f"slow-{number}", fiat_ref="x" * 2500) for number in range(4000)]
    for start in range(0, len(facts), 500):
        await writer.append(REQUESTS, facts[start : start + 500])
    await reading
    assert in_order(quick.places)
    feed = server.app[FEED].feed
    assert feed is not None and feed.tail.held[0] <= 50
    quiet.setblocking(False)
    loop, found, rest = asyncio.get_running_loop(), 0, b""
    async with asyncio.timeout(120):
        while found < 4000:
            got = rest + await loop.sock_recv(quiet, 2**20)
            found += got.count(b"event: RequestReceived")
            rest = got[-21:]
    quiet.close()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"from": "yesterday"}, "from: not one of ours"),
        ({"from": "AAAA"}, "from: not one of ours"),
        ({"topic": "nonsense"}, "topic: 'nonsense' is not one of"),
        ({"kind": "Nothing"}, "kind: 'Nothing' is not one of"),
        ({"chainId": "x"}, "chainId: 'x' is not a whole number"),
        ({"changes": "all"}, "changes: only 'status' is known"),
        ({"changes": "status", "topic": "lanes"}, "add that topic"),
        ({"since": "0"}, "since: unknown parameter"),
    ],
)
async def test_bad_questions_are_refused(url: str, query: dict[str, str], says: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/feed", params=query) as answer,
    ):
        assert answer.status == 400
        assert says in (await answer.json(content_type=None))["error"]


async def test_connections_are_bounded_for_each_address(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        held = [await session.get(f"{url}/feed") for _ in range(PER_ADDRESS)]
        async with session.get(f"{url}/feed") as answer:
            assert answer.status == 429 and answer.headers["Retry-After"]
        for answer in held:
            answer.close()

        async def open_again() -> bool:
            async with session.get(f"{url}/feed") as answer:
                return answer.status == 200

        await until(open_again, "places are given back")


async def test_a_server_that_stops_ends_its_streams(stack: EmbeddedStack) -> None:
    store = Store(stack.postgres.url)
    door = FeedDoor(store, stack.kafka.access, PER_ADDRESS)
    server = TestServer(make_app(store, None, [], feed=door))
    await server.start_server()
    reader = Reader(str(server.make_url("")).rstrip("/"))
    reading = asyncio.create_task(reader.read(lambda _: False))
    await until(lambda: _true(reader.last_id), "the feed is open")
    async with asyncio.timeout(60):
        await server.close()
        await reading
    assert reader.last_id
