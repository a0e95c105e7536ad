"""What the runbook on held mints says of `MintsUnjudged` and `PoliciesDiffer`, walked through: a
process a role, each with its own principal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.error import URLError

from orchestrator.dev.service import Service
from schemas.topics import CONTROLS
from tests.e2e.harness import World, until
from tests.e2e.test_metrics import PREFIX, scrape
from tests.security.conftest import CHAIN, METRICS, Secured

SIGNER = "orchestrator-sign"


async def applied(secured: Secured, policy: dict) -> None:
    path = secured.folder / "policy.json"
    path.write_text(json.dumps(policy), encoding="utf-8")
    words = ("--file", str(path), "--who", "dora", "--why", "an incident", "--wait", "60")
    code, told = await secured.ends("policy", "operator", "policy", "apply", *words)
    assert code == 0 and "taken in" in told, told


async def samples(role: str, name: str) -> dict[str, float] | None:
    """By version, where there is one; None where the process gives no metrics."""
    try:
        families = await scrape(f"http://127.0.0.1:{METRICS[role]}")
    except (URLError, OSError):
        return None
    found = families.get(PREFIX + name) or families.get(name)
    assert found is not None, sorted(families)
    return {sample.labels.get("version", ""): sample.value for sample in found.samples}


async def versions() -> set[str]:
    """What the alert counts."""
    found = [await samples(role, "policy_in_force") or {} for role in METRICS]
    return {version for one in found for version in one}


@asynccontextmanager
async def deaf_signer(secured: Secured) -> AsyncIterator[None]:
    """Its principal may not read `controls` any more, as after a mistake in an access list. What is
    denied stands above what is allowed."""
    server = '--bootstrap-server "$BOOTSTRAP" --command-config "$COMMAND_CONFIG" --force'
    rule = f"--topic {CONTROLS.name} --deny-principal User:{SIGNER} --operation Read"

    async def ordered(what: str) -> None:
        code, told = await secured.tool.run("bash", "-c", f"kafka-acls.sh {server} {what} {rule}")
        assert code == 0, told

    await ordered("--add")
    try:
        yield
    finally:
        await ordered("--remove")


async def test_a_signer_that_cannot_read_the_policy_signs_nothing_and_the_versions_differ(
    service: World, secured: Secured, parts: dict[str, Service]
):
    [warm] = await service.mint(chain_id=CHAIN)
    await service.ended([warm])
    assert len(await versions()) == 1
    async with deaf_signer(secured):
        told = parts["sign"].log

        async def is_deaf() -> bool:
            return "operators' controls cannot be read" in told.read_text()

        await until(is_deaf, "the signer cannot read")
        await applied(secured, {"max_amount": str(10**30)})

        async def differ() -> bool:
            return len(await versions()) == 2

        await until(differ, "two versions are told")
        [key] = await service.mint(chain_id=CHAIN)

        async def is_drafted() -> bool:
            item = await service.status(key)
            return item is not None and item["stage"] == "DRAFTED"

        await until(is_drafted, "it is drafted", lambda: service.stories([key]))
        await asyncio.sleep(2)
        assert await is_drafted(), "nobody signed it"
    await service.ended([key])

    async def agree() -> bool:
        return len(await versions()) == 1

    await until(agree, "the signer has read on")


async def test_without_an_owner_nothing_is_judged_and_a_relaying_process_takes_over(
    service: World, secured: Secured, parts: dict[str, Service]
):
    await applied(secured, {"max_amount": str(10**29)})
    await parts["relay"].kill()
    assert await samples("relay", "policy_stuck") is None, "the alert goes by its absence"
    [key] = await service.mint(chain_id=CHAIN)

    async def is_asked_about() -> bool:
        item = await service.status(key)
        return item is not None and item["stage"] == "RECEIVED"

    await until(is_asked_about, "it is received", lambda: service.stories([key]))
    await parts["relay"].start()
    await service.ended([key])

    async def works() -> bool:
        return await samples("relay", "policy_stuck") == {"": 0.0}

    await until(works, "the owner judges")
    await applied(secured, {"note": "nothing is asked any more"})
