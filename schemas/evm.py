"""`evm.events`: what the chains said, at the configured depth; one fenced writer per chain."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from schemas.base import UINT256_MAX, Address, Amount, ChainId, Count, Fact, Hash

ContractRequestId = Annotated[str, Field(min_length=1, max_length=400)]


def _signed(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    return value


SignedAmount = Annotated[
    int,
    BeforeValidator(_signed),
    Field(ge=-UINT256_MAX, le=UINT256_MAX, strict=True),
    PlainSerializer(str, return_type=str, when_used="json"),
]
"""Base units, also below zero: what was burnt beyond what was minted."""


class EventName(StrEnum):
    """The contract events that matter, whatever a profile's contract calls them."""

    REDEEM_REQUESTED = "RedeemRequested"
    MINTED = "Minted"
    REDEEMED = "Redeemed"
    REDEEMED_AT_ONCE = "RedeemedAtOnce"
    """A redemption that burns when it is asked for: request and evidence in one event."""


class EventSeat(Fact):
    """Where a contract event stands on its chain. With the block hash, it is unique for ever."""

    chain_id: ChainId
    block_number: Count
    block_hash: Hash
    block_timestamp: Count
    tx_hash: Hash
    log_index: Count

    @property
    def key(self) -> str:
        return str(self.chain_id)

    @property
    def seat(self) -> str:
        return f"{self.chain_id}:{self.block_hash}:{self.log_index}"


class ContractEvent(EventSeat):
    """An event of the configured contract, by what it means (`EventName`).

    `account` is the holder: `to` of a mint, `from` of a redeem. `amount` is in base units.
    `approval_nonce` is there for mints of a contract with sequential nonces: then `request_id` is
    the contract's 32-byte id, and the chain's sequences tell whose it is.
    """

    contract: Address
    event: EventName
    request_id: ContractRequestId
    account: Address
    amount: Amount
    approval_nonce: Amount | None = None

    @property
    def id(self) -> str:
        return f"event:{self.seat}"


class EventRetracted(EventSeat):
    """A reorganisation deeper than the configured depth took back an event of the log."""

    event: EventName
    request_id: ContractRequestId
    account: Address | None = None
    approval_nonce: Amount | None = None
    reason: str

    @property
    def id(self) -> str:
        return f"retracted:{self.seat}"


class BlocksFollowed(Fact):
    """The follower's cursor: every event of blocks `from_block` to `to_block` is on the log."""

    chain_id: ChainId
    from_block: Count
    to_block: Count
    to_hash: Hash
    to_timestamp: Count

    @property
    def id(self) -> str:
        return f"blocks:{self.chain_id}:{self.to_block}:{self.to_hash}"

    @property
    def key(self) -> str:
        return str(self.chain_id)


class ChainHalted(Fact):
    """The follower stopped: the chain and the log disagree in a way that no machine may settle.

    `block_number` and `block_hash` are a block that the log stands on and the chain no longer has.
    `fork_block` and `fork_hash` are the newest block that both have; following resumes after it.
    Without them nothing is shared, and following resumes at the configured start.
    """

    chain_id: ChainId
    block_number: Count
    block_hash: Hash
    fork_block: Count | None = None
    fork_hash: Hash | None = None
    reason: str

    @property
    def id(self) -> str:
        return f"halted:{self.chain_id}:{self.block_number}:{self.block_hash}"

    @property
    def key(self) -> str:
        return str(self.chain_id)


class ChainResumed(Fact):
    """A person looked at a halted chain and lets the follower go on after the fork.

    `halt` is the id of the `ChainHalted` that is settled: a resumption that was meant for an
    earlier halt settles no later one. Appended by an operator, read by the follower.
    """

    chain_id: ChainId
    halt: Annotated[str, Field(min_length=1, max_length=200)]
    who: Annotated[str, Field(min_length=1, max_length=200)]
    why: Annotated[str, Field(min_length=1, max_length=2000)]

    @property
    def id(self) -> str:
        return f"resumed:{self.halt}"

    @property
    def key(self) -> str:
        return str(self.chain_id)


class SupplyCompared(Fact):
    """The contract's `totalSupply` at the follower's cursor, where every event up to it is on the
    log. `by_events` is what the log's events add up to there, minted less burnt.

    With `baseline` it is the supply in the block before the first one that is followed: what was
    there before this service began, which no event of the log explains.
    """

    chain_id: ChainId
    contract: Address
    block_number: Count
    block_hash: Hash
    block_timestamp: Count
    total_supply: Amount
    by_events: SignedAmount
    baseline: bool = False

    @property
    def id(self) -> str:
        return f"supply:{self.chain_id}:{self.block_hash}"

    @property
    def key(self) -> str:
        return str(self.chain_id)


class SupplyTraced(Fact):
    """Where the supply first became what the events do not tell, as far as nodes could show.

    `compared` is the id of the `SupplyCompared` that found the difference. `block_number` is the
    first block that differs; without it `detail` says between which blocks it lies. `tx_hash` is
    the first transaction there that changed the supply otherwise than by the events of the log.
    `questions` counts what nodes were asked.
    """

    chain_id: ChainId
    compared: Annotated[str, Field(min_length=1, max_length=200)]
    block_number: Count | None = None
    block_hash: Hash | None = None
    tx_hash: Hash | None = None
    questions: Count
    detail: Annotated[str, Field(min_length=1, max_length=1000)]

    @property
    def id(self) -> str:
        return f"traced:{self.compared}"

    @property
    def key(self) -> str:
        return str(self.chain_id)
