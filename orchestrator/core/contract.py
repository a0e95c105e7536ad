"""What a contract profile is: approvals, calldata, events and questions of one kind of contract.

A profile is data and small pure functions, chosen per chain by configuration (`profiles.py`). There
are two: `orchestrator_profile` and `launchpad_profile`. Sources: EIP-712 (typed data), the Solidity
ABI specification (calldata, event topics).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from eth_abi.abi import decode

from orchestrator.core.abi import domain_separator, text_hash, typed_digest
from orchestrator.core.hashing import checksummed
from schemas.base import RequestType
from schemas.evm import EventName

DOMAIN_VERSION = "1"

EVIDENCE_OF = {
    RequestType.MINT: (EventName.MINTED,),
    RequestType.REDEEM: (EventName.REDEEMED, EventName.REDEEMED_AT_ONCE),
}
"""Which events prove that a request of this type was executed."""

_DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


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
class DecodedEvent:
    """`amount` in base units; `account` is the holder. `request_id` as the contract knows it.
    `approval_nonce` is told by contracts whose nonces are sequential."""

    event: EventName
    request_id: str
    account: str
    amount: int
    approval_nonce: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Which of an account's approvals a call uses: it executes when `nonce` is the next one."""

    account: str
    nonce: int


class Profile(ABC):
    """One kind of contract. Instances hold no state, only what the configuration gives."""

    name: ClassVar[str]
    sequential: ClassVar[bool]
    """True where an approval's nonce must be the recipient's next: then a sequence grants it
    (`sequences`), and calls for one recipient wait for their turn."""
    event_topics: ClassVar[Mapping[str, EventName]]
    """By topic0 of each event that matters, as `eth_getLogs` takes and gives it."""
    approved: ClassVar[frozenset[RequestType]]
    """What needs an approval of ours; the rest completes by its own event."""

    @property
    @abstractmethod
    def domain_name(self) -> str: ...

    @abstractmethod
    def contract_id(self, request_id: str) -> str:
        """What the contract calls the request."""

    @abstractmethod
    def derived_nonce(self, request_key: str) -> int | None:
        """The approval's nonce where it follows from the request alone; None where a sequence
        grants it."""

    @abstractmethod
    def struct(self, approval: Approval) -> tuple[str, list[dict[str, str]], dict[str, Any]]:
        """The approval's EIP-712 struct: its name, its fields in order, their values."""

    @abstractmethod
    def struct_words(self, approval: Approval) -> tuple[bytes, ...]:
        """The same struct as it is hashed: its type's hash, then a word for each field."""

    @abstractmethod
    def calldata(self, approval: Approval, signature: str) -> str:
        """The call that executes the approval, with the 65-byte signature; 0x hex."""

    @abstractmethod
    def is_processed_calldata(self, request_id: str) -> str:
        """Asks whether a request was executed; the answer is an ABI bool."""

    @abstractmethod
    def nonces_calldata(self, account: str) -> str:
        """Asks for an account's next approval nonce; an ABI uint256. Sequential profiles only."""

    @abstractmethod
    def turn(self, data: str) -> Turn | None:
        """Whose turn a call of ours waits for; None where calls need no order."""

    @abstractmethod
    def decode_event(self, topics: Sequence[str], data: str, place: str) -> DecodedEvent | None:
        """The event behind a log's topics and data (0x hex); None for events that do not matter.
        `place` (transaction hash and log index) names a redeem whose event carries no id.

        Raises ValueError when a log with one of our topics does not hold what its signature says.
        """

    def typed_data(self, approval: Approval) -> dict[str, Any]:
        """The EIP-712 message as wallets and libraries take it."""
        primary, fields, message = self.struct(approval)
        return {
            "primaryType": primary,
            "types": {"EIP712Domain": _DOMAIN_FIELDS, primary: fields},
            "domain": {
                "name": self.domain_name,
                "version": DOMAIN_VERSION,
                "chainId": approval.chain_id,
                "verifyingContract": approval.contract,
            },
            "message": message,
        }

    def digest(self, approval: Approval) -> str:
        """The 32 bytes to sign, 0x hex: keccak256(0x19 0x01 ‖ domain separator ‖ struct hash)."""
        domain = domain_separator(
            self.domain_name, DOMAIN_VERSION, approval.chain_id, approval.contract
        )
        return "0x" + typed_digest(domain, *self.struct_words(approval)).hex()


def selector(signature: str) -> bytes:
    """A function's first four bytes of calldata."""
    return text_hash(signature)[:4]


def topic(signature: str) -> str:
    """An event's topic0, 0x hex."""
    return "0x" + text_hash(signature).hex()


def typed_fields(**types: str) -> list[dict[str, str]]:
    """EIP-712 fields in the order given; a trailing underscore keeps Python's own words apart."""
    return [{"name": name.rstrip("_"), "type": kind} for name, kind in types.items()]


def decoded(event: EventName, types: Sequence[str], data: str) -> tuple[Any, ...]:
    """A log's data by the ABI. Raises ValueError."""
    try:
        return decode(types, bytes.fromhex(data[2:]))
    except Exception as error:  # noqa: BLE001 - eth-abi raises many kinds
        raise ValueError(f"{event} does not decode: {error}") from None


def indexed_account(event: EventName, topics: Sequence[str]) -> str:
    """The one indexed argument, an address. Raises ValueError."""
    if len(topics) != 2:
        raise ValueError(f"{event} should have one indexed argument, not {len(topics) - 1}")
    return checksummed("0x" + topics[1][-40:])
