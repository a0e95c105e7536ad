"""Conservation: nothing is approved beyond what Kuro's facts cover, by a fold of its own.

It reads `kuro.events` and `evm.events` alone and shares no rule with the fold of `requests`: what a
mistake there, or someone who writes there, would let through has to pass here as well. Each fact
backs one mint: of its own id, chain, recipient and amount. A mint on a chain that no fact backs is
a doubt, and so is a signature out there that no fact allows. While a doubt about a chain stands,
nothing is signed for it; a person settles it by naming it (`schemas.controls.settling`).

Amounts are base units. Memory: one entry for each fact and one for each mint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from orchestrator.core.contract import Approval
from orchestrator.core.hashing import keccak
from orchestrator.core.keys import mint_key, redeem_key
from schemas.base import UINT256_MAX, Fact, RequestType
from schemas.evm import ContractEvent, EventName, EventRetracted
from schemas.kuro import MintOk

NameOf = Callable[[str], str]
"""What a chain's contract calls a request."""
Named = tuple[int, str]
"""A chain and what its contract calls a request."""


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
    that tells of it; all of this follows from the log alone, so every process tells the same."""

    chain_id: int
    order: str
    why: str


class ObjectionKind(StrEnum):
    NOT_READ = "NOT_READ"
    """The gate has not read the log far enough yet."""
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


def amount_of(text: str) -> int:
    """Base units; 0 for what is no amount, which covers nothing."""
    if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > len(str(UINT256_MAX)):
        return 0
    amount = int(text)
    return amount if amount <= UINT256_MAX else 0


class Ledger:
    """Facts of the two topics in log order go into `fold`; the same again changes nothing."""

    def __init__(self, names: Mapping[int, NameOf]) -> None:
        self._names = names
        self.covered: dict[int, int] = defaultdict(int)
        self.minted: dict[int, int] = defaultdict(int)
        """What stands on the log, backed or not."""
        self.approved: dict[int, int] = defaultdict(int)
        """Approved here and not minted yet."""
        self._facts: dict[str, Claim] = {}
        self._called: dict[Named, list[str]] = {}
        """Request ids by another name that a contract has for them."""
        self._backed: dict[Named, Mint] = {}
        self._unbacked: dict[Named, dict[str, Mint]] = {}
        self._asked: dict[Named, dict[str, Claim]] = {}
        """By the seats of the events, which a reorganisation may take back."""
        self._flying: dict[Named, Claim] = {}
        self._unallowed: dict[Named, str] = {}
        """Of what flies, the request ids of what no fact allows."""

    # Folding

    def fold(self, fact: Fact) -> None:
        match fact:
            case MintOk():
                self._allow(fact)
            case ContractEvent(event=EventName.MINTED):
                self._mint(fact)
            case ContractEvent(event=EventName.REDEEM_REQUESTED):
                claim = Claim(fact.chain_id, fact.account.lower(), fact.amount)
                seats = self._asked.setdefault((fact.chain_id, fact.request_id), {})
                seats[fact.seat] = claim
            case EventRetracted():
                self._retract(fact)

    def _allow(self, fact: MintOk) -> None:
        """The first fact of an id counts."""
        if fact.request_id in self._facts:
            return
        claim = Claim(fact.chain_id, fact.user.lower(), amount_of(fact.amount))
        self._facts[fact.request_id] = claim
        self.covered[claim.chain_id] += claim.amount
        name = self._name(claim.chain_id, fact.request_id)
        if name != fact.request_id:
            self._called.setdefault((claim.chain_id, name), []).append(fact.request_id)
        named = (claim.chain_id, name)
        if named in self._unallowed and self._flying[named] == claim:
            del self._unallowed[named]
        self._back(named)

    def _name(self, chain_id: int, request_id: str) -> str:
        name_of = self._names.get(chain_id)
        return request_id if name_of is None else name_of(request_id)

    def _mint(self, fact: ContractEvent) -> None:
        name = (fact.chain_id, fact.request_id)
        held = self._backed.get(name)
        if held is not None and held.seat == fact.seat:
            return
        others = self._unbacked.setdefault(name, {})
        if fact.seat in others:
            return
        claim = Claim(fact.chain_id, fact.account.lower(), fact.amount)
        others[fact.seat] = Mint(fact.seat, claim, fact.block_number, fact.tx_hash, fact.log_index)
        self.minted[fact.chain_id] += fact.amount
        self._land(name)
        self._back(name)

    def _back(self, name: Named) -> None:
        """A mint that a fact allows, where none does so yet."""
        waiting = self._unbacked.get(name)
        if not waiting:
            return
        if name not in self._backed:
            allowed = self._claims(name)
            found = next((mint for mint in waiting.values() if mint.claim in allowed), None)
            if found is not None:
                self._backed[name] = waiting.pop(found.seat)
        if not waiting:
            del self._unbacked[name]

    def _claims(self, name: Named) -> list[Claim]:
        """Of the facts that may stand behind what a contract calls so: an id may be its own name,
        and another's as well."""
        request_ids = [name[1], *self._called.get(name, ())]
        claims = [self._facts[key] for key in request_ids if key in self._facts]
        return [claim for claim in claims if claim.chain_id == name[0]]

    def _retract(self, fact: EventRetracted) -> None:
        name = (fact.chain_id, fact.request_id)
        held = self._backed.get(name)
        self._asked.get(name, {}).pop(fact.seat, None)
        mint: Mint | None = None
        if held is not None and held.seat == fact.seat:
            mint = self._backed.pop(name)
            self._fly(name, mint.claim)
        elif name in self._unbacked:
            mint = self._unbacked[name].pop(fact.seat, None)
        if mint is not None:
            self.minted[fact.chain_id] -= mint.claim.amount
        self._back(name)

    # What was approved

    def approve(self, approval: Approval) -> None:
        """Told of what is signed, or is on its way to be: until it is minted, it may execute."""
        if approval.type is RequestType.MINT:
            name = (approval.chain_id, self._name(approval.chain_id, approval.request_id))
            claim = Claim(approval.chain_id, approval.account.lower(), approval.amount)
            if name not in self._backed:
                self._fly(name, claim)
                if claim not in self._claims(name):
                    self._unallowed[name] = approval.request_id

    def _fly(self, name: Named, claim: Claim) -> None:
        self._land(name)
        self._flying[name] = claim
        self.approved[name[0]] += claim.amount

    def _land(self, name: Named) -> None:
        flown = self._flying.pop(name, None)
        self._unallowed.pop(name, None)
        if flown is not None:
            self.approved[name[0]] -= flown.amount

    # Judging

    def doubts(self) -> list[Doubt]:
        """Of mints without a fact, and of signatures without one."""
        mints = [mint for held in self._unbacked.values() for mint in held.values()]
        flying = [(one, self._flying[name]) for name, one in self._unallowed.items()]
        return [*map(_unbacked, mints), *(_unallowed(*one) for one in flying)]

    def judge(
        self, request_key: str, approval: Approval, settled: Collection[str] = ()
    ) -> Objection | None:
        """None when `approval` may be signed by all that was folded so far. `settled` are the ids
        of doubts that count no more."""
        if approval.type is RequestType.REDEEM:
            return self._judge_redeem(request_key, approval)
        name = (approval.chain_id, self._name(approval.chain_id, approval.request_id))
        fact = self._facts.get(approval.request_id)
        if fact is None:
            text = f"no fact of Kuro allows {approval.request_id}"
            return Objection(ObjectionKind.NO_FACT, text)
        differs = _differs(request_key, mint_key(approval.request_id), approval, fact)
        if differs is not None:
            return differs
        if name in self._backed:
            text = f"{approval.request_id} was minted in {self._backed[name].tx_hash}"
            return Objection(ObjectionKind.DONE, text)
        return self._exceeds(name, approval.amount, settled)

    def _judge_redeem(self, request_key: str, approval: Approval) -> Objection | None:
        name = (approval.chain_id, self._name(approval.chain_id, approval.request_id))
        seats = self._asked.get(name)
        if seats is None:
            text = f"no event of chain {approval.chain_id} asks for {approval.request_id}"
            return Objection(ObjectionKind.NO_FACT, text)
        if not seats:
            text = f"a reorganisation took back the event that asks for {approval.request_id}"
            return Objection(ObjectionKind.TAKEN_BACK, text)
        key = redeem_key(approval.chain_id, approval.request_id)
        return _differs(request_key, key, approval, next(iter(seats.values())))

    def _exceeds(self, name: Named, amount: int, settled: Collection[str]) -> Objection | None:
        """Minted, approved, and this: per chain, and over all chains."""
        chain_id, excused = name[0], self._excused(settled)
        flown = self._flying.get(name)
        before = 0 if flown is None else flown.amount
        chains = {*self.covered, *self.minted, *self.approved}
        sums = {one: self.minted[one] - excused[one] + self.approved[one] for one in sorted(chains)}
        for kind, numbers in (
            (ObjectionKind.EXCEEDED, [chain_id]),
            (ObjectionKind.EXCEEDED_IN_TOTAL, list(sums)),
        ):
            wanted = sum(sums[one] for one in numbers) + amount - before
            covered = sum(self.covered[one] for one in numbers)
            if wanted > covered:
                where = " and ".join(str(one) for one in numbers)
                text = f"with it, {wanted} would be minted or approved on chain {where}"
                return Objection(kind, f"{text}, and facts cover {covered}")
        return None

    def _excused(self, settled: Collection[str]) -> dict[int, int]:
        found: dict[int, int] = defaultdict(int)
        if not settled:
            return found
        for held in self._unbacked.values():
            for mint in held.values():
                if _unbacked(mint).order in settled:
                    found[mint.claim.chain_id] += mint.claim.amount
        for name, request_id in self._unallowed.items():
            claim = self._flying[name]
            if _unallowed(request_id, claim).order in settled:
                found[claim.chain_id] += claim.amount
        return found


