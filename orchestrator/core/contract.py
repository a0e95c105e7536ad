"""The `orchestrator` contract profile: EIP-712 approvals, calldata and events of our Stablecoin.

A profile is data and small pure functions. Sources: EIP-712 (typed data), the Solidity ABI
specification (calldata, event topics).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode

from orchestrator.core.abi import (
    address_word,
    domain_separator,
    dynamic,
    text_hash,
    typed_digest,
    uint_word,
)
from orchestrator.core.hashing import checksummed
from schemas.base import RequestType
from schemas.evm import EventName

DOMAIN_NAME = "Stablecoin"
DOMAIN_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Approval:
    """What the issuer's key approves. `amount` in base units, `deadline` in Unix seconds."""

    type: RequestType
    chain_id: int
    contract: str
    request_id: str
    account: str
    amount: int
    nonce: int
    deadline: int


@dataclass(frozen=True, slots=True)
class _Call:
    primary_type: str
    account_field: str
    selector: bytes

    @property
    def type_hash(self) -> bytes:
        fields = f"string requestId,address {self.account_field}"
        fields += ",uint256 amount,uint256 nonce,uint256 deadline"
        return text_hash(f"{self.primary_type}({fields})")


def _selector(signature: str) -> bytes:
    return text_hash(signature)[:4]


_ARGUMENTS = ["string", "address", "uint256", "uint256", "uint256", "bytes"]
_CALLS = {
    RequestType.MINT: _Call(
        "MintApproval", "to", _selector(f"mintWithApproval({','.join(_ARGUMENTS)})")
    ),
    RequestType.REDEEM: _Call(
        "RedeemFinalize", "from", _selector(f"finalizeRedeem({','.join(_ARGUMENTS)})")
    ),
}
_TYPE_HASHES = {kind: call.type_hash for kind, call in _CALLS.items()}
_IS_PROCESSED = _selector("isProcessed(string)")

EVENT_TOPICS: dict[str, EventName] = {
    "0x" + text_hash(f"{name}(string,address,uint256)").hex(): name for name in EventName
}
"""topic0 of each event that matters, as `eth_getLogs` takes and gives it."""

EVIDENCE_OF = {RequestType.MINT: EventName.MINTED, RequestType.REDEEM: EventName.REDEEMED}
"""Which event proves that a request of this type was executed."""


def approval_nonce(request_key: str) -> int:
    """Unique per contract, derived from the request so that it needs no counter; the same for every
    attempt: two approvals of one request can then never both execute."""
    return int.from_bytes(text_hash(request_key), "big")


def typed_data(approval: Approval) -> dict[str, Any]:
    """The EIP-712 message as wallets and libraries take it."""
    call = _CALLS[approval.type]
    return {
        "primaryType": call.primary_type,
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            call.primary_type: [
                {"name": "requestId", "type": "string"},
                {"name": call.account_field, "type": "address"},
                {"name": "amount", "type": "uint256"},
                {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ],
        },
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": approval.chain_id,
            "verifyingContract": approval.contract,
        },
        "message": {
            "requestId": approval.request_id,
            call.account_field: approval.account,
            "amount": approval.amount,
            "nonce": approval.nonce,
            "deadline": approval.deadline,
        },
    }


def digest(approval: Approval) -> str:
    """The 32 bytes to sign, 0x hex: keccak256(0x19 0x01 ‖ domain separator ‖ struct hash)."""
    domain = domain_separator(DOMAIN_NAME, DOMAIN_VERSION, approval.chain_id, approval.contract)
    hashed = typed_digest(
        domain,
        _TYPE_HASHES[approval.type],
        text_hash(approval.request_id),
        address_word(approval.account),
        uint_word(approval.amount),
        uint_word(approval.nonce),
        uint_word(approval.deadline),
    )
    return "0x" + hashed.hex()


def calldata(approval: Approval, signature: str) -> str:
    """`mintWithApproval` or `finalizeRedeem` with the 65-byte signature, 0x hex."""
    request_id = dynamic(approval.request_id.encode("utf-8"))
    head = len(_ARGUMENTS) * 32
    arguments = (
        uint_word(head),
        address_word(approval.account),
        uint_word(approval.amount),
        uint_word(approval.nonce),
        uint_word(approval.deadline),
        uint_word(head + len(request_id)),
        request_id,
        dynamic(bytes.fromhex(signature[2:])),
    )
    return "0x" + (_CALLS[approval.type].selector + b"".join(arguments)).hex()


def is_processed_calldata(request_id: str) -> str:
    """Asks `isProcessed(string)`; the answer is an ABI bool."""
    return "0x" + (_IS_PROCESSED + uint_word(32) + dynamic(request_id.encode())).hex()


@dataclass(frozen=True, slots=True)
class DecodedEvent:
    """`amount` in base units; `account` is the indexed `to` or `from`."""

    event: EventName
    request_id: str
    account: str
    amount: int


def decode_event(topics: list[str], data: str) -> DecodedEvent | None:
    """The event behind a log's topics and data (0x hex); None for events that do not matter here.

    Raises ValueError when a log with one of our topics does not hold what its signature says.
    """
    event = EVENT_TOPICS.get(topics[0].lower()) if topics else None
    if event is None:
        return None
    if len(topics) != 2:
        raise ValueError(f"{event} should have one indexed argument, not {len(topics) - 1}")
    try:
        request_id, amount = decode(["string", "uint256"], bytes.fromhex(data[2:]))
    except Exception as error:  # noqa: BLE001 - eth-abi raises many kinds
        raise ValueError(f"{event} does not decode: {error}") from None
    account = checksummed("0x" + topics[1][-40:])
    return DecodedEvent(event, request_id, account, amount)
