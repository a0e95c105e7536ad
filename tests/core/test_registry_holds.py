"""What a KYC registry's no, its silence and its second thoughts come to."""

from __future__ import annotations

import pytest

from orchestrator.core.clearing import Clearing, doubtful, evolve
from orchestrator.core.clearing_answers import due
from orchestrator.core.stages import Verdict
from schemas.policies import (
    AccountVerified,
    Kyc,
    LapseReason,
    Policy,
    PolicyRule,
    QuietHours,
    ReleaseRequested,
    RequestCleared,
    RequestHeld,
)
from tests.core.test_policies import NOTHING, NOW, OTHER, USER, Owner, asked

SILENT = {5920: "no node answers"}
KYC = Policy(kyc=Kyc())


def said(key: str, verified: bool, ticket: str = "1.0.0", **changes) -> AccountVerified:
    fields = {
        "chain_id": 5920,
        "account": USER,
        "registry": OTHER,
        "function": "isVerified(address)",
        "block_number": 7,
        "block_hash": "0x" + "ab" * 32,
    }
    return AccountVerified(request_key=key, ticket=ticket, verified=verified, **fields | changes)


class Kept(Owner):
    """As `Owner`, told which registries cannot be asked."""

    def given_up(self, now: int = NOW, unasked=SILENT) -> list:
        found = due(self.state, now, unasked)
        for fact in found:
            assert self.tell(fact) is Verdict.APPLIED, fact
        return found

    def replayed(self) -> None:
        fresh = Clearing()
        for fact in self.facts:
            evolve(fresh, fact)
        assert fresh == self.state, "the log alone gives the same state"


def test_nobody_passes_unasked_and_whom_it_is_about_is_held_with_the_reason():
    owner = Kept(KYC)
    assert owner.ask("m-1") is None, "it is waited for"
    owner.tell(asked("elsewhere", chain_id=5921))
    [held] = owner.given_up()
    assert isinstance(held, RequestHeld) and held.request_key == "m-1"
    [breach] = held.breaches
    assert (breach.rule, breach.detail) == (PolicyRule.REGISTRY_UNASKED, SILENT[5920])
    assert held.approvals_needed == 2
    owner.replayed()


def test_whom_the_registry_does_not_verify_passes_without_the_rule_and_not_with_it():
    for policy, answer in ((NOTHING, RequestCleared), (KYC, RequestHeld)):
        owner = Owner(policy)
        first = owner.ask("m-1")
        owner.tell(said("m-1", False))
        found = first or owner.look()[0]
        assert isinstance(found, answer)
    assert [breach.rule for breach in found.breaches] == [PolicyRule.NOT_VERIFIED]


def test_without_the_rule_a_registry_that_is_away_stops_nothing():
    owner = Kept(Policy(max_amount=10**6))
    owner.tell(asked("m-1"))
    assert isinstance(owner.given_up()[0], RequestCleared)


def test_operators_release_whom_nobody_could_ask_about():
    owner = Kept(KYC)
    owner.ask("m-1")
    owner.given_up()
    owner.tell(ReleaseRequested(request_key="m-1", ticket="1.0.0", approved_by=("a", "b")))
    [cleared] = owner.look()
    assert cleared.approved_by == ("a", "b")
    owner.replayed()


@pytest.mark.parametrize(("verified", "answer"), [(True, RequestCleared), (False, RequestHeld)])
def test_a_registry_that_answers_again_ends_the_hold(verified, answer):
    owner = Kept(KYC)
    owner.ask("m-1")
    owner.given_up()
    assert [held.ask.request_key for held in doubtful(owner.state)] == ["m-1"]
    assert owner.tell(said("m-1", verified, later=True)) is Verdict.APPLIED
    assert doubtful(owner.state) == []
    [lapse] = owner.look()
    assert lapse.reason is LapseReason.REGISTRY_ANSWERED
    owner.tell(asked("m-1", ticket="1.0.1"))
    assert due(owner.state, NOW) == [], "it is asked anew for the new ticket"
    owner.tell(said("m-1", verified, ticket="1.0.1"))
    [found] = owner.look()
    assert isinstance(found, answer)
    owner.replayed()


def test_whom_the_registry_verifies_later_goes_by_itself():
    owner = Kept(KYC)
    owner.ask("m-1")
    owner.tell(said("m-1", False))
    [held] = owner.look()
    assert held.breaches[0].rule is PolicyRule.NOT_VERIFIED
    assert [one.ask.request_key for one in doubtful(owner.state)] == ["m-1"]
    owner.tell(said("m-1", True, later=True))
    [lapse] = owner.look()
    assert lapse.reason is LapseReason.REGISTRY_ANSWERED
    owner.replayed()


def test_what_else_stands_against_it_keeps_the_hold_and_its_approvals():
    owner = Kept(Policy(kyc=Kyc(), max_amount=99))
    owner.ask("m-1")
    owner.tell(said("m-1", False))
    owner.look()
    owner.tell(said("m-1", True, later=True))
    assert owner.look() == [], "too much is still too much"
    owner.tell(ReleaseRequested(request_key="m-1", ticket="1.0.0", approved_by=("a", "b")))
    assert isinstance(owner.look()[0], RequestCleared)


def test_what_operators_have_not_seen_is_shown_to_them():
    """They approved of a registry that nobody could ask, not of one that says no."""
    owner = Kept(KYC)
    owner.ask("m-1")
    owner.given_up()
    owner.tell(said("m-1", False, later=True))
    owner.tell(ReleaseRequested(request_key="m-1", ticket="1.0.0", approved_by=("a", "b")))
    [lapse] = owner.look()
    assert lapse.reason is LapseReason.OTHERWISE_BREACHED


def test_quiet_hours_and_a_late_yes_end_together():
    owner = Kept(Policy(kyc=Kyc(), quiet_hours=(QuietHours(start="07:30", end="08:30"),)))
    owner.ask("m-1")
    owner.tell(said("m-1", False))
    owner.look()
    owner.tell(said("m-1", True, later=True))
    assert owner.look() == []
    assert owner.look(NOW + 1800)[0].reason is LapseReason.REGISTRY_ANSWERED


def test_a_revert_is_a_no_that_says_why():
    owner = Kept(KYC)
    owner.ask("m-1")
    owner.tell(said("m-1", False, detail="it reverted: paused"))
    [held] = owner.look()
    breach = held.breaches[0]
    assert (breach.rule, breach.detail) == (PolicyRule.NOT_VERIFIED, "it reverted: paused")


def test_late_answers_change_nothing():
    owner = Kept(KYC)
    owner.ask("m-1")
    assert owner.tell(said("m-1", True, later=True)) is Verdict.REPEATED, "it is not held"
    owner.tell(said("m-1", False))
    owner.look()
    assert owner.tell(said("m-1", True)) is Verdict.REPEATED, "it is held"
    assert owner.tell(said("m-1", True, later=True)) is Verdict.APPLIED
    assert owner.tell(said("m-1", False, later=True)) is Verdict.REPEATED, "told once a hold"
