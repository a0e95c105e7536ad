"""What was asked of the policies' owner and what it answered: the fold. What it owes is in
`clearing_answers`.

1. Each draft has a ticket, and a ticket has one answer: cleared, or held. A held one may still be
   cleared, by operators; or its hold lapses, and the request asks anew under the next ticket.
2. Nothing is judged by a policy that the owner has not adopted in its own order, nor by an older
   one than the request's owner had read when it asked.
3. What is cleared counts at once, in the order of the log, whatever becomes of the request.
4. As in `sequences`: the owner folds what it appends at once and what others append when it reads
   it, so facts of the two give the same state in either order.

Time comes from outside and is on the log: `judged_at`, which never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.policy_rules import (
    UNTOLD,
    Told,
    asks_registry,
    fiat_ref,
)
from orchestrator.core.stages import Verdict
from orchestrator.core.windows import Entry, Windows
from schemas.policies import (
    AccountVerified,
    ClearanceRequested,
    HoldLapsed,
    PolicyAdopted,
    PolicyFact,
    PolicyRule,
    ReleaseRequested,
    RequestCleared,
    RequestHeld,
    TicketFact,
)


@dataclass(frozen=True, slots=True)
class Held:
    ask: ClearanceRequested
    hold: RequestHeld
    told: Told

    @property
    def seen(self) -> set[tuple[PolicyRule, str | None]]:
        """What its operators see."""
        return {(breach.rule, breach.scope) for breach in self.hold.breaches}

    @property
    def about_registry(self) -> bool:
        """The registry may come to say otherwise, and nobody else tells of it."""
        return any(breach.rule in _OF_REGISTRIES for breach in self.hold.breaches)


_OF_REGISTRIES = frozenset({PolicyRule.NOT_VERIFIED, PolicyRule.REGISTRY_UNASKED})


@dataclass(slots=True)
class Clearing:
    """The fold, changed in place. By request: `asked` wait for an answer, `verified` are the
    registry's answers for them, or its later one for those `held`, who wait for operators, time or
    a registry; `releasing` were approved by enough; `answered` is the newest ticket with an
    answer. `fiat_refs`: who was cleared under each.
    """

    adopted: dict[str, PolicyAdopted] = field(default_factory=dict)
    standing: PolicyAdopted | None = None
    asked: dict[str, ClearanceRequested] = field(default_factory=dict)
    verified: dict[str, AccountVerified] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    releasing: dict[str, ReleaseRequested] = field(default_factory=dict)
    answered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fiat_refs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    windows: Windows = field(default_factory=Windows)
    returning: dict[str, tuple[int, ClearanceRequested]] = field(default_factory=dict)
    """Whose hold lapsed, and when, until they ask anew."""
    final_blocks: dict[int, int] = field(default_factory=dict)
    """By chain, the newest block that a registry was asked at."""
    judged_at: int = 0


def number(ticket: str) -> tuple[int, ...]:
    """Tickets of a request in their order."""
    return tuple(int(part) for part in ticket.split("."))


def evolve(state: Clearing, fact: PolicyFact) -> Verdict:
    """Fold one fact. Nothing changes unless the verdict is APPLIED."""
    if isinstance(fact, PolicyAdopted):
        known = state.adopted.get(fact.order)
        if known is not None:
            return Verdict.REPEATED if known.agrees_with(fact) else Verdict.CONFLICT
        state.adopted[fact.order] = state.standing = fact
        return Verdict.APPLIED
    assert isinstance(fact, TicketFact)
    return _ticketed(state, fact)


def _ticketed(state: Clearing, fact: TicketFact) -> Verdict:
    key = fact.request_key
    match fact:
        case ClearanceRequested():
            return _asked(state, fact)
        case AccountVerified():
            if not expects(state, fact):
                return Verdict.REPEATED
            state.verified[key] = fact
            newest = state.final_blocks.get(fact.chain_id, 0)
            state.final_blocks[fact.chain_id] = max(newest, fact.block_number)
        case ReleaseRequested():
            if not _is_held(state, fact) or key in state.releasing:
                return Verdict.REPEATED
            state.releasing[key] = fact
        case RequestHeld():
            if not _waits(state, fact):
                return _late(state, fact)
            verified = state.verified.pop(key, None)
            state.held[key] = Held(state.asked.pop(key), fact, told_by(verified, fact))
            state.answered[key] = number(fact.ticket)
            state.judged_at = max(state.judged_at, fact.judged_at)
        case HoldLapsed():
            if not _is_held(state, fact):
                return _late(state, fact)
            state.returning[key] = fact.judged_at, state.held.pop(key).ask
            state.releasing.pop(key, None)
            state.verified.pop(key, None)
            state.judged_at = max(state.judged_at, fact.judged_at)
        case RequestCleared():
            return _cleared(state, fact)
    return Verdict.APPLIED


def told_by(answer: AccountVerified | None, hold: RequestHeld | None = None) -> Told:
    """By the registry; where it was not asked, why not, as the hold says."""
    if answer is not None:
        return Told(answer.verified, answer.detail)
    for breach in () if hold is None else hold.breaches:
        if breach.rule is PolicyRule.REGISTRY_UNASKED:
            return Told(None, breach.detail)
    return UNTOLD


def expects(state: Clearing, fact: AccountVerified) -> bool:
    """Whether this answer is one that is waited for."""
    if fact.later:
        return _is_held(state, fact) and fact.request_key not in state.verified
    return _waits(state, fact)


def _asked(state: Clearing, fact: ClearanceRequested) -> Verdict:
    key, ticket = fact.request_key, number(fact.ticket)
    if state.answered.get(key, ()) >= ticket:
        return Verdict.REPEATED
    known = state.asked.get(key)
    if known is not None and number(known.ticket) >= ticket:
        same = known.ticket != fact.ticket or known.agrees_with(fact)
        return Verdict.REPEATED if same else Verdict.CONFLICT
    _let_go(state, key)
    state.asked[key] = fact
    return Verdict.APPLIED


def _let_go(state: Clearing, key: str) -> None:
    state.asked.pop(key, None)
    state.verified.pop(key, None)
    state.held.pop(key, None)
    state.releasing.pop(key, None)
    state.returning.pop(key, None)


def _waits(state: Clearing, fact: TicketFact) -> bool:
    asked = state.asked.get(fact.request_key)
    return asked is not None and asked.ticket == fact.ticket


def _is_held(state: Clearing, fact: TicketFact) -> bool:
    held = state.held.get(fact.request_key)
    return held is not None and held.ask.ticket == fact.ticket


def _late(state: Clearing, fact: TicketFact) -> Verdict:
    """The request asked anew before the owner had read it: it answers a question of before."""
    newest = state.asked.get(fact.request_key)
    newer = newest is not None and number(newest.ticket) > number(fact.ticket)
    answered = state.answered.get(fact.request_key, ()) >= number(fact.ticket)
    return Verdict.REPEATED if newer or answered else Verdict.OUT_OF_ORDER


def _cleared(state: Clearing, fact: RequestCleared) -> Verdict:
    """It counts, also where the request asked anew before the owner had read it."""
    key, ticket = fact.request_key, number(fact.ticket)
    if not _is_held(state, fact) and state.answered.get(key, ()) >= ticket:
        return Verdict.REPEATED
    newest = state.asked.get(key)
    if newest is None or number(newest.ticket) <= ticket:
        _let_go(state, key)
    state.answered[key] = ticket
    state.judged_at = max(state.judged_at, fact.judged_at)
    state.windows.add(key, Entry(state.judged_at, fact.account, fact.chain_id, fact.amount))
    reference = fiat_ref(fact.fiat_ref)
    if reference:
        use(state.fiat_refs, reference, key)
    return Verdict.APPLIED


def use(fiat_refs: dict[str, tuple[str, ...]], reference: str, key: str) -> None:
    """Several may have used it: a policy of before may have allowed that."""
    used_by = fiat_refs.get(reference, ())
    if key not in used_by:
        fiat_refs[reference] = (*used_by, key)


def questions(state: Clearing) -> list[ClearanceRequested]:
    """Whom a registry must be asked about before they can be answered."""
    policy = state.standing
    if policy is None:
        return []
    return [
        ask
        for key, ask in state.asked.items()
        if key not in state.verified and asks_registry(policy.policy, ask)
    ]


def doubtful(state: Clearing) -> list[Held]:
    """Whom a registry is asked about once more while they are held, the oldest hold first: its
    keeper may verify them, and it may answer again."""
    policy = state.standing
    if policy is None:
        return []
    return [
        held
        for key, held in state.held.items()
        if key not in state.verified
        and held.about_registry
        and held.hold.version == policy.version
        and asks_registry(policy.policy, held.ask)
    ]
