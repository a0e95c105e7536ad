"""The life of one wallet's nonces on one chain: the fold of its facts.

1. The next nonce is a fold of the lane's facts, never a counter beside them.
2. A slot (one nonce) may hold several versions of a transaction; at most one can be mined.
3. A piece of work leaves its slot only with proof: mined, or the nonce spent at final depth on a
   transaction that is none of its versions.

`LaneState` is changed in place by `evolve`, for a lane may hold thousands of facts in flight; it is
owned by its fold, and only a fact changes it. What to conclude from a look at the chain stands in
`lane_views`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from orchestrator.core.gas import GasMemory, call_shape
from orchestrator.core.lifecycle import Verdict
from schemas.lanes import (
    CancellationRequested,
    LaneFact,
    LaneHalted,
    LaneOpened,
    LaneReconciled,
    LaneResumed,
    NonceTaken,
    RelayRefused,
    RelayRequested,
    RelayResumed,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionOrphaned,
    TransactionPrepared,
    TransactionResent,
    WalletRestored,
    WalletSetAside,
)


@dataclass(slots=True)
class Slot:
    """One nonce. `relay` is None for a no-op. `versions` in the order of their preparation.
    `out_since` is the head when a node last took one of them anew."""

    nonce: int
    relay: str | None
    versions: list[TransactionPrepared]
    broadcast: set[str] = field(default_factory=set)
    out_since: int = 0
    inclusion: TransactionIncluded | None = None

    @property
    def newest(self) -> TransactionPrepared:
        return self.versions[-1]

    def version(self, tx_hash: str) -> TransactionPrepared | None:
        return next((found for found in self.versions if found.tx_hash == tx_hash), None)


@dataclass(slots=True)
class Failure:
    """Work whose call was mined as a failure, final. `starved`: it used up its gas limit."""

    request: RelayRequested
    final: TransactionFinal
    starved: bool


@dataclass(slots=True)
class LaneState:
    """One lane, folded.

    `waiting` has no nonce yet; `displaced` is what of it had one before; `working` stands in
    `slots`; `reverted` was mined as a failure and still owes its reason; `settled` came to an end.
    A slot leaves when its inclusion is final. `spent` is how many nonces are spent for good, as
    any view that holds block `spent_since` as final must show. `cancelled` is to be given back.
    `resumption` is a person's word on the halt, and waits for a look at the chain.
    """

    chain_id: int
    wallet: str
    first_nonce: int = 0
    next_nonce: int | None = None
    spent: int = 0
    spent_since: int = 0
    waiting: dict[str, RelayRequested] = field(default_factory=dict)
    displaced: set[str] = field(default_factory=set)
    working: dict[str, RelayRequested] = field(default_factory=dict)
    reverted: dict[str, Failure] = field(default_factory=dict)
    resumed: dict[str, int] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    slots: dict[int, Slot] = field(default_factory=dict)
    final_block: int = 0
    final_hash: str = ""
    final_timestamp: int = 0
    cancelled: dict[str, CancellationRequested] = field(default_factory=dict)
    halted: LaneHalted | None = None
    times_halted: int = 0
    resumption: LaneResumed | None = None
    set_aside: WalletSetAside | None = None
    times_aside: int = 0
    gas: GasMemory = field(default_factory=GasMemory)

    @property
    def key(self) -> str:
        return f"{self.chain_id}:{self.wallet}"


def evolve(state: LaneState, fact: LaneFact) -> Verdict:
    """Fold one fact of this lane. Nothing changes unless the verdict is APPLIED."""
    match fact:
        case RelayRequested():
            return _requested(state, fact)
        case LaneOpened():
            return _opened(state, fact)
        case TransactionPrepared():
            return _prepared(state, fact)
        case TransactionBroadcast() | TransactionIncluded() | TransactionOrphaned():
            return _progressed(state, fact)
        case TransactionFinal():
            return _finished(state, fact)
        case RelayRefused():
            return _refused(state, fact)
        case RelayResumed():
            return _resumed(state, fact)
        case NonceTaken():
            return _taken(state, fact)
        case TransactionResent():
            return Verdict.REPEATED
        case CancellationRequested():
            if fact.relay in state.settled or fact.relay in state.cancelled:
                return Verdict.REPEATED
            state.cancelled[fact.relay] = fact
            return Verdict.APPLIED
        case LaneHalted() | LaneResumed() | LaneReconciled():
            return _halted(state, fact)
        case WalletSetAside() | WalletRestored():
            return _set_aside(state, fact)
    return Verdict.OUT_OF_ORDER


def _requested(state: LaneState, fact: RelayRequested) -> Verdict:
    relay = fact.relay
    if relay in state.settled or relay in state.reverted:
        return Verdict.REPEATED
    known = state.waiting.get(relay) or state.working.get(relay)
    if known is not None:
        return Verdict.REPEATED if known.agrees_with(fact) else Verdict.CONFLICT
    state.waiting[relay] = fact
    return Verdict.APPLIED


def _opened(state: LaneState, fact: LaneOpened) -> Verdict:
    if state.next_nonce is not None:
        return Verdict.REPEATED
    state.first_nonce = state.next_nonce = state.spent = fact.first_nonce
    state.spent_since = fact.block_number or 0
    return Verdict.APPLIED


def _prepared(state: LaneState, fact: TransactionPrepared) -> Verdict:
    slot = state.slots.get(fact.nonce)
    if slot is not None:
        if slot.version(fact.tx_hash) is not None:
            return Verdict.REPEATED
        if fact.replaces is None or fact.relay not in (None, slot.relay):
            return Verdict.CONFLICT
        slot.versions.append(fact)
        return Verdict.APPLIED
    if state.next_nonce is None or fact.nonce > state.next_nonce:
        return Verdict.OUT_OF_ORDER
    if fact.nonce < state.next_nonce:
        return _healed(state, fact)
    if fact.replaces is not None:
        return Verdict.OUT_OF_ORDER
    if fact.relay is not None:
        request = state.waiting.pop(fact.relay, None)
        if request is None:
            return Verdict.OUT_OF_ORDER
        state.working[fact.relay] = request
    state.slots[fact.nonce] = Slot(fact.nonce, fact.relay, [fact])
    state.next_nonce += 1
    return Verdict.APPLIED


def _healed(state: LaneState, fact: TransactionPrepared) -> Verdict:
    """A no-op in a hole: a nonce that someone else's transaction had, until a reorganisation."""
    if fact.relay is not None or fact.replaces is not None or fact.nonce < state.spent:
        return Verdict.REPEATED
    state.slots[fact.nonce] = Slot(fact.nonce, None, [fact])
    state.slots = dict(sorted(state.slots.items()))
    return Verdict.APPLIED


