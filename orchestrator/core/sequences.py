"""Approval nonces of a chain whose contract wants them in order: the fold of its sequences.

1. A nonce is granted to one attempt at a time. It is granted anew only after a final block proved
   that the approval it was granted for can never execute, and the nonce is unused there.
2. Whoever is granted a nonce gets the lowest free one, so that holes close first.
3. A mint on chain settles its nonce, whoever approved it: by its id it settles a request too.

4. What may still execute is a predicate, no memory: granted, not freed, not used, not minted.
5. The owner folds what it appends at once, and what others append when it reads it: on the log
   theirs may stand first. So the state is a function of the owner's facts in their order and of
   the others' in theirs, however the two are interleaved: each field comes of one of them alone,
   or is such a predicate over both.

When a reorganisation beyond the depth takes a mint back, what it had ended may execute again. A
nonce that was granted to another meanwhile then has two holders, and a request may have two nonces.
Neither gives way; the nonce is granted to a third, and the request a third, only when all are over.
That is safe: a contract takes a nonce once and an id once, so one of two executes, and its mint
ends the other. And every request ends: the loser's lane proves that the nonce is used, or its
deadline passes; it asks again. What a count said before the owner knew of the retraction may rest
on the branch that is gone: it holds no more, and the chain is asked anew.

`Sequences` is changed in place by `evolve`, as a lane is; only a fact changes it. What follows
from it stands in `granting.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

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

_Key = TypeVar("_Key")


@dataclass(slots=True)
class Sequence:
    """One recipient's nonces. `used` is one more than the highest nonce of a mint that was seen,
    `retractions` how many were taken back, `counted` the chain's newest answer. `grants` are all,
    oldest first; `held` those that may still execute, by nonce and id."""

    counted: NoncesCounted | None = None
    used: int = 0
    retractions: int = 0
    grants: list[NonceGranted] = field(default_factory=list)
    held: dict[int, dict[str, NonceGranted]] = field(default_factory=dict)

    @property
    def floor(self) -> int | None:
        """All nonces below are used on chain, at final depth. None before the chain was asked, and
        after a mint was taken back until it is asked again."""
        if self.counted is None or self.counted.retractions_known < self.retractions:
            return None
        return max(self.counted.count, self.used)

    @property
    def lowest(self) -> int:
        """No approval of a nonce below can execute, for all that is known."""
        floor = self.floor
        return self.used if floor is None else floor

    def free(self) -> Iterator[int]:
        """Nonces that nobody holds, the lowest first; without an end."""
        return (nonce for nonce in count(self.lowest) if nonce not in self.held)


@dataclass(slots=True)
class Sequences:
    """One chain, folded.

    `waiting` are the attempts without a nonce, `live` the grants that may still execute (by id),
    both by request; `freed` those that ended unused. `names` tells the request behind an id,
    `homes` its recipient, `minted` where the id was minted. What is owed: `attributable` and
    `untold` mints, `detached` ones that were taken back, `misnamed` requests.
    """

    chain_id: int
    by_recipient: dict[str, Sequence] = field(default_factory=dict)
    waiting: dict[str, NonceRequested] = field(default_factory=dict)
    live: dict[str, dict[str, NonceGranted]] = field(default_factory=dict)
    granted: dict[str, NonceGranted] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
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
        """An empty one, not kept, where nothing is known: looking changes nothing."""
        return self.by_recipient.get(recipient) or Sequence()

    def opened(self, recipient: str) -> Sequence:
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
    state.homes[fact.contract_id] = fact.recipient
    state.waiting.pop(key, None)
    state.waiting[key] = fact
    seat = state.minted.get(fact.contract_id)
    if seat is not None and seat not in state.attributed:
        state.attributable[seat] = key
    return Verdict.APPLIED


def _counted(state: Sequences, fact: NoncesCounted) -> Verdict:
    """The newest answer holds, also one of fewer: what was counted before may have been taken back
    before anyone saw it. Newest is who knew of more retractions, then the later block."""
    sequence = state.of(fact.recipient)
    known = sequence.counted
    if known is not None:
        told, before = _rank(fact), _rank(known)
        if told < before or (told == before and fact.count == known.count):
            return Verdict.REPEATED
    state.opened(fact.recipient).counted = fact
    state.counted_block = max(state.counted_block, fact.block_number)
    _weigh(state, state.of(fact.recipient).grants)
    return Verdict.APPLIED


def _rank(fact: NoncesCounted) -> tuple[int, int]:
    return fact.retractions_known, fact.block_number


def _weigh(state: Sequences, grants: Iterable[NonceGranted]) -> None:
    """Hold those that may execute, and no others."""
    for grant in grants:
        unused = grant.nonce >= state.of(grant.recipient).lowest
        if unused and grant.contract_id not in state.minted and grant.id not in state.freed:
            state.of(grant.recipient).held.setdefault(grant.nonce, {})[grant.id] = grant
            state.live.setdefault(grant.request_key, {})[grant.id] = grant
        else:
            _let_go(state.of(grant.recipient).held, grant.nonce, grant)
            _let_go(state.live, grant.request_key, grant)


def _let_go(held: dict[_Key, dict[str, NonceGranted]], key: _Key, grant: NonceGranted) -> None:
    if key in held:
        held[key].pop(grant.id, None)
        if not held[key]:
            del held[key]


def _granted(state: Sequences, fact: NonceGranted) -> Verdict:
    """A grant that a mint overtook, of this nonce or of this request, is granted and over. One
    beside another that may execute is refused, unless a retraction can have revived the other."""
    known = state.granted.get(fact.id)
    if known is not None:
        return Verdict.REPEATED if known.agrees_with(fact) else Verdict.CONFLICT
    sequence = state.of(fact.recipient)
    if sequence.counted is None or sequence.used <= fact.nonce < sequence.lowest:
        return Verdict.OUT_OF_ORDER
    if not state.gone and (fact.nonce in sequence.held or fact.request_key in state.live):
        return Verdict.OUT_OF_ORDER
    state.granted[fact.id] = fact
    sequence.grants.append(fact)
    _weigh(state, [fact])
    asked = state.waiting.get(fact.request_key)
    if asked is not None and asked.attempt <= fact.attempt:
        del state.waiting[fact.request_key]
    return Verdict.APPLIED


def _freed(state: Sequences, fact: NonceFreed) -> Verdict:
    """Whatever else has ended it, on the log perhaps before: it stays ended."""
    grant = state.granted.get(f"granted:{fact.request_key}:{fact.attempt}")
    if grant is None or grant.id in state.freed:
        return Verdict.REPEATED
    state.freed.add(grant.id)
    _weigh(state, [grant])
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
        _weigh(state, list(state.live.get(named, {}).values()))
    sequence = state.opened(fact.recipient)
    sequence.used = max(sequence.used, fact.nonce + 1)
    used = [grants for nonce, grants in sequence.held.items() if nonce < sequence.lowest]
    for grants in used:
        _weigh(state, list(grants.values()))
    return Verdict.APPLIED


def _retracted(state: Sequences, fact: MintRetracted) -> Verdict:
    """The nonce is unused again, and so the approvals that the mint had ended live again."""
    if fact.seat in state.gone:
        return Verdict.REPEATED
    state.gone.add(fact.seat)
    mint = state.mints.pop(fact.seat, None)
    if mint is None:
        return Verdict.APPLIED
    if state.minted.get(mint.contract_id) == fact.seat:
        del state.minted[mint.contract_id]
    state.untold.pop(fact.seat, None)
    state.attributable.pop(fact.seat, None)
    key = state.attributed.get(fact.seat)
    if key is not None:
        _detach(state, fact, key)
    sequence = state.of(mint.recipient)
    sequence.used = min(sequence.used, mint.nonce)
    sequence.retractions += 1
    _weigh(state, sequence.grants)
    elsewhere = state.homes.get(mint.contract_id, mint.recipient)
    if elsewhere != mint.recipient:
        _weigh(state, state.of(elsewhere).grants)
    return Verdict.APPLIED


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
