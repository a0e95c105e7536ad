"""`requests`: the life of each request, in total order. Written by the request agents.

Facts named `...Reported` carry what another topic said about this request (its lane, its chain, an
operator) into the request's own order; the others are decisions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Address, Amount, ChainId, Count, Fact, Hash, RequestType
from schemas.controls import OrderId, Who, Why
from schemas.evm import EventName
from schemas.lanes import RelayRefusal
from schemas.policies import Breach, LapseReason, Ticket


class RejectionReason(StrEnum):
    """Why nothing was drafted: the input itself is bad or forbidden."""

    UNKNOWN_CHAIN = "UNKNOWN_CHAIN"
    INVALID_ADDRESS = "INVALID_ADDRESS"
    INVALID_AMOUNT = "INVALID_AMOUNT"
    ID_TAKEN = "ID_TAKEN"
    """Another request has the same id on chain (`launchpad` profile)."""


class FailureReason(StrEnum):
    """Why a request that was drafted cannot be completed."""

    CONTRACT_REVERTED = "CONTRACT_REVERTED"
    EVIDENCE_MISMATCH = "EVIDENCE_MISMATCH"
    CANCELLED = "CANCELLED"
    """An operator ordered it. An approval that was signed may still be executed by whoever holds
    it, until its deadline; the evidence of that would complete the request all the same."""


class RequestFact(Fact):
    request_key: Annotated[str, Field(min_length=1, max_length=500)]

    @property
    def key(self) -> str:
        return self.request_key


class RequestReceived(RequestFact):
    """A request exists. `user` and `amount` stand as received; see `MintOk`.

    `origin` is the log position of the fact that said so; `origin_event` names the contract event
    of a redeem (chain, block hash, log index). `told_at_ms` is the time that Kuro gave a mint; None
    on records from before it was told.
    """

    circumstances: ClassVar[frozenset[str]] = frozenset({"origin", "told_at_ms"})

    request_id: str
    type: RequestType
    chain_id: ChainId
    user: str
    amount: str
    fiat_ref: str | None = None
    origin: str
    origin_event: str | None = None
    told_at_ms: int | None = None

    @property
    def id(self) -> str:
        return f"{self.request_key}:received"


class RequestRejected(RequestFact):
    """Bad or forbidden input; nothing was drafted. `origin_event` is the receipt's and `order` that
    of the newest retry: a redeem whose event came again in another block, and a request that an
    operator had tried again, are judged anew."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"detail"})

    reason: RejectionReason
    detail: str
    origin_event: str | None = None
    order: OrderId | None = None

    @property
    def id(self) -> str:
        anew = [part for part in (self.origin_event, self.order) if part is not None]
        return ":".join((self.request_key, "rejected", self.reason, *anew))


def _later(assignment: int) -> str:
    return f".{assignment}" if assignment > 1 else ""


class AttemptFact(RequestFact):
    attempt: Annotated[int, Field(ge=1)]


class ApprovalNonceGranted(AttemptFact):
    """The recipient's sequence granted this attempt its nonce; see `sequences.NonceGranted`."""

    approval_nonce: Amount
    deadline: Count

    @property
    def id(self) -> str:
        return f"{self.request_key}:granted:{self.attempt}"


class ApprovalDrafted(AttemptFact):
    """What will be signed, fixed before KMS is asked. `deadline` is Unix seconds. `opening` counts
    the retries and retractions that it knows of: after another one all is drafted anew, and a draft
    from before is no longer meant. None on records from before it was told."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"opening"})

    contract: Address
    approval_nonce: Amount
    deadline: Count
    digest: Hash
    opening: Count | None = None

    @property
    def id(self) -> str:
        anew = f":{self.opening}" if self.opening else ""
        return f"{self.request_key}:drafted:{self.attempt}{anew}"


class ApprovalSigned(AttemptFact):
    """KMS signed the digest: 65 bytes r, s, v with low s. Another signature of the same digest by
    the same key is as good; the first one counts."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"signature"})

    digest: Hash
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-f]{130}$")]
    signer: Address

    @property
    def id(self) -> str:
        return f"{self.request_key}:signed:{self.attempt}"


