"""A development chain whose contract has the `launchpad` profile: deploying it, and reading it.

One signer and one relayer beside the service's own are whitelisted, as on the real one, where
others mint too: `OTHER_SIGNER` approves and relays `mint_elsewhere`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.core.contract import Approval, DecodedEvent
from orchestrator.core.launchpad_profile import LaunchpadProfile
from orchestrator.dev.compile_contract import LAUNCHPAD_STABLECOIN, load_artifact
from orchestrator.dev.contracts import (
    call_view,
    encode_call,
    first_contract_address,
    send_transaction,
)
from orchestrator.dev.http_client import rpc
from orchestrator.dev.processes import StackError
from schemas.base import RequestType
from schemas.evm import EventName

TOKEN_NAME = "Pad Dollar"
TOKEN_SYMBOL = "PAD"
PROFILE = LaunchpadProfile(TOKEN_NAME)
OTHER_SIGNER: LocalAccount = Account.from_key(keccak(text="another signer of the launchpad"))
_EVENT_NAMES = {
    "Minted": EventName.MINTED,
    "RedeemRequested": EventName.REDEEMED_AT_ONCE,
    "Redeemed": EventName.REDEEMED_AT_ONCE,
}


def ensure_launchpad(
    rpc_url: str, chain_id: int, deployer: LocalAccount, signer: str, relayers: Collection[str]
) -> str:
    """The contract's address; deploys it when it is missing, and whitelists who is not yet.

    It is the deployer's first transaction, so its address is the same after a chain was lost.
    """
    address = first_contract_address(deployer.address)
    if rpc(rpc_url, "eth_getCode", address, "latest") == "0x":
        creation = bytes.fromhex(load_artifact(LAUNCHPAD_STABLECOIN)["bytecode"][2:])
        arguments = encode(
            ["string", "string", "address"], [TOKEN_NAME, TOKEN_SYMBOL, deployer.address]
        )
        receipt = send_transaction(rpc_url, chain_id, deployer, to=None, data=creation + arguments)
        if receipt["status"] != "0x1" or to_checksum_address(receipt["contractAddress"]) != address:
            raise StackError(f"the contract cannot be deployed on chain {chain_id}: {receipt}")
    wanted = [("isSigner", "setSigner", name) for name in (signer, OTHER_SIGNER.address)]
    wanted += [("isRelayer", "setRelayer", name) for name in (*relayers, OTHER_SIGNER.address)]
    for question, order, account in wanted:
        (allowed,) = call_view(rpc_url, address, f"{question}(address)", [account], "bool")
        if allowed:
            continue
        data = encode_call(f"{order}(address,bool)", account, True)
        receipt = send_transaction(rpc_url, chain_id, deployer, to=address, data=data)
        if receipt["status"] != "0x1":
            raise StackError(f"{order} fails on chain {chain_id}: {receipt}")
    return address


def topics_of(name: str) -> list[str]:
    """topic0 of what this contract emits for an event of that name."""
    return [topic for topic, event in PROFILE.event_topics.items() if event is _EVENT_NAMES[name]]


def decoded(log: Mapping[str, Any]) -> DecodedEvent:
    place = f"{log['transactionHash']}:{int(log['logIndex'], 16)}"
    event = PROFILE.decode_event(log["topics"], log["data"], place)
    assert event is not None
    return event


def next_nonce(rpc_url: str, contract: str, recipient: str) -> int:
    """The contract's `nonces(recipient)`, at the newest block."""
    return int(call_view(rpc_url, contract, "nonces(address)", [recipient], "uint256")[0])


def mint_elsewhere(
    rpc_url: str,
    chain_id: int,
    contract: str,
    request_id: str,
    recipient: str,
    amount: int,
    nonce: int,
) -> dict[str, Any]:
    """A mint that the other signer approves and relays, mined at once; its receipt."""
    block = rpc(rpc_url, "eth_getBlockByNumber", "latest", False)
    approval = Approval(
        type=RequestType.MINT,
        chain_id=chain_id,
        contract=contract,
        request_id=request_id,
        account=recipient,
        amount=amount,
        nonce=nonce,
        deadline=int(block["timestamp"], 16) + 3600,
    )
    signed = OTHER_SIGNER.unsafe_sign_hash(Hash32(bytes.fromhex(PROFILE.digest(approval)[2:])))
    data = bytes.fromhex(PROFILE.calldata(approval, "0x" + signed.signature.hex())[2:])
    return send_transaction(rpc_url, chain_id, OTHER_SIGNER, to=contract, data=data)
