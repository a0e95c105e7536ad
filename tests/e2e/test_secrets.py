"""A secret stands in every setting that may hold one; none is found in anything that we write."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest_asyncio

from orchestrator.dev.kuro_simulator import GARBAGE
from orchestrator.dev.service import Service
from schemas.topics import TOPICS
from tests.e2e.harness import World, free_port, until
from tests.e2e.secrets import (
    PLANTED,
    command_lines,
    planted,
    run,
    secrets_of,
    spoiled,
    unreachable,
)

COMMANDS = {
    "doctor": [],
    "keys": ["show"],
    "status": [],
    "verify": [],
    "audit": ["--chain", "5920"],
    "tail": ["--since", "beginning", "--no-follow"],
    "webhooks": ["list"],
}
MORE = {
    "explain": ["nobody"],
    "decisions": [],
    "replay": [],
    "dead-letters": ["list"],
    "init": [],
    "pause": ["--request", "nobody", "--why", "a test", "--wait", "1"],
}
ROLES = {"run": [], "ingest": [], "worker": [], "project": [], "api": [], "webhooks": []}
LINGER_SECONDS = 3.0
"""After a process's first words: for what it says when it tries again."""
PATIENCE_SECONDS = 120.0
AT_ONCE = 4


@dataclass
class Searched:
    """Texts by where they came from, and the secrets that none may hold."""

    environment: dict[str, str]
    folder: Path
    texts: dict[str, str] = field(default_factory=dict)
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def leaks(self) -> list[str]:
        found = []
        for what, secret in secrets_of(self.environment).items():
            for place, text in self.texts.items():
                at = text.lower().find(secret.lower())
                if at >= 0:
                    around = text[max(0, at - 200) : at + len(secret) + 40]
                    found.append(f"{what} in {place}: …{around}…")
        return found

    async def runs(
        self, name: str, environment: dict[str, str], wanted: dict[str, list[str]], linger: float
    ) -> None:
        """Several commands beside each other, and beside those of other calls."""

        async def one(command: str, arguments: list[str]) -> None:
            log = self.folder / f"{name}-{command}.log"
            async with self.turn:
                text = await asyncio.to_thread(
                    run,
                    environment,
                    command,
                    *arguments,
                    log=log,
                    seconds=PATIENCE_SECONDS,
                    linger=linger,
                )
            assert text, f"{command} said nothing at all"
            self.texts[f"{name}: {command}"] = text

        await asyncio.gather(*(one(command, words) for command, words in wanted.items()))


@pytest_asyncio.fixture
async def service(world: World, tmp_path: Path) -> AsyncIterator[tuple[Service, Searched]]:
    await world.service.stop()
    searched = Searched(planted(world, tmp_path), tmp_path)
    service = Service(world.stack, "planted", ["run"], searched.environment, api_port=free_port())
    await service.start()
    searched.environment["ORCHESTRATOR_API_URL"] = service.base_url
    yield service, searched
    await service.stop()


def fetched(url: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return f"{answer.headers}{answer.read().decode(errors='replace')}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}{error.read().decode(errors='replace')}"


async def test_no_secret_is_in_what_a_running_service_writes(
    world: World, service: tuple[Service, Searched]
) -> None:
    process, searched = service
    bearer = {"Authorization": f"Bearer {PLANTED['API token']}"}
    await world.stack.kuro.behave(garbage_every=1)
    try:
        keys = await world.mint(count=len(GARBAGE))

        async def completed() -> bool:
            found = [
                await asyncio.to_thread(fetched, f"{process.base_url}/status/{key}", bearer)
                for key in keys
            ]
            return all('"status": "COMPLETED"' in text.replace('":"', '": "') for text in found)

        await until(completed, "the mints are completed")
    finally:
        await world.stack.kuro.behave(garbage_every=0)
    paths = ("health", "health/ready", "metrics", "metrics/queues", "overview", "openapi.json")
    paths += ("lanes", "controls", f"status/{keys[0]}/explain", "status?limit=x", "nowhere")
    for path in (*paths, "webhooks"):
        for name, headers in (("", {}), (" with a token", bearer)):
            text = await asyncio.to_thread(fetched, f"{process.base_url}/{path}", headers)
            searched.texts[f"GET /{path}{name}"] = text
    searched.texts["process list"] = command_lines()
    await searched.runs("reachable", searched.environment, COMMANDS, PATIENCE_SECONDS)
    await process.stop()
    searched.texts["the service's log"] = process.log.read_text(errors="replace")
    for topic in TOPICS.values():
        messages = await world.messages(topic)
        searched.texts[f"topic {topic.name}"] = "\n".join(
            f"{m.key!r} {m.value!r} {m.headers!r}" for m in messages
        )
    assert "fact appended" in searched.texts["the service's log"]
    assert "MintOk" in searched.texts["topic kuro.events"]
    assert "orchestrator run" in searched.texts["process list"]
    assert searched.leaks() == []


async def test_no_secret_is_in_what_is_said_when_nothing_is_reachable_or_nothing_fits(
    world: World, tmp_path: Path
) -> None:
    searched = Searched(planted(world, tmp_path), tmp_path)
    away, spoilt = unreachable(searched.environment), spoiled(searched.environment)
    few = {"run": [], "doctor": [], "status": [], "keys": ["show"], "audit": []}
    await asyncio.gather(
        searched.runs("unreachable", away, {**COMMANDS, **MORE}, LINGER_SECONDS),
        searched.runs("unreachable role", {**away, "PORT": "0"}, ROLES, LINGER_SECONDS),
        searched.runs("spoiled", spoilt, few, LINGER_SECONDS),
    )
    hooks = tmp_path / "webhooks.json"
    hooks.write_text(hooks.read_text().replace('"name"', '"nam"').replace("whsec_", "whsec_ "))
    await searched.runs("spoiled file", searched.environment, {"webhooks": []}, LINGER_SECONDS)
    assert "RELAYER_PRIVATE_KEY_5920" in searched.texts["spoiled: run"]
    assert searched.leaks() == []
