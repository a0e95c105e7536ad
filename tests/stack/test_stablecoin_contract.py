"""The reference contract on a real EVM, with approvals that the KMS signed."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_account import Account
from eth_utils.crypto import keccak

from orchestrator.dev.compile_contract import main as compile_contract
from orchestrator.dev.contracts import artifact, encode_call, send_transaction
from orchestrator.dev.http_client import RpcError, rpc
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.wallets import account_of

from .approvals import approval_digest, kms_client, sign
from .conftest import CHAIN_ID

MINT = "mintWithApproval(string,address,uint256,uint256,uint256,bytes)"
FINALIZE = "finalizeRedeem(string,address,uint256,uint256,uint256,bytes)"
_nonces = itertools.count(int(time.time() * 1000))


class Contract:
    """Driving the contract of the one chain as its relayer, deployer or holder."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack
        self.chain = stack.chains[CHAIN_ID]
        self.relayer = account_of(stack.wallets.relayers[CHAIN_ID][0])
        self.deployer = account_of(stack.wallets.deployers[CHAIN_ID])

    def arguments(
        self, request_id: str, account: str, amount: int, **changes: int
    ) -> tuple[Any, ...]:
        nonce = changes.get("nonce", next(_nonces))
        now = int(rpc(self.chain.rpc_url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        return (request_id, account, amount, nonce, changes.get("deadline", now + 3600))

    async def approve(self, kind: str, values: tuple[Any, ...]) -> bytes:
        field = "to" if kind == "MintApproval" else "from"
        digest = approval_digest(kind, CHAIN_ID, self.chain.contract_address, field, values)
        async with kms_client(self.stack.kms) as client:
            return await sign(client, self.stack.kms, digest)

    async def send(self, signature: str, *values: Any, account: Any = None) -> dict[str, Any]:
        return await asyncio.to_thread(
            send_transaction,
            self.chain.rpc_url,
            CHAIN_ID,
            account or self.relayer,
            to=self.chain.contract_address,
            data=encode_call(signature, *values),
        )

    async def refusal(self, signature: str, *values: Any) -> tuple[str, tuple[Any, ...]]:
        """The custom error that a call reverts with: its name and arguments."""
        call = {
            "from": self.relayer.address,
            "to": self.chain.contract_address,
            "data": "0x" + encode_call(signature, *values).hex(),
        }
        with pytest.raises(RpcError) as caught:
            await self.chain.rpc("eth_call", call, "latest")
        data = bytes.fromhex(str(caught.value.data)[2:])
        for entry in artifact()["abi"]:
            if entry["type"] == "error":
                types = [member["type"] for member in entry["inputs"]]
                if keccak(text=f"{entry['name']}({','.join(types)})")[:4] == data[:4]:
                    return entry["name"], decode(types, data[4:])
        raise AssertionError(f"no known error: {data.hex()}")

    async def mint(self, request_id: str, account: str, amount: int) -> None:
        values = self.arguments(request_id, account, amount)
        receipt = await self.send(MINT, *values, await self.approve("MintApproval", values))
        assert receipt["status"] == "0x1"


@pytest.fixture(scope="module")
def contract(chain_stack: EmbeddedStack) -> Contract:
    return Contract(chain_stack)


def _new_id() -> str:
    return f"mint-{os.urandom(6).hex()}"


@pytest.mark.asyncio
async def test_mint_happens_exactly_once(contract: Contract) -> None:
    holders, user, request_id = contract.stack.holders, Account.create().address, _new_id()
    values = contract.arguments(request_id, user, 10**18)
    signature = await contract.approve("MintApproval", values)
    assert not await holders.is_processed(CHAIN_ID, request_id)
    receipt = await contract.send(MINT, *values, signature)
    assert receipt["status"] == "0x1"
    assert int(receipt["gasUsed"], 16) < 200_000
    assert await holders.balance_of(CHAIN_ID, user) == 10**18
    assert await holders.is_processed(CHAIN_ID, request_id)
    [event] = [e for e in await holders.minted_events(CHAIN_ID) if e.request_id == request_id]
    assert (event.account, event.amount) == (user, 10**18)
    again = await contract.send(MINT, *values, signature)
    assert again["status"] == "0x0"
    reason = await contract.refusal(MINT, *values, signature)
    assert reason == ("RequestAlreadyProcessed", (request_id,))
    assert await holders.balance_of(CHAIN_ID, user) == 10**18


@pytest.mark.asyncio
async def test_a_nonce_serves_once(contract: Contract) -> None:
    user = Account.create().address
    first = contract.arguments(_new_id(), user, 1)
    await contract.send(MINT, *first, await contract.approve("MintApproval", first))
    second = contract.arguments(_new_id(), user, 1, nonce=first[3])
    signature = await contract.approve("MintApproval", second)
    assert await contract.refusal(MINT, *second, signature) == ("NonceAlreadyUsed", (first[3],))


@pytest.mark.asyncio
async def test_expired_and_foreign_approvals_are_refused(contract: Contract) -> None:
    user = Account.create().address
    late = contract.arguments(_new_id(), user, 1, deadline=1)
    signature = await contract.approve("MintApproval", late)
    assert await contract.refusal(MINT, *late, signature) == ("ApprovalExpired", (1,))

    values = contract.arguments(_new_id(), user, 1)
    digest = approval_digest(
        "MintApproval", CHAIN_ID, contract.chain.contract_address, "to", values
    )
    stranger = Account.create()
    foreign = bytes(stranger.unsafe_sign_hash(digest).signature)
    name, (recovered,) = await contract.refusal(MINT, *values, foreign)
    assert (name, recovered) == ("InvalidSigner", stranger.address.lower())
    assert (await contract.refusal(MINT, *values, b"short"))[0] == "InvalidSigner"

    signature = await contract.approve("MintApproval", values)
    more = (*values[:2], 2, *values[3:])
    assert (await contract.refusal(MINT, *more, signature))[0] == "InvalidSigner"


@pytest.mark.asyncio
async def test_redeem_flow_and_its_pipelining(contract: Contract) -> None:
    holders, count = contract.stack.holders, 150
    await contract.mint(_new_id(), holders.address, 1_000)
    supply = await holders.total_supply(CHAIN_ID)
    before = len(await holders.redeem_requested_events(CHAIN_ID))
    hashes = await holders.request_redeems(CHAIN_ID, [2] * count)
    assert len(set(hashes)) == count
    await contract.chain.mine()
    events = (await holders.redeem_requested_events(CHAIN_ID))[before:]
    assert len({event.request_id for event in events}) == count
    assert len({event.block_number for event in events}) <= 4
    escrow = contract.chain.contract_address
    assert await holders.balance_of(CHAIN_ID, escrow) == 2 * count
    assert await holders.total_supply(CHAIN_ID) == supply

    request_id = events[0].request_id
    values = contract.arguments(request_id, holders.address, 2)
    signature = await contract.approve("RedeemFinalize", values)
    wrong = (values[0], values[1], 3, *values[3:])
    assert (await contract.refusal(FINALIZE, *wrong, signature))[0] == "RedemptionMismatch"
    assert (await contract.send(FINALIZE, *values, signature))["status"] == "0x1"
    assert await holders.total_supply(CHAIN_ID) == supply - 2
    reason = await contract.refusal(FINALIZE, *values, signature)
    assert reason == ("RequestAlreadyProcessed", (request_id,))
    [redeemed] = await holders.redeemed_events(CHAIN_ID)
    assert (redeemed.request_id, redeemed.account, redeemed.amount) == (*values[:2], 2)

    taken = contract.arguments(events[1].request_id, holders.address, 5)
    signature = await contract.approve("MintApproval", taken)
    assert (await contract.refusal(MINT, *taken, signature))[0] == "RequestIsRedemption"
    unknown = contract.arguments("redeem-none", holders.address, 5)
    signature = await contract.approve("RedeemFinalize", unknown)
    assert (await contract.refusal(FINALIZE, *unknown, signature))[0] == "UnknownRedemption"


@pytest.mark.asyncio
async def test_only_the_owner_pauses(contract: Contract) -> None:
    assert (await contract.refusal("pause()"))[0] == "OwnableUnauthorizedAccount"
    assert (await contract.send("pause()", account=contract.deployer))["status"] == "0x1"
    values = contract.arguments(_new_id(), contract.relayer.address, 1)
    signature = await contract.approve("MintApproval", values)
    assert (await contract.refusal(MINT, *values, signature))[0] == "EnforcedPause"
    assert (await contract.send("unpause()", account=contract.deployer))["status"] == "0x1"
    assert (await contract.send(MINT, *values, signature))["status"] == "0x1"


@pytest.mark.asyncio
async def test_state_survives_a_restart_and_reorganisations_happen(contract: Contract) -> None:
    holders, user = contract.stack.holders, Account.create().address
    await contract.mint(_new_id(), user, 7)
    events = await holders.minted_events(CHAIN_ID)
    await contract.chain.restart()
    assert await holders.balance_of(CHAIN_ID, user) == 7
    assert await holders.minted_events(CHAIN_ID) == events
    await contract.mint(_new_id(), user, 5)
    assert await holders.balance_of(CHAIN_ID, user) == 12
    block = (await holders.minted_events(CHAIN_ID))[-1].block_number
    while await holders.balance_of(CHAIN_ID, user) == 12:  # a block may come in between
        head = await contract.chain.block_number()
        await contract.chain.reorganise(head - block + 1)
    assert await holders.balance_of(CHAIN_ID, user) == 7
    assert await holders.minted_events(CHAIN_ID) == events


def test_the_committed_artifact_is_a_fresh_compile() -> None:
    assert compile_contract(["--check"]) == 0
