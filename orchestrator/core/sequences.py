"""Approval nonces of a chain whose contract wants them in order: the fold of its sequences.

1. A nonce is granted to one attempt at a time. It is granted anew only after a final block proved
   that the approval it was granted for can never execute, and the nonce is unused there.
2. Whoever is granted a nonce gets the lowest free one, so that holes close first.
3. A mint on chain settles its nonce, whoever approved it: by its id it settles a request too.

4. The owner folds what it appends at once, and what others append when it reads it: on the log
   theirs may stand first. So facts of the two give the same state in either order.

`Sequences` is changed in place by `evolve`, as a lane is; only a fact changes it. `due` is what the
fold owes, from the log alone; `questions` what only the chain can tell, `conclude` what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from orchestrator.core.chain import Head
from orchestrator.core.stages import Verdict
from schemas.sequences import (
    AttributionRetracted,
    MintAttributed,
    MintRetracted,
    MintSeen,
    MintUnattributed,
    NameRefused,
    NonceFreed,
    NonceGranted,
    NonceRequested,
    NoncesCounted,
    SequenceFact,
)


@dataclass(slots=True)
class Sequence:
    """One recipient's nonces. Below `floor` all are used on chain, at final depth; None before the
    chain was asked. `used` is one more than the highest nonce of a mint that was seen. `held` are
    the live grants by nonce."""

    floor: int | None = None
    used: int = 0
    held: dict[int, NonceGranted] = field(default_factory=dict)

    def free(self) -> Iterator[int]:
        """Nonces that nobody holds, the lowest first; without an end."""
        return (nonce for nonce in count(self.floor or 0) if nonce not in self.held)


@dataclass(slots=True)
class Sequences:
    """One chain, folded.

    `waiting` are the attempts without a nonce, `live` the grants that may still be used, both by
    request; `freed` those that ended unused. `names` tells the request behind an id, `minted` where
    an id was minted. What is owed: `attributable` and `untold` mints, `detached` ones that were
    taken back, `misnamed` requests.
    """

    chain_id: int
    by_recipient: dict[str, Sequence] = field(default_factory=dict)
    waiting: dict[str, NonceRequested] = field(default_factory=dict)
    live: dict[str, NonceGranted] = field(default_factory=dict)
    granted: dict[str, NonceGranted] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    mints: dict[str, MintSeen] = field(default_factory=dict)
    minted: dict[str, str] = field(default_factory=dict)
    attributed: dict[str, str] = field(default_factory=dict)
    attributable: dict[str, str] = field(default_factory=dict)
    untold: dict[str, None] = field(default_factory=dict)
    detached: dict[str, AttributionRetracted] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    misnamed: dict[str, NameRefused] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    counted_block: int = 0

    @property
    def unserved(self) -> int:
        """How many wait for a nonce: what is minted needs none, unless its mint is taken back."""
        return sum(asked.contract_id not in self.minted for asked in self.waiting.values())

    def of(self, recipient: str) -> Sequence:
        return self.by_recipient.setdefault(recipient, Sequence())


def evolve(state: Sequences, fact: SequenceFact) -> Verdict:
    """Fold one fact of this chain's sequences. Nothing changes unless the verdict is APPLIED."""
    match fact:
        case NonceRequested():
            return _requested(state, fact)
        case NoncesCounted():
            return _counted(state, fact)
        case NonceGranted():
            return _granted(state, fact)
        case NonceFreed():
            return _freed(state, fact)
        case MintSeen():
            return _seen(state, fact)
        case MintRetracted():
            return _retracted(state, fact)
    return _told(state, fact)


def _requested(state: Sequences, fact: NonceRequested) -> Verdict:
    key = fact.request_key
    if f"granted:{key}:{fact.attempt}" in state.granted or key in state.refused:
        return Verdict.REPEATED
    held = state.waiting.get(key)
    if held is not None and held.attempt >= fact.attempt:
        same = held.attempt > fact.attempt or held.agrees_with(fact)
        return Verdict.REPEATED if same else Verdict.CONFLICT
    named = state.names.setdefault(fact.contract_id, key)
    if named != key:
        state.misnamed[key] = NameRefused(
            chain_id=fact.chain_id,
            recipient=fact.recipient,
            request_key=key,
            contract_id=fact.contract_id,
            named=named,
        )
        return Verdict.APPLIED
    state.waiting.pop(key, None)
    state.waiting[key] = fact
    seat = state.minted.get(fact.contract_id)
    if seat is not None and seat not in state.attributed:
        state.attributable[seat] = key
    return Verdict.APPLIED


