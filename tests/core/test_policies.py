"""Each rule of a policy: the harm without it, and the refusal with it."""

from __future__ import annotations

import pytest

from orchestrator.commands.policies import parsed
from orchestrator.core.clearing import Clearing, evolve
from orchestrator.core.clearing_answers import due
from orchestrator.core.registry import answer_of, calldata, checked_function
from orchestrator.core.stages import Verdict
from orchestrator.core.windows import FORGET_AT_ONCE, Entry, Windows, scope_of
from orchestrator.errors import OrderRefused
from schemas.policies import (
    LONGEST_WINDOW_SECONDS,
    AccountVerified,
    Approvals,
    ClearanceRequested,
    HoldLapsed,
    Kyc,
    LapseReason,
    OnBreach,
    Per,
    Policy,
    PolicyAdopted,
    PolicyRule,
    QuietHours,
    ReleaseRequested,
    RequestCleared,
    RequestHeld,
    Window,
)

NOW = 1_800_000_000
"""A Friday, 08:00 UTC."""
USER, OTHER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x" + "22" * 20
TRILLIONS = 300 * 10**12 * 10**18
NOTHING = Policy(note="no rules")


class Owner:
    """The owner's fold: what it owes at a time is appended and folded."""

    def __init__(self, policy: Policy) -> None:
        self.state = Clearing()
        self.facts: list = []
        self.adopt("o-1", policy)

    def adopt(self, order: str, policy: Policy) -> None:
        version = policy.version
        fact = PolicyAdopted(order=order, who="a", why="b", version=version, policy=policy)
        self.tell(fact)

    def tell(self, fact) -> Verdict:
        self.facts.append(fact)
        return evolve(self.state, fact)

    def look(self, now: int = NOW) -> list:
        found = due(self.state, now)
        for fact in found:
            assert self.tell(fact) is Verdict.APPLIED, fact
        assert due(self.state, now) == []
        return found

    def ask(self, key: str, now: int = NOW, **changes):
        """The one answer; None where it must wait."""
        self.tell(asked(key, **changes))
        answers = [fact for fact in self.look(now) if fact.request_key == key]
        return answers[0] if answers else None


def asked(key: str, ticket: str = "1.0.0", **changes) -> ClearanceRequested:
    fields = {
        "order": "o-1",
        "chain_id": 5920,
        "account": USER,
        "amount": 100,
        "fiat_ref": f"wire-{key}",
        "received_seconds": NOW,
    }
    return ClearanceRequested(request_key=key, ticket=ticket, **fields | changes)


def window(per: Per = Per.ALL, **limits) -> Policy:
    return Policy(windows=(Window(per=per, **{"seconds": 3600} | limits),))