def _progressed(
    state: LaneState, fact: TransactionBroadcast | TransactionIncluded | TransactionOrphaned
) -> Verdict:
    slot = state.slots.get(fact.nonce)
    if slot is None:
        return Verdict.REPEATED if fact.nonce < (state.next_nonce or 0) else Verdict.OUT_OF_ORDER
    version = slot.version(fact.tx_hash)
    if version is None:
        return Verdict.OUT_OF_ORDER
    if isinstance(fact, TransactionBroadcast):
        if fact.tx_hash in slot.broadcast:
            return Verdict.REPEATED
        slot.broadcast.add(fact.tx_hash)
        slot.out_since = max(slot.out_since, fact.block_number or 0)
        return Verdict.APPLIED
    held = slot.inclusion
    same = held is not None and (held.tx_hash, held.block_hash) == (fact.tx_hash, fact.block_hash)
    if isinstance(fact, TransactionIncluded):
        if same:
            return Verdict.REPEATED
        slot.inclusion = fact
        if version.relay is not None:
            shape = call_shape(state.working[version.relay])
            state.gas.learn(shape, fact.gas_used if fact.succeeded else None)
        return Verdict.APPLIED
    if not same:
        return Verdict.REPEATED
    slot.inclusion = None
    slot.broadcast.clear()
    return Verdict.APPLIED


def _finished(state: LaneState, fact: TransactionFinal) -> Verdict:
    slot = state.slots.get(fact.nonce)
    if slot is None:
        return Verdict.REPEATED if fact.nonce < (state.next_nonce or 0) else Verdict.OUT_OF_ORDER
    version = slot.version(fact.tx_hash)
    if version is None:
        return Verdict.OUT_OF_ORDER
    del state.slots[fact.nonce]
    if fact.block_number >= state.final_block:
        state.final_block, state.final_hash = fact.block_number, fact.block_hash
        state.final_timestamp = max(state.final_timestamp, fact.final_timestamp or 0)
    _spend(state, fact.nonce, fact.block_number)
    if slot.relay is None:
        return Verdict.APPLIED
    request = state.working.pop(slot.relay)
    if version.relay is None:
        state.waiting[slot.relay] = request
        state.displaced.add(slot.relay)
    elif fact.succeeded:
        _settle(state, slot.relay)
    else:
        used = slot.inclusion.gas_used if slot.inclusion else 0
        starved = used * 64 >= version.gas_limit * 62
        state.reverted[slot.relay] = Failure(request, fact, starved)
    return Verdict.APPLIED


