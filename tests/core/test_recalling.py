"""A newer policy recalls what is drafted, and never what is signed: the log's order decides."""

from __future__ import annotations

import pytest

from orchestrator.core.asking import InForce, cleared_by, unjudged
from orchestrator.core.comparing import Comparison
from orchestrator.core.controls import ControlState, in_force
from orchestrator.core.controls import evolve as evolve_controls
from orchestrator.core.lifecycle import RequestState, Stage, Verdict, evolve
from orchestrator.core.owing import Append, Sign, pending
from orchestrator.core.terms import Terms
from schemas.base import Position, Record, instant
from schemas.policies import ClearanceRequested, Policy, PolicyApplied
from schemas.requests import ApprovalDrafted, ApprovalSigned, ClearanceReported, DraftRecalled
from tests.core.facts import (
    MINT_KEY,
    START,
    TERMS,
    TTL,
    USER,
    cancelled,
    cleared,
    folded,
    held,
    received,
    record,
    retried,
    word,
)

OLD = InForce("p-1", word(1))
NEW = InForce("p-2", word(2), frozenset({word(1)}))
MINT = received(key=MINT_KEY)


def owed(state: RequestState | None, policy: InForce | None):
    assert state is not None
    item = pending(state, TERMS, policy=policy)
    return item.fact if isinstance(item, Append) else item


def drafted(policy: InForce | None = OLD, *more) -> list:
    """A mint that the policy has cleared, up to its draft."""
    first = [] if policy is None else [cleared(key=MINT_KEY)]
    life = [MINT, *first, *more]
    return [*life, owed(folded(life), policy)]


def signed(draft: ApprovalDrafted) -> ApprovalSigned:
    return ApprovalSigned(
        request_key=MINT_KEY,
        attempt=draft.attempt,
        digest=draft.digest,
        signature="0x" + "ab" * 65,
        signer=USER,
    )


@pytest.mark.parametrize("before", [OLD, None])
def test_a_draft_that_another_policy_cleared_or_none_is_recalled_and_asked_about_anew(before):
    life = drafted(before)
    assert isinstance(owed(folded(life), before), Sign)
    recalled = owed(folded(life), NEW)
    assert recalled == DraftRecalled(request_key=MINT_KEY, attempt=1, order="p-2")
    state = folded([*life, recalled])
    assert state.stage is Stage.RECEIVED
    asked = owed(state, NEW)
    assert isinstance(asked, ClearanceRequested)
    assert (asked.ticket, asked.order) == ("2.0.0", "p-2")
    assert folded([*life, recalled, held("2.0.0", key=MINT_KEY)]).stage is Stage.HELD


def test_what_is_drafted_after_it_is_the_same_approval():
    """Somebody may hold a signature of it: a process that was killed, or slept, meanwhile."""
    life = drafted()
    first, recalled = life[-1], owed(folded(life), NEW)
    again = ClearanceReported(request_key=MINT_KEY, ticket="2.0.0", version=NEW.version)
    state = folded([*life, recalled, again])
    second = owed(state, NEW)
    assert isinstance(second, ApprovalDrafted)
    assert (second.attempt, second.digest, second.deadline) == (2, first.digest, first.deadline)
    after, _ = evolve(state, record(second, 50))
    assert isinstance(owed(after, NEW), Sign)
    assert owed(after, InForce("p-3", word(3), frozenset({word(1), word(2)}))).attempt == 2


def test_the_order_on_the_log_decides_between_a_signature_and_a_recall():
    life = drafted()
    recalled, signature = owed(folded(life), NEW), signed(life[-1])
    state = folded([*life, signature])
    assert evolve(state, record(recalled, 50)) == (state, Verdict.REPEATED)
    assert not isinstance(owed(state, NEW), DraftRecalled), "what is signed goes its way"
    state = folded([*life, recalled])
    assert evolve(state, record(signature, 50)) == (state, Verdict.REPEATED)
    assert evolve(state, record(recalled, 50)) == (state, Verdict.REPEATED)
    later = recalled.model_copy(update={"order": "p-3"})
    assert evolve(state, record(later, 50)) == (state, Verdict.REPEATED)
    again = ClearanceReported(request_key=MINT_KEY, ticket="2.0.0", version=NEW.version)
    life += [recalled, again]
    state = folded([*life, owed(folded(life), NEW)])
    assert evolve(state, record(signature, 50)) == (state, Verdict.REPEATED)
    assert state.stage is Stage.DRAFTED and owed(state, NEW).attempt == 2