FIRST = {"m-1": {}}
RULES = {
    "the mistake of October 2025": (
        Policy(max_amount=10**24), {}, {"amount": TRILLIONS}, PolicyRule.REQUEST_AMOUNT
    ),
    "a user's sum": (window(Per.USER, max_amount=150), FIRST, {}, PolicyRule.WINDOW_AMOUNT),
    "a user's count": (window(Per.USER, max_count=1), FIRST, {}, PolicyRule.WINDOW_COUNT),
    "a chain's sum": (
        window(Per.CHAIN, max_amount=150), FIRST, {"account": OTHER}, PolicyRule.WINDOW_AMOUNT
    ),
    "the sum of all": (
        window(Per.ALL, max_amount=150),
        FIRST,
        {"account": OTHER, "chain_id": 5921},
        PolicyRule.WINDOW_AMOUNT,
    ),
    "denied": (Policy(deny=(USER.lower(),)), {}, {}, PolicyRule.DENIED),
    "not allowed": (Policy(allow=(OTHER,)), {}, {}, PolicyRule.NOT_ALLOWED),
    "quiet hours": (
        Policy(quiet_hours=(QuietHours(start="22:00", end="09:00"),)),
        {},
        {},
        PolicyRule.QUIET_HOURS,
    ),
    "an old fact of Kuro": (
        Policy(kuro_max_age_seconds=60),
        {},
        {"told_at_ms": (NOW - 61) * 1000},
        PolicyRule.KURO_AGE,
    ),
    "a fact from the future": (
        Policy(kuro_max_age_seconds=60),
        {},
        {"told_at_ms": (NOW + 9999) * 1000},
        PolicyRule.KURO_AGE,
    ),
    "one payment, two mints": (
        Policy(fiat_ref_once=True), FIRST, {"fiat_ref": " WIRE-m-1"}, PolicyRule.FIAT_REF_USED
    ),
    "no payment": (Policy(fiat_ref_once=True), {}, {"fiat_ref": " "}, PolicyRule.FIAT_REF_MISSING),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_each_rule_refuses_the_harm_that_passes_without_it(name):
    policy, before, mint, rule = RULES[name]
    for rules, answer in ((NOTHING, RequestCleared), (policy, RequestHeld)):
        owner = Owner(rules)
        for key, changes in before.items():
            assert isinstance(owner.ask(key, **changes), RequestCleared)
        found = owner.ask("m-2", **mint)
        assert isinstance(found, answer), name
    assert [breach.rule for breach in found.breaches] == [rule]


def test_windows_slide_and_count_no_others():
    policy = window(Per.USER, max_amount=150)
    owner = Owner(policy)
    assert isinstance(owner.ask("m-1"), RequestCleared)
    assert isinstance(owner.ask("m-2", account=OTHER), RequestCleared)
    assert isinstance(owner.ask("m-3", NOW + 3599), RequestHeld)
    assert isinstance(owner.ask("m-4", NOW + 3600), RequestCleared)
    chains = Window(per=Per.CHAIN, seconds=60, max_count=1, chain_ids=(5920,))
    owner = Owner(Policy(windows=(chains,)))
    answers = [owner.ask(f"m-{n}", chain_id=5921) for n in range(3)]
    assert all(isinstance(answer, RequestCleared) for answer in answers)


def test_what_waits_together_is_judged_one_after_the_other():
    """Else all that came in one moment would find the window empty, or the payment unspent."""
    owner = Owner(window(Per.ALL, max_amount=250))
    for key in ("m-1", "m-2", "m-3"):
        owner.tell(asked(key))
    kinds = [type(fact) for fact in owner.look()]
    assert kinds == [RequestCleared, RequestCleared, RequestHeld]
    owner = Owner(Policy(fiat_ref_once=True))
    for key in ("m-1", "m-2"):
        owner.tell(asked(key, fiat_ref="wire"))
    assert [type(fact) for fact in owner.look()] == [RequestCleared, RequestHeld]


def test_a_hold_is_released_by_enough_operators_and_counts():
    policy = Policy(
        max_amount=99,
        windows=(Window(per=Per.ALL, seconds=60, max_amount=150),),
        approvals=Approvals(operators=3, above_amount=1000),
    )
    owner = Owner(policy)
    assert owner.ask("small").approvals_needed == 1
    held = owner.ask("large", amount=1001)
    assert held.approvals_needed == 3
    few = ReleaseRequested(request_key="large", ticket="1.0.0", approved_by=("a", "b"))
    owner.tell(few)
    assert owner.look() == []
    owner.tell(ReleaseRequested(request_key="small", ticket="1.0.0", approved_by=("a",)))
    [cleared] = owner.look()
    assert (cleared.request_key, cleared.approved_by) == ("small", ("a",))
    assert owner.ask("next", amount=60).breaches[0].rule is PolicyRule.WINDOW_AMOUNT


def test_one_person_releases_what_the_policy_asks_of_one_and_not_what_it_asks_of_two():
    """The mistake of October 2025 with a limit, and one careless person."""
    for operators, released in ((1, True), (2, False)):
        owner = Owner(Policy(max_amount=99, approvals=Approvals(operators=operators)))
        held = owner.ask("m-1", amount=TRILLIONS)
        assert held.approvals_needed == operators
        owner.tell(ReleaseRequested(request_key="m-1", ticket="1.0.0", approved_by=("ann",)))
        assert [type(fact) for fact in owner.look()] == [RequestCleared] * released


@pytest.mark.parametrize("mint", [{"account": OTHER}, {"fiat_ref": "wire-m-1"}])
def test_no_approval_releases_who_is_denied_nor_mints_a_payment_twice(mint):
    owner = Owner(Policy(deny=(OTHER,), fiat_ref_once=True))
    owner.ask("m-1")
    held = owner.ask("m-2", **mint)
    assert held.approvals_needed == 0
    many = ReleaseRequested(request_key="m-2", ticket="1.0.0", approved_by=("a", "b", "c", "d"))
    owner.tell(many)
    assert owner.look() == []


def test_an_approval_covers_what_its_operators_saw_and_no_more():
    owner = Owner(Policy(max_amount=99, fiat_ref_once=True, approvals=Approvals(above_amount=999)))
    assert isinstance(owner.ask("m-1", fiat_ref="wire"), RequestHeld)
    assert isinstance(owner.ask("m-2", fiat_ref="wire", amount=1), RequestCleared)
    owner.tell(ReleaseRequested(request_key="m-1", ticket="1.0.0", approved_by=("a",)))
    [lapse] = owner.look()
    assert lapse.reason is LapseReason.OTHERWISE_BREACHED
    again = owner.ask("m-1", ticket="1.0.1", fiat_ref="wire")
    assert {breach.rule for breach in again.breaches} == {
        PolicyRule.REQUEST_AMOUNT,
        PolicyRule.FIAT_REF_USED,
    }


def test_a_policy_that_comes_later_sees_all_who_used_a_payment_before_it():
    """Two were cleared under one reference while that was allowed; the first was given up then, and
    may not come back as the payment's second mint."""
    owner = Owner(Policy(max_amount=1000))
    for key in ("m-1", "m-2"):
        assert isinstance(owner.ask(key, fiat_ref="wire"), RequestCleared)
    owner.adopt("o-2", Policy(fiat_ref_once=True))
    for key, other in (("m-1", "m-2"), ("m-2", "m-1")):
        held = owner.ask(key, ticket="1.1.0", order="o-2", fiat_ref="wire")
        assert [(breach.rule, breach.value) for breach in held.breaches] == [
            (PolicyRule.FIAT_REF_USED, other)
        ]
        assert held.approvals_needed == 0


def test_time_ends_quiet_hours_and_windows_that_wait():
    quiet = Policy(quiet_hours=(QuietHours(start="07:30", end="08:30"),))
    waits = window(Per.ALL, max_count=1, on_breach=OnBreach.WAIT)
    for policy, end in ((quiet, NOW + 1800), (waits, NOW + 3600)):
        owner = Owner(policy)
        first = owner.ask("m-1")
        held = first if isinstance(first, RequestHeld) else owner.ask("m-2")
        assert held.until == end
        assert owner.look(end - 1) == []
        [lapse] = owner.look(end)
        assert isinstance(lapse, HoldLapsed) and lapse.reason is LapseReason.TIME_PASSED
        answer = owner.ask(held.request_key, end, ticket="1.0.1")
        assert isinstance(answer, RequestCleared)
    owner = Owner(window(Per.ALL, max_amount=99, on_breach=OnBreach.WAIT))
    assert owner.ask("m-1").until is None, "it will never fit"


def test_no_more_are_sent_to_ask_than_find_room():
    owner = Owner(window(Per.ALL, max_count=1, on_breach=OnBreach.WAIT))
    for key in ("m-1", "m-2", "m-3", "m-4"):
        owner.ask(key)
    assert [fact.request_key for fact in owner.look(NOW + 3600)] == ["m-2"]


def test_another_policy_ends_every_hold_and_nothing_is_judged_by_an_older_one():
    owner = Owner(Policy(max_amount=99))
    owner.ask("m-1")
    owner.tell(asked("m-2", order="o-2"))
    assert owner.look() == [], "its policy is not adopted yet"
    owner.adopt("o-2", Policy(max_amount=500))
    lapse, cleared = owner.look()
    assert lapse.reason is LapseReason.POLICY_CHANGED
    assert cleared.request_key == "m-2" and cleared.version == Policy(max_amount=500).version


def test_the_registry_is_waited_for_and_its_no_holds():
    for verified, answer in ((True, RequestCleared), (False, RequestHeld)):
        owner = Owner(Policy(kyc=Kyc(chain_ids=(5920,))))
        assert isinstance(owner.ask("elsewhere", chain_id=5921), RequestCleared)
        assert owner.ask("m-1") is None, "nobody passes unasked"
        owner.tell(
            AccountVerified(
                request_key="m-1",
                ticket="1.0.0",
                chain_id=5920,
                account=USER,
                registry=OTHER,
                function="isVerified(address)",
                verified=verified,
                block_number=7,
                block_hash="0x" + "ab" * 32,
            )
        )
        [found] = owner.look()
        assert isinstance(found, answer)


def test_a_registry_answers_with_a_word_or_not_at_all():
    assert calldata("isVerified(address)", USER) == "0xb9209e33" + "0" * 24 + USER[2:].lower()
    yes, no = "0x" + "0" * 63 + "1", "0x" + "0" * 64
    assert [answer_of(text) for text in (yes, no, "0x", yes + "0", "0x" + "f" * 64)] == [
        True,
        False,
        None,
        None,
        None,
    ]
    for wrong in ("isVerified", "isVerified(uint256)", "isVerified(address) ", "1(address)"):
        with pytest.raises(ValueError, match="a view with one address"):
            checked_function(wrong)


def test_facts_told_twice_and_late_change_nothing():
    owner = Owner(Policy(max_amount=99))
    owner.ask("m-1")
    owner.ask("m-2", amount=5)
    for fact in list(owner.facts):
        assert evolve(owner.state, fact) is Verdict.REPEATED, fact
    assert evolve(owner.state, asked("m-3")) is Verdict.APPLIED
    assert evolve(owner.state, asked("m-3", amount=7)) is Verdict.CONFLICT
    replayed = Clearing()
    for fact in [*owner.facts, asked("m-3")]:
        evolve(replayed, fact)
    assert replayed == owner.state


def test_a_request_that_is_cleared_again_counts_once():
    owner = Owner(window(Per.ALL, max_amount=150))
    owner.ask("m-1")
    assert isinstance(owner.ask("m-1", NOW + 10, ticket="2.0.0"), RequestCleared)
    assert owner.state.windows.lines[scope_of(Per.ALL, USER, 5920)].sums[-1] == 100


def test_windows_forget_and_give_the_same_sums_as_a_list():
    windows, plain, late = Windows(), [], Window(per=Per.USER, seconds=500_000, max_count=1)
    for number in range(3 * FORGET_AT_ONCE):
        at = number * 1500
        account = (USER, OTHER)[number % 2]
        entry = Entry(at, account, 5920, number)
        windows.add(f"m-{number}", entry)
        plain.append(entry)
        if number % 50 == 0:
            inside = [e for e in plain if e.account == USER and at - 500_000 < e.at]
            found = windows.used(late, (Per.USER, USER), at, "nobody")
            assert found == (len(inside), sum(e.amount for e in inside))
    assert len(windows.entries) <= LONGEST_WINDOW_SECONDS // 1500 + 1
    assert max(len(line.times) for line in windows.lines.values()) < 3 * FORGET_AT_ONCE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"max_amount": 1.5}', "no whole number"),
        ('{"max_amount": 1e18}', "no whole number"),
        ('{"max_amount": "1", "max_amount": "2"}', "given twice: max_amount"),
        ('{"max_amnt": "1"}', "max_amnt"),
        ('{"windows": [{"per": "user", "seconds": 60}]}', "limits nothing"),
        ('{"windows": [{"per": "user", "seconds": 9999999, "max_count": 1}]}', "seconds"),
        ('{"quiet_hours": [{"start": "25:00", "end": "06:00"}]}', "time of day in UTC"),
        ('{"deny": ["0x12"]}', "deny.0"),
        ('{"fiat_ref_once": "yes"}', "fiat_ref_once"),
        ("[]", "policy"),
        ("", "no JSON"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(text, told):
    with pytest.raises(OrderRefused, match=told):
        parsed(text)


def test_the_version_follows_from_the_content_alone():
    one = parsed('{"max_amount": "5", "fiat_ref_once": true}')
    assert one.version == parsed('{"fiat_ref_once": true,\n "max_amount": 5}').version
    assert one.version != parsed('{"max_amount": "6", "fiat_ref_once": true}').version
    assert one.rules and not parsed('{"note": "none"}').rules
