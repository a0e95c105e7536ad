"""The `launchpad` contract profile (contracts/LaunchpadStableCoin.sol): the launchpad's StableCoin.

Mints carry a 32-byte id and the recipient's next nonce. A redemption burns at once: its event is
both the request and the evidence, and it is known by its transaction's hash and its log index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.core.abi import address_word, dynamic, text_hash, uint_word
from orchestrator.core.contract import (
    Approval,
    DecodedEvent,
    Profile,
    Turn,
    decoded,
    indexed_account,
    selector,
    topic,
    typed_fields,
)
from orchestrator.core.hashing import checksummed
from schemas.base import RequestType
from schemas.evm import EventName

_ARGUMENTS = ["address", "uint256", "uint256", "uint64", "uint256", "bytes32", "bytes"]
_TYPE_HASH = text_hash(
    "MintApproval(address to,uint256 amount,uint256 nonce,uint64 expiry,uint256 chainId,"
    "bytes32 requestId)"
)
_MINT = selector(f"mintWithApproval({','.join(_ARGUMENTS)})")
_IS_PROCESSED = selector("mintProcessed(bytes32)")
_NONCES = selector("nonces(address)")
_WORD = re.compile(r"0x[0-9a-f]{64}")


def contract_id(request_id: str) -> str:
    """The 32 bytes that stand for a request on chain, 0x hex: the id itself where it is such a word
    in lower case, else keccak256 of its UTF-8 bytes. So an id that Kuro, or the launchpad, already
    gives as a word is the same on chain whoever mints it, and the chain refuses the second."""
    if _WORD.fullmatch(request_id):
        return request_id
    return "0x" + text_hash(request_id).hex()


def _words(approval: Approval) -> tuple[bytes, ...]:
    """The fields of the struct, which are the call's first arguments as well. Raises OverflowError
    for a deadline above 2**64 - 1."""
    approval.deadline.to_bytes(8, "big")
    return (
        address_word(approval.account),
        uint_word(approval.amount),
        uint_word(approval.nonce),
        uint_word(approval.deadline),
        uint_word(approval.chain_id),
        bytes.fromhex(contract_id(approval.request_id)[2:]),
    )


@dataclass(frozen=True)
class LaunchpadProfile(Profile):
    """`token_name` is the contract's `name()`, and with it the name of the EIP-712 domain."""

    token_name: str

    name = "launchpad"
    sequential = True
    event_topics: ClassVar[Mapping[str, EventName]] = {
        topic("MintWithApproval(address,uint256,uint256,bytes32)"): EventName.MINTED,
        topic("RedeemRequested(address,uint256)"): EventName.REDEEMED_AT_ONCE,
    }
    approved = frozenset({RequestType.MINT})

    @property
    def domain_name(self) -> str:
        return self.token_name

    def contract_id(self, request_id: str) -> str:
        return contract_id(request_id)

    def derived_nonce(self, request_key: str) -> None:
        return None

    def struct(self, approval: Approval) -> tuple[str, list[dict[str, str]], dict[str, Any]]:
        fields = typed_fields(
            to="address",
            amount="uint256",
            nonce="uint256",
            expiry="uint64",
            chainId="uint256",
            requestId="bytes32",
        )
        message = {
            "to": approval.account,
            "amount": approval.amount,
            "nonce": approval.nonce,
            "expiry": approval.deadline,
            "chainId": approval.chain_id,
            "requestId": bytes.fromhex(contract_id(approval.request_id)[2:]),
        }
        return "MintApproval", fields, message

    def struct_words(self, approval: Approval) -> tuple[bytes, ...]:
        return _TYPE_HASH, *_words(approval)

    def calldata(self, approval: Approval, signature: str) -> str:
        """`mintWithApproval`."""
        tail = uint_word(len(_ARGUMENTS) * 32) + dynamic(bytes.fromhex(signature[2:]))
        return "0x" + (_MINT + b"".join(_words(approval)) + tail).hex()

    def is_processed_calldata(self, request_id: str) -> str:
        """Asks `mintProcessed(bytes32)`."""
        return "0x" + _IS_PROCESSED.hex() + contract_id(request_id)[2:]

    def nonces_calldata(self, account: str) -> str:
        """Asks `nonces(address)`."""
        return "0x" + (_NONCES + address_word(account)).hex()

    def turn(self, data: str) -> Turn | None:
        return Turn(checksummed("0x" + data[34:74]), int(data[138:202], 16))

    def decode_event(self, topics: Sequence[str], data: str, place: str) -> DecodedEvent | None:
        event = self.event_topics.get(topics[0].lower()) if topics else None
        if event is EventName.MINTED:
            to = indexed_account(event, topics)
            amount, nonce, word = decoded(event, ["uint256", "uint256", "bytes32"], data)
            return DecodedEvent(event, "0x" + word.hex(), to, amount, nonce)
        if event is EventName.REDEEMED_AT_ONCE:
            if len(topics) != 1:
                raise ValueError(f"{event} should have no indexed argument, not {len(topics) - 1}")
            account, amount = decoded(event, ["address", "uint256"], data)
            return DecodedEvent(event, place, checksummed(account), amount)
        return None
