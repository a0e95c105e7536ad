"""Policies in the simulation: every fifth seed has one, operators approve at random, and a witness
judges every clearance by rules of its own, from nothing but what the log shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.core.asking import cleared_by
from orchestrator.core.clearing import Clearing, evolve
from orchestrator.core.lifecycle import Stage
from schemas.base import Fact, Position, Record, UnreadableRecord, encode_value, instant
from schemas.controls import CancelOrdered
from schemas.policies import (
    NEVER_APPROVED,
    AccountVerified,
    Approvals,
    ApproveOrdered,
    Kyc,
    OnBreach,
    Per,
    Policy,
    PolicyAdopted,
    PolicyApplied,
    PolicyFact,
    PolicyRule,
    QuietHours,
    RequestCleared,
    RequestHeld,
    Window,
)
from schemas.requests import ApprovalDrafted, ApprovalSigned, DraftRecalled, RequestReceived
from schemas.topics import CONTROLS, TOPICS
from streams.controls import STALE_SECONDS
from tests.simulation.outside import HOLDERS, mint_message
from tests.simulation.overseer import APPENDING_SECONDS

if TYPE_CHECKING:
    from tests.simulation.broker import Entry
    from tests.simulation.chain import Chain
    from tests.simulation.load import Load
    from tests.simulation.worker import World

EVERY = 5
SIGNED_SECONDS = STALE_SECONDS + APPENDING_SECONDS
UNVERIFIED = HOLDERS[2]
OPERATORS = ("ann", "bob", "cleo", " Ann")
"""The first and the last are one person."""


def policy_of(seed: int) -> Policy | None:
    """What a seed's policy is. Its own draws: no other draw of the seed moves by it."""
    return drawn(Random(f"policy {seed}")) if seed % EVERY == 1 else None


def drawn(rng: Random) -> Policy:
    def maybe(chance: float, value: Any, otherwise: Any = None) -> Any:
        return value if rng.random() < chance else otherwise

    waits = rng.choice((OnBreach.HOLD, OnBreach.WAIT))
    windows = (
        Window(per=Per.USER, seconds=60, max_count=2, on_breach=waits),
        Window(per=Per.CHAIN, seconds=90, max_amount=1_500_000, on_breach=waits),
        Window(per=Per.ALL, seconds=600, max_count=6, max_amount=4_000_000),
    )
    quiet = (QuietHours(start="08:00", end="08:01"), QuietHours(start="08:01", end="08:02"))
    return Policy(
        max_amount=maybe(0.6, rng.choice((300_000, 800_000))),
        windows=tuple(rng.sample(windows, rng.randint(0, 3))),
        deny=maybe(0.3, (HOLDERS[1].lower(),), ()),
        allow=maybe(0.15, HOLDERS[:2]),
        kyc=maybe(0.3, Kyc()),
        quiet_hours=maybe(0.3, quiet[rng.randint(0, 1) :], ()),
        kuro_max_age_seconds=maybe(0.2, rng.choice((40, 3600))),
        fiat_ref_once=rng.random() < 0.6,
        approvals=Approvals(operators=rng.choice((2, 2, 3)), above_amount=rng.choice((0, 400_000))),
    )


