"""Why a contract refused a call: revert data to one readable line.

Revert data is a 4-byte selector with ABI-encoded arguments (Solidity: `Error(string)`,
`Panic(uint256)`, custom errors). Names are known for our Stablecoin, with what it inherits from
OpenZeppelin 5; a test compares the list with the compiled contract. Other data stays raw hex.
"""

from __future__ import annotations

import re
from typing import Any

from eth_abi.abi import decode
from eth_utils.crypto import keccak

LONGEST_DETAIL = 400

REVERT_TEXT = r"execution reverted|transaction reverted|call reverted"

KNOWN_ERRORS = (
    "Error(string)",
    "Panic(uint256)",
    "RequestAlreadyProcessed(string)",
    "NonceAlreadyUsed(uint256)",
    "ApprovalExpired(uint256)",
    "InvalidSigner(address)",
    "InvalidApprover(address)",
    "ZeroAmount()",
    "RequestIsRedemption(string)",
    "UnknownRedemption(string)",
    "RedemptionMismatch(string,address,uint256)",
    "EnforcedPause()",
    "ExpectedPause()",
    "OwnableUnauthorizedAccount(address)",
    "OwnableInvalidOwner(address)",
    "ERC20InsufficientBalance(address,uint256,uint256)",
    "ERC20InsufficientAllowance(address,uint256,uint256)",
    "ERC20InvalidSender(address)",
    "ERC20InvalidReceiver(address)",
    "ERC20InvalidApprover(address)",
    "ERC20InvalidSpender(address)",
    "InvalidShortString()",
    "StringTooLong(string)",
    "ECDSAInvalidSignature()",
    "ECDSAInvalidSignatureLength(uint256)",
    "ECDSAInvalidSignatureS(bytes32)",
    "AccessControlUnauthorizedAccount(address,bytes32)",
    "ReentrancyGuardReentrantCall()",
)

_BY_SELECTOR = {bytes(keccak(text=signature)[:4]): signature for signature in KNOWN_ERRORS}

_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "invalid enum value",
    0x31: "pop from an empty array",
    0x32: "array index out of bounds",
    0x41: "out of memory",
    0x51: "call of an uninitialised function",
}
"""Solidity documentation, "Panic via assert and Error via require"."""

_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})+")


def readable(text: str) -> str:
    """Printable, on one line, without URLs (they may hold keys), cut to a readable length."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    plain = re.sub(r"\b\w+://\S+", "(URL)", plain)
    return plain if len(plain) <= LONGEST_DETAIL else plain[: LONGEST_DETAIL - 1] + "…"


def revert_data(data: Any) -> bytes | None:
    """The revert bytes in a JSON-RPC error's `data`: hex itself (geth, besu, reth, anvil), hex
    behind "Reverted " (nethermind, openethereum) or in an object (hardhat). None without any."""
    for _ in range(4):
        if not isinstance(data, dict):
            break
        data = data.get("data", data.get("result"))
    if not isinstance(data, str):
        return None
    found = _HEX.fullmatch(data.removeprefix("Reverted ").strip())
    return bytes.fromhex(found[0][2:]) if found else None


def revert_reason(returned: bytes | None, text: str) -> str:
    """One line: the decoded error, else the raw hex, else what the node's text says."""
    if not returned:
        return readable(text) or "execution reverted without a reason"
    return readable(_decoded(returned) or "0x" + returned.hex())


def _decoded(returned: bytes) -> str | None:
    signature = _BY_SELECTOR.get(returned[:4])
    if signature is None:
        return None
    name, _, listed = signature.rstrip(")").partition("(")
    types = listed.split(",") if listed else []
    try:
        arguments = decode(types, returned[4:])
    except Exception:  # noqa: BLE001 - eth-abi raises many kinds; a contract may return anything
        return None
    if name == "Error":
        return str(arguments[0])
    if name == "Panic":
        meaning = _PANICS.get(arguments[0], "unknown kind")
        return f"Panic({arguments[0]:#04x}): {meaning}"
    return f"{name}({', '.join(map(_shown, types, arguments))})"


def _shown(abi_type: str, argument: Any) -> str:
    if abi_type == "string":
        return f'"{argument}"'
    return "0x" + argument.hex() if isinstance(argument, bytes) else str(argument)
