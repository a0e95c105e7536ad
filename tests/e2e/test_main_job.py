"""The main job on real parts: mints and redeems from fact to COMPLETED, on every chain."""

from __future__ import annotations

import asyncio
import warnings

from eth_keys.main import KeyAPI
from eth_utils.address import to_checksum_address
from web3 import AsyncHTTPProvider, AsyncWeb3

from orchestrator.core.signatures import CURVE_ORDER
from orchestrator.dev.compile_contract import load_artifact
from schemas.kuro import MintOk
from schemas.requests import ApprovalSigned
from schemas.topics import DEAD_LETTERS, KURO_EVENTS, REQUESTS
from tests.e2e.harness import TOKEN, World, until
from tests.e2e.invariants import invariants_hold


async def redeem(world: World, chain_id: int, amounts: list[int]) -> list[str]:
    """The holder asks on chain; the request keys as the service names them."""
    holders = world.stack.holders
    before = {event.request_id for event in await holders.redeem_requested_events(chain_id)}
    await holders.request_redeems(chain_id, amounts)
    keys: list[str] = []

    async def mined() -> bool:
        events = await holders.redeem_requested_events(chain_id)
        keys[:] = [
            f"redeem:{chain_id}:{event.request_id}"
            for event in events
            if event.request_id not in before
        ]
        return len(keys) == len(amounts)

    await until(mined, f"{len(amounts)} RedeemRequested on {chain_id}")
    return keys