class Policing:
    """Applies the policy, perhaps another one later, sends the twin of a payment, and gives
    approvals; when all is to settle, it approves what is held, and cancels what cannot be."""

    def __init__(self, world: World, policy: Policy | None, seed: int, load: Load) -> None:
        self._world = world
        self._policy = policy
        self._rng = Random(f"policing {seed}")
        self._load = load
        self._given = 0
        self._settling = False
        self._cancelled: set[str] = set()
        self.oracle = PolicyOracle(world)
        if policy is not None:
            world.broker.witnesses.append(self.oracle.witness)
            self.oracle.others = world.kms.on_start
            world.kms.on_start = self.oracle.asks_kms

    def start(self, until_seconds: float) -> None:
        if self._policy is None:
            return
        rng, loop = self._rng, self._world.loop
        loop.in_world(rng.uniform(0, 15), self.apply, self._policy)
        if rng.random() < 0.5:
            loop.in_world(rng.uniform(0.3, 0.9) * until_seconds, self.apply, drawn(rng))
        for number in range(rng.choice((0, 1, 2))):
            loop.in_world(rng.uniform(0.1, 0.8) * until_seconds, self._twin, number)
        loop.in_world(rng.uniform(1, 8), self._now_and_then)
        for chain in self._world.chains.values():
            if rng.random() < 0.5:
                begin = rng.uniform(0, 0.5) * until_seconds
                loop.in_world(begin, chain.registry.breaks, rng)
                loop.in_world(begin + rng.uniform(3, 40), self._mend, chain)
            if rng.random() < 0.3:
                when = rng.uniform(0.2, 1) * until_seconds
                loop.in_world(when, chain.registry.unverified.clear)
        for _ in range(rng.choice((0, 1, 3))):
            then = rng.choice((drawn(rng), self._policy, Policy(note="nothing is asked")))
            loop.in_world(rng.uniform(0.1, 0.9) * until_seconds, self.apply, then)

    @staticmethod
    def _mend(chain: Chain) -> None:
        chain.registry.broken = None

    def stop(self) -> None:
        if self._policy is not None:
            self._settling = True
            for chain in self._world.chains.values():
                self._mend(chain)
            self._settle()

    def apply(self, policy: Policy) -> None:
        self._give(PolicyApplied(**self._order("dora"), version=policy.version, policy=policy))

    def approve(self, who: str, key: str, ticket: str) -> None:
        self._give(ApproveOrdered(**self._order(who), request_key=key, ticket=ticket))

    def _order(self, who: str) -> dict[str, str]:
        self._given += 1
        return {"order": f"p-{self._given}", "who": who, "why": "by chance"}

    def _give(self, fact: Fact) -> None:
        self._world.story.tell(f"ORDERED {fact.kind}", id=fact.id)
        self._world.story.count("policy orders")
        self._append(fact)
        if not self._settling and self._rng.random() < 0.2:
            self._world.loop.in_world(self._rng.random() * 10, self._append, fact)

    def _append(self, fact: Fact) -> None:
        record = Record(fact, instant(self._world.loop.unix_seconds))
        self._world.broker.append([(CONTROLS, fact.key.encode(), encode_value(record))])

    def _twin(self, number: int) -> None:
        """Kuro allows a second mint for one payment."""
        allowed = self._world.oracle.allowed
        known = sorted(name for name in allowed if name not in self._load.rejected)
        if not known:
            return
        first = allowed[self._rng.choice(known)][0]
        name = f"twin-{number}"
        message = mint_message(name, first.user, first.amount, first.chain_id)
        body = orjson.loads(message) | {"fiatRef": f" {first.fiat_ref.upper()}"}
        self._load.accepted.append(name)
        self._world.story.tell("Kuro allows a twin", request=name, of=first.request_id)
        self._world.kuro.allow(orjson.dumps(body))

    def _held(self) -> list[tuple[str, str, int, tuple[str, ...]]]:
        """Key, ticket, approvals needed, and who approved so far."""
        return [
            (state.key, state.standing_hold.ticket, state.standing_hold.approvals_needed, by)
            for state in self._world.oracle.requests.values()
            if state.stage is Stage.HELD and state.standing_hold is not None
            for by in [state.approved_by]
        ]

    def _now_and_then(self) -> None:
        if self._settling:
            return
        for key, ticket, _, _ in self._held():
            if self._rng.random() < 0.4:
                stale = self._rng.random() < 0.1
                self.approve(self._rng.choice(OPERATORS), key, "1.0.0" if stale else ticket)
        self._world.loop.in_world(self._rng.uniform(1, 8), self._now_and_then)

    def _settle(self) -> None:
        for key, ticket, needed, by in self._held():
            if needed and len(by) < needed:
                who = next(name for name in ("ann", "bob", "cleo") if name not in _names(by))
                self.approve(who, key, ticket)
            elif not needed and f"{key} {ticket}" not in self._cancelled:
                self._cancelled.add(f"{key} {ticket}")
                self._give(CancelOrdered(**self._order("ann"), request_key=key))
        self._world.loop.in_world(4.0, self._settle)


def _names(given: tuple[str, ...]) -> set[str]:
    return {name.strip().lower() for name in given}


