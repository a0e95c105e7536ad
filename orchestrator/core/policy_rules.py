"""Which rules of a policy a mint breaches, at a moment. Pure: one question has one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from orchestrator.core.windows import Scope, Sum, Windows, scope_of
from schemas.base import Amount
from schemas.policies import (
    NEVER_APPROVED,
    Breach,
    ClearanceRequested,
    Day,
    OnBreach,
    Per,
    Policy,
    PolicyRule,
    QuietHours,
    Window,
)

AHEAD_SECONDS = 300
"""So far ahead of us Kuro's clock may be; what is told from further in the future has no age."""

Used = Callable[[Window, Scope], Sum]


class Told(NamedTuple):
    """What a registry said: None where it was not asked, or could not be, which `detail` says."""

    verified: bool | None = None
    detail: str | None = None


UNTOLD = Told()


@dataclass(frozen=True, slots=True)
class Question:
    """`now` in Unix seconds. `told` is what the registry said. `used` says what counts in a window
    without this request; `used_by` who was cleared under a reference."""

    ask: ClearanceRequested
    now: int
    told: Told
    used: Used
    windows: Windows
    used_by: Callable[[str], tuple[str, ...]]


def breaches(policy: Policy, question: Question) -> list[Breach]:
    """Every rule that it breaches, so that whoever approves sees all of them."""
    found = [
        *_amount(policy, question.ask),
        *(breach for window in policy.windows for breach in _window(window, question)),
        *_lists(policy, question.ask),
        *_registry(policy, question),
        *_times(policy, question),
        *_fiat_ref(policy, question),
    ]
    return found


def approvals_needed(policy: Policy, amount: Amount, found: list[Breach]) -> int:
    """Distinct operators; 0 where no number of them is enough."""
    if any(breach.rule in NEVER_APPROVED for breach in found):
        return 0
    rule = policy.approvals
    return rule.operators if amount > rule.above_amount else rule.operators_up_to


def ends_by_itself(found: list[Breach]) -> int | None:
    """When all of it may be over without anybody (Unix seconds); None where that cannot be."""
    moments = [breach.until for breach in found]
    known = [moment for moment in moments if moment is not None]
    return max(known) if known and len(known) == len(moments) else None


def asks_registry(policy: Policy, ask: ClearanceRequested) -> bool:
    kyc = policy.kyc
    return kyc is not None and (not kyc.chain_ids or ask.chain_id in kyc.chain_ids)


def _amount(policy: Policy, ask: ClearanceRequested) -> list[Breach]:
    if policy.max_amount is None or ask.amount <= policy.max_amount:
        return []
    limit, value = str(policy.max_amount), str(ask.amount)
    return [Breach(rule=PolicyRule.REQUEST_AMOUNT, limit=limit, value=value)]


def _window(window: Window, question: Question) -> list[Breach]:
    """`value` is what the window would hold with this mint in it."""
    ask = question.ask
    if window.chain_ids and ask.chain_id not in window.chain_ids:
        return []
    scope = scope_of(window.per, ask.account, ask.chain_id)
    used = question.used(window, scope)
    after = Sum(used.mints + 1, used.amount + ask.amount)
    until = None
    if window.on_breach is OnBreach.WAIT:
        until = question.windows.room_at(window, scope, question.now, ask.amount)
    found = []
    for rule, limit, value in (
        (PolicyRule.WINDOW_AMOUNT, window.max_amount, after.amount),
        (PolicyRule.WINDOW_COUNT, window.max_count, after.mints),
    ):
        if limit is not None and value > limit:
            found.append(
                Breach(
                    rule=rule,
                    scope=_name(scope),
                    window_seconds=window.seconds,
                    limit=str(limit),
                    value=str(value),
                    until=None if until is None else max(until, question.now + 1),
                )
            )
    return found


def _name(scope: Scope) -> str:
    return " ".join(part for part in scope if part)


def _lists(policy: Policy, ask: ClearanceRequested) -> list[Breach]:
    account = ask.account.lower()
    found = []
    if account in _lowered(policy.deny):
        found.append(Breach(rule=PolicyRule.DENIED, limit="not on deny", value=ask.account))
    if policy.allow is not None and account not in _lowered(policy.allow):
        found.append(Breach(rule=PolicyRule.NOT_ALLOWED, limit="on allow", value=ask.account))
    return found


def _lowered(accounts: tuple[str, ...]) -> frozenset[str]:
    known = _LOWERED.get(accounts)
    if known is None:
        known = _LOWERED[accounts] = frozenset(account.lower() for account in accounts)
        if len(_LOWERED) > _LISTS_KEPT:
            del _LOWERED[next(iter(_LOWERED))]
    return known


_LISTS_KEPT = 4
_LOWERED: dict[tuple[str, ...], frozenset[str]] = {}


def _registry(policy: Policy, question: Question) -> list[Breach]:
    verified, detail = question.told
    if not asks_registry(policy, question.ask) or verified:
        return []
    unasked = verified is None and detail is not None
    rule = PolicyRule.REGISTRY_UNASKED if unasked else PolicyRule.NOT_VERIFIED
    return [Breach(rule=rule, limit="verified", value=question.ask.account, detail=detail)]


def _times(policy: Policy, question: Question) -> list[Breach]:
    found, now = [], question.now
    ends = [end for quiet in policy.quiet_hours if (end := quiet_until(quiet, now)) is not None]
    if ends:
        end = max(ends)
        told = datetime.fromtimestamp(now, UTC).strftime("%a %H:%M UTC")
        found.append(
            Breach(rule=PolicyRule.QUIET_HOURS, limit="no mints now", value=told, until=end)
        )
    longest = policy.kuro_max_age_seconds
    if longest is not None:
        told_at = question.ask.told_at_ms
        seconds = question.ask.received_seconds if told_at is None else told_at // 1000
        age = now - seconds
        if age > longest or age < -AHEAD_SECONDS:
            found.append(Breach(rule=PolicyRule.KURO_AGE, limit=str(longest), value=str(age)))
    return found


def quiet_until(quiet: QuietHours, now: int) -> int | None:
    """When these quiet hours end, if they are on now. They may have begun yesterday."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0)
    days = list(Day)
    for day in (today, today - timedelta(days=1)):
        begin = int(day.timestamp()) + quiet.start_minute * 60
        end = begin + quiet.minutes * 60
        if days[day.weekday()] in quiet.days and begin <= now < end:
            return end
    return None


def _fiat_ref(policy: Policy, question: Question) -> list[Breach]:
    if not policy.fiat_ref_once:
        return []
    reference = fiat_ref(question.ask.fiat_ref)
    if not reference:
        return [Breach(rule=PolicyRule.FIAT_REF_MISSING, limit="given", value="")]
    others = [key for key in question.used_by(reference) if key != question.ask.request_key]
    if not others:
        return []
    return [Breach(rule=PolicyRule.FIAT_REF_USED, limit="used once", value=others[0])]


def fiat_ref(text: str) -> str:
    """One spelling: a reference does not become another by a space around it or by its case."""
    return text.strip().casefold()


__all__ = ["Per", "Question", "approvals_needed", "asks_registry", "breaches", "ends_by_itself"]
