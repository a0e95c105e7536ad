"""`lanes`: the life of each wallet's nonces.

The request agent appends `RelayRequested`; all else is appended by the lane's owner alone, inside a
Kafka transaction that fences every earlier owner.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Address, Amount, ChainId, Count, Fact, Hash, Hex


class RelayRefusal(StrEnum):
    """Why a lane gave an attempt back. Closed: policy never reads texts."""

    REVERTED = "REVERTED"
    """The contract refuses the call: simulated on the pending state or, final, on chain."""
    EXPIRED = "EXPIRED"
    """The deadline passed in a final block and the contract says the request is unprocessed."""
    ALREADY_PROCESSED = "ALREADY_PROCESSED"
    """The contract says the request is processed; its event is, or will be, the evidence."""


class LaneFact(Fact):
    chain_id: ChainId
    wallet: Address

    @property
    def key(self) -> str:
        return f"{self.chain_id}:{self.wallet}"


class RelayRequested(LaneFact):
    """Relay this call. `data` is the calldata; `deadline` (Unix seconds) is the approval's."""

    request_key: str
    request_id: str
    attempt: Annotated[int, Field(ge=1)]
    contract: Address
    data: Hex
    deadline: Count

    @property
    def relay(self) -> str:
        """What the lane calls this piece of work: one attempt of one request."""
        return f"{self.request_key}:{self.attempt}"

    @property
    def id(self) -> str:
        return f"relay:{self.relay}"


class LaneOpened(LaneFact):
    """The first nonce this lane uses: the chain's count when the log had nothing on the wallet."""

    first_nonce: Count

    @property
    def id(self) -> str:
        return f"opened:{self.key}"


class NonceFact(LaneFact):
    nonce: Count


class TransactionPrepared(NonceFact):
    """The exact signed bytes, on the log before any node sees them. Without `relay` it is a no-op
    that frees the nonce. A replacement names the transaction that it `replaces`."""

    relay: str | None = None
    tx_hash: Hash
    raw: Hex
    gas_limit: Count
    max_fee_per_gas_wei: Amount
    max_priority_fee_per_gas_wei: Amount
    replaces: Hash | None = None

    @property
    def id(self) -> str:
        return f"prepared:{self.tx_hash}"


class TransactionBroadcast(NonceFact):
    """A node took the transaction, or had it already."""

    relay: str | None = None
    tx_hash: Hash

    @property
    def id(self) -> str:
        return f"broadcast:{self.tx_hash}"


class TransactionIncluded(NonceFact):
    relay: str | None = None
    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    succeeded: bool
    gas_used: Count

    @property
    def id(self) -> str:
        return f"included:{self.tx_hash}:{self.block_hash}"


class TransactionOrphaned(NonceFact):
    """A reorganisation removed the block. The same bytes are sent again."""

    relay: str | None = None
    tx_hash: Hash
    block_hash: Hash

    @property
    def id(self) -> str:
        return f"orphaned:{self.tx_hash}:{self.block_hash}"


class TransactionFinal(NonceFact):
    """The inclusion has the configured depth: the nonce is spent for ever."""

    relay: str | None = None
    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    succeeded: bool

    @property
    def id(self) -> str:
        return f"final:{self.tx_hash}:{self.block_hash}"


class RelayRefused(LaneFact):
    """This attempt is given back; see `RelayRefusal`. The block is the final one that proves it."""

    relay: str
    reason: RelayRefusal
    detail: str
    block_number: Count
    block_timestamp: Count

    @property
    def id(self) -> str:
        return f"refused:{self.relay}"


class NonceTaken(NonceFact):
    """The chain spent this nonce on a transaction that is not ours: someone else holds the key, or
    a lane was started without its log. `relay` was prepared for it and waits again."""

    relay: str | None = None
    block_number: Count

    @property
    def id(self) -> str:
        return f"taken:{self.key}:{self.nonce}"


class LaneHalted(LaneFact):
    """The lane stops until a person looks: the chain and the log cannot both be right."""

    reason: str
    chain_nonce: Count
    log_nonce: Count

    @property
    def id(self) -> str:
        return f"halted:{self.key}:{self.chain_nonce}:{self.log_nonce}"