def _spend(state: LaneState, nonce: int, block_number: int) -> None:
    if nonce >= state.spent:
        state.spent, state.spent_since = nonce + 1, block_number


def _refused(state: LaneState, fact: RelayRefused) -> Verdict:
    if fact.relay in state.settled:
        return Verdict.REPEATED
    if fact.relay in state.working:
        return Verdict.OUT_OF_ORDER
    state.waiting.pop(fact.relay, None)
    state.reverted.pop(fact.relay, None)
    _settle(state, fact.relay)
    return Verdict.APPLIED


def _settle(state: LaneState, relay: str) -> None:
    state.settled.add(relay)
    state.cancelled.pop(relay, None)


def _resumed(state: LaneState, fact: RelayResumed) -> Verdict:
    failure = state.reverted.get(fact.relay)
    if failure is None or failure.final.tx_hash != fact.tx_hash:
        return Verdict.REPEATED
    del state.reverted[fact.relay]
    state.waiting[fact.relay] = failure.request
    state.displaced.add(fact.relay)
    state.resumed[fact.relay] = state.resumed.get(fact.relay, 0) + 1
    return Verdict.APPLIED


def _taken(state: LaneState, fact: NonceTaken) -> Verdict:
    slot = state.slots.get(fact.nonce)
    if slot is None:
        if state.next_nonce is None or fact.nonce > state.next_nonce:
            return Verdict.OUT_OF_ORDER
        if fact.nonce < state.next_nonce:
            return Verdict.REPEATED
        state.next_nonce += 1
        return Verdict.APPLIED
    if fact.relay != slot.relay:
        return Verdict.REPEATED
    del state.slots[fact.nonce]
    _spend(state, fact.nonce, fact.block_number)
    if slot.relay is not None:
        state.waiting[slot.relay] = state.working.pop(slot.relay)
        state.displaced.add(slot.relay)
    return Verdict.APPLIED


def _halted(state: LaneState, fact: LaneHalted | LaneResumed | LaneReconciled) -> Verdict:
    """A halt ends by a person's word and, after it, by what the chain shows; or by another halt."""
    if isinstance(fact, LaneHalted):
        if fact.number <= state.times_halted:
            return Verdict.REPEATED
        state.halted, state.times_halted, state.resumption = fact, fact.number, None
        return Verdict.APPLIED
    if state.halted is None or fact.halt != state.halted.id:
        return Verdict.REPEATED
    if isinstance(fact, LaneResumed):
        if state.resumption is not None:
            return Verdict.REPEATED
        state.resumption = fact
        return Verdict.APPLIED
    state.halted = state.resumption = None
    state.spent, state.spent_since = fact.spent, fact.block_number
    state.final_block, state.final_hash = fact.block_number, fact.block_hash
    state.final_timestamp = fact.block_timestamp
    return Verdict.APPLIED


def _set_aside(state: LaneState, fact: WalletSetAside | WalletRestored) -> Verdict:
    match fact:
        case WalletSetAside():
            if fact.number <= state.times_aside:
                return Verdict.REPEATED
            state.set_aside, state.times_aside = fact, fact.number
        case WalletRestored():
            if state.set_aside is None or fact.number != state.set_aside.number:
                return Verdict.REPEATED
            state.set_aside = None
    return Verdict.APPLIED


def in_flight(state: LaneState) -> int:
    """How many transactions are out and in no block: what nodes keep in their pools for us. What is
    mined and waits for its depth takes no room there."""
    return sum(slot.inclusion is None for slot in state.slots.values())


def next_work(
    state: LaneState,
    in_flight_limit: int,
    withheld: Callable[[RelayRequested], bool] = lambda _: False,
) -> list[RelayRequested]:
    """The oldest waiting work that may get a nonce now, at most up to the limit of what is out;
    without what is cancelled, or withheld by an operator's pause."""
    room = max(0, in_flight_limit - in_flight(state))
    free = (
        item
        for relay, item in state.waiting.items()
        if relay not in state.cancelled and not withheld(item)
    )
    return list(islice(free, room))


def unstarted(state: LaneState) -> list[RelayRequested]:
    """Work that this lane never gave a nonce: only such may go to another wallet."""
    return [item for relay, item in state.waiting.items() if relay not in state.displaced]


def unsent(state: LaneState) -> list[TransactionPrepared]:
    """The newest version of each open slot that no node has acknowledged, in nonce order."""
    return [
        slot.newest
        for slot in state.slots.values()
        if slot.inclusion is None and slot.newest.tx_hash not in slot.broadcast
    ]


def unmined(state: LaneState) -> list[TransactionPrepared]:
    """The newest version of each open slot that no block holds, in nonce order."""
    return [slot.newest for slot in state.slots.values() if slot.inclusion is None]
