"""Conservation: nothing is approved beyond what Kuro's facts cover, by a fold of its own.

It reads `kuro.events` and `evm.events` alone and shares no rule with the fold of `requests`: what a
mistake there, or someone who writes there, would let through has to pass here as well. Each fact
backs one mint: of its own id, chain, recipient and amount. A mint on a chain that no fact backs is
a doubt, and so is a signature out there that no fact allows, and a `totalSupply` that is not what
the events add up to (`core.supply`). While a doubt about a chain stands, nothing is signed for it;
a person settles it by naming it (`schemas.controls.settling`).

Amounts are base units. Memory: one entry for each fact and one for each mint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from orchestrator.core.contract import Approval
from orchestrator.core.keys import mint_key, redeem_key
from orchestrator.core.objections import (
    Claim,
    Doubt,
    Mint,
    Objection,
    ObjectionKind,
    differing,
    unallowed,
    unbacked,
    words_of,
)
from orchestrator.core.supply import SupplyBook
from schemas.base import UINT256_MAX, Fact, RequestType
from schemas.evm import (
    BlocksFollowed,
    ChainHalted,
    ContractEvent,
    EventName,
    EventRetracted,
    SupplyCompared,
    SupplyTraced,
)
from schemas.kuro import MintOk

NameOf = Callable[[str], str]
"""What a chain's contract calls a request."""
Named = tuple[int, str]
"""A chain and what its contract calls a request."""
OF_CHAINS = (
    ContractEvent,
    EventRetracted,
    BlocksFollowed,
    ChainHalted,
    SupplyCompared,
    SupplyTraced,
)


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
        self.supplies: dict[int, SupplyBook] = defaultdict(SupplyBook)
        self._doubts: list[Doubt] | None = None
        """None when one may have come or gone."""

    # Folding

    def fold(self, fact: Fact) -> None:
        if isinstance(fact, OF_CHAINS):
            self.supplies[fact.chain_id].fold(fact)
        match fact:
            case SupplyCompared() | SupplyTraced():
                self._doubts = None
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
            self._doubts = None
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
        self._doubts = None
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
                self._doubts = None
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
            self._doubts = None
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
                    self._doubts = None

    def _fly(self, name: Named, claim: Claim) -> None:
        self._land(name)
        self._flying[name] = claim
        self.approved[name[0]] += claim.amount

    def _land(self, name: Named) -> None:
        flown = self._flying.pop(name, None)
        if self._unallowed.pop(name, None) is not None:
            self._doubts = None
        if flown is not None:
            self.approved[name[0]] -= flown.amount

    # Judging

    def doubts(self) -> list[Doubt]:
        """Of mints without a fact, of signatures without one, and of supplies."""
        if self._doubts is None:
            mints = [mint for held in self._unbacked.values() for mint in held.values()]
            flying = [(one, self._flying[name]) for name, one in self._unallowed.items()]
            supplies = [one for book in self.supplies.values() for one in book.differences]
            self._doubts = [
                *map(unbacked, mints),
                *(unallowed(*one) for one in flying),
                *map(differing, supplies),
            ]
        return self._doubts

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
        chain_id, sums = name[0], self._promised(settled)
        flown = self._flying.get(name)
        before = 0 if flown is None else flown.amount
        for kind, numbers in (
            (ObjectionKind.EXCEEDED, [chain_id]),
            (ObjectionKind.EXCEEDED_IN_TOTAL, sorted(sums)),
        ):
            wanted = sum(sums[one] for one in numbers) + amount - before
            covered = sum(self.covered[one] for one in numbers)
            if wanted > covered:
                where = " and ".join(str(one) for one in numbers)
                text = f"with it, {wanted} would be minted or approved on chain {where}"
                return Objection(kind, f"{text}, and facts cover {covered}")
        return None

    def _promised(self, settled: Collection[str]) -> dict[int, int]:
        """What is minted and approved by chain, without what a person settled. Of what exists by
        `totalSupply` alone, what is not settled counts as minted."""
        sums = {
            one: self.minted[one] + self.approved[one]
            for one in {*self.covered, *self.minted, *self.approved, *self.supplies}
        }
        by_supply = {one.order for book in self.supplies.values() for one in book.differences}
        for doubt in self.doubts():
            if doubt.order in by_supply and doubt.order not in settled:
                sums[doubt.chain_id] += doubt.surplus
            elif doubt.order not in by_supply and doubt.order in settled:
                sums[doubt.chain_id] -= doubt.surplus
        return sums


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
        f"the approval is of {words_of(asked)}, its fact of {words_of(claim)}",
    )
