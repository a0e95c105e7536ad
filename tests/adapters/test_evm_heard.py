"""What a real node says when it refuses: each refusal is provoked on anvil, and its code and text
are those that are written here, so that a new release that speaks otherwise is noticed.

Nonces ahead of the account's next one stay in the pool: no block in between changes the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from eth_account import Account

from orchestrator.adapters.evm_errors import classify
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.errors import RpcProblem as P

from .conftest import CHAIN_ID

ANYONE = "0x" + "11" * 20
FAR_BLOCK = hex(10**9)
GWEI = 10**9
REASON = "08c379a0" + f"{32:064x}" + f"{6:064x}" + b"paused".hex().ljust(64, "0")
CREATION = f"60{len(REASON) // 2:02x}600c60003960{len(REASON) // 2:02x}6000fd"
"""Creation code that reverts with what stands behind it."""


@dataclass
class Teller:
    """One funded account of its own on the running chain."""

    url: str
    session: aiohttp.ClientSession
    account: Any
    poor: Any

    async def asked(self, method: str, *parameters: object) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        async with self.session.post(self.url, json=call) as response:
            answer: dict[str, Any] = await response.json()
        return answer

    async def sent(self, account: Any = None, **changes: object) -> dict[str, Any]:
        transaction = {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": ANYONE,
            "value": 0,
            "gas": 21_000,
            "maxFeePerGas": 5 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            **changes,
        }
        signed = (account or self.account).sign_transaction(transaction)
        return await self.asked("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())

    async def estimated(self, data: str) -> dict[str, Any]:
        return await self.asked("eth_estimateGas", {"from": self.account.address, "data": data})


@pytest.fixture
async def teller(stack: EmbeddedStack):
    chain = stack.chains[CHAIN_ID]
    async with aiohttp.ClientSession() as session:
        found = Teller(chain.rpc_url, session, Account.create(), Account.create())
        await chain.rpc("anvil_setBalance", found.account.address, hex(10**20))
        yield found


def told(answer: dict[str, Any]) -> tuple[int, str, P]:
    error = answer["error"]
    problem = classify(error["code"], error["message"], error.get("data")).problem
    return error["code"], error["message"], problem


async def test_the_release_that_is_heard(teller: Teller) -> None:
    assert (await teller.asked("web3_clientVersion"))["result"] == "anvil/v1.7.1"


async def test_what_stands_in_the_pool(teller: Teller) -> None:
    assert "result" in await teller.sent(nonce=5)
    again = told(await teller.sent(nonce=5))
    assert again == (-32003, "transaction already imported", P.ALREADY_KNOWN)
    other = told(await teller.sent(nonce=5, value=1))
    text = "replacement transaction underpriced"
    assert other == (-32003, text, P.REPLACEMENT_UNDERPRICED)


async def test_a_nonce_that_is_used(teller: Teller) -> None:
    assert "result" in await teller.sent(nonce=0)
    await teller.asked("evm_mine")
    low = (-32003, "nonce too low", P.NONCE_TOO_LOW)
    assert told(await teller.sent(nonce=0)) == low, "the same bytes once more"
    assert told(await teller.sent(nonce=0, value=1)) == low


async def test_money_and_fees(teller: Teller) -> None:
    text = "Insufficient funds for gas * price + value"
    assert told(await teller.sent(teller.poor)) == (-32003, text, P.INSUFFICIENT_FUNDS)
    cheap = await teller.sent(nonce=7, maxFeePerGas=0, maxPriorityFeePerGas=0)
    text = "max fee per gas less than block base fee"
    assert told(cheap) == (-32003, text, P.UNDERPRICED)


async def test_gas_limits(teller: Teller) -> None:
    low = told(await teller.sent(nonce=8, gas=20_000))
    assert low == (-32000, "intrinsic gas too low", P.GAS_TOO_LOW)
    high = told(await teller.sent(nonce=8, gas=10**10))
    text = "intrinsic gas too high -- tx.gas_limit > env.block.gas_limit"
    assert high == (-32000, text, P.GAS_TOO_HIGH)
    code, text, problem = told(await teller.estimated("0x5b600056"))
    assert (code, problem) == (-32003, P.GAS_TOO_HIGH)
    assert text.startswith("Out of gas: gas required exceeds allowance: ")


async def test_calls_that_are_refused(teller: Teller) -> None:
    empty = told(await teller.estimated("0x60006000fd"))
    assert empty == (3, "execution reverted", P.REVERTED)
    reason = told(await teller.estimated("0x" + CREATION + REASON))
    assert reason == (3, "execution reverted: paused", P.REVERTED)
    for data, name in (("0xfe", "InvalidFEOpcode"), ("0x600156", "InvalidJump")):
        found = told(await teller.estimated(data))
        assert found == (-32603, f"EVM error {name}", P.REVERTED)


async def test_a_block_that_is_not_there(teller: Teller) -> None:
    for method, parameters in (
        ("eth_call", ({"to": ANYONE}, FAR_BLOCK)),
        ("eth_getTransactionCount", (ANYONE, FAR_BLOCK)),
        ("eth_getLogs", ({"fromBlock": FAR_BLOCK, "toBlock": FAR_BLOCK},)),
    ):
        code, text, problem = told(await teller.asked(method, *parameters))
        assert (code, problem) == (-32602, P.UNAVAILABLE)
        assert text.startswith("BlockOutOfRangeError: block height is ")
