"""`lanes`: the life of each wallet's nonces. (Those of recipients are in `sequences`.)

The request agent appends `RelayRequested` and `CancellationRequested`, an operator `LaneResumed`;
all else is appended by the lane's owner alone, inside a Kafka transaction that fences every earlier
owner.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Address, Amount, ChainId, Count, Fact, Hash, Hex
from schemas.controls import OrderId, Who, Why


class RelayRefusal(StrEnum):
    """Why a lane gave an attempt back. Closed: policy never reads texts."""

    REVERTED = "REVERTED"
    """The contract refuses the call: simulated on the pending state or, final, on chain."""
    EXPIRED = "EXPIRED"
    """The deadline passed in a final block and the contract says the request is unprocessed."""
    ALREADY_PROCESSED = "ALREADY_PROCESSED"
    """The contract says the request is processed; its event is, or will be, the evidence."""
    WALLET_UNFIT = "WALLET_UNFIT"
    """Says nothing of the request: the wallet is set aside and never gave this work a nonce, so
    another wallet may have it."""
    NONCE_TAKEN = "NONCE_TAKEN"
    """Another mint used the approval's nonce, at final depth, and the contract says there that the
    request is unprocessed: this approval can never execute."""
    CANCELLED = "CANCELLED"
    """An operator ordered it: no transaction of this work is out, and none will be."""


def relay_name(request_key: str, attempt: int, assignment: int) -> str:
    """What a lane calls a piece of work: one assignment of one attempt of one request. Each
    assignment is another piece, so that a lane that gave one back never relays it later."""
    return f"{request_key}:{attempt}" + (f".{assignment}" if assignment > 1 else "")


def relay_parts(relay: str) -> tuple[str, int, int]:
    """Request key, attempt and assignment behind a piece of work's name."""
    request_key, _, number = relay.rpartition(":")
    attempt, _, assignment = number.partition(".")
    return request_key, int(attempt), int(assignment or 1)


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
    assignment: Annotated[int, Field(ge=1)] = 1
    contract: Address
    data: Hex
    deadline: Count

    @property
    def relay(self) -> str:
        """What the lane calls this piece of work."""
        return relay_name(self.request_key, self.attempt, self.assignment)

    @property
    def id(self) -> str:
        return f"relay:{self.relay}"


class CancellationRequested(LaneFact):
    """Give this work back: at once where it has no nonce; where it has one and is not mined, a
    no-op takes its place on the nonce first. The work may reach the lane later than this fact."""

    request_key: str
    attempt: Annotated[int, Field(ge=1)]
    assignment: Annotated[int, Field(ge=1)] = 1
    order: OrderId

    @property
    def relay(self) -> str:
        return relay_name(self.request_key, self.attempt, self.assignment)

    @property
    def id(self) -> str:
        return f"cancel:{self.relay}:{self.order}"


class LaneOpened(LaneFact):
    """The first nonce this lane uses: the chain's count at this block, final then, when the log had
    nothing on the wallet. What others had mined since then shows as `NonceTaken`: a count that a
    reorganisation can still take back is nothing to begin with."""

    first_nonce: Count
    block_number: Count | None = None

    @property
    def id(self) -> str:
        return f"opened:{self.key}"


class NonceFact(LaneFact):
    nonce: Count


class TransactionPrepared(NonceFact):
    """The exact signed bytes, on the log before any node sees them. Without `relay` it is a no-op
    that frees the nonce. A replacement names the transaction that it `replaces`. `block_number` is
    the head at that time: a transaction's age is counted in blocks. On a chain without a base fee
    both fees are the gas price."""

    relay: str | None = None
    tx_hash: Hash
    raw: Hex
    gas_limit: Count
    max_fee_per_gas_wei: Amount
    max_priority_fee_per_gas_wei: Amount
    replaces: Hash | None = None
    block_number: Count | None = None

    @property
    def id(self) -> str:
        return f"prepared:{self.tx_hash}"


class TransactionBroadcast(NonceFact):
    """A node took the transaction, or had it already. `block_number` is the head at that time:
    since then it is out, also when it goes out again after a reorganisation."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"block_number"})

    relay: str | None = None
    tx_hash: Hash
    block_number: Count | None = None

    @property
    def id(self) -> str:
        return f"broadcast:{self.tx_hash}"


class TransactionResent(NonceFact):
    """Nodes had lost a transaction that one of them took before; the same bytes were taken again.
    At most once a block."""

    relay: str | None = None
    tx_hash: Hash
    block_number: Count

    @property
    def id(self) -> str:
        return f"resent:{self.tx_hash}:{self.block_number}"


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
    """The inclusion has the configured depth: the nonce is spent for ever. `final_timestamp` (Unix
    seconds) is that of the newest final block then: no earlier than the transaction's own."""

    relay: str | None = None
    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    succeeded: bool
    final_timestamp: Count | None = None

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
    a lane was started without its log. `relay` was prepared for it and waits again: then the nonce
    is spent at final depth and none of its transactions has a receipt."""

    relay: str | None = None
    block_number: Count

    @property
    def id(self) -> str:
        return f"taken:{self.key}:{self.nonce}:{self.block_number}"


class RelayResumed(LaneFact):
    """The call was mined as a failure, final, because its gas limit was too low or its turn had not
    come; the contract says that the request is unprocessed. It waits for a new nonce and a new
    estimate."""

    relay: str
    tx_hash: Hash
    block_number: Count

    @property
    def id(self) -> str:
        return f"resumed:{self.relay}:{self.tx_hash}"


class WalletSetAside(LaneFact):
    """This wallet takes no new work for now: without funds, halted or stuck. `number` counts."""

    number: Annotated[int, Field(ge=1)]
    reason: str

    @property
    def id(self) -> str:
        return f"set-aside:{self.key}:{self.number}"


class WalletRestored(LaneFact):
    """What had set the wallet aside is over."""

    number: Annotated[int, Field(ge=1)]

    @property
    def id(self) -> str:
        return f"restored:{self.key}:{self.number}"


class LaneHalted(LaneFact):
    """The lane stops until a person looks: the chain and the log cannot both be right. `number`
    counts the lane's halts, so that what settles one settles no later one."""

    number: Annotated[int, Field(ge=1)] = 1
    reason: str
    chain_nonce: Count
    log_nonce: Count

    @property
    def id(self) -> str:
        again = f".{self.number}" if self.number > 1 else ""
        return f"halted:{self.key}:{self.chain_nonce}:{self.log_nonce}{again}"


class LaneResumed(LaneFact):
    """A person looked at a halted lane: what its chain shows now counts. `halt` is the id of the
    `LaneHalted` that is settled. Appended by an operator; the owner answers with `LaneReconciled`,
    or halts again with the reason."""

    halt: Annotated[str, Field(min_length=1, max_length=200)]
    order: OrderId
    who: Who
    why: Why

    @property
    def id(self) -> str:
        return f"lane-resumed:{self.order}"


class LaneReconciled(LaneFact):
    """The lane goes on from what its chain shows: `spent` nonces are spent there (the final count),
    and the newest final block is this one. Nonces from `spent` on that the log held for spent are
    open again; they are filled by no-ops when nothing else takes them."""

    halt: Annotated[str, Field(min_length=1, max_length=200)]
    spent: Count
    block_number: Count
    block_hash: Hash
    block_timestamp: Count

    @property
    def id(self) -> str:
        return f"reconciled:{self.halt}"
