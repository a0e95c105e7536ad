"""Nothing is signed without its fact, nor for a chain in doubt until a person settles it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.request import urlopen

from schemas.base import RequestType
from schemas.controls import WorkPaused, supply_scope
from schemas.requests import ApprovalDrafted, ApprovalSigned, RequestReceived
from schemas.topics import CONTROLS, REQUESTS
from tests.e2e.harness import TOKEN, World, until
from tests.e2e.outsiders import by_hand, outsider_mints
from tests.e2e.test_bad_input import run_cli

CHAIN = 5924


async def order(world: World, *words: str) -> Any:
    ended = await asyncio.to_thread(run_cli, world.environment, *words, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


async def refusals(world: World, kind: str) -> float:
    url = f"{world.service.base_url}/metrics"
    text = await asyncio.to_thread(lambda: urlopen(url).read().decode())
    name = f'orchestrator_gate_refusals_total{{kind="{kind}"}}'
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return float(lines[0].split()[-1]) if lines else 0.0


async def pauses(world: World) -> list[WorkPaused]:
    facts = [record.fact for record in await world.facts(CONTROLS)]
    return [
        fact for fact in facts if isinstance(fact, WorkPaused) and fact.scope == supply_scope(CHAIN)
    ]


async def test_a_request_that_kuro_never_allowed_is_drafted_and_never_signed(world: World) -> None:
    """Somebody can write `requests`, and not `kuro.events`."""
    forged = RequestReceived(
        request_key="forged-1",
        request_id="forged-1",
        type=RequestType.MINT,
        chain_id=CHAIN,
        user=world.stack.holders.address,
        amount=str(300 * TOKEN),
        fiat_ref="wire-forged",
        origin="kuro.events/0/0",
    )
    before = await refusals(world, "NO_FACT")
    await by_hand(world, REQUESTS.name, forged)

    async def refused() -> bool:
        return await refusals(world, "NO_FACT") > before

    await until(refused, "the gate's refusal", lambda: world.stories(["forged-1"]))
    await world.ended(await world.mint(chain_id=CHAIN, count=2))
    facts = [record.fact for record in await world.facts(REQUESTS)]
    ours = [fact for fact in facts if fact.key == "forged-1"]
    assert any(isinstance(fact, ApprovalDrafted) for fact in ours)
    assert not any(isinstance(fact, ApprovalSigned) for fact in ours)
    await order(world, "cancel", "--request", "forged-1", "--why", "nobody allowed it")


async def test_a_mint_from_outside_pauses_its_chain_until_a_person_settles_it(
    world: World,
) -> None:
    transaction = await outsider_mints(world, CHAIN, "outsider-2")

    async def paused() -> bool:
        return any(transaction in fact.why for fact in await pauses(world))

    await until(paused, "the pause that names the transaction")
    [waiting] = await world.mint(chain_id=CHAIN)
    [elsewhere] = await world.mint(chain_id=5921)

    async def explained() -> bool:
        if await world.status(waiting) is None:
            return False
        told = await world.get(f"/status/{waiting}/explain")
        return bool(told["code"] == "PAUSED" and transaction in str(told))

    await until(explained, "the explanation", lambda: world.stories([waiting]))
    await world.service.kill()
    await world.service.start()
    [held] = [item for item in await order(world, "controls") if item["scope"] == f"supply:{CHAIN}"]
    assert held["who"] == "the conservation gate" and transaction in held["why"]
    story = await world.status(waiting)
    assert story["status"] in ("PENDING", "PROCESSING")
    ended = await asyncio.to_thread(
        run_cli, world.environment, "resume", "--chain", str(CHAIN), "--why", "by habit"
    )
    assert ended.returncode != 0 and f"supply:{CHAIN}" in ended.stderr + ended.stdout
    await order(world, "resume", "--supply", str(CHAIN), "--why", "the treasury, ticket 12")
    await world.ended([waiting, elsewhere])
    assert len(await pauses(world)) == 1
