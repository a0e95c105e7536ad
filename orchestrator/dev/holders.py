"""Token holders for tests and load: asking for redemptions, and reading what the chains say.

A holder sends many transactions without waiting for any: nonces are counted here and the raw
transactions go out in JSON-RPC batches, so that hundreds fit into one block.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.dev.contracts import call_view, encode_call
from orchestrator.dev.http_client import rpc, rpc_batch
from orchestrator.dev.launchpad import decoded, topics_of
from orchestrator.dev.wallets import account_of

_BATCH_SIZE = 200
_GAS = 220_000
"""For requestRedeem: three new storage slots, a transfer and an event."""


@dataclass(frozen=True)
class ContractEvent:
    """A Minted, RedeemRequested or Redeemed event as the chain shows it now. On a launchpad chain
    `request_id` is the 32-byte id, and a redemption's request is its end."""

    name: str
    request_id: str
    account: str
    amount: int
    block_number: int
    block_hash: str
    transaction_hash: str
    log_index: int


class Deployed(Protocol):
    """A chain with the contract, wherever it runs."""

    @property
    def rpc_url(self) -> str: ...
    @property
    def contract_address(self) -> str: ...
    @property
    def launchpad(self) -> bool: ...


class HolderWallets:
    """The holder of every chain: one key, `address`, funded with gas, tokens only by minting."""

    def __init__(self, chains: Mapping[int, Deployed], private_key: str) -> None:
        self._chains = chains
        self._account = account_of(private_key)
        self._locks = {chain_id: threading.Lock() for chain_id in chains}

    @property
    def address(self) -> str:
        return self._account.address

    async def request_redeem(self, chain_id: int, amount: int) -> str:
        """Send one requestRedeem; returns the transaction hash without waiting for a block."""
        return (await self.request_redeems(chain_id, [amount]))[0]

    async def request_redeems(self, chain_id: int, amounts: Sequence[int]) -> list[str]:
        """Send one requestRedeem per amount, pipelined; returns the transaction hashes in order.

        Not judged: a transaction may revert (too few tokens, paused). Raises `RpcError` when the
        node refuses one.
        """
        return await asyncio.to_thread(self._send_exclusively, chain_id, amounts)

    def _send_exclusively(self, chain_id: int, amounts: Sequence[int]) -> list[str]:
        """One sender at a time, so that nonces are not taken twice."""
        with self._locks[chain_id]:
            return self._send(chain_id, amounts)

    def _send(self, chain_id: int, amounts: Sequence[int]) -> list[str]:
        chain = self._chains[chain_id]
        count = rpc(chain.rpc_url, "eth_getTransactionCount", self.address, "pending")
        block = rpc(chain.rpc_url, "eth_getBlockByNumber", "latest", False)
        tip = 10**9
        shared: dict[str, Any] = {
            "type": 2,
            "chainId": chain_id,
            "to": chain.contract_address,
            "value": 0,
            "gas": _GAS,
            "maxPriorityFeePerGas": tip,
            "maxFeePerGas": 10 * int(block["baseFeePerGas"], 16) + tip,
        }
        calls: list[tuple[str, list[str]]] = []
        for nonce, amount in enumerate(amounts, start=int(count, 16)):
            data = encode_call("requestRedeem(uint256)", amount)
            transaction: dict[str, Any] = {**shared, "nonce": nonce, "data": data}
            signed = self._account.sign_transaction(transaction)
            calls.append(("eth_sendRawTransaction", ["0x" + signed.raw_transaction.hex()]))
        hashes: list[str] = []
        remaining = iter(calls)
        while batch := list(itertools.islice(remaining, _BATCH_SIZE)):
            hashes += rpc_batch(chain.rpc_url, batch)
        return hashes

    async def balance_of(self, chain_id: int, address: str | None = None) -> int:
        """Tokens, in base units, of an address (the holder's, when not given)."""
        owner = self.address if address is None else address
        return int((await self._view(chain_id, "balanceOf(address)", [owner], "uint256"))[0])

    async def total_supply(self, chain_id: int) -> int:
        return int((await self._view(chain_id, "totalSupply()", [], "uint256"))[0])

    async def is_processed(self, chain_id: int, request_id: str) -> bool:
        return bool((await self._view(chain_id, "isProcessed(string)", [request_id], "bool"))[0])

    async def _view(
        self, chain_id: int, signature: str, arguments: Sequence[Any], output_types: str
    ) -> tuple[Any, ...]:
        chain = self._chains[chain_id]
        return await asyncio.to_thread(
            call_view, chain.rpc_url, chain.contract_address, signature, arguments, output_types
        )

    async def minted_events(self, chain_id: int) -> list[ContractEvent]:
        return await self.events(chain_id, "Minted")

    async def redeem_requested_events(self, chain_id: int) -> list[ContractEvent]:
        return await self.events(chain_id, "RedeemRequested")

    async def redeemed_events(self, chain_id: int) -> list[ContractEvent]:
        return await self.events(chain_id, "Redeemed")

    async def events(self, chain_id: int, name: str) -> list[ContractEvent]:
        """All events of that name since the chain's beginning, in chain order."""
        chain = self._chains[chain_id]
        question = {
            "address": chain.contract_address,
            "fromBlock": "0x0",
            "toBlock": "latest",
            "topics": [_topics(name, chain.launchpad)],
        }
        logs = await asyncio.to_thread(rpc, chain.rpc_url, "eth_getLogs", question, timeout=120)
        return [_event(name, log, chain.launchpad) for log in logs]


def _topics(name: str, launchpad: bool) -> list[str]:
    if launchpad:
        return topics_of(name)
    return ["0x" + keccak(text=f"{name}(string,address,uint256)").hex()]


def _event(name: str, log: Mapping[str, Any], launchpad: bool) -> ContractEvent:
    if launchpad:
        event = decoded(log)
        request_id, account, amount = event.request_id, event.account, event.amount
    else:
        request_id, amount = decode(["string", "uint256"], bytes.fromhex(log["data"][2:]))
        account = to_checksum_address("0x" + log["topics"][1][-40:])
    return ContractEvent(
        name=name,
        request_id=request_id,
        account=account,
        amount=amount,
        block_number=int(log["blockNumber"], 16),
        block_hash=log["blockHash"],
        transaction_hash=log["transactionHash"],
        log_index=int(log["logIndex"], 16),
    )