def test_who_has_not_read_of_the_newest_policy_neither_signs_nor_recalls():
    """The clearance names one that this process does not know: it has to read on."""
    state = folded(drafted())
    behind = InForce("p-0", word(9), frozenset({word(8)}))
    assert unjudged(state, behind)
    assert isinstance(owed(state, behind), Sign), "the desk refuses by `unjudged`"


def test_nothing_is_recalled_without_rules_nor_for_a_policy_of_the_same_content():
    state = folded(drafted())
    for policy in (None, InForce("p-9", OLD.version, frozenset({word(1), word(2)}))):
        assert not unjudged(state, policy)
        assert isinstance(owed(state, policy), Sign)


def test_redeems_are_no_matter_of_policies():
    life = [received(), owed(folded([received()]), None)]
    assert not unjudged(folded(life), NEW)
    assert isinstance(owed(folded(life), NEW), Sign)


def test_what_is_being_cancelled_is_given_up_and_not_recalled():
    life = drafted()
    recalled = owed(folded(life), NEW)
    order = cancelled().model_copy(update={"request_key": MINT_KEY})
    state = folded([*life, order])
    assert evolve(state, record(recalled, 50)) == (state, Verdict.REPEATED)
    assert owed(state, NEW).kind == "RequestFailed"


def test_a_retry_does_not_hide_which_policy_cleared_the_draft():
    order = retried().model_copy(update={"request_key": MINT_KEY})
    state = folded([*drafted(), order])
    assert cleared_by(state) == OLD.version and not unjudged(state, OLD)
    assert isinstance(owed(state, NEW), DraftRecalled)


def test_a_clearance_is_of_its_own_draft_alone():
    """The policy was taken away, the mint drafted anew without being asked about, and the policy
    applied once more."""
    life = drafted()
    away = owed(folded(life), NEW)
    life += [away, owed(folded([*life, away]), None)]
    assert isinstance(life[-1], ApprovalDrafted) and life[-1].attempt == 2
    state = folded(life)
    assert cleared_by(state) is None
    assert isinstance(owed(state, InForce("p-3", word(1))), DraftRecalled)


def test_a_chain_that_is_not_served_here_leaves_its_drafts_alone():
    state = folded(drafted())
    assert isinstance(pending(state, Terms({}, TTL), policy=NEW), Sign)


def test_the_newest_policy_and_those_before_it_follow_from_the_orders():
    state = ControlState()
    assert in_force(state) is None
    policies = [Policy(max_amount=1), Policy(max_amount=2), Policy(note="none"), Policy(deny=())]
    seen = []
    for number, policy in enumerate([*policies, policies[0]]):
        by = {"order": f"p-{number}", "who": "ann", "why": "an incident"}
        fact = PolicyApplied(**by, version=policy.version, policy=policy)
        place = Position("controls", 0, number)
        evolve_controls(state, Record(fact, instant(START), place))
        found = in_force(state)
        seen.append(None if found is None else (found.order, len(found.before)))
    assert seen == [("p-0", 0), ("p-1", 1), None, None, ("p-4", 4)]
    assert in_force(state).version in in_force(state).before, "and what it cleared is no other's"


def test_the_comparison_of_decisions_takes_a_recall_as_it_was_told():
    life = drafted()
    recalled = owed(folded(life), NEW)
    again = ClearanceReported(request_key=MINT_KEY, ticket="2.0.0", version=NEW.version)
    life += [recalled, again]
    life.append(owed(folded(life), NEW))
    comparison = Comparison(TERMS)
    for second, fact in enumerate(life):
        comparison.read(record(fact, second))
    assert (comparison.decisions, comparison.differences) == (2, [])
