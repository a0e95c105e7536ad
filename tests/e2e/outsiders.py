"""Somebody mints outside of the service, or writes to its topics."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer

from orchestrator.dev.contracts import encode_call, send_transaction
from schemas.base import Record, encode_value, instant
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


async def by_hand(world: World, topic: str, fact: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=world.environment["KAFKA_BOOTSTRAP_SERVERS"])
    await producer.start()
    try:
        value = encode_value(Record(fact, instant(1_800_000_000)))
        await producer.send_and_wait(topic, value, key=fact.key.encode())
    finally:
        await producer.stop()