class RelayAssigned(AttemptFact):
    """Which wallet relays this attempt. The choice follows load; the first one counts. A later
    `assignment` follows only when the wallet before gave the attempt back without a nonce."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"wallet"})

    assignment: Annotated[int, Field(ge=1)] = 1
    wallet: Address

    @property
    def id(self) -> str:
        return f"{self.request_key}:assigned:{self.attempt}" + _later(self.assignment)


class SubmissionReported(AttemptFact):
    """The lane broadcast a transaction for this attempt."""

    wallet: Address
    nonce: Count
    tx_hash: Hash

    @property
    def id(self) -> str:
        return f"{self.request_key}:submitted:{self.tx_hash}"


class InclusionReported(AttemptFact):
    """A block holds the transaction. No evidence yet: the block may go, the call may fail."""

    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    succeeded: bool

    @property
    def id(self) -> str:
        return f"{self.request_key}:included:{self.tx_hash}:{self.block_hash}"


class OrphaningReported(AttemptFact):
    """The block that held the transaction is gone; the same bytes go out again."""

    tx_hash: Hash
    block_hash: Hash

    @property
    def id(self) -> str:
        return f"{self.request_key}:orphaned:{self.tx_hash}:{self.block_hash}"


class RefusalReported(AttemptFact):
    """The lane proved that this attempt cannot succeed, or gave it back for another wallet."""

    assignment: Annotated[int, Field(ge=1)] = 1
    reason: RelayRefusal
    detail: str
    block_number: Count
    block_timestamp: Count

    @property
    def id(self) -> str:
        return f"{self.request_key}:refused:{self.attempt}" + _later(self.assignment)


class EvidenceReported(RequestFact):
    """The contract's own event for this request is final on its chain."""

    chain_id: ChainId
    event: EventName
    account: Address
    amount: Amount
    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    log_index: Count

    @property
    def seat(self) -> str:
        return f"{self.chain_id}:{self.block_hash}:{self.log_index}"

    @property
    def id(self) -> str:
        return f"{self.request_key}:evidence:{self.seat}"


class RetractionReported(RequestFact):
    """A deep reorganisation took back this request's origin event or its evidence."""

    event: EventName
    seat: str

    @property
    def id(self) -> str:
        return f"{self.request_key}:retraction:{self.seat}"


class OrderReported(RequestFact):
    """An operator's order about this request, with who and why; see `controls`."""

    order: OrderId
    who: Who
    why: Why


class RetryReported(OrderReported):
    """Try again. Under the same approval while that may still execute."""

    @property
    def id(self) -> str:
        return f"{self.request_key}:retry:{self.order}"


class CancelReported(OrderReported):
    """Give it up: nothing new is drafted, signed or assigned for it from here on."""

    @property
    def id(self) -> str:
        return f"{self.request_key}:cancel:{self.order}"


class ApproveReported(OrderReported):
    """Let it go, as it was held; see `policies.ApproveOrdered`."""

    ticket: Ticket

    @property
    def id(self) -> str:
        return f"{self.request_key}:approve:{self.order}"


class PolicyReported(RequestFact):
    """What the owner of the policies said about the draft that `ticket` names; see `policies`."""

    ticket: Ticket


class ClearanceReported(PolicyReported):
    """It may be drafted. This opens the attempt: its deadline counts from here."""

    version: Hash
    approved_by: tuple[Who, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.request_key}:cleared:{self.ticket}"


class HoldReported(PolicyReported):
    """It waits for operators, or for time to pass."""

    version: Hash
    breaches: Annotated[tuple[Breach, ...], Field(min_length=1)]
    approvals_needed: Count
    until: Count | None = None

    @property
    def id(self) -> str:
        return f"{self.request_key}:held:{self.ticket}"


class HoldLapseReported(PolicyReported):
    """The hold is over without an answer; the request asks anew."""

    reason: LapseReason

    @property
    def id(self) -> str:
        return f"{self.request_key}:lapsed:{self.ticket}"


class DraftRecalled(AttemptFact):
    """The policy in force has not cleared this draft, and no signature of it stands before this on
    the log: one that follows counts no more, and the request asks anew. What is drafted next is the
    same approval, since somebody may hold a signature of it. `order` put the newer policy in force.
    """

    circumstances: ClassVar[frozenset[str]] = frozenset({"order"})

    order: OrderId

    @property
    def id(self) -> str:
        return f"{self.request_key}:recalled:{self.attempt}"


class ApprovalExpired(AttemptFact):
    """The approval can no longer execute: its deadline passed in a final block, or its nonce was
    used there by another mint (`reason`); and the chain says that the request is unprocessed."""

    reason: RelayRefusal = RelayRefusal.EXPIRED
    block_number: Count
    block_timestamp: Count

    @property
    def id(self) -> str:
        return f"{self.request_key}:expired:{self.attempt}"


class RequestCompleted(RequestFact):
    """Completed by evidence: `seat` names the contract event."""

    seat: str
    tx_hash: Hash
    block_number: Count

    @property
    def id(self) -> str:
        return f"{self.request_key}:completed:{self.seat}"


class RequestFailed(RequestFact):
    """Proved impossible, with the reason a person can act on."""

    attempt: Count
    reason: FailureReason
    detail: str
    order: OrderId | None = None
    """The operator's order, where there was one: a request may be cancelled, retried, and cancelled
    again."""

    @property
    def id(self) -> str:
        by_order = f":{self.order}" if self.order else ""
        return f"{self.request_key}:failed:{self.attempt}:{self.reason}{by_order}"


class RequestRetracted(RequestFact):
    """The redeem's own origin event was reorganised away."""

    seat: str

    @property
    def id(self) -> str:
        return f"{self.request_key}:retracted:{self.seat}"
