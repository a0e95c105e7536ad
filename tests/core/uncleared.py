"""Stories for audits: mints that were signed without the clearance of the policy in force."""

from __future__ import annotations

from schemas.policies import Policy, PolicyApplied
from schemas.requests import ApprovalDrafted, ClearanceReported
from tests.core.audited import World


def applied(world: World, order: str, amount: int, at: int) -> str:
    policy = Policy(max_amount=amount)
    by = {"order": order, "who": "dora", "why": "reviewed"}
    fact = PolicyApplied(**by, version=policy.version, policy=policy)
    world.append(fact)
    world.ages[id(fact)] = at
    return policy.version


def mints(world: World) -> list[ApprovalDrafted]:
    return [
        fact
        for fact in world.log["requests"]
        if isinstance(fact, ApprovalDrafted) and not fact.request_key.startswith("redeem:")
    ]


def clear(world: World, draft: ApprovalDrafted, version: str) -> None:
    ticket = f"{draft.attempt}.0.0"
    told = ClearanceReported(request_key=draft.request_key, ticket=ticket, version=version)
    world.log["requests"].insert(world.log["requests"].index(draft), told)


def signed_uncleared(world: World) -> None:
    """A policy was in force, and nobody asked its owner."""
    version = applied(world, "p-1", 1, -1000)
    first, *others = mints(world)
    assert others == [] or first.request_key != others[0].request_key
    for draft in others:
        clear(world, draft, version)


def signed_under_a_policy_of_before(world: World, seconds: int = 31) -> None:
    """The owner had cleared all, under the policy before."""
    version = applied(world, "p-1", 2, -1000)
    applied(world, "p-2", 1, -seconds)
    for draft in mints(world):
        clear(world, draft, version)
