"""docker-compose.dev.yml: its shape, and all of it by hand. No engine is asked for anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.dev.containers.keys import secret_files, write
from orchestrator.dev.downloads import cache_folder
from orchestrator.dev.http_client import HttpError, request_json
from orchestrator.dev.stack import EmbeddedStack
from tests.deploy.composed import SETTINGS, ByHand, Container, both, settings
from tests.deploy.shape import CHAIN_IDS, OVERLAY, compose, filled, services
from tests.deploy.test_compose import CONDITIONS, PINNED
from tests.e2e.harness import until
from tests.tidy.project import ROOT

ADDED = sorted(set(services(OVERLAY)) - set(services()))


def test_it_adds_the_outer_systems_and_a_load():
    chains = {f"chain-{chain}" for chain in CHAIN_IDS}
    assert set(ADDED) == {"kms", "kuro", "load", *chains}


def test_of_the_service_it_changes_only_what_a_look_needs():
    allowed = {"environment", "ports", "networks", "restart", "depends_on"}
    for name, service in services(OVERLAY).items():
        if name in services():
            assert set(service) <= allowed, name
            assert "environment" not in service or name == "kafka"
        for port in service.get("ports", []):
            assert filled(port, {}).startswith("127.0.0.1:")
            assert "outer" in both()["services"][name]["networks"]


@pytest.mark.parametrize("name", ADDED)
def test_what_it_adds_may_do_little(name):
    service = both()["services"][name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True and service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    image = filled(service["image"], {})
    assert PINNED.fullmatch(image) and image.startswith("stablecoin-orchestrator-dev:")
    named = both()["volumes"]
    assert all(volume.split(":") == [volume.split(":")[0], "/data"] for volume in mounts(name))
    assert all(volume.split(":")[0] in named for volume in mounts(name))


def mounts(name: str) -> list[str]:
    return both()["services"][name].get("volumes", [])


def test_its_image_is_built_once_and_each_keeps_data_of_its_own():
    built = [service["build"] for service in services(OVERLAY).values() if "build" in service]
    assert built == [{"context": ".", "dockerfile": "deploy/Dockerfile", "target": "dev"}]
    used = [volume for name in ADDED for volume in mounts(name)]
    assert len(used) == len(set(used)) == len(compose(OVERLAY)["volumes"])


def test_what_is_waited_for_can_come_true():
    everything = both()["services"]
    for name, service in everything.items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition["condition"] in {*CONDITIONS, "service_started"}, name
            if condition["condition"] == "service_healthy":
                assert "test" in everything[other]["healthcheck"], other
    outer = set(ADDED) - {"load"}
    for name in ("ingest", "worker", "load"):
        assert outer <= set(everything[name]["depends_on"])
    assert "init" in everything["worker"]["depends_on"]


def test_settings_and_keys_are_those_that_are_derived(tmp_path):
    write(tmp_path, CHAIN_IDS)
    assert SETTINGS.read_text(encoding="utf-8") == (tmp_path / "compose.env").read_text()
    keys = ROOT / settings()["SECRETS_DIR"]
    assert {path.name for path in keys.iterdir()} == set(secret_files(CHAIN_IDS))
    assert set(both()["secrets"]) == set(secret_files(CHAIN_IDS))
    for path in keys.iterdir():
        assert path.read_text() == (tmp_path / "keys" / path.name).read_text(), path.name


def test_the_command_that_is_told_is_the_same_everywhere():
    command = "docker compose --env-file deploy/dev/compose.env"
    for path in (OVERLAY, ROOT / "deploy" / "README.md"):
        text = " ".join(path.read_text(encoding="utf-8").replace("#", "").split())
        assert command in text, path
        assert "-f docker-compose.yml -f docker-compose.dev.yml up --build" in text, path


async def test_the_whole_of_it_by_hand(tmp_path: Path) -> None:
    """Every container but the broker, the database and what only watches, with two of the chains,
    until the load says that all that it asked for was done, once each."""
    chains = (5920, 5921)
    with EmbeddedStack(tmp_path / "stack", parts=["kafka", "postgres"]) as stack:
        url = stack.environment["DATABASE_URL"]
        hand = ByHand(
            stack.supervisor,
            tmp_path,
            {
                "CHAIN_IDS": ",".join(map(str, chains)),
                "KAFKA_BOOTSTRAP_SERVERS": stack.environment["KAFKA_BOOTSTRAP_SERVERS"],
                "DEMO_REQUESTS": "12",
                "database_url": url,
                "signing_guard_url": url,
            },
        )
        tools = {"ORCHESTRATOR_CACHE_DIR": str(cache_folder())}
        running = [hand.start(name) for name in ("kms", "kuro", "init")]
        nodes = [hand.start(f"chain-{chain}", **tools) for chain in chains]
        await until(lambda: _ready(nodes), "the chains are ready", lambda: _logs(nodes))
        assert await asyncio.to_thread(running.pop().wait, 90) == 0
        port = hand.port("api", "3000")
        running += [hand.start(name) for name in ("ingest", "worker", "worker", "project")]
        running.append(hand.start("api", PORT=str(port), HOST="127.0.0.1"))
        await until(lambda: _answers(port), "the API answers", lambda: _logs(running))
        load = hand.start("load")
        code = await asyncio.to_thread(load.wait, 180)
        assert code == 0, load.log.read_text() + await _logs(running)
        assert "All 12 requests completed, each once" in load.log.read_text()
        for part in nodes:
            await part.stop()
            assert part.wait(0) == 0, part.log.read_text()
            assert (part.folder / "data" / "chain" / "state.json").stat().st_size > 0


async def _ready(nodes: list[Container]) -> bool:
    return all((node.folder / "tmp" / "ready").exists() for node in nodes)


async def _answers(port: int) -> bool:
    try:
        await asyncio.to_thread(request_json, "GET", f"http://127.0.0.1:{port}/health/ready")
    except (HttpError, OSError):
        return False
    return True


async def _logs(parts: list[Container]) -> str:
    return "\n".join(part.log.read_text()[-1500:] for part in parts)