def _counted(state: Sequences, fact: NoncesCounted) -> Verdict:
    sequence = state.of(fact.recipient)
    state.counted_block = max(state.counted_block, fact.block_number)
    if sequence.floor is not None and fact.count <= sequence.floor:
        return Verdict.REPEATED
    _used_below(state, sequence, max(fact.count, sequence.used))
    return Verdict.APPLIED


def _used_below(state: Sequences, sequence: Sequence, floor: int) -> None:
    sequence.floor = floor
    for nonce in [nonce for nonce in sequence.held if nonce < floor]:
        _let_go(state, sequence, nonce)


def _let_go(state: Sequences, sequence: Sequence, nonce: int) -> None:
    grant = sequence.held.pop(nonce)
    if state.live.get(grant.request_key) is grant:
        del state.live[grant.request_key]


def _granted(state: Sequences, fact: NonceGranted) -> Verdict:
    """A grant that a mint overtook, of this nonce or of this request, is granted and over."""
    known = state.granted.get(fact.id)
    if known is not None:
        return Verdict.REPEATED if known.agrees_with(fact) else Verdict.CONFLICT
    sequence = state.of(fact.recipient)
    if sequence.floor is None or sequence.used <= fact.nonce < sequence.floor:
        return Verdict.OUT_OF_ORDER
    if fact.nonce in sequence.held or fact.request_key in state.live:
        return Verdict.OUT_OF_ORDER
    state.granted[fact.id] = fact
    if fact.nonce >= sequence.floor and fact.contract_id not in state.minted:
        _hold(state, sequence, fact)
    asked = state.waiting.get(fact.request_key)
    if asked is not None and asked.attempt <= fact.attempt:
        del state.waiting[fact.request_key]
    return Verdict.APPLIED


def _hold(state: Sequences, sequence: Sequence, grant: NonceGranted) -> None:
    sequence.held[grant.nonce] = grant
    state.live[grant.request_key] = grant


def _freed(state: Sequences, fact: NonceFreed) -> Verdict:
    sequence = state.of(fact.recipient)
    held = sequence.held.get(fact.nonce)
    if held is None or (held.request_key, held.attempt) != (fact.request_key, fact.attempt):
        return Verdict.REPEATED
    state.freed.add(held.id)
    _let_go(state, sequence, fact.nonce)
    return Verdict.APPLIED


def _seen(state: Sequences, fact: MintSeen) -> Verdict:
    """Also the end of a grant of the same request under another nonce: processed is processed."""
    known = state.mints.get(fact.seat)
    if known is not None or fact.seat in state.gone:
        same = known is None or known.agrees_with(fact)
        return Verdict.REPEATED if same else Verdict.CONFLICT
    state.mints[fact.seat] = fact
    state.minted[fact.contract_id] = fact.seat
    named = state.names.get(fact.contract_id)
    if named is None:
        state.untold[fact.seat] = None
    else:
        state.attributable[fact.seat] = named
        other = state.live.get(named)
        if other is not None:
            _let_go(state, state.of(other.recipient), other.nonce)
    sequence = state.of(fact.recipient)
    sequence.used = max(sequence.used, fact.nonce + 1)
    if sequence.floor is not None and fact.nonce >= sequence.floor:
        _used_below(state, sequence, fact.nonce + 1)
    return Verdict.APPLIED


def _retracted(state: Sequences, fact: MintRetracted) -> Verdict:
    """The nonce is unused again, and so the approvals that the mint had ended live again."""
    if fact.seat in state.gone:
        return Verdict.REPEATED
    state.gone.add(fact.seat)
    mint = state.mints.pop(fact.seat, None)
    if mint is None:
        return Verdict.APPLIED
    state.minted.pop(mint.contract_id, None)
    state.untold.pop(fact.seat, None)
    state.attributable.pop(fact.seat, None)
    key = state.attributed.get(fact.seat)
    if key is not None:
        _detach(state, fact, key)
    sequence = state.of(mint.recipient)
    sequence.used = min(sequence.used, mint.nonce)
    if sequence.floor is not None and mint.nonce < sequence.floor:
        sequence.floor = mint.nonce
    _hold_again(state, sequence, mint)
    return Verdict.APPLIED


def _hold_again(state: Sequences, sequence: Sequence, mint: MintSeen) -> None:
    """The newest grants that the mint had ended: of its nonce, and of its request."""
    for grant in reversed(state.granted.values()):
        concerned = mint.nonce == grant.nonce or mint.contract_id == grant.contract_id
        if grant.recipient != mint.recipient or not concerned or grant.id in state.freed:
            continue
        unused = sequence.floor is not None and grant.nonce >= sequence.floor
        if unused and grant.nonce not in sequence.held and grant.request_key not in state.live:
            _hold(state, sequence, grant)


