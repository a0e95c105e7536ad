"""`evm.events`: what the chains said, at the configured depth; one fenced writer per chain."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Address, Amount, ChainId, Count, Fact, Hash

ContractRequestId = Annotated[str, Field(min_length=1, max_length=400)]


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
