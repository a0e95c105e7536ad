"""The launchpad's contract on a real EVM, and our profile's reading of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from orchestrator.core.contract import Approval
from orchestrator.core.launchpad_profile import contract_id
from orchestrator.dev import launchpad
from orchestrator.dev.compile_contract import LAUNCHPAD_STABLECOIN, load_artifact
from orchestrator.dev.contracts import call_view, encode_call, send_transaction
from orchestrator.dev.http_client import RpcError, rpc
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.wallets import account_of
from schemas.base import RequestType
from schemas.evm import EventName

CHAIN_ID = 5925
PROFILE = launchpad.PROFILE
ANN, BOB = Account.from_key(keccak(text="ann")), Account.from_key(keccak(text="bob"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """One chain, and the KMS whose address is a signer; signing here is by the other one."""
    with EmbeddedStack(
        tmp_path_factory.mktemp("launchpad") / Path("stack"),
        chain_ids=[CHAIN_ID],
        launchpad_chain_ids=[CHAIN_ID],
        block_time=0.2,
        parts={"kms", "chains"},
    ) as running:
        yield running


class Contract:
    def __init__(self, stack: EmbeddedStack) -> None:
        self.chain = stack.chains[CHAIN_ID]
        self.url = self.chain.rpc_url
        self.address = self.chain.contract_address
        self.relayer = account_of(stack.wallets.relayers[CHAIN_ID][0])
        self.deployer = account_of(stack.wallets.deployers[CHAIN_ID])
        self.signer = stack.kms.address

    def approval(self, request_id: str, account: str, amount: int, **changes: Any) -> Approval:
        block = rpc(self.url, "eth_getBlockByNumber", "latest", False)
        values = {
            "nonce": launchpad.next_nonce(self.url, self.address, account),
            "deadline": int(block["timestamp"], 16) + 3600,
            "chain_id": CHAIN_ID,
            **changes,
        }
        return Approval(
            type=RequestType.MINT,
            contract=self.address,
            request_id=request_id,
            account=account,
            amount=amount,
            **values,
        )

    def call(self, approval: Approval, key: Any = launchpad.OTHER_SIGNER) -> bytes:
        digest = bytes.fromhex(PROFILE.digest(approval)[2:])
        signature = key.unsafe_sign_hash(digest).signature
        return bytes.fromhex(PROFILE.calldata(approval, "0x" + signature.hex())[2:])

    async def send(self, data: bytes, account: Any = None) -> dict[str, Any]:
        return await asyncio.to_thread(
            send_transaction,
            self.url,
            CHAIN_ID,
            account or self.relayer,
            to=self.address,
            data=data,
        )

    def refusal(self, data: bytes, sender: str | None = None) -> str:
        """The name of the error with which the contract refuses a call."""
        call = {"from": sender or self.relayer.address, "to": self.address}
        with pytest.raises(RpcError) as caught:
            rpc(self.url, "eth_call", call | {"data": "0x" + data.hex()}, "latest")
        found = str(caught.value.data or "")[:10]
        for entry in load_artifact(LAUNCHPAD_STABLECOIN)["abi"]:
            types = ",".join(item["type"] for item in entry.get("inputs", []))
            if entry["type"] == "error" and (
                "0x" + keccak(text=f"{entry['name']}({types})")[:4].hex() == found
            ):
                return str(entry["name"])
        raise AssertionError(f"no such error: {caught.value}")

    def view(self, data: str) -> int:
        return int(rpc(self.url, "eth_call", {"to": self.address, "data": data}, "latest"), 16)


@pytest.fixture(scope="module")
def contract(stack: EmbeddedStack) -> Contract:
    return Contract(stack)


async def test_a_mint_is_executed_once_and_told_by_its_event(contract: Contract) -> None:
    approval = contract.approval("first", ANN.address, 5)
    data = contract.call(approval)
    assert contract.view(PROFILE.is_processed_calldata("first")) == 0
    receipt = await contract.send(data)
    assert receipt["status"] == "0x1"
    [log] = [log for log in receipt["logs"] if log["topics"][0] in PROFILE.event_topics]
    event = launchpad.decoded(log)
    told = (event.event, event.request_id, event.account, event.amount, event.approval_nonce)
    assert told == (EventName.MINTED, contract_id("first"), ANN.address, 5, approval.nonce)
    assert contract.view(PROFILE.is_processed_calldata("first")) == 1
    assert contract.view(PROFILE.nonces_calldata(ANN.address)) == approval.nonce + 1
    assert contract.refusal(data) == "MintAlreadyProcessed"


def test_the_domains_name_is_the_tokens(contract: Contract) -> None:
    (name,) = call_view(contract.url, contract.address, "name()", [], "string")
    assert name == launchpad.TOKEN_NAME == PROFILE.domain_name


async def test_nonces_are_each_recipients_own_and_in_order(contract: Contract) -> None:
    mine = contract.approval("later", BOB.address, 5)
    early = contract.approval("early", BOB.address, 5, nonce=mine.nonce + 1)
    assert contract.refusal(contract.call(early)) == "WrongNonce"
    assert (await contract.send(contract.call(mine)))["status"] == "0x1"
    assert (await contract.send(contract.call(early)))["status"] == "0x1"
    late = contract.approval("late", BOB.address, 5, nonce=mine.nonce)
    assert contract.refusal(contract.call(late)) == "WrongNonce"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"deadline": 1}, "ApprovalExpired"),
        ({"chain_id": 1}, "WrongChain"),
        ({"amount": 0}, "ZeroAmount"),
    ],
)
def test_what_does_not_fit_is_refused(
    contract: Contract, changes: dict[str, int], reason: str
) -> None:
    values = {"amount": 5, **changes}
    approval = contract.approval("unfit", ANN.address, **values)
    assert contract.refusal(contract.call(approval)) == reason


def test_only_whitelisted_signers_and_relayers_count(contract: Contract) -> None:
    approval = contract.approval("who", ANN.address, 5)
    assert contract.refusal(contract.call(approval, ANN)) == "NotSigner"
    assert contract.refusal(contract.call(approval), BOB.address) == "NotRelayer"
    for name in ("setSigner", "setRelayer"):
        data = encode_call(f"{name}(address,bool)", BOB.address, True)
        assert contract.refusal(data, ANN.address) == "OwnableUnauthorizedAccount"
    nobody = encode_call("setSigner(address,bool)", "0x" + "0" * 40, True)
    assert contract.refusal(nobody, contract.deployer.address) == "NotSigner"
    signer = call_view(
        contract.url, contract.address, "isSigner(address)", [contract.signer], "bool"
    )
    assert signer == (True,)


async def test_a_changed_field_is_another_approval(contract: Contract) -> None:
    approval = contract.approval("changed", ANN.address, 5)
    data = bytearray(contract.call(approval))
    data[4 + 32 + 31] ^= 1  # the amount
    assert contract.refusal(bytes(data)) == "NotSigner"


async def test_a_pause_stops_mints_and_redemptions(contract: Contract) -> None:
    data = contract.call(contract.approval("paused", ANN.address, 5))
    burning = encode_call("requestRedeem(uint256)", 1)
    assert (await contract.send(encode_call("pause()"), contract.deployer))["status"] == "0x1"
    assert contract.refusal(data) == contract.refusal(burning, ANN.address) == "EnforcedPause"
    assert (await contract.send(encode_call("unpause()"), contract.deployer))["status"] == "0x1"
    assert (await contract.send(data))["status"] == "0x1"


async def test_a_redemption_burns_at_once(contract: Contract) -> None:
    holder = contract.relayer
    minted = contract.call(contract.approval("to be burnt", holder.address, 9))
    assert (await contract.send(minted))["status"] == "0x1"
    (before,) = call_view(contract.url, contract.address, "totalSupply()", [], "uint256")
    receipt = await contract.send(encode_call("requestRedeem(uint256)", 4))
    [log] = [log for log in receipt["logs"] if log["topics"][0] in PROFILE.event_topics]
    event = launchpad.decoded(log)
    assert event.event is EventName.REDEEMED_AT_ONCE
    assert event.request_id == f"{log['transactionHash']}:{int(log['logIndex'], 16)}"
    assert (event.account, event.amount, event.approval_nonce) == (holder.address, 4, None)
    (after,) = call_view(contract.url, contract.address, "totalSupply()", [], "uint256")
    assert before - after == 4
    assert contract.refusal(encode_call("requestRedeem(uint256)", 0), holder.address) == (
        "ZeroAmount"
    )