async def test_a_mint_and_a_redeem_complete_on_every_chain(world: World) -> None:
    holders = world.stack.holders
    before = {chain_id: await holders.total_supply(chain_id) for chain_id in world.stack.chain_ids}
    minted: dict[int, str] = {}
    for chain_id in world.stack.chain_ids:
        [minted[chain_id]] = await world.mint(chain_id=chain_id, fiatRef=f"wire-{chain_id}")
    for item in await world.ended(minted.values()):
        assert item["type"] == "MINT"
        assert item["fiatRef"] == f"wire-{item['chainId']}"
        assert item["amount"] == str(TOKEN)
        assert item["userAddress"] == world.stack.holders.address
    redeems = [
        key
        for chain_id in world.stack.chain_ids
        for key in await redeem(world, chain_id, [TOKEN // 2])
    ]
    for item in await world.ended(redeems):
        assert item["type"] == "REDEEM"
        assert item["requestKey"] == f"redeem:{item['chainId']}:{item['requestId']}"
    for chain_id in world.stack.chain_ids:
        await world.minted_once(chain_id, [minted[chain_id]])
        supply = await holders.total_supply(chain_id)
        assert supply == before[chain_id] + TOKEN - TOKEN // 2


async def test_a_requests_whole_life_is_readable_on_one_topic(world: World) -> None:
    [key] = await world.mint(chain_id=5921)
    await world.ended([key])
    lines = [m.value.decode() for m in await world.messages(REQUESTS) if m.key == key.encode()]
    assert all("\n" not in line for line in lines)
    kinds = [REQUESTS.decode(line.encode()).fact.kind for line in lines]
    assert kinds == [
        "RequestReceived",
        "ApprovalDrafted",
        "ApprovalSigned",
        "RelayAssigned",
        "SubmissionReported",
        "InclusionReported",
        "EvidenceReported",
        "RequestCompleted",
    ]


async def test_a_burst_of_200_on_one_wallet_completes_once_each(world: World) -> None:
    chain_id = 5922
    first = await world.block_number(chain_id)
    keys = await world.mint(chain_id=chain_id, count=200)
    await world.ended(keys)
    blocks = await world.block_number(chain_id) - first
    await world.minted_once(chain_id, keys)
    await invariants_hold(world, keys)
    if blocks > 15:  # a measure of time: told loudly, but a busy machine fails no test
        warnings.warn(f"200 mints took {blocks} blocks, more than 15", stacklevel=1)


async def test_every_signature_is_low_s_and_recovers_to_the_key(world: World) -> None:
    signed = [r.fact for r in await world.facts(REQUESTS) if isinstance(r.fact, ApprovalSigned)]
    assert len(signed) >= 200
    for fact in signed:
        raw = bytes.fromhex(fact.signature[2:])
        r, s, v = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
        assert s <= CURVE_ORDER // 2
        signature = KeyAPI().Signature(vrs=(v - 27, r, s))
        key = signature.recover_public_key_from_msg_hash(bytes.fromhex(fact.digest[2:]))
        assert key.to_checksum_address() == fact.signer == world.stack.kms.address


async def test_the_same_message_twice_mints_once(world: World) -> None:
    await world.stack.kuro.behave(repeat=2)
    try:
        keys = await world.mint(count=3)
        await world.ended(keys)
    finally:
        await world.stack.kuro.behave(repeat=0)
    again = [
        {"requestId": key, "user": world.stack.holders.address, "amount": str(TOKEN)}
        for key in keys
    ]
    await world.stack.kuro.mint(*again)
    [later] = await world.mint()
    await world.ended([later])
    await world.minted_once(5920, keys)


async def test_the_same_id_with_another_amount_is_refused_loudly(world: World) -> None:
    [key] = await world.mint(chain_id=5923, requestId="conflict-1")
    await world.ended([key])
    supply = await world.stack.holders.total_supply(5923)
    await world.mint(chain_id=5923, requestId="conflict-1", amount=str(7 * TOKEN))

    async def lettered() -> bool:
        letters = [record.fact for record in await world.facts(DEAD_LETTERS)]
        return any("conflict-1:received" in letter.detail for letter in letters)  # type: ignore[attr-defined]

    await until(lettered, "a dead letter for the conflict")
    item = await world.status(key)
    assert item["status"] == "COMPLETED"
    assert item["amount"] == str(TOKEN)
    assert await world.stack.holders.total_supply(5923) == supply


async def test_what_happened_while_the_service_was_down_is_served_after_its_start(
    world: World,
) -> None:
    [before] = await world.mint(chain_id=5924, amount=str(5 * TOKEN))
    await world.ended([before])
    await world.service.stop()
    minted = await world.mint(chain_id=5924, count=5)
    redeemed = await redeem(world, 5924, [TOKEN, TOKEN, TOKEN])
    await world.service.start()
    await world.ended([*minted, *redeemed])
    await world.minted_once(5924, minted)
    heard = [r.fact for r in await world.facts(KURO_EVENTS) if isinstance(r.fact, MintOk)]
    assert {fact.via for fact in heard if fact.request_id in minted} == {"rest"}


async def test_kill_9_in_the_middle_of_a_burst_loses_nothing_and_doubles_nothing(
    world: World,
) -> None:
    chain_id = 5920
    keys = await world.mint(chain_id=chain_id, count=200)
    for moment in (0.7, 1.5):
        await asyncio.sleep(moment)
        await world.service.kill()
        await world.service.start()
    await world.ended(keys)
    await world.minted_once(chain_id, keys)
    await invariants_hold(world, keys)


async def test_an_independent_library_reads_the_same_from_the_chain(world: World) -> None:
    """web3.py decodes the contract's events and balances by the compiled interface, not by ours."""
    chain = world.stack.chains[5922]
    [key] = await world.mint(chain_id=5922, amount=str(3 * TOKEN))
    [item] = await world.ended([key])
    provider = AsyncHTTPProvider(chain.rpc_url)
    node = AsyncWeb3(provider)
    contract = node.eth.contract(
        address=to_checksum_address(chain.contract_address), abi=load_artifact()["abi"]
    )
    receipt = await node.eth.get_transaction_receipt(item["txHash"])
    [event] = contract.events.Minted().process_receipt(receipt)
    expected = {"requestId": key, "to": world.stack.holders.address, "amount": 3 * TOKEN}
    assert dict(event["args"]) == expected
    assert await contract.functions.isProcessed(key).call() is True
    await provider.disconnect()
