"""One chain's supply: what its events on the log add up to, and what its contract says.

A fold of the chain's records in `evm.events`. The follower, which asks the contract, and the
conservation gate, which asks nobody, each keep one; neither knows of requests.

A comparison counts where it stands on the log: right after all events up to its block. What the
contract had before the first followed block is a difference that is there from the start
(`baseline`). Each time the difference becomes another one, a person has to settle it.

Memory: a number for each event, and more for those since the newest comparison.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.base import Fact
from schemas.evm import (
    BlocksFollowed,
    ChainHalted,
    ContractEvent,
    EventName,
    EventRetracted,
    SupplyCompared,
    SupplyTraced,
)

SIGNS = {EventName.MINTED: 1, EventName.REDEEMED: -1, EventName.REDEEMED_AT_ONCE: -1}
"""How events change the supply; asking for a redemption locks and burns nothing."""


class Change(NamedTuple):
    """What an event of the log did to the supply."""

    block_number: int
    amount: int
    tx_hash: str


class Floor(NamedTuple):
    """The newest block before a difference. `agrees` when a comparison stands there; otherwise the
    chain has to be asked."""

    block_number: int
    agrees: bool


@dataclass(slots=True)
class Difference:
    """That `totalSupply` and the events became apart by another amount than before."""

    compared: SupplyCompared
    by_events: int
    before: int
    floor: Floor | None
    """None where nothing is known of any earlier block."""
    changes: Sequence[Change] = field(repr=False)
    """Since the floor; given up once `settleable`."""
    traced: SupplyTraced | None = None
    settleable: bool = False
    """The log says all that it will say of it: its search has ended, or was given up."""

    @property
    def amount(self) -> int:
        return self.compared.total_supply - self.by_events

    @property
    def order(self) -> str:
        """The id of the order that pauses the chain for it."""
        fact = self.compared
        return f"supply.{fact.chain_id}.{fact.block_number}.{fact.block_hash[2:10]}"

    @property
    def why(self) -> str:
        fact = self.compared
        added = f", and {self.before} from before" if self.before else ""
        apart = self.amount - self.before
        words = (
            f"totalSupply is {fact.total_supply} in block {fact.block_number}; the log's events "
            f"add up to {self.by_events}{added}: {abs(apart)} {'more' if apart > 0 else 'less'} "
            "than they tell"
        )
        if self.traced is not None:
            return f"{words}. {self.traced.detail}"
        return words if self.settleable else f"{words}. Where it began is being searched"

    def expected(self, block_number: int) -> int:
        """What `totalSupply` must be in a block at or above the floor to be as before."""
        later = sum(one.amount for one in self.changes if one.block_number > block_number)
        return self.by_events + self.before - later

    def by_transaction(self, first: int, last: int) -> Mapping[str, int]:
        """What the log's events tell of these blocks, by transaction hash."""
        found: dict[str, int] = defaultdict(int)
        for one in self.changes:
            if first <= one.block_number <= last:
                found[one.tx_hash] += one.amount
        return found


