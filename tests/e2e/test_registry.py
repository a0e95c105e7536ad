"""A KYC registry on a real chain: its no, its second thoughts, and every way in which it gives no
answer. Nobody is minted to unasked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.core.stages import Stage
from orchestrator.dev.compile_contract import KYC_REGISTRY, load_artifact
from orchestrator.dev.contracts import call_view, encode_call, send_transaction
from orchestrator.dev.http_client import HttpError
from schemas.policies import AccountVerified, RequestCleared
from schemas.topics import LANES
from tests.e2e.harness import World, until
from tests.e2e.test_metrics import scrape, value
from tests.e2e.test_policies import apply, approve, held

CHAIN, ELSEWHERE = 5922, 5921
CONFIRMATIONS = 2
"""Of the service; see `service_environment`."""
KEEPER: LocalAccount = Account.from_key(keccak(text="who keeps the registry"))
ALL_ONES = "0x60001960005260206000f3"
"""Code that answers a word of ones, which is no bool."""
REVERTS = "0x60006000fd"


class Registry:
    """The contract, as its keeper and as whoever breaks it."""

    def __init__(self, world: World) -> None:
        self.chain = world.stack.chains[CHAIN]
        self.address = ""
        self.code = ""

    async def deploy(self) -> None:
        await self.chain.rpc("anvil_setBalance", KEEPER.address, hex(10**18))
        creation = bytes.fromhex(load_artifact(KYC_REGISTRY)["bytecode"][2:])
        receipt = await self._send(None, creation + encode(["address"], [KEEPER.address]))
        self.address = to_checksum_address(receipt["contractAddress"])
        self.code = await self.chain.rpc("eth_getCode", self.address, "latest")

    async def verify(self, account: str, verified: bool) -> None:
        await self._send(self.address, encode_call("setVerified(address,bool)", account, verified))

    async def becomes(self, code: str) -> None:
        """Returns when it has been so for longer than a block takes to be final."""
        await self.chain.rpc("anvil_setCode", self.address, code)
        final = int(await self.chain.rpc("eth_blockNumber"), 16) + 1

        async def is_final() -> bool:
            head = int(await self.chain.rpc("eth_blockNumber"), 16)
            return head >= final + CONFIRMATIONS

        await until(is_final, "the registry's new code is final")

    async def _send(self, to: str | None, data: bytes) -> dict[str, Any]:
        url = self.chain.rpc_url
        receipt = await asyncio.to_thread(
            lambda: send_transaction(url, CHAIN, KEEPER, to=to, data=data)
        )
        assert receipt["status"] == "0x1", receipt
        return receipt


@pytest_asyncio.fixture
async def registry(world: World, tmp_path: Path) -> AsyncIterator[Registry]:
    """The service knows it, and a policy asks it about mints on its chain."""
    found, usual = Registry(world), world.service
    await found.deploy()
    await usual.stop()
    world.environment[f"KYC_REGISTRY_CONTRACT_ADDRESS_{CHAIN}"] = found.address
    world.service = world.part("with a registry", "run", api=True)
    try:
        await world.service.start()
        await apply(world, tmp_path, {"kyc": {"chain_ids": [CHAIN]}})
        yield found
        await apply(world, tmp_path, {"note": "nothing is asked any more"})
    finally:
        await world.service.stop()
        del world.environment[f"KYC_REGISTRY_CONTRACT_ADDRESS_{CHAIN}"]
        world.service = usual


async def holder_is_not_verified(world: World) -> tuple[str, str]:
    """Two mints that the registry's no holds; a third, on another chain, is nobody's business."""
    keys = await world.mint(chain_id=CHAIN, count=2)
    [elsewhere] = await world.mint(chain_id=ELSEWHERE)
    for key in keys:
        item = await held(world, key)
        assert (item["status"], item["reason"]) == ("PENDING", "NOT_VERIFIED")
        told = await world.get(f"/status/{key}/explain")
        assert f"does not verify {world.stack.holders.address}" in told["summary"]
    await world.ended([elsewhere])
    return keys[0], keys[1]


async def says(world: World, key: str, words: str) -> None:
    async def told() -> bool:
        try:
            return words in (await world.get(f"/status/{key}/explain"))["summary"]
        except HttpError:
            return False

    await until(told, f"{key} is held: {words}", lambda: world.stories([key]))


async def test_a_registrys_no_holds_until_it_or_two_operators_say_otherwise(
    world: World, registry: Registry
) -> None:
    holder = world.stack.holders.address
    released, verified = await holder_is_not_verified(world)
    await approve(world, released, "ann")
    assert (await world.status(released))["stage"] == Stage.HELD
    await approve(world, released, "bob")
    await world.ended([released])
    assert (await world.status(verified))["stage"] == Stage.HELD

    await registry.verify(holder, True)
    await world.ended([verified])
    await world.minted_once(CHAIN, [released, verified])
    facts = [record.fact for record in await world.facts(LANES)]
    cleared = {f.request_key: f for f in facts if isinstance(f, RequestCleared)}
    assert cleared[released].approved_by == ("ann", "bob")
    assert cleared[verified].approved_by == ()
    answers = [f for f in facts if isinstance(f, AccountVerified) and f.request_key == verified]
    assert [(f.verified, f.later) for f in answers] == [(False, False), (True, True), (True, False)]

    await _every_way_to_give_no_answer(world, registry)


async def _every_way_to_give_no_answer(world: World, registry: Registry) -> None:
    keys: list[str] = []

    async def one(words: str) -> str:
        [key] = await world.mint(chain_id=CHAIN)
        keys.append(key)
        await says(world, key, words)
        assert (await world.status(key))["stage"] == Stage.HELD
        return key

    async def noted(words: str) -> None:
        async def is_told() -> bool:
            return words in world.service.log.read_text(encoding="utf-8", errors="replace")

        await until(is_told, f"the owner says: {words}")

    await registry.becomes(ALL_ONES)
    garbled = await one("gave no bool")
    assert (await world.status(garbled))["reason"] == "REGISTRY_UNASKED"
    health = await world.get("/health")
    assert not health["checks"]["policies"]["ok"] and health["status"] == "degraded"
    assert "gave no bool" in health["checks"]["policies"]["detail"], health
    exposed = await scrape(world.service.base_url)
    assert (value(exposed, "registry_unasked_seconds", chain_id=str(CHAIN)) or 0) >= 10
    assert value(exposed, "held_requests", rule="REGISTRY_UNASKED") == 1

    await registry.becomes("0x")
    await noted("there is no contract with isVerified(address)")
    await one("there is no contract with isVerified(address)")

    await registry.becomes(REVERTS)
    await one("it reverted")
    await says(world, garbled, "it reverted")

    await registry.becomes(registry.code)
    await world.ended(keys)
    await registry.chain.pause()
    try:
        away = await one("nobody can ask the KYC registry")
    finally:
        await registry.chain.resume()
    await world.ended([away])
    await world.minted_once(CHAIN, keys)
    assert (await world.get("/health"))["checks"]["policies"]["ok"]


async def test_the_registry_is_kept_by_its_keeper_alone(world: World) -> None:
    registry = Registry(world)
    await registry.deploy()
    url, holder = registry.chain.rpc_url, world.stack.holders.address

    async def is_verified() -> bool:
        answer = await asyncio.to_thread(
            call_view, url, registry.address, "isVerified(address)", [holder], "bool"
        )
        return bool(answer[0])

    assert not await is_verified()
    stranger: LocalAccount = Account.from_key(keccak(text="a stranger"))
    await registry.chain.rpc("anvil_setBalance", stranger.address, hex(10**18))
    data = encode_call("setVerified(address,bool)", holder, True)
    receipt = await asyncio.to_thread(
        lambda: send_transaction(url, CHAIN, stranger, to=registry.address, data=data)
    )
    assert receipt["status"] == "0x0" and not await is_verified()
    await registry.verify(holder, True)
    assert await is_verified()
    assert json.dumps(load_artifact(KYC_REGISTRY)["abi"]).count("isVerified") == 1
