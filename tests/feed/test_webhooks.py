"""Webhooks against real receivers that fail in every way, and deliverers that are killed."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from orchestrator.adapters.kafka_log import KafkaWriter
from orchestrator.cli import app
from orchestrator.config import Settings
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from projections.api import make_app
from projections.lag import LogProbe
from projections.store import Store
from projections.webhooks import delivering
from projections.webhooks.endpoints import Endpoint, load_endpoints
from projections.webhooks.reporting import read_endpoints
from schemas.topics import REQUESTS
from tests.e2e.harness import until
from tests.feed.reading import append, in_order, places_on_the_log
from tests.feed.receiving import SECRET, Receiver
from tests.projections.facts import received, whole_life

_names = itertools.count(1)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture
async def store(stack: EmbeddedStack) -> AsyncIterator[Store]:
    found = Store(stack.postgres.url)
    await found.open()
    yield found
    await found.close()


def write(folder: Path, receiver: Receiver, **more: Any) -> tuple[Path, str]:
    """A file with one endpoint of a new name."""
    name = f"hook-{next(_names)}"
    item = {"name": name, "url": receiver.url, "secret": SECRET, "topic": "requests", **more}
    path = folder / f"{name}.json"
    path.write_text(json.dumps([item]))
    return path, name


def endpoint(folder: Path, receiver: Receiver, **more: Any) -> Endpoint:
    path, _ = write(folder, receiver, **{"longestDelaySeconds": 0.2, **more})
    settings = Settings(webhooks_file=str(path), webhooks_allow_http=True)
    [found] = load_endpoints(settings, {})
    return found


@asynccontextmanager
async def served(stack: EmbeddedStack, *endpoints: Endpoint) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(
        delivering.serve(stack.postgres.url, stack.kafka.access, endpoints, stop)
    )
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(120):
            await task


async def begun(store: Store, name: str) -> None:
    """Served for the first time: what comes from now on is its."""

    async def known() -> bool:
        return any(row["name"] == name for row in await read_endpoints(store))

    await until(known, f"{name} is served")


async def holds(condition: Callable[[], bool], what: str) -> None:
    async def ask() -> bool:
        return condition()

    await until(ask, what)


async def tried(store: Store, name: str, times: int) -> None:
    """The event in turn has failed so often, and the tables say so."""

    async def told() -> bool:
        return bool((await row_of(store, name))["turn_attempts"] >= times)

    await until(told, f"{times} attempts")


async def row_of(store: Store, name: str) -> dict[str, Any]:
    return next(row for row in await read_endpoints(store) if row["name"] == name)


async def test_a_receiver_that_fails_hangs_and_restarts_gets_all_in_order(
    stack: EmbeddedStack, writer: KafkaWriter, receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    answers = itertools.cycle([500, 200, None, 200, 302, 200, 429, 200, 200])
    receiver.answer = lambda _data, _number: next(answers)
    target = endpoint(tmp_path, receiver, timeoutSeconds=0.5)
    async with served(stack, target):
        await begun(store, target.name)
        facts = [fact for number in range(3) for fact in whole_life(f"w-{number}")]
        await append(writer, facts[:12])
        await holds(lambda: len(receiver.places()) >= 6, "half of the first part")
        await receiver.stop()
        await append(writer, facts[12:])
        await tried(store, target.name, 2)
        row = await row_of(store, target.name)
        assert row["problem"].startswith("cannot be reached") and "hook" not in row["problem"]
        await receiver.start()
        await holds(lambda: len(receiver.places()) == len(facts), "all arrive")
        assert in_order(receiver.places())
        assert {data["requestKey"] for data in receiver.taken} == {"w-0", "w-1", "w-2"}
    assert (await row_of(store, target.name))["delivered"] == len(facts)


async def test_deliverers_are_killed_and_nothing_is_lost_or_out_of_order(
    stack: EmbeddedStack, writer: KafkaWriter, receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    """Two processes; whichever serves is killed in the middle of a delivery, twice."""
    receiver.delay_seconds = 0.02
    path, name = write(tmp_path, receiver)
    environment = service_environment(
        stack, WEBHOOKS_FILE=str(path), WEBHOOKS_ALLOW_HTTP="true", CHAIN_IDS="5920"
    )
    parts = [Service(stack, f"hooks-{n}", ["webhooks"], environment) for n in range(2)]
    before = set(await places_on_the_log(stack, [REQUESTS.name]))
    await asyncio.gather(*(part.start() for part in parts))
    await begun(store, name)

    async def load() -> None:
        for number in range(30):
            await append(writer, whole_life(f"k-{number}"))
            await asyncio.sleep(0.2)

    loading = asyncio.create_task(load())
    try:
        for _ in range(2):
            goal = len(receiver.places()) + 40
            await holds(lambda goal=goal: len(receiver.places()) >= goal, "deliveries go on")
            holder = (await row_of(store, name))["holder"].rpartition(":")[2]
            serving = next(part for part in parts if str(part.pid) == holder)
            await serving.kill()
            await serving.start()
    finally:
        await loading
    expected = set(await places_on_the_log(stack, [REQUESTS.name])) - before
    await holds(lambda: len(receiver.places()) >= len(expected), "all arrive")
    assert sorted(receiver.places()) == sorted(expected)
    assert in_order(receiver.places())
    by_id = dict(zip(receiver.ids, receiver.taken, strict=True))
    assert len(by_id) == len(expected), "repetitions have the same id, others have not"
    assert len(receiver.taken) - len(expected) <= 4, "a kill repeats what was in turn"
    await asyncio.gather(*(part.stop() for part in parts))


async def test_dead_letters_skips_and_redeliveries(
    stack: EmbeddedStack, writer: KafkaWriter, receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    status: dict[str, int] = {"d-1": 410, "d-2": 500}
    receiver.answer = lambda data, _number: status.get(data["requestKey"], 200)
    target = endpoint(tmp_path, receiver, kind="RequestReceived")
    async with served(stack, target):
        await begun(store, target.name)
        await append(writer, [received(f"d-{number}") for number in range(4)])
        await holds(lambda: len(receiver.seen) > 5, "d-2 fails again and again")
        await tried(store, target.name, 1)
        assert "failing" in await command(stack, "list")
        skipped = await command(stack, "skip", target.name, "--why", "known bug", "--who", "ann")
        assert "requests/" in skipped
        await holds(lambda: len(receiver.places()) == 2, "the others arrive")
        shown = json.loads(await command(stack, "show", target.name, "--json"))
        reasons = {item["factId"]: item["reason"] for item in shown}
        assert reasons["d-1:received"] == "answered 410"
        assert reasons["d-2:received"] == "answered 500; skipped by ann: known bug"
        status.clear()
        await command(stack, "redeliver", target.name, "--all", "--who", "ann")
        await holds(lambda: len(receiver.places()) == 4, "both are redelivered")
        assert {data["requestKey"] for data in receiver.taken} == {"d-0", "d-1", "d-2", "d-3"}

        async def settled() -> bool:
            return (await row_of(store, target.name))["dead_letters"] == 0

        await until(settled, "no dead letter is left")
        assert "nothing of" in await command(stack, "skip", target.name, "--why", "x", code=1)


async def test_an_endpoint_may_give_up_and_filters_hold(
    stack: EmbeddedStack, writer: KafkaWriter, receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    receiver.answer = lambda data, _number: 422 if data["requestKey"] == "g-0" else 200
    target = endpoint(tmp_path, receiver, attempts=2, requestKey=["g-0", "g-1"])
    other = endpoint(tmp_path, receiver, refusals=[422], requestKey="g-0")
    async with served(stack, target, other):
        await begun(store, target.name)
        await begun(store, other.name)
        await append(writer, [received("g-0"), received("g-2"), received("g-1")])
        await holds(lambda: len(receiver.places()) == 1, "g-1 arrives")

        async def buried() -> bool:
            rows = [await row_of(store, name) for name in (target.name, other.name)]
            return [row["dead_letters"] for row in rows] == [1, 1]

        await until(buried, "both have given g-0 up")
    assert [data["requestKey"] for data in receiver.taken] == ["g-1"]
    assert len(receiver.seen) == 4


async def test_how_it_stands_is_told_without_secrets(
    stack: EmbeddedStack, receiver: Receiver, store: Store, tmp_path: Path
) -> None:
    receiver.port = int(receiver.url.rsplit(":", 1)[1].split("/")[0])
    target = endpoint(tmp_path, receiver, url=receiver.url + "?token=hunter2")
    probe = LogProbe(stack.kafka.access)
    async with (
        served(stack, target),
        TestServer(make_app(Store(stack.postgres.url), probe, [])) as server,
        aiohttp.ClientSession() as session,
    ):
        await begun(store, target.name)
        async with session.get(server.make_url("/webhooks")) as answer:
            text = await answer.text()
        item = next(i for i in json.loads(text)["items"] if i["name"] == target.name)
        assert item["state"] == "delivering" and item["lagRecords"] >= 0
        assert "hunter2" not in text and SECRET not in text
        assert "hunter2" not in repr(target) and "secret" not in repr(target)
        async with session.get(server.make_url("/metrics")) as answer:
            metrics = await answer.text()
        for name in ("dead_letters", "failing_seconds", "lag_records"):
            assert f'orchestrator_webhook_{name}{{endpoint="{target.name}"}}' in metrics


async def command(stack: EmbeddedStack, *arguments: str, code: int = 0) -> str:
    """What `orchestrator webhooks …` answers."""
    environment = {"DATABASE_URL": stack.postgres.url, "COLUMNS": "200"}
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["webhooks", *arguments], env=environment
    )
    assert result.exit_code == code, result.output
    return result.output if code == 0 else str(result.exception)
