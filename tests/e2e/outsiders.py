"""Somebody mints outside of the service, or writes to its topics."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer

from orchestrator.dev.contracts import encode_call, send_transaction
from orchestrator.dev.http_client import rpc
from schemas.base import Record, encode_value, instant
from streams.supply import NOBODY, TRANSFER
from tests.e2e.harness import TOKEN, World
from tests.stack.approvals import approval_digest, kms_client, sign

MINT = "mintWithApproval(string,address,uint256,uint256,uint256,bytes)"


async def outsider_mints(world: World, chain_id: int, request_id: str, nonce: int = 77) -> str:
    """With access to the key: approves one token that Kuro never allowed. The transaction."""
    chain, kms = world.stack.chains[chain_id], world.stack.kms
    values = (request_id, world.stack.holders.address, TOKEN, nonce, 2**33)
    digest = approval_digest("MintApproval", chain_id, chain.contract_address, "to", values)
    async with kms_client(kms) as client:
        signature = await sign(client, kms, digest)
    sent = await asyncio.to_thread(
        send_transaction,
        chain.rpc_url,
        chain_id,
        world.stack.wallets.holder_account,
        to=chain.contract_address,
        data=encode_call(MINT, *values, signature),
    )
    return str(sent["transactionHash"])


def _upgraded() -> str:
    """Code that adds its first word to the slot of OpenZeppelin's `_totalSupply` and logs a
    `Transfer` of the other three (from, to, value); `totalSupply()` it answers as before."""
    told = bytes.fromhex(TRANSFER[2:])
    main = bytes.fromhex("600035600254016002556060356000526040356020357f")
    main += told + bytes.fromhex("60206000a300")
    begin = bytes.fromhex("3660041460") + bytes([7 + len(main)]) + bytes.fromhex("57")
    return "0x" + (begin + main + bytes.fromhex("5b60025460005260206000f3")).hex()


async def somebody_mints(world: World, chain_id: int, amount: int) -> tuple[str, int]:
    """As somebody does who may upgrade the contract, without an event of ours; below zero, burns.
    The transaction and its block. Nothing else may be under way on the chain."""
    chain = world.stack.chains[chain_id]
    holder = "0x" + world.stack.holders.address[2:].lower().rjust(64, "0")
    ends = (NOBODY, holder) if amount > 0 else (holder, NOBODY)
    words = (f"{amount % 2**256:064x}", ends[0][2:], ends[1][2:], f"{abs(amount):064x}")

    def act() -> Any:
        url, address = chain.rpc_url, chain.contract_address
        code = rpc(url, "eth_getCode", address, "latest")
        rpc(url, "anvil_setCode", address, _upgraded())
        try:
            account = world.stack.wallets.holder_account
            data = bytes.fromhex("".join(words))
            return send_transaction(url, chain_id, account, to=address, data=data)
        finally:
            rpc(url, "anvil_setCode", address, code)

    sent = await asyncio.to_thread(act)
    return str(sent["transactionHash"]), int(sent["blockNumber"], 16)


async def by_hand(world: World, topic: str, fact: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=world.environment["KAFKA_BOOTSTRAP_SERVERS"])
    await producer.start()
    try:
        value = encode_value(Record(fact, instant(1_800_000_000)))
        await producer.send_and_wait(topic, value, key=fact.key.encode())
    finally:
        await producer.stop()
