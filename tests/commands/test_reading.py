"""`status`, `explain`, `lanes`, `watch` and `replay` on a log, its projection and a real API."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from orchestrator.adapters.kafka_log import KafkaWriter
from orchestrator.cli import app
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.tokens import Scope, Token, new_token, sha256_of
from projections.run import migrate
from schemas.lanes import LaneOpened
from schemas.topics import LANES, REQUESTS
from streams.topics import prepare_topics
from tests.e2e.harness import free_port, until
from tests.projections.facts import (
    CHAIN,
    USER,
    WALLET,
    lane_story,
    received,
    rejected,
    relay_of,
    to_submitted,
    whole_life,
)

HOSTILE = "evil\x1b[2Jid"
KNOWN = new_token()


@dataclass
class Place:
    """A log with a few requests on it, and two APIs: an open one, and one that wants a token and
    answers that token twice an hour."""

    environment: dict[str, str]
    open_url: str
    closed_url: str
    writer: KafkaWriter

    async def run(self, *arguments: str, **more: str) -> Result:
        environment = {
            **self.environment,
            "ORCHESTRATOR_API_URL": self.open_url,
            "COLUMNS": "200",
            **more,
        }
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    async def answer(self, *arguments: str):
        result = await self.run(*arguments, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


@pytest_asyncio.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("reading")
    async with EmbeddedStack(folder, chain_ids=[], parts={"postgres", "kafka"}) as stack:
        environment = service_environment(stack)
        await prepare_topics(stack.kafka.access, 1)
        await migrate(stack.postgres.url)
        writer = KafkaWriter(stack.kafka.access, "test")
        await writer.start()
        await writer.append(REQUESTS, [received("m-1"), *whole_life("m-1")[1:]])
        await writer.append(REQUESTS, [received("m-2"), *to_submitted("m-2")])
        await writer.append(REQUESTS, [received("m-3"), rejected("m-3")])
        await writer.append(REQUESTS, [received("m-3"), received(HOSTILE)])
        seat = {"chain_id": CHAIN, "wallet": WALLET}
        story = [LaneOpened(**seat, first_nonce=7), relay_of("m-1"), *lane_story()]
        await writer.append(LANES, story)
        limited = {
            "API_TOKENS": Token("ops", Scope.READ, sha256_of(KNOWN)).entry(),
            "API_RATE_LIMIT_TOKEN": "2/hour",
        }
        parts = [
            Service(stack, "project", ["project"], environment),
            Service(stack, "open", ["api"], environment, api_port=free_port()),
            Service(stack, "closed", ["api"], environment | limited, api_port=free_port()),
        ]
        await asyncio.gather(*(part.start() for part in parts))
        found = Place(environment, parts[1].base_url, parts[2].base_url, writer)

        async def projected() -> bool:
            listed = await found.answer("status")
            lanes = await found.answer("lanes")
            return len(listed["items"]) == 4 and bool(lanes["items"])

        await until(projected, "the log is projected")
        yield found
        await writer.close()
        await asyncio.gather(*(part.stop() for part in parts))


async def test_requests_are_listed_filtered_and_told_one_by_one(place):
    failed = await place.answer("status", "--status", "failed")
    assert [item["requestKey"] for item in failed["items"]] == ["m-3"]
    assert failed["more"] is False
    two = await place.answer("status", "--limit", "2", "--chain", str(CHAIN), "--user", USER)
    assert len(two["items"]) == 2 and two["more"] is True
    assert (await place.answer("status", "--search", "m-2"))["items"][0]["stage"] == "SUBMITTED"
    assert (await place.answer("status", "--since", "2100-01-01T00:00:00Z"))["items"] == []
    one = await place.answer("status", "m-1")
    assert one["status"] == "COMPLETED" and len(one["timeline"]) >= 7
    words = await place.run("status", "m-1")
    assert "RequestCompleted" in words.stdout and "requests/" in words.stdout
    listed = await place.run("status")
    assert all(key in listed.stdout for key in ("m-1", "m-2", "m-3"))
    assert "\x1b" not in listed.stdout and "evil\\x1b[2Jid" in listed.stdout
    refused = await place.run("status", "m-1", "--stage", "FAILED")
    assert refused.exit_code == 2 and "--chain and --at only" in refused.output


async def test_a_request_is_explained_and_lanes_are_shown(place):
    why = await place.answer("explain", "m-2")
    assert why["stage"] == "SUBMITTED" and why["evidence"]
    told = await place.run("explain", "m-2")
    assert why["summary"] in told.stdout and "you can" in told.stdout
    [lane] = (await place.answer("lanes", str(CHAIN)))["items"]
    assert lane["wallet"] == WALLET
    assert (await place.answer("lanes", "77"))["items"] == []
    one = await place.answer("lanes", str(CHAIN), WALLET)
    assert one["nextNonce"] == lane["nextNonce"]
    for width in ("80", "200"):
        assert WALLET in (await place.run("lanes", COLUMNS=width)).stdout, "whole, to be copied"
    words = await place.run("lanes", str(CHAIN), WALLET)
    assert WALLET in words.stdout and "nonce" in words.stdout


async def test_a_replay_comes_to_what_the_api_tells(place):
    folded = await place.answer("replay")
    counts = {row["stage"]: row["count"] for row in folded["requests"]}
    assert counts == {"COMPLETED": 1, "SUBMITTED": 1, "REJECTED": 1, "RECEIVED": 1}
    assert (folded["unreadable"], folded["factsPerSecond"] > 0) == (0, True)
    [lane] = (await place.answer("lanes"))["items"]
    assert folded["lanes"][f"{CHAIN}:{WALLET}"]["nextNonce"] == lane["nextNonce"]
    assert "facts/s" in (await place.run("replay")).stdout
    steps = await place.run("replay", "--request", "m-3", "--json")
    told = [json.loads(line) for line in steps.stdout.splitlines()]
    assert [(step["kind"], step["verdict"], step["stage"]) for step in told] == [
        ("RequestReceived", "APPLIED", "RECEIVED"),
        ("RequestRejected", "APPLIED", "REJECTED"),
        ("RequestReceived", "REPEATED", "REJECTED"),
    ]
    assert "REPEATED -> REJECTED" in (await place.run("replay", "--request", "m-3")).stdout
    nobody = await place.run("replay", "--request", "nobody")
    assert nobody.exit_code == 1 and "holds no request" in nobody.stdout


async def test_what_the_api_refuses_is_said_in_words(place):
    async def said(*arguments: str, **more: str) -> str:
        result = await place.run(*arguments, **more)
        assert result.exit_code != 0
        return f"{result.exception}{result.output}"

    assert "nobody" in await said("status", "nobody")
    assert "HALTING" in await said("status", "--stage", "halting")
    away = f"http://ann:hunter2@127.0.0.1:{free_port()}"
    told = await said("status", ORCHESTRATOR_API_URL=away)
    assert "is `orchestrator api` running" in told and "hunter2" not in told
    closed = {"ORCHESTRATOR_API_URL": place.closed_url}
    assert "wants a token" in await said("lanes", **closed)
    wrong = {**closed, "ORCHESTRATOR_API_TOKEN": "sco_wrong-and-secret"}
    told = await said("explain", "m-1", **wrong)
    assert "does not know the token" in told and "sco_wrong" not in told
    right = {**closed, "ORCHESTRATOR_API_TOKEN": KNOWN}
    assert (await place.run("lanes", **right)).exit_code == 0
    assert (await place.run("lanes", **right)).exit_code == 0
    told = await said("lanes", **right)
    assert "asked too often: again in" in told and KNOWN not in told
    assert "does not begin with http" in await said("watch", ORCHESTRATOR_API_URL="localhost")
    missing = {**closed, "ORCHESTRATOR_API_TOKEN_FILE": "/nowhere/token"}
    assert "cannot be read" in await said("lanes", **missing)


@pytest.mark.parametrize("form", ["words", "json"])
async def test_watching_prints_sums_and_facts_until_it_is_interrupted(place, form):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", "watch", "--every", "0.5"),
        *(["--json"] if form == "json" else []),
        env={**place.environment, "ORCHESTRATOR_API_URL": place.open_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    seen = [(await asyncio.wait_for(process.stdout.readline(), 90)).decode()]
    assert "completed" in seen[0] and "m-new" not in seen[0]
    key = f"m-new-{form}"

    async def told() -> None:
        assert process.stdout is not None
        while key not in seen[-1]:
            seen.append((await process.stdout.readline()).decode())

    reading = asyncio.create_task(told())
    number = 0
    while not reading.done():  # the feed may be opened later than the sums are printed
        await place.writer.append(REQUESTS, [received(f"{key}-{number}")])
        number += 1
        await asyncio.wait([reading], timeout=1)
    await reading
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0 and errors == b"", errors
    if form == "json":
        facts = [json.loads(line) for line in seen]
        assert facts[-1]["fact"]["kind"] == "RequestReceived"


async def test_watching_takes_the_terminal_and_gives_it_back(place):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**place.environment, "ORCHESTRATOR_API_URL": place.open_url, "TERM": "xterm"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", "watch"),
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = bytearray()

    async def read_until(wanted: bytes) -> None:
        while wanted not in seen:
            seen.extend(await asyncio.to_thread(os.read, ours, 65536))

    async with asyncio.timeout(90):
        await read_until(b"newest facts")
        await read_until(b"newest facts")
        process.send_signal(signal.SIGINT)
        await read_until(b"\x1b[?1049l")
        assert await process.wait() == 0
    os.close(ours)
    assert seen.startswith(b"\x1b[?1049h") and b"in flight" in seen
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l"), "the cursor and the screen from before are back"
