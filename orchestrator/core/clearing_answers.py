"""What the owner of the policies owes: answers, releases and lapses, each judged with what stands
before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestrator.core.clearing import Clearing, Held, told_by, use
from orchestrator.core.policy_rules import (
    Question,
    Told,
    approvals_needed,
    asks_registry,
    breaches,
    ends_by_itself,
    fiat_ref,
)
from orchestrator.core.windows import Entry, Scope, Sum
from schemas.policies import (
    Breach,
    ClearanceRequested,
    HoldLapsed,
    LapseReason,
    Per,
    Policy,
    PolicyAdopted,
    PolicyFact,
    PolicyRule,
    RequestCleared,
    RequestHeld,
    Window,
)

AT_ONCE = 500
"""Questions answered in one transaction at most."""

NONE: Mapping[int, str] = MappingProxyType({})

RETURNING_SECONDS = 60
"""So long room is kept for a request whose hold lapsed; it may have been given up meanwhile."""


@dataclass(slots=True)
class Trial:
    """What the answers of one transaction add up to before they are folded."""

    state: Clearing
    now: int
    unasked: Mapping[int, str] = field(default_factory=dict)
    sums: dict[Scope, Sum] = field(default_factory=dict)
    fiat_refs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def breaches(self, policy: Policy, ask: ClearanceRequested, told: Told) -> list[Breach]:
        def used(window: Window, scope: Scope) -> Sum:
            before = self.state.windows.used(window, scope, self.now, ask.request_key)
            here = self.sums.get(scope, Sum(0, 0))
            return Sum(before.mints + here.mints, before.amount + here.amount)

        def used_by(reference: str) -> tuple[str, ...]:
            before = self.state.fiat_refs.get(reference, ())
            return before + self.fiat_refs.get(reference, ())

        windows = self.state.windows
        return breaches(policy, Question(ask, self.now, told, used, windows, used_by))

    def count(self, ask: ClearanceRequested) -> None:
        entry = Entry(self.now, ask.account, ask.chain_id, ask.amount)
        for per in Per:
            known = self.sums.get(entry.scope(per), Sum(0, 0))
            self.sums[entry.scope(per)] = Sum(known.mints + 1, known.amount + ask.amount)
        reference = fiat_ref(ask.fiat_ref)
        if reference:
            use(self.fiat_refs, reference, ask.request_key)


def due(state: Clearing, now: int, unasked: Mapping[int, str] = NONE) -> list[PolicyFact]:
    """What the owner owes at this time (Unix seconds): lapses, releases and answers, the oldest
    first, each judged with what stands before it in the same list. `unasked`: by chain, why its
    registry cannot be asked, where that is no longer waited for."""
    policy = state.standing
    if policy is None:
        return []
    trial = Trial(state, max(now, state.judged_at), unasked)
    found = [*_lapses(trial, policy), *_releases(trial, policy), *_answers(trial, policy)]
    return found


def _answers(trial: Trial, standing: PolicyAdopted) -> Iterator[PolicyFact]:
    state, policy = trial.state, standing.policy
    ready = [
        (ask, state.verified.get(key))
        for key, ask in state.asked.items()
        if ask.order in state.adopted
        and (
            key in state.verified or ask.chain_id in trial.unasked or not asks_registry(policy, ask)
        )
    ]
    for ask, answer in ready[:AT_ONCE]:
        told = told_by(answer) if answer else Told(None, trial.unasked.get(ask.chain_id))
        found = trial.breaches(policy, ask, told)
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
    """A hold under another policy; one that may end by itself, once all of it is over; and one
    about which its registry says otherwise by now, once nothing else stands against it, or when its
    operators have not seen what does. Judged in a trial of its own, so that no more are sent to ask
    than find room; those who were sent lately count in it."""
    fitting = Trial(trial.state, trial.now)
    for since, ask in trial.state.returning.values():
        if trial.now < since + RETURNING_SECONDS:
            fitting.count(ask)
    for key, held in list(trial.state.held.items()):
        if held.hold.version != standing.version:
            yield _lapse(trial, key, held, LapseReason.POLICY_CHANGED)
            continue
        until, answer = held.hold.until, trial.state.verified.get(key)
        over = until is not None and until <= trial.now
        if key in trial.state.releasing or not (over or answer is not None):
            continue
        told = held.told if answer is None else told_by(answer)
        found = fitting.breaches(standing.policy, held.ask, told)
        reason = LapseReason.TIME_PASSED if answer is None else LapseReason.REGISTRY_ANSWERED
        if not found:
            fitting.count(held.ask)
            yield _lapse(trial, key, held, reason)
        elif answer is not None and not _rules(found) <= held.seen:
            yield _lapse(trial, key, held, reason)


def _rules(found: list[Breach]) -> set[tuple[PolicyRule, str | None]]:
    return {(breach.rule, breach.scope) for breach in found}


def _lapse(trial: Trial, key: str, held: Held, reason: LapseReason) -> HoldLapsed:
    return HoldLapsed(request_key=key, ticket=held.ask.ticket, reason=reason, judged_at=trial.now)


def _releases(trial: Trial, standing: PolicyAdopted) -> Iterator[PolicyFact]:
    """What enough operators approved; unless it breaches by now what none of them has seen."""
    for key, release in list(trial.state.releasing.items()):
        held = trial.state.held[key]
        needed = held.hold.approvals_needed
        if held.hold.version != standing.version or not 0 < needed <= len(release.approved_by):
            continue
        answer = trial.state.verified.get(key)
        told = held.told if answer is None else told_by(answer)
        if _rules(trial.breaches(standing.policy, held.ask, told)) <= held.seen:
            trial.count(held.ask)
            yield _clearance(trial, standing, held.ask, release.approved_by)
        else:
            yield _lapse(trial, key, held, LapseReason.OTHERWISE_BREACHED)


def next_moment(state: Clearing) -> int | None:
    """When the next hold may end by itself (Unix seconds)."""
    moments = [held.hold.until for held in state.held.values() if held.hold.until is not None]
    return min(moments, default=None)
