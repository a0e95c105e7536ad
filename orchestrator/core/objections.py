"""What the conservation gate says: objections to one approval, and doubts about a whole chain.

All of it follows from the log alone, so every process says the same in the same words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from orchestrator.core.contract import Approval
from orchestrator.core.hashing import keccak
from orchestrator.core.supply import Difference


class Claim(NamedTuple):
    """What one fact allows; `account` in lower case."""

    chain_id: int
    account: str
    amount: int


class Mint(NamedTuple):
    """A `Minted` of the log that stands."""

    seat: str
    claim: Claim
    block_number: int
    tx_hash: str
    log_index: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why nothing is signed for a chain until a person settles it. `order` is the id of the pause
    that tells of it. What is not `settleable` yet is still being looked into: it holds as much, and
    its words are not final. `surplus` is what it says exists and no fact covers, base units."""

    chain_id: int
    order: str
    why: str
    settleable: bool = True
    surplus: int = 0


class ObjectionKind(StrEnum):
    NOT_READ = "NOT_READ"
    """The gate has not read the log far enough yet."""
    NOT_COMPARED = "NOT_COMPARED"
    """The chain's own supply has not been compared with the log lately."""
    DONE = "DONE"
    """The request was executed; its own end is still to come."""
    TAKEN_BACK = "TAKEN_BACK"
    """A reorganisation took back the event that asks for this redeem."""
    IN_DOUBT = "IN_DOUBT"
    """A doubt about the chain stands."""
    NO_FACT = "NO_FACT"
    """No fact of Kuro allows this mint; no event asks for this redeem."""
    OTHER_CONTENT = "OTHER_CONTENT"
    """Its fact has another chain, recipient or amount."""
    OTHER_KEY = "OTHER_KEY"
    """The request has another key than its fact gives it: a fact backs one request."""
    EXCEEDED = "EXCEEDED"
    """With this, more would be minted and approved on its chain than facts cover."""
    EXCEEDED_IN_TOTAL = "EXCEEDED_IN_TOTAL"
    """With this, more would be minted and approved on all chains than facts cover."""


QUIET = frozenset(
    {
        ObjectionKind.NOT_READ,
        ObjectionKind.NOT_COMPARED,
        ObjectionKind.DONE,
        ObjectionKind.TAKEN_BACK,
        ObjectionKind.IN_DOUBT,
    }
)
"""No alarm of a request's own; a doubt is one of its chain."""


@dataclass(frozen=True, slots=True)
class Objection:
    kind: ObjectionKind
    detail: str

    @property
    def alarming(self) -> bool:
        return self.kind not in QUIET


def words_of(claim: Claim) -> str:
    return f"{claim.amount} for {claim.account} on chain {claim.chain_id}"


def unbacked(mint: Mint) -> Doubt:
    chain_id = mint.claim.chain_id
    return Doubt(
        chain_id,
        f"unbacked.{chain_id}.{mint.tx_hash[2:18]}.{mint.log_index}",
        f"minted without a fact of Kuro: {mint.claim.amount} for {mint.claim.account} in block "
        f"{mint.block_number}, transaction {mint.tx_hash}",
        surplus=mint.claim.amount,
    )


def unallowed(request_id: str, claim: Claim) -> Doubt:
    named = keccak(f"{request_id} {claim.account} {claim.amount}".encode()).hex()[:16]
    return Doubt(
        claim.chain_id,
        f"unallowed.{claim.chain_id}.{named}",
        f"signed without a fact of Kuro: {claim.amount} for {claim.account} under the id "
        f"{request_id}; whoever holds the signature may mint until its deadline",
        surplus=claim.amount,
    )


def differing(difference: Difference) -> Doubt:
    """What a chain's `totalSupply` and the log's events raise between them."""
    return Doubt(
        difference.compared.chain_id,
        difference.order,
        difference.why,
        difference.settleable,
        max(0, difference.amount - difference.before),
    )


def exceeded(request_key: str, approval: Approval, digest: str) -> Doubt:
    """The doubt that a request raises whose approval would exceed what facts cover."""
    return Doubt(
        approval.chain_id,
        f"exceeded.{approval.chain_id}.{digest[2:18]}",
        f"to approve {request_key}, {approval.amount} for {approval.account}, would exceed what "
        "facts of Kuro cover",
    )


def standing(doubts: Iterable[Doubt], chain_id: int, settled: Collection[str]) -> Doubt | None:
    """The first doubt about a chain that nobody settled."""
    return next(
        (one for one in doubts if one.chain_id == chain_id and one.order not in settled), None
    )
