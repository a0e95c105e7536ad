"""Each rule of a policy has a test that shows the harm without it and the refusal with it, and
`docs/policies.md` names it. A new rule needs all three."""

from __future__ import annotations

import re

from schemas.policies import Per, Policy, PolicyRule, Window
from tests.core import test_policies, test_registry_holds
from tests.tidy.project import ROOT

PAGE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
AT_ONCE = "test_each_rule_refuses_the_harm_that_passes_without_it"
ELSEWHERE = {
    "kyc": (
        test_registry_holds,
        "test_whom_the_registry_does_not_verify_passes_without_the_rule_and_not_with_it",
        "test_without_the_rule_a_registry_that_is_away_stops_nothing",
        "test_nobody_passes_unasked_and_whom_it_is_about_is_held_with_the_reason",
    ),
    "approvals": (
        test_policies,
        "test_one_person_releases_what_the_policy_asks_of_one_and_not_what_it_asks_of_two",
    ),
}
"""Fields whose rule needs more than one question: a registry's answer, operators."""


def _shown() -> dict[str, set[PolicyRule]]:
    """By field of the policy, the rules that a case of `AT_ONCE` breaches by that field alone."""
    found: dict[str, set[PolicyRule]] = {}
    for policy, _, _, rule in test_policies.RULES.values():
        fields = policy.model_dump(exclude_defaults=True)
        assert len(fields) == 1, "a case shows one rule"
        found.setdefault(*fields, set()).add(rule)
    return found


def test_every_field_of_a_policy_is_shown():
    assert set(_shown()) | set(ELSEWHERE) == set(Policy.model_fields) - {"note"}
    assert set(_shown()).isdisjoint(ELSEWHERE)


def test_every_breach_is_shown():
    shown = set().union(*_shown().values())
    registry = {PolicyRule.NOT_VERIFIED, PolicyRule.REGISTRY_UNASKED}
    assert shown | registry == set(PolicyRule)
    assert shown.isdisjoint(registry)


def test_every_kind_of_window_is_shown():
    windows = [w for policy, *_ in test_policies.RULES.values() for w in policy.windows]
    assert {window.per for window in windows} == set(Per)
    limits = {name for name in Window.model_fields if name.startswith("max_")}
    assert limits == {name for w in windows for name in limits if getattr(w, name) is not None}, (
        "each limit"
    )


def test_the_tests_are_there_and_the_page_names_them():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    wanted = {AT_ONCE: test_policies}
    for module, *names in ELSEWHERE.values():
        wanted |= dict.fromkeys(names, module)
    for name, module in wanted.items():
        assert callable(getattr(module, name, None)), name
    assert set(wanted) <= named
    modules = (test_policies, test_registry_holds)
    assert not [n for n in named if not any(hasattr(m, n) for m in modules)], "gone"