class SupplyBook:
    """Facts of one chain in log order go into `fold`; the same again changes nothing."""

    def __init__(self) -> None:
        self.by_events = 0
        self.difference = 0
        """Of `totalSupply` from the events, when it was compared last."""
        self._baseline = 0
        self.differences: list[Difference] = []
        """Each that came, in order, whether a person settled it or not."""
        self.compared: SupplyCompared | None = None
        """The newest comparison that counts."""
        self._marked: str | None = None
        self._floor: Floor | None = None
        self._known: dict[tuple[str, int], int] = {}
        """Changes by block and place, to be known again."""
        self._recent: dict[tuple[str, int], Change] = {}
        """Those since the floor."""

    @property
    def unexplained(self) -> int:
        """Of the difference, what was not there before the first followed block."""
        return self.difference - self._baseline

    @property
    def open(self) -> Difference | None:
        """The newest difference, while its search has not ended."""
        newest = self.differences[-1] if self.differences else None
        return None if newest is None or newest.settleable else newest

    def fold(self, fact: Fact) -> None:
        match fact:
            case ContractEvent() if fact.event in SIGNS:
                self._change(fact)
            case EventRetracted():
                seat = _seat(fact)
                self.by_events -= self._known.pop(seat, 0)
                self._recent.pop(seat, None)
            case BlocksFollowed():
                self._marked = fact.to_hash
            case ChainHalted():
                self._halt(fact)
            case SupplyCompared(baseline=True):
                self._begin(fact)
            case SupplyCompared():
                self._compare(fact)
            case SupplyTraced():
                self._trace(fact)

    def _change(self, fact: ContractEvent) -> None:
        seat = _seat(fact)
        if seat not in self._known:
            amount = SIGNS[fact.event] * fact.amount
            self._known[seat] = amount
            self._recent[seat] = Change(fact.block_number, amount, fact.tx_hash)
            self.by_events += amount

    def _halt(self, fact: ChainHalted) -> None:
        """Blocks above the fork are gone, and with them what was compared there."""
        self._marked = fact.fork_hash
        if self._floor is not None and (
            fact.fork_block is None or fact.fork_block < self._floor.block_number
        ):
            self._floor = None if fact.fork_block is None else Floor(fact.fork_block, False)

    def _begin(self, fact: SupplyCompared) -> None:
        if self.compared is None:
            self.difference = self._baseline = fact.total_supply
            self._floor = Floor(fact.block_number, True)

    def _compare(self, fact: SupplyCompared) -> None:
        """What does not stand at the cursor counts for nothing: events may be missing before it."""
        repeated = self.compared is not None and self.compared.block_hash == fact.block_hash
        if repeated or fact.block_hash != self._marked:
            return
        for earlier in self.differences:
            _close(earlier)
        found = fact.total_supply - self.by_events
        if found != self.difference:
            changes = tuple(self._recent.values())
            self.differences.append(
                Difference(fact, self.by_events, self.difference, self._floor, changes)
            )
        self.difference = found
        self.compared = fact
        self._floor = Floor(fact.block_number, True)
        self._recent.clear()

    def _trace(self, fact: SupplyTraced) -> None:
        for one in self.differences:
            if one.compared.id == fact.compared and not one.settleable:
                one.traced = fact
                _close(one)


def _close(difference: Difference) -> None:
    difference.settleable = True
    difference.changes = ()


def _seat(fact: ContractEvent | EventRetracted) -> tuple[str, int]:
    return fact.block_hash, fact.log_index


MOST_QUESTIONS = 64
"""Of one search by halving: as many as the bits of a block's number."""


class Search:
    """Where a difference began, by halving between its floor and its comparison. Ask `next`, tell
    `answer` (None: no node keeps that block's state), until `next` is None.

    Of several changes between, it finds one that made the supply differ where it did not before.
    """

    def __init__(self, difference: Difference, floor: Floor) -> None:
        self.agrees: int | None = floor.block_number if floor.agrees else None
        """The newest block that is known to be as before."""
        self.differs = difference.compared.block_number
        """The oldest block that is known to differ."""
        self.questions = 0
        self.hidden = floor.block_number - 1
        """The newest block whose state no node keeps; those below are not asked for."""
        self.floor = floor.block_number
        self._difference = difference

    @property
    def next(self) -> int | None:
        if self.questions >= MOST_QUESTIONS or self.earlier:
            return None
        if self.agrees is None and self.hidden < self.floor:
            return self.floor
        low = max(self.hidden, -1 if self.agrees is None else self.agrees)
        return (low + self.differs) // 2 if self.differs - low > 1 else None

    def answer(self, total_supply: int | None) -> None:
        number = self.next
        assert number is not None
        self.questions += 1
        if total_supply is None:
            self.hidden = number
        elif total_supply == self._difference.expected(number):
            self.agrees = number
        else:
            self.differs = number

    @property
    def exact(self) -> bool:
        """`differs` is the first block, by proof of the one before."""
        return self.agrees is not None and self.differs - self.agrees == 1

    @property
    def earlier(self) -> bool:
        """It differs in the oldest block that there is to ask about."""
        return self.differs <= self.floor


class Move(NamedTuple):
    """A transfer from nobody (above zero) or to nobody (below)."""

    block_number: int
    log_index: int
    tx_hash: str
    amount: int


def first_otherwise(moves: Sequence[Move], told: Mapping[str, int]) -> tuple[str, int, int] | None:
    """The first transaction, in the order of the chain, whose transfers change the supply otherwise
    than its events on the log (`told`): its hash, the change, and what the log tells of it. None
    when all agree."""
    sums: dict[str, int] = defaultdict(int)
    for move in sorted(moves):
        sums[move.tx_hash] += move.amount
    for tx_hash, amount in sums.items():
        if amount != told.get(tx_hash, 0):
            return tx_hash, amount, told.get(tx_hash, 0)
    missing = next((one for one in told if one not in sums and told[one]), None)
    return None if missing is None else (missing, 0, told[missing])