def _differs(
    request_key: str, expected_key: str, approval: Approval, claim: Claim
) -> Objection | None:
    if request_key != expected_key:
        text = f"request {request_key} stands on the fact of {expected_key}"
        return Objection(ObjectionKind.OTHER_KEY, text)
    asked = Claim(approval.chain_id, approval.account.lower(), approval.amount)
    if asked == claim and asked.amount > 0:
        return None
    return Objection(
        ObjectionKind.OTHER_CONTENT,
        f"the approval is of {_words(asked)}, its fact of {_words(claim)}",
    )


def _words(claim: Claim) -> str:
    return f"{claim.amount} for {claim.account} on chain {claim.chain_id}"


def _unbacked(mint: Mint) -> Doubt:
    chain_id = mint.claim.chain_id
    return Doubt(
        chain_id,
        f"unbacked.{chain_id}.{mint.tx_hash[2:18]}.{mint.log_index}",
        f"minted without a fact of Kuro: {mint.claim.amount} for {mint.claim.account} in block "
        f"{mint.block_number}, transaction {mint.tx_hash}",
    )


def _unallowed(request_id: str, claim: Claim) -> Doubt:
    named = keccak(f"{request_id} {claim.account} {claim.amount}".encode()).hex()[:16]
    return Doubt(
        claim.chain_id,
        f"unallowed.{claim.chain_id}.{named}",
        f"signed without a fact of Kuro: {claim.amount} for {claim.account} under the id "
        f"{request_id}; whoever holds the signature may mint until its deadline",
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