def _detach(state: Sequences, fact: MintAttributed | MintRetracted, key: str) -> None:
    state.detached[fact.seat] = AttributionRetracted(
        chain_id=fact.chain_id, recipient=fact.recipient, seat=fact.seat, request_key=key
    )


def _told(state: Sequences, fact: SequenceFact) -> Verdict:
    """What the owner said: it is owed no longer."""
    match fact:
        case MintAttributed():
            if fact.seat in state.attributed:
                return Verdict.REPEATED
            state.attributed[fact.seat] = fact.request_key
            if fact.seat in state.gone:
                _detach(state, fact, fact.request_key)
            state.attributable.pop(fact.seat, None)
            state.untold.pop(fact.seat, None)
        case MintUnattributed():
            if fact.seat not in state.untold:
                return Verdict.REPEATED
            del state.untold[fact.seat]
        case AttributionRetracted():
            if fact.seat not in state.detached:
                return Verdict.REPEATED
            del state.detached[fact.seat]
        case NameRefused():
            if fact.request_key in state.refused:
                return Verdict.REPEATED
            state.refused.add(fact.request_key)
            state.misnamed.pop(fact.request_key, None)
        case _:
            return Verdict.OUT_OF_ORDER
    return Verdict.APPLIED


def due(state: Sequences) -> list[SequenceFact]:
    """What the owner owes now, from the log alone."""
    facts: list[SequenceFact] = [*state.misnamed.values(), *state.detached.values()]
    for seat, key in state.attributable.items():
        facts.append(_attributed(state.mints[seat], key))
    for seat in state.untold:
        mint = state.mints[seat]
        if seat not in state.attributable:
            facts.append(
                MintUnattributed(
                    chain_id=mint.chain_id,
                    recipient=mint.recipient,
                    seat=seat,
                    contract_id=mint.contract_id,
                )
            )
    return facts + _grants(state)


def _attributed(mint: MintSeen, request_key: str) -> MintAttributed:
    return MintAttributed(
        chain_id=mint.chain_id,
        recipient=mint.recipient,
        seat=mint.seat,
        request_key=request_key,
        amount=mint.amount,
        tx_hash=mint.tx_hash,
        block_number=mint.block_number,
        block_hash=mint.block_hash,
        log_index=mint.log_index,
    )


def _grants(state: Sequences) -> list[SequenceFact]:
    """A nonce for each waiting attempt, in log order. None for a request whose earlier grant may
    still be used, for one that is minted already, and before the chain was asked for the first."""
    facts: list[SequenceFact] = []
    free: dict[str, Iterator[int]] = {}
    for asked in state.waiting.values():
        sequence = state.of(asked.recipient)
        if sequence.floor is None or asked.request_key in state.live:
            continue
        if asked.contract_id in state.minted:
            continue
        nonces = free.setdefault(asked.recipient, sequence.free())
        facts.append(
            NonceGranted(
                chain_id=asked.chain_id,
                recipient=asked.recipient,
                request_key=asked.request_key,
                attempt=asked.attempt,
                contract_id=asked.contract_id,
                nonce=next(nonces),
                deadline=asked.deadline,
            )
        )
    return facts


def questions(state: Sequences, final_timestamp: int) -> list[str]:
    """Recipients whose count the chain must tell: of whom nothing is known, whose request comes
    back although its grant may still be used, and who hold what a final block has outlived."""
    asking: dict[str, None] = {}
    for asked in state.waiting.values():
        if state.of(asked.recipient).floor is None or asked.request_key in state.live:
            asking[asked.recipient] = None
    for grant in state.live.values():
        if final_timestamp > grant.deadline:
            asking[grant.recipient] = None
    return list(asking)


def conclude(state: Sequences, recipient: str, counted: int, final: Head) -> list[SequenceFact]:
    """What follows from the contract's `nonces(recipient)` at a final block. Nothing from a node
    that is behind what the log has seen.

    A grant whose deadline is before this block's time and whose nonce is unused here was not
    executed up to it and cannot be after it: blocks grow no younger.
    """
    sequence = state.of(recipient)
    if sequence.floor is not None and counted < sequence.floor:
        return []
    facts: list[SequenceFact] = []
    if sequence.floor is None or counted > sequence.floor:
        facts.append(
            NoncesCounted(
                chain_id=state.chain_id,
                recipient=recipient,
                count=counted,
                block_number=final.number,
            )
        )
    for grant in sequence.held.values():
        if grant.nonce >= counted and final.timestamp > grant.deadline:
            facts.append(
                NonceFreed(
                    chain_id=state.chain_id,
                    recipient=recipient,
                    request_key=grant.request_key,
                    attempt=grant.attempt,
                    nonce=grant.nonce,
                    block_number=final.number,
                    block_timestamp=final.timestamp,
                )
            )
    return facts
