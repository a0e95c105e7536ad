"""The life of one wallet's nonces on one chain: the fold of its facts, and what to conclude from
what the chain shows.

1. The next nonce is a fold of the lane's facts, never a counter beside them.
2. A slot (one nonce) may hold several versions of a transaction; at most one can be mined.
3. A piece of work leaves its slot only with proof: mined, or the nonce spent at final depth on a
   transaction that is none of its versions.

`LaneState` is changed in place by `evolve`, for a lane may hold thousands of facts in flight; it is
owned by its fold, and only a fact changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from orchestrator.core.chain import ChainView
from orchestrator.core.lifecycle import Verdict
from schemas.lanes import (
    LaneFact,
    LaneHalted,
    LaneOpened,
    NonceTaken,
    RelayRefused,
    RelayRequested,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionOrphaned,
    TransactionPrepared,
)


@dataclass(slots=True)
class Slot:
    """One nonce. `relay` is None for a no-op. `versions` in the order of their preparation."""

    nonce: int
    relay: str | None
    versions: list[TransactionPrepared]
    broadcast: set[str] = field(default_factory=set)
    inclusion: TransactionIncluded | None = None


@dataclass(slots=True)
class LaneState:
    """One lane, folded.

    `waiting` has no nonce yet; `working` stands in `slots`; `reverted` was mined as a failure and
    still owes its reason; `settled` came to an end. A slot leaves when its inclusion is final.
    """

    chain_id: int
    wallet: str
    next_nonce: int | None = None
    waiting: dict[str, RelayRequested] = field(default_factory=dict)
    working: dict[str, RelayRequested] = field(default_factory=dict)
    reverted: dict[str, tuple[RelayRequested, TransactionFinal]] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    slots: dict[int, Slot] = field(default_factory=dict)
    final_block: int = 0
    halted: LaneHalted | None = None

    @property
    def key(self) -> str:
        return f"{self.chain_id}:{self.wallet}"

    @property
    def floor(self) -> int:
        """The lowest nonce that is not final."""
        return min(self.slots, default=self.next_nonce or 0)


def evolve(state: LaneState, fact: LaneFact) -> Verdict:
    """Fold one fact of this lane. Nothing changes unless the verdict is APPLIED."""
    match fact:
        case RelayRequested():
            return _requested(state, fact)
        case LaneOpened():
            if state.next_nonce is not None:
                return Verdict.REPEATED
            state.next_nonce = fact.first_nonce
            return Verdict.APPLIED
        case TransactionPrepared():
            return _prepared(state, fact)
        case TransactionBroadcast() | TransactionIncluded() | TransactionOrphaned():
            return _progressed(state, fact)
        case TransactionFinal():
            return _finished(state, fact)
        case RelayRefused():
            return _refused(state, fact)
        case NonceTaken():
            return _taken(state, fact)
        case LaneHalted():
            if state.halted is not None:
                return Verdict.REPEATED
            state.halted = fact
            return Verdict.APPLIED
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


def _prepared(state: LaneState, fact: TransactionPrepared) -> Verdict:
    slot = state.slots.get(fact.nonce)
    if slot is not None:
        if any(version.tx_hash == fact.tx_hash for version in slot.versions):
            return Verdict.REPEATED
        if fact.replaces is None:
            return Verdict.CONFLICT
        slot.versions.append(fact)
        return Verdict.APPLIED
    if state.next_nonce is None or fact.nonce > state.next_nonce:
        return Verdict.OUT_OF_ORDER
    if fact.nonce < state.next_nonce:
        return Verdict.REPEATED
    if fact.relay is not None:
        request = state.waiting.pop(fact.relay, None)
        if request is None:
            return Verdict.OUT_OF_ORDER
        state.working[fact.relay] = request
    state.slots[fact.nonce] = Slot(fact.nonce, fact.relay, [fact])
    state.next_nonce += 1
    return Verdict.APPLIED


def _progressed(
    state: LaneState, fact: TransactionBroadcast | TransactionIncluded | TransactionOrphaned
) -> Verdict:
    slot = state.slots.get(fact.nonce)
    if slot is None:
        return Verdict.REPEATED if fact.nonce < (state.next_nonce or 0) else Verdict.OUT_OF_ORDER
    if all(version.tx_hash != fact.tx_hash for version in slot.versions):
        return Verdict.OUT_OF_ORDER
    if isinstance(fact, TransactionBroadcast):
        if fact.tx_hash in slot.broadcast:
            return Verdict.REPEATED
        slot.broadcast.add(fact.tx_hash)
        return Verdict.APPLIED
    held = slot.inclusion
    same = held is not None and (held.tx_hash, held.block_hash) == (fact.tx_hash, fact.block_hash)
    if isinstance(fact, TransactionIncluded):
        if same:
            return Verdict.REPEATED
        slot.inclusion = fact
        return Verdict.APPLIED
    if not same:
        return Verdict.REPEATED
    slot.inclusion = None
    slot.broadcast.clear()
    return Verdict.APPLIED


def _finished(state: LaneState, fact: TransactionFinal) -> Verdict:
    slot = state.slots.pop(fact.nonce, None)
    if slot is None:
        return Verdict.REPEATED if fact.nonce < (state.next_nonce or 0) else Verdict.OUT_OF_ORDER
    state.final_block = max(state.final_block, fact.block_number)
    if slot.relay is not None:
        request = state.working.pop(slot.relay)
        if fact.succeeded:
            state.settled.add(slot.relay)
        else:
            state.reverted[slot.relay] = (request, fact)
    return Verdict.APPLIED


def _refused(state: LaneState, fact: RelayRefused) -> Verdict:
    if fact.relay in state.settled:
        return Verdict.REPEATED
    if fact.relay in state.working:
        return Verdict.OUT_OF_ORDER
    state.waiting.pop(fact.relay, None)
    state.reverted.pop(fact.relay, None)
    state.settled.add(fact.relay)
    return Verdict.APPLIED


def _taken(state: LaneState, fact: NonceTaken) -> Verdict:
    slot = state.slots.pop(fact.nonce, None)
    if slot is None:
        if state.next_nonce is None or fact.nonce > state.next_nonce:
            return Verdict.OUT_OF_ORDER
        if fact.nonce < state.next_nonce:
            return Verdict.REPEATED
        state.next_nonce += 1
        return Verdict.APPLIED
    if slot.relay is not None:
        state.waiting[slot.relay] = state.working.pop(slot.relay)
    return Verdict.APPLIED


def next_work(state: LaneState, in_flight_limit: int) -> list[RelayRequested]:
    """The oldest waiting work that may get a nonce now, at most up to the limit of open slots."""
    room = max(0, in_flight_limit - len(state.slots))
    return list(islice(state.waiting.values(), room))


def unsent(state: LaneState) -> list[TransactionPrepared]:
    """The newest version of each open slot that no node has acknowledged, in nonce order."""
    return [
        slot.versions[-1]
        for slot in state.slots.values()
        if slot.inclusion is None and slot.versions[-1].tx_hash not in slot.broadcast
    ]


def unmined(state: LaneState) -> list[TransactionPrepared]:
    """The newest version of each open slot that no block holds, in nonce order."""
    return [slot.versions[-1] for slot in state.slots.values() if slot.inclusion is None]


def in_question(state: LaneState, chain_nonce: int) -> list[str]:
    """Hashes whose receipts tell the lane something: the chain has spent their nonces."""
    return [
        version.tx_hash
        for slot in state.slots.values()
        if slot.nonce < chain_nonce or slot.inclusion is not None
        for version in slot.versions
    ]


def lags(state: LaneState, view: ChainView) -> bool:
    """True when the node is behind what the log has seen final: nothing may be concluded."""
    return view.final.number < state.final_block


def conclude(state: LaneState, view: ChainView) -> list[LaneFact]:
    """The facts that follow from one look at the chain. Empty from a node that lags."""
    if lags(state, view) or state.next_nonce is None or state.halted is not None:
        return []
    if view.final_nonce < state.floor and view.nonce < state.floor:
        return [_halt(state, view)]
    facts: list[LaneFact] = []
    for slot in state.slots.values():
        facts += _of_slot(state, slot, view)
    facts += [
        _nonce_taken(state, nonce, None, view) for nonce in range(state.next_nonce, view.nonce)
    ]
    return facts


def _halt(state: LaneState, view: ChainView) -> LaneHalted:
    return LaneHalted(
        chain_id=state.chain_id,
        wallet=state.wallet,
        reason=f"the chain counts {view.nonce} transactions of this wallet at block "
        f"{view.head.number}; the log holds final ones up to nonce {state.floor - 1}: the chain "
        "was reset, or these nodes serve another one",
        chain_nonce=view.nonce,
        log_nonce=state.floor,
    )


def _of_slot(state: LaneState, slot: Slot, view: ChainView) -> list[LaneFact]:
    facts: list[LaneFact] = []
    lane = {"chain_id": state.chain_id, "wallet": state.wallet}
    known = [view.receipts.get(version.tx_hash) for version in slot.versions]
    receipt = next((found for found in known if found is not None), None)
    asked = all(version.tx_hash in view.receipts for version in slot.versions)
    held = slot.inclusion
    if held is not None and asked and (receipt is None or receipt.block_hash != held.block_hash):
        facts.append(
            TransactionOrphaned(
                **lane,
                nonce=slot.nonce,
                relay=slot.relay,
                tx_hash=held.tx_hash,
                block_hash=held.block_hash,
            )
        )
        held = None
    if receipt is None:
        if asked and held is None and slot.nonce < view.final_nonce:
            facts.append(_nonce_taken(state, slot.nonce, slot.relay, view))
        return facts
    if held is None:
        facts.append(
            TransactionIncluded(
                **lane,
                nonce=slot.nonce,
                relay=slot.relay,
                tx_hash=receipt.tx_hash,
                block_number=receipt.block_number,
                block_hash=receipt.block_hash,
                succeeded=receipt.succeeded,
                gas_used=receipt.gas_used,
            )
        )
    if receipt.block_number <= view.final.number:
        facts.append(
            TransactionFinal(
                **lane,
                nonce=slot.nonce,
                relay=slot.relay,
                tx_hash=receipt.tx_hash,
                block_number=receipt.block_number,
                block_hash=receipt.block_hash,
                succeeded=receipt.succeeded,
            )
        )
    return facts


def _nonce_taken(state: LaneState, nonce: int, relay: str | None, view: ChainView) -> NonceTaken:
    return NonceTaken(
        chain_id=state.chain_id,
        wallet=state.wallet,
        nonce=nonce,
        relay=relay,
        block_number=view.final.number,
    )
