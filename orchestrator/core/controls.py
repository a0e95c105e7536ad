"""What operators ordered: which work is paused now, and by which order.

Pauses of different scopes stand beside each other. Work goes on only when no pause covers it: a
pause of everything is not lifted by resuming a chain, nor a chain's by resuming everything.

The conservation gate's pauses (`supply:<chain>`) name what they are about by their order's id. A
resumption lifts one when its own id names it (`settling`), and with it those before it: what came
after a person looked stays paused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.asking import InForce
from orchestrator.core.stages import Verdict
from schemas.base import Record
from schemas.controls import (
    EVERYTHING,
    SETTLING,
    OrderFact,
    WorkPaused,
    WorkResumed,
    chain_scope,
    request_scope,
    supply_scope,
    wallet_scope,
)
from schemas.policies import PolicyApplied

SUPPLY = supply_scope(0)[:-1]


@dataclass(frozen=True, slots=True)
class Pause:
    """`since` is when the order was appended. When a scope is paused again, the first pause stays:
    it tells since when."""

    scope: str
    order: str
    who: str
    why: str
    since: str

    @property
    def reason(self) -> str:
        return f"{self.scope} is paused by {self.who} since {self.since}: {self.why}"


@dataclass(slots=True)
class ControlState:
    """The fold of `controls`, changed in place. `pauses` by scope; `policy` is the one in
    force, None before the first, and `policies_before` are the versions of those before it;
    `orders` by their id; `settled` are the gate's pauses that a person settled, by their order's
    id."""

    pauses: dict[str, Pause] = field(default_factory=dict)
    policy: PolicyApplied | None = None
    policies_before: frozenset[str] = frozenset()
    orders: dict[str, OrderFact] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    unsettled: dict[str, list[Pause]] = field(default_factory=dict)
    """The gate's pauses by scope, in log order."""


def evolve(state: ControlState, record: Record) -> Verdict:
    """Fold one order. Nothing changes unless the verdict is APPLIED; an order that was given before
    with other content is a CONFLICT, and the first one counts."""
    fact = record.fact
    assert isinstance(fact, OrderFact)
    known = state.orders.get(fact.order)
    if known is not None:
        return Verdict.REPEATED if known.agrees_with(fact) else Verdict.CONFLICT
    state.orders[fact.order] = fact
    if isinstance(fact, WorkPaused):
        scope = canonical(fact.scope)
        pause = Pause(fact.scope, fact.order, fact.who, fact.why, record.at)
        state.pauses.setdefault(scope, pause)
        if scope.startswith(SUPPLY):
            state.unsettled.setdefault(scope, []).append(pause)
    elif isinstance(fact, WorkResumed) and fact.scope.startswith(SUPPLY):
        _settle(state, fact)
    elif isinstance(fact, WorkResumed):
        state.pauses.pop(canonical(fact.scope), None)
    elif isinstance(fact, PolicyApplied):
        if state.policy is not None:
            state.policies_before |= {state.policy.version}
        state.policy = fact
    return Verdict.APPLIED


def _settle(state: ControlState, fact: WorkResumed) -> None:
    """What the resumption names, and all before it; the next one stands then."""
    named = fact.order.removeprefix(SETTLING)
    standing = state.unsettled.get(fact.scope, [])
    places = [place for place, pause in enumerate(standing) if pause.order == named]
    if named == fact.order or not places:
        return
    state.settled.update(pause.order for pause in standing[: places[0] + 1])
    del standing[: places[0] + 1]
    state.pauses.pop(fact.scope, None)
    if standing:
        state.pauses[fact.scope] = standing[0]


def in_force(state: ControlState) -> InForce | None:
    """None where no mint is to be asked about."""
    applied = state.policy
    if applied is None or not applied.policy.rules:
        return None
    return InForce(applied.order, applied.version, state.policies_before)


def canonical(scope: str) -> str:
    """One spelling: an address is the same in upper and lower case, a request's key is not."""
    return scope.lower() if scope.startswith("wallet:") else scope


def covering(
    state: ControlState,
    chain_id: int | None = None,
    wallet: str | None = None,
    request_key: str | None = None,
) -> Pause | None:
    """The widest pause that covers this work; None when it may go on. A wallet needs its chain."""
    if not state.pauses:
        return None
    scopes = [EVERYTHING]
    if chain_id is not None:
        scopes += [chain_scope(chain_id), supply_scope(chain_id)]
        if wallet is not None:
            scopes.append(canonical(wallet_scope(chain_id, wallet)))
    if request_key is not None:
        scopes.append(request_scope(request_key))
    return next((state.pauses[scope] for scope in scopes if scope in state.pauses), None)
