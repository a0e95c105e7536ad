"""Nothing is signed without its fact, nor for a chain in doubt until a person settles it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.request import urlopen

from schemas.base import RequestType
from schemas.controls import WorkPaused, supply_scope
from schemas.evm import SupplyTraced
from schemas.requests import ApprovalDrafted, ApprovalSigned, RequestReceived
from schemas.topics import CONTROLS, EVM_EVENTS, REQUESTS
from tests.e2e.harness import TOKEN, World, until
from tests.e2e.outsiders import by_hand, outsider_mints, somebody_mints
from tests.e2e.test_bad_input import run_cli

CHAIN = 5924


async def order(world: World, *words: str) -> Any:
    ended = await asyncio.to_thread(run_cli, world.environment, *words, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


async def sample(world: World, name: str) -> float:
    """Of this process, with its labels as `/metrics` shows them; 0 where it is absent."""
    url = f"{world.service.base_url}/metrics"
    text = await asyncio.to_thread(lambda: urlopen(url).read().decode())
    lines = [line for line in text.splitlines() if line.startswith(f"orchestrator_{name} ")]
    return float(lines[0].split()[-1]) if lines else 0.0


async def refusals(world: World, kind: str) -> float:
    return await sample(world, f'gate_refusals_total{{kind="{kind}"}}')


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
    await paused_for(world, transaction)
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


async def paused_for(world: World, transaction: str) -> WorkPaused:
    async def paused() -> bool:
        return any(transaction in fact.why for fact in await pauses(world))

    await until(paused, "the pause that names the transaction")
    return next(fact for fact in await pauses(world) if transaction in fact.why)


async def settled(world: World, why: str) -> None:
    await order(world, "resume", "--supply", str(CHAIN), "--why", why)

    async def well() -> bool:
        chain = (await world.get("/health"))["chains"][str(CHAIN)]
        return bool(chain["ok"])

    await until(well, "a chain that is well again")


async def test_a_supply_that_no_event_tells_names_its_block_and_transaction(world: World) -> None:
    """As somebody makes it who may upgrade the contract, and who takes it back later on."""
    await world.ended(await world.mint(chain_id=CHAIN))
    chain = (str(CHAIN), f'{{chain_id="{CHAIN}"}}')
    settled_before = await sample(world, f"supply_unexplained_units{chain[1]}")
    transaction, block = await somebody_mints(world, CHAIN, 300 * TOKEN)
    pause = await paused_for(world, transaction)
    assert pause.scope == supply_scope(CHAIN)
    assert f"It began in block {block} " in pause.why
    assert f"{300 * TOKEN} more than they tell" in pause.why
    [waiting] = await world.mint(chain_id=CHAIN)

    async def told() -> bool:
        health = (await world.get("/health"))["chains"][chain[0]]
        return not health["ok"] and transaction in health["detail"]

    await until(told, "the health of the chain")
    doubts = await sample(world, f"gate_doubts{chain[1]}")
    unexplained = await sample(world, f"supply_unexplained_units{chain[1]}")
    assert doubts == 1 and unexplained - settled_before == 300 * TOKEN
    shown = next(
        one for one in (await world.get("/overview"))["chains"] if one["chainId"] == CHAIN
    )["supplyCompared"]
    assert int(shown["totalSupply"]) - int(shown["byEvents"]) == unexplained
    [traced] = [
        record.fact
        for record in await world.facts(EVM_EVENTS)
        if isinstance(record.fact, SupplyTraced) and record.fact.chain_id == CHAIN
    ]
    assert (traced.block_number, traced.tx_hash) == (block, transaction)
    assert traced.questions <= 20
    await settled(world, "the treasury, ticket 13")
    await world.ended([waiting])

    back, _ = await somebody_mints(world, CHAIN, -300 * TOKEN)
    pause = await paused_for(world, back)
    assert f"{300 * TOKEN} less than they tell" in pause.why
    await settled(world, "the treasury took it back, ticket 14")
    await world.ended(await world.mint(chain_id=CHAIN))
