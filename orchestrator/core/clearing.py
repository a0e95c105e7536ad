"""What was asked of the policies' owner and what it answered: the fold, and what it owes.

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

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.core.policy_rules import (
    Question,
    approvals_needed,
    asks_registry,
    breaches,
    ends_by_itself,
    fiat_ref,
)
from orchestrator.core.stages import Verdict
from orchestrator.core.windows import Entry, Scope, Sum, Windows
from schemas.policies import (
    AccountVerified,
    Breach,
    ClearanceRequested,
    HoldLapsed,
    LapseReason,
    Per,
    Policy,
    PolicyAdopted,
    PolicyFact,
    ReleaseRequested,
    RequestCleared,
    RequestHeld,
    TicketFact,
    Window,
)

AT_ONCE = 500
"""Questions answered in one transaction at most."""

RETURNING_SECONDS = 60
"""So long room is kept for a request whose hold lapsed; it may have been given up meanwhile."""


@dataclass(frozen=True, slots=True)
class Held:
    ask: ClearanceRequested
    hold: RequestHeld
    verified: bool | None


@dataclass(slots=True)
class Clearing:
    """The fold, changed in place. By request: `asked` wait for an answer, `verified` are the
    registry's answers for them, `held` wait for operators or time, `releasing` were approved by
    enough; `answered` is the newest ticket with an answer. `fiat_refs`: who was cleared under each.
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
            if not _waits(state, fact):
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
            known = None if verified is None else verified.verified
            state.held[key] = Held(state.asked.pop(key), fact, known)
            state.answered[key] = number(fact.ticket)
            state.judged_at = max(state.judged_at, fact.judged_at)
        case HoldLapsed():
            if not _is_held(state, fact):
                return _late(state, fact)
            state.returning[key] = fact.judged_at, state.held.pop(key).ask
            state.releasing.pop(key, None)
            state.judged_at = max(state.judged_at, fact.judged_at)
        case RequestCleared():
            return _cleared(state, fact)
    return Verdict.APPLIED


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
        _use(state.fiat_refs, reference, key)
    return Verdict.APPLIED


def _use(fiat_refs: dict[str, tuple[str, ...]], reference: str, key: str) -> None:
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


@dataclass(slots=True)
class Trial:
    """What the answers of one transaction add up to before they are folded."""

    state: Clearing
    now: int
    sums: dict[Scope, Sum] = field(default_factory=dict)
    fiat_refs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def breaches(self, policy: Policy, ask: ClearanceRequested, seen: bool | None) -> list[Breach]:
        def used(window: Window, scope: Scope) -> Sum:
            before = self.state.windows.used(window, scope, self.now, ask.request_key)
            here = self.sums.get(scope, Sum(0, 0))
            return Sum(before.mints + here.mints, before.amount + here.amount)

        def used_by(reference: str) -> tuple[str, ...]:
            before = self.state.fiat_refs.get(reference, ())
            return before + self.fiat_refs.get(reference, ())

        windows = self.state.windows
        return breaches(policy, Question(ask, self.now, seen, used, windows, used_by))

    def count(self, ask: ClearanceRequested) -> None:
        entry = Entry(self.now, ask.account, ask.chain_id, ask.amount)
        for per in Per:
            known = self.sums.get(entry.scope(per), Sum(0, 0))
            self.sums[entry.scope(per)] = Sum(known.mints + 1, known.amount + ask.amount)
        reference = fiat_ref(ask.fiat_ref)
        if reference:
            _use(self.fiat_refs, reference, ask.request_key)


def due(state: Clearing, now: int) -> list[PolicyFact]:
    """What the owner owes at this time (Unix seconds): lapses, releases and answers, the oldest
    first, each judged with what stands before it in the same list."""
    policy = state.standing
    if policy is None:
        return []
    trial = Trial(state, max(now, state.judged_at))
    found = [*_lapses(trial, policy), *_releases(trial, policy), *_answers(trial, policy)]
    return found


def _answers(trial: Trial, standing: PolicyAdopted) -> Iterator[PolicyFact]:
    state, policy = trial.state, standing.policy
    ready = [
        (ask, state.verified.get(key))
        for key, ask in state.asked.items()
        if ask.order in state.adopted and (key in state.verified or not asks_registry(policy, ask))
    ]
    for ask, answer in ready[:AT_ONCE]:
        found = trial.breaches(policy, ask, None if answer is None else answer.verified)
        if not found:
            trial.count(ask)
            yield _clearance(trial, standing, ask)
            continue
        yield RequestHeld(
            request_key=ask.request_key,
            ticket=ask.ticket,
            version=standing.version,
            judged_at=trial.now,
            breaches=tuple(found),
            approvals_needed=approvals_needed(policy, ask.amount, found),
            until=ends_by_itself(found),
        )


def _clearance(
    trial: Trial, standing: PolicyAdopted, ask: ClearanceRequested, by: tuple[str, ...] = ()
) -> RequestCleared:
    return RequestCleared(
        request_key=ask.request_key,
        ticket=ask.ticket,
        chain_id=ask.chain_id,
        account=ask.account,
        amount=ask.amount,
        fiat_ref=ask.fiat_ref,
        version=standing.version,
        judged_at=trial.now,
        approved_by=by,
    )


def _lapses(trial: Trial, standing: PolicyAdopted) -> Iterator[PolicyFact]:
    """A hold under another policy; and one that may end by itself, once all of it is over: judged
    in a trial of its own, so that no more are sent to ask than find room; those who were sent
    lately count in it."""
    fitting = Trial(trial.state, trial.now)
    for since, ask in trial.state.returning.values():
        if trial.now < since + RETURNING_SECONDS:
            fitting.count(ask)
    for key, held in list(trial.state.held.items()):
        if held.hold.version != standing.version:
            yield _lapse(trial, key, held, LapseReason.POLICY_CHANGED)
            continue
        until = held.hold.until
        if until is None or until > trial.now or key in trial.state.releasing:
            continue
        if not fitting.breaches(standing.policy, held.ask, held.verified):
            fitting.count(held.ask)
            yield _lapse(trial, key, held, LapseReason.TIME_PASSED)


def _lapse(trial: Trial, key: str, held: Held, reason: LapseReason) -> HoldLapsed:
    return HoldLapsed(request_key=key, ticket=held.ask.ticket, reason=reason, judged_at=trial.now)


def _releases(trial: Trial, standing: PolicyAdopted) -> Iterator[PolicyFact]:
    """What enough operators approved; unless it breaches by now what none of them has seen."""
    for key, release in list(trial.state.releasing.items()):
        held = trial.state.held[key]
        needed = held.hold.approvals_needed
        if held.hold.version != standing.version or not 0 < needed <= len(release.approved_by):
            continue
        seen = {(breach.rule, breach.scope) for breach in held.hold.breaches}
        now = trial.breaches(standing.policy, held.ask, held.verified)
        if {(breach.rule, breach.scope) for breach in now} <= seen:
            trial.count(held.ask)
            yield _clearance(trial, standing, held.ask, release.approved_by)
        else:
            yield _lapse(trial, key, held, LapseReason.OTHERWISE_BREACHED)


def next_moment(state: Clearing) -> int | None:
    """When the next hold may end by itself (Unix seconds)."""
    moments = [held.hold.until for held in state.held.values() if held.hold.until is not None]
    return min(moments, default=None)
