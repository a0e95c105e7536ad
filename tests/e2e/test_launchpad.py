"""A chain whose contract wants approval nonces in order, on real parts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.core.launchpad_profile import contract_id
from orchestrator.dev import launchpad
from orchestrator.dev.http_client import rpc
from schemas.base import Fact
from schemas.controls import WorkPaused, supply_scope
from schemas.lanes import RelayRefusal
from schemas.requests import ApprovalDrafted, ApprovalExpired
from schemas.topics import CONTROLS, REQUESTS
from tests.e2e.harness import LAUNCHPAD_CHAIN, TOKEN, World, until
from tests.e2e.test_bad_input import run_cli
from tests.e2e.test_main_job import redeem


@dataclass(frozen=True)
class Mint:
    recipient: str
    nonce: int
    request_id: str


def recipient(number: int) -> str:
    return f"0x{number:040x}"


async def mints(world: World) -> list[Mint]:
    """What the contract executed, in chain order."""
    chain = world.stack.chains[LAUNCHPAD_CHAIN]
    question = {
        "address": chain.contract_address,
        "fromBlock": "0x0",
        "topics": [launchpad.topics_of("Minted")],
    }
    logs = await asyncio.to_thread(rpc, chain.rpc_url, "eth_getLogs", question)
    events = [launchpad.decoded(log) for log in logs]
    return [Mint(e.account.lower(), e.approval_nonce or 0, e.request_id) for e in events]


async def executed_in_order(world: World, keys: Collection[str]) -> dict[str, list[int]]:
    """Nonces by recipient of these requests, each executed once, in ascending order; and each
    under the nonce of its last draft."""
    await world.minted_once(LAUNCHPAD_CHAIN, keys)
    names = {contract_id(key): key for key in keys}
    drafts = {
        fact.request_key: fact.approval_nonce
        for fact in await facts(world)
        if isinstance(fact, ApprovalDrafted)
    }
    found: dict[str, list[int]] = defaultdict(list)
    for mint in await mints(world):
        if mint.request_id in names:
            found[mint.recipient].append(mint.nonce)
            assert drafts[names[mint.request_id]] == mint.nonce
    for nonces in found.values():
        assert nonces == sorted(nonces)
    return found


async def facts(world: World) -> list[Fact]:
    return [record.fact for record in await world.facts(REQUESTS)]


async def burst(world: World, recipients: Collection[str], each: int) -> list[str]:
    """Mints for the recipients in turn, all at once."""
    users = [user for _ in range(each) for user in recipients]
    template = {"amount": str(TOKEN), "chainId": LAUNCHPAD_CHAIN}
    return await world.stack.kuro.mint(*[{**template, "user": user} for user in users])


async def test_a_burst_to_few_recipients_completes_in_order(world: World) -> None:
    recipients = [recipient(n) for n in (0xA1, 0xA2, 0xA3)]
    keys = await burst(world, recipients, 10)
    await world.ended(keys)
    found = await executed_in_order(world, keys)
    assert found == {user: list(range(10)) for user in recipients}
    attempts = [
        f.attempt
        for f in await facts(world)
        if isinstance(f, ApprovalDrafted) and f.request_key in keys
    ]
    assert attempts == [1] * 30, "nothing was drafted twice"


async def settled_by_a_person(world: World) -> None:
    """No fact backs the other signer's mint: the gate holds the chain until somebody has looked."""

    async def paused() -> bool:
        found = [record.fact for record in await world.facts(CONTROLS)]
        return any(isinstance(fact, WorkPaused) and fact.scope == scope for fact in found)

    scope = supply_scope(LAUNCHPAD_CHAIN)
    await until(paused, "the gate's pause")
    words = ("resume", "--supply", str(LAUNCHPAD_CHAIN), "--why", "the treasury, ticket 12")
    ended = await asyncio.to_thread(run_cli, world.environment, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr


async def test_a_mint_by_another_signer_takes_a_nonce_and_one_request_gets_another(
    world: World,
) -> None:
    user = recipient(0xB1)
    [first] = await burst(world, [user], 1)
    await world.ended([first])
    await world.stack.kms.stop()
    try:
        keys = await burst(world, [user], 5)

        async def drafted() -> bool:
            known = [f for f in await facts(world) if isinstance(f, ApprovalDrafted)]
            return {f.request_key for f in known} >= set(keys)

        await until(drafted, "five drafts")
        chain = world.stack.chains[LAUNCHPAD_CHAIN]
        receipt = await asyncio.to_thread(
            launchpad.mint_elsewhere,
            chain.rpc_url,
            LAUNCHPAD_CHAIN,
            chain.contract_address,
            "someone-elses",
            user,
            7,
            1,
        )
        assert receipt["status"] == "0x1"
    finally:
        await world.stack.kms.start()
    await settled_by_a_person(world)
    await world.ended(keys)
    found = await executed_in_order(world, keys)
    assert found == {user: [2, 3, 4, 5, 6]}, "who held 1 has 6, the others keep theirs"
    voided = [f for f in await facts(world) if isinstance(f, ApprovalExpired)]
    assert [f.reason for f in voided if f.request_key in keys] == [RelayRefusal.NONCE_TAKEN]


async def test_kill_9_in_the_middle_of_a_burst_keeps_the_order(world: World) -> None:
    recipients = [recipient(n) for n in (0xC1, 0xC2, 0xC3)]
    keys = await burst(world, recipients, 10)
    for moment in (0.7, 1.5):
        await asyncio.sleep(moment)
        await world.service.kill()
        await world.service.start()
    await world.ended(keys)
    found = await executed_in_order(world, keys)
    assert found == {user: list(range(10)) for user in recipients}


async def test_a_redemption_completes_by_its_own_event(world: World) -> None:
    [mint] = await world.mint(chain_id=LAUNCHPAD_CHAIN)
    await world.ended([mint])
    [key] = await redeem(world, LAUNCHPAD_CHAIN, [TOKEN])
    [item] = await world.ended([key])
    assert key == f"redeem:{LAUNCHPAD_CHAIN}:{item['txHash']}:{key.rpartition(':')[2]}"
    assert item["amount"] == str(TOKEN)
    kinds = [f.kind for f in await facts(world) if getattr(f, "request_key", None) == key]
    assert kinds == ["RequestReceived", "EvidenceReported", "RequestCompleted"]
