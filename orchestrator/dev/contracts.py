"""Deploying the reference Stablecoin contract, and encoding calls to it for the stack's helpers.

The ABI of the committed artifact is used here only; the service has its own contract profiles.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_account.signers.local import LocalAccount
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.dev.compile_contract import load_artifact
from orchestrator.dev.http_client import rpc
from orchestrator.dev.processes import StackError

_RECEIPT_TIMEOUT_SECONDS = 30


@functools.cache
def artifact() -> dict[str, Any]:
    """The committed artifact; see compile_contract.py for its shape."""
    return load_artifact()


def first_contract_address(deployer: str) -> str:
    """The address of the contract that an account's transaction with nonce 0 creates.

    keccak256(rlp([sender, nonce]))[12:] (Yellow Paper, section 7), the RLP spelt out for nonce 0.
    """
    encoded = b"\xd6\x94" + to_canonical_address(deployer) + b"\x80"
    return to_checksum_address(keccak(encoded)[12:])


def encode_call(signature: str, *arguments: Any) -> bytes:
    """Calldata, for a signature like `transfer(address,uint256)`."""
    types = _split_types(signature[signature.index("(") + 1 : -1])
    return function_signature_to_4byte_selector(signature) + encode(types, arguments)


def _split_types(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def call_view(
    rpc_url: str, contract: str, signature: str, arguments: Sequence[Any], output_types: str
) -> tuple[Any, ...]:
    """Call a view at the newest block and decode what it returns."""
    data = encode_call(signature, *arguments)
    answer = rpc(rpc_url, "eth_call", {"to": contract, "data": "0x" + data.hex()}, "latest")
    return tuple(decode(_split_types(output_types), bytes.fromhex(answer[2:])))


def send_transaction(
    rpc_url: str,
    chain_id: int,
    account: LocalAccount,
    *,
    to: str | None,
    data: bytes,
    gas: int = 4_000_000,
) -> dict[str, Any]:
    """Sign, send, mine at once, and return the receipt (status not judged).

    For the deployer and for tests: it uses the account's next nonce and does not pipeline.
    Raises `RpcError` when the node refuses the transaction, `StackError` without a receipt.
    """
    nonce = int(rpc(rpc_url, "eth_getTransactionCount", account.address, "pending"), 16)
    base_fee = int(rpc(rpc_url, "eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "gas": gas,
        "maxPriorityFeePerGas": 10**9,
        "maxFeePerGas": 2 * base_fee + 2 * 10**9,
        "value": 0,
        "data": "0x" + data.hex(),
    }
    if to is not None:
        transaction["to"] = to
    raw = account.sign_transaction(transaction).raw_transaction
    transaction_hash = rpc(rpc_url, "eth_sendRawTransaction", "0x" + raw.hex())
    rpc(rpc_url, "evm_mine")
    deadline = time.monotonic() + _RECEIPT_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        receipt: dict[str, Any] | None = rpc(rpc_url, "eth_getTransactionReceipt", transaction_hash)
        if receipt is not None:
            return receipt
        time.sleep(0.05)
    raise StackError(f"no receipt for {transaction_hash} on chain {chain_id}")


def ensure_contract(rpc_url: str, chain_id: int, deployer: LocalAccount, approver: str) -> str:
    """The contract's address; deploys it when it is missing, and corrects its approver.

    It is the deployer's first transaction, so its address is the same after a chain was lost.
    """
    address = first_contract_address(deployer.address)
    if rpc(rpc_url, "eth_getCode", address, "latest") == "0x":
        creation = bytes.fromhex(artifact()["bytecode"][2:])
        data = creation + encode(["address", "address"], [deployer.address, approver])
        receipt = send_transaction(rpc_url, chain_id, deployer, to=None, data=data)
        if receipt["status"] != "0x1" or to_checksum_address(receipt["contractAddress"]) != address:
            raise StackError(f"the contract cannot be deployed on chain {chain_id}: {receipt}")
    (current,) = call_view(rpc_url, address, "approver()", [], "address")
    if to_checksum_address(current) != approver:
        data = encode_call("setApprover(address)", approver)
        receipt = send_transaction(rpc_url, chain_id, deployer, to=address, data=data)
        if receipt["status"] != "0x1":
            raise StackError(f"the approver cannot be set on chain {chain_id}: {receipt}")
    return address
