"""What an audit says of signatures around a change of policy, and what it does not."""

from __future__ import annotations

import pytest

from orchestrator.core.auditing.clearances import SIGNED_WITHIN_SECONDS
from orchestrator.core.auditing.findings import Kind
from schemas.policies import Policy, PolicyApplied
from schemas.requests import ApprovalSigned, DraftRecalled
from tests.core.audited import World, audited, clean_world
from tests.core.uncleared import applied, clear, mints, signed_under_a_policy_of_before

UNCLEARED = Kind.SIGNATURE_UNCLEARED


async def named(world: World) -> list[str]:
    audit, _ = await audited(world)
    return sorted(item.subject for item in audit.findings.shown if item.kind is UNCLEARED)


@pytest.mark.parametrize(
    ("seconds", "found"), [(SIGNED_WITHIN_SECONDS - 1, 0), (SIGNED_WITHIN_SECONDS, 2)]
)
async def test_what_was_under_way_when_a_policy_came_is_no_finding(seconds, found):
    world = clean_world()
    signed_under_a_policy_of_before(world, seconds)
    assert len(await named(world)) == found == (0 if found == 0 else len(mints(world)))


async def test_a_signature_behind_its_recall_counts_no_more_and_one_before_it_does():
    for behind in (True, False):
        world = clean_world()
        signed_under_a_policy_of_before(world)
        facts = world.log["requests"]
        for signed in [fact for fact in facts if isinstance(fact, ApprovalSigned)]:
            recalled = DraftRecalled(request_key=signed.request_key, attempt=1, order="p-2")
            facts.insert(facts.index(signed) + (0 if behind else 1), recalled)
        assert bool(await named(world)) is not behind


async def test_the_first_signature_alone_is_judged():
    """One that is told again, long after, under another policy, is the one of before."""
    world = clean_world()
    version = applied(world, "p-1", 2, -1000)
    for draft in mints(world):
        clear(world, draft, version)
    applied(world, "p-2", 1, 500)
    again = [fact.model_copy() for fact in world.log["requests"] if _is_of(fact, mints(world))]
    world.log["requests"] += again
    world.ages |= {id(fact): 1000 for fact in again}
    assert again and await named(world) == []


def _is_of(fact: object, drafts: list) -> bool:
    keys = {draft.request_key for draft in drafts}
    return type(fact).__name__ in ("ApprovalDrafted", "ApprovalSigned") and fact.request_key in keys


async def test_nothing_is_asked_where_a_policy_without_rules_stood_lately():
    world = clean_world()
    applied(world, "p-1", 2, -1000)
    none = Policy(note="no rules")
    fact = PolicyApplied(order="p-2", who="a", why="b", version=none.version, policy=none)
    world.append(fact)
    world.ages[id(fact)] = -SIGNED_WITHIN_SECONDS
    assert await named(world) == []
    applied(world, "p-3", 1, -SIGNED_WITHIN_SECONDS + 1)
    assert await named(world) == []