class PolicyOracle:
    """Judges each clearance anew, plainly: every window is summed from a list."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._applied: dict[str, PolicyApplied] = {}
        self._in_force_since: float | None = None
        self._stood: list[tuple[float, Policy]] = []
        self._keys: dict[str, str] = {}
        self.others: Callable[[str], None] = lambda digest: None
        self._adopted: dict[str, Policy] = {}
        self._approved: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._verified: dict[tuple[str, str], bool] = {}
        self._mints: dict[str, RequestReceived] = {}
        self._facts: dict[str, RequestCleared] = {}
        self._counted: dict[str, RequestCleared] = {}
        self._judged_at = 0
        self.state = Clearing()

    def witness(self, entry: Entry) -> None:
        try:
            record = TOPICS[entry.topic].decode(
                entry.value, Position(entry.topic, entry.partition, entry.offset)
            )
        except UnreadableRecord:
            return
        fact = record.fact
        if isinstance(fact, PolicyFact):
            evolve(self.state, fact)
        match fact:
            case RequestReceived():
                self._mints.setdefault(fact.request_key, fact)
            case PolicyApplied():
                if fact.order not in self._applied:
                    self._applied[fact.order] = fact
                    self._in_force(fact.policy.rules)
                    self._stood.append((self._world.loop.time(), fact.policy))
            case ApproveOrdered():
                self._approved[fact.request_key, fact.ticket].add(fact.who.strip().lower())
            case PolicyAdopted():
                applied = self._applied.get(fact.order)
                if applied is None or applied.policy != fact.policy:
                    self._violated("a policy that nobody applied", id=fact.id)
                self._adopted[fact.version] = fact.policy
            case AccountVerified():
                self._verified.setdefault((fact.request_key, fact.ticket), fact.verified)
                self._said(fact)
            case RequestCleared() if fact.id not in self._facts:
                self._cleared(fact)
            case RequestHeld():
                self._world.story.count("holds")
                if any(b.rule is PolicyRule.REGISTRY_UNASKED for b in fact.breaches):
                    self._world.story.count("holds of registries that could not be asked")
            case ApprovalDrafted():
                self._keys[fact.digest] = fact.request_key
                self._drafted(fact)
            case ApprovalSigned():
                self._signed(fact)
            case DraftRecalled():
                self._world.story.count("recalls")

    def _said(self, fact: AccountVerified) -> None:
        registry = self._world.chains[fact.chain_id].registry
        verified = fact.account.lower() not in registry.unverified
        pardoned = fact.verified or fact.account == UNVERIFIED or registry.reverted
        if (fact.verified and not verified) or not pardoned:
            self._violated("the registry said otherwise", id=fact.id)
        if fact.later:
            self._world.story.count("later answers of registries")

    def _in_force(self, rules: bool) -> None:
        if not rules:
            self._in_force_since = None
        elif self._in_force_since is None:
            self._in_force_since = self._world.loop.time()

    def _cleared(self, fact: RequestCleared) -> None:
        policy = self._adopted.get(fact.version)
        mint = self._mints.get(fact.request_key)
        if policy is None or mint is None:
            return self._violated("cleared by nothing", id=fact.id)
        told = (mint.chain_id, mint.user.lower(), mint.amount, mint.fiat_ref)
        if told != (fact.chain_id, fact.account.lower(), str(fact.amount), fact.fiat_ref):
            self._violated("cleared is another mint", id=fact.id)
        if not self._judged_at <= fact.judged_at <= self._world.loop.unix_seconds + 1:
            self._violated("time went back", id=fact.id)
        self._judged_at = fact.judged_at
        found = self._breaches(policy, fact, mint)
        approvers = self._approved[fact.request_key, fact.ticket]
        rule = policy.approvals
        above = fact.amount > rule.above_amount
        needed = rule.operators if above else rule.operators_up_to
        if found & NEVER_APPROVED:
            self._violated("cleared what nobody may release", id=fact.id, rules=sorted(found))
        elif found and len(approvers) < needed:
            self._violated("a breach without its operators", id=fact.id, rules=sorted(found))
        if _names(fact.approved_by) - approvers:
            self._violated("released by who did not approve", id=fact.id)
        self._facts[fact.id] = self._counted[fact.request_key] = fact
        self._world.story.count("released" if fact.approved_by else "cleared")

    def _breaches(self, policy: Policy, fact: RequestCleared, mint: RequestReceived) -> set[Any]:
        others = [item for key, item in self._counted.items() if key != fact.request_key]
        account, now = fact.account.lower(), fact.judged_at
        clock = instant(now)[11:16]
        seconds = (mint.told_at_ms or 0) // 1000
        reference = fact.fiat_ref.strip().lower()
        tests: dict[PolicyRule, bool] = {
            PolicyRule.REQUEST_AMOUNT: policy.max_amount is not None
            and fact.amount > policy.max_amount,
            PolicyRule.DENIED: account in {item.lower() for item in policy.deny},
            PolicyRule.NOT_ALLOWED: policy.allow is not None
            and account not in {item.lower() for item in policy.allow},
            PolicyRule.NOT_VERIFIED: policy.kyc is not None
            and not self._verified.get((fact.request_key, fact.ticket), False),
            PolicyRule.QUIET_HOURS: any(q.start <= clock < q.end for q in policy.quiet_hours),
            PolicyRule.KURO_AGE: policy.kuro_max_age_seconds is not None
            and now - seconds > policy.kuro_max_age_seconds,
            PolicyRule.FIAT_REF_USED: policy.fiat_ref_once
            and any(item.fiat_ref.strip().lower() == reference for item in others),
        }
        found = {rule for rule, broken in tests.items() if broken}
        for window in policy.windows:
            same = _same(window.per)
            inside = [
                item
                for item in others
                if now - window.seconds < item.judged_at and same(item) == same(fact)
            ]
            total = sum(item.amount for item in inside) + fact.amount
            if window.max_count is not None and len(inside) + 1 > window.max_count:
                found.add(PolicyRule.WINDOW_COUNT)
            if window.max_amount is not None and total > window.max_amount:
                found.add(PolicyRule.WINDOW_AMOUNT)
        return found

    def _drafted(self, fact: ApprovalDrafted) -> None:
        """Each draft of a mint has a clearance of its own, once processes have read a policy."""
        state = self._world.oracle.requests.get(fact.request_key)
        if fact.request_key not in self._mints or state is None or state.drafted != fact:
            return
        if self._mints[fact.request_key].type != "MINT" or self._in_force_since is None:
            return
        late = self._world.loop.time() - self._in_force_since
        draft = f"cleared:{fact.request_key}:{fact.attempt}.{fact.opening}."
        if late > STALE_SECONDS + APPENDING_SECONDS and not any(
            name.startswith(draft) for name in self._facts
        ):
            self._violated("drafted without a clearance", id=fact.id)

    def asks_kms(self, digest: str) -> None:
        """A process asks now, by what it knows: no older than a pause may be to it."""
        self.others(digest)
        self._judge("sent to KMS", self._keys.get(digest, ""), STALE_SECONDS)

    def _signed(self, fact: ApprovalSigned) -> None:
        """The first that counts. One that arrived late does so only where nothing was recalled."""
        state = self._world.oracle.requests.get(fact.request_key)
        if state is not None and state.signed == fact:
            self._judge("signed", fact.request_key, SIGNED_SECONDS)

    def _judge(self, what: str, key: str, grace: float) -> None:
        """By one of the policies that have stood within so many seconds."""
        state = self._world.oracle.requests.get(key)
        if state is None or state.type != "MINT":
            return
        since = self._world.loop.time() - grace
        older = [policy for at, policy in self._stood if at <= since]
        allowed = [*older[-1:], *(policy for at, policy in self._stood if at > since)]
        if not older or not all(policy.rules for policy in allowed):
            return
        if cleared_by(state) not in {policy.version for policy in allowed}:
            version = older[-1].version[:10]
            self._violated(f"{what} uncleared", key=key, attempt=state.attempt, policy=version)

    def compare(self, owner: Clearing) -> None:
        """What an owner holds in the end is what the log says."""
        for name in ("standing", "asked", "held", "releasing", "fiat_refs", "final_blocks"):
            if getattr(owner, name) != getattr(self.state, name):
                self._violated("an owner holds other than the log", part=name)
        if owner.windows.entries != self.state.windows.entries:
            self._violated("an owner holds other than the log", part="windows")

    def _violated(self, what: str, **details: object) -> None:
        self._world.story.violated(what, **details)


def _same(per: Per) -> Callable[[RequestCleared], object]:
    if per is Per.USER:
        return lambda item: item.account.lower()
    return (lambda item: item.chain_id) if per is Per.CHAIN else (lambda item: None)
