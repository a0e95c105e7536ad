"""Several wallets: who gets a request, and how it moves on without ever being in two lanes."""

from __future__ import annotations

import pytest

from orchestrator.core.lanes import LaneState, evolve, next_work, unstarted
from orchestrator.core.lifecycle import Stage, Verdict
from orchestrator.core.lifecycle import evolve as evolve_request
from orchestrator.core.owing import pending
from orchestrator.core.pool import SET_ASIDE_SECONDS, Pool, patience_seconds
from orchestrator.core.reporting import reported
from schemas.base import Position, Record
from schemas.lanes import (
    LaneOpened,
    NonceTaken,
    RelayRefusal,
    RelayRefused,
    RelayRequested,
    TransactionFinal,
    TransactionIncluded,
    TransactionPrepared,
    relay_name,
    relay_parts,
)
from schemas.requests import RelayAssigned
from tests.core.facts import (
    CHAIN,
    KEY,
    ROUTES,
    TERMS,
    WALLETS,
    assigned,
    folded,
    included,
    record,
    submitted,
    word,
)

UNFIT = RelayRefusal.WALLET_UNFIT
AT = "2027-01-15T08:00:00.000Z"


def given_back(work: RelayRequested) -> RelayRefused:
    return RelayRefused(
        chain_id=work.chain_id,
        wallet=work.wallet,
        relay=work.relay,
        reason=UNFIT,
        detail="no funds",
        block_number=1,
        block_timestamp=1,
    )


def report(fact):
    return next(iter(reported(Record(fact, AT, Position("lanes", 0, 0)))), None)


def lane(wallet: str) -> LaneState:
    state = LaneState(CHAIN, wallet)
    evolve(state, LaneOpened(chain_id=CHAIN, wallet=wallet, first_nonce=0))
    return state


def prepared(state: LaneState, work: RelayRequested, tx: int) -> TransactionPrepared:
    return TransactionPrepared(
        chain_id=CHAIN,
        wallet=state.wallet,
        nonce=state.next_nonce,
        relay=work.relay,
        tx_hash=word(tx),
        raw="0x00",
        gas_limit=100,
        max_fee_per_gas_wei=1,
        max_priority_fee_per_gas_wei=1,
    )


def moved():
    """A request that one wallet gave back: its state, and the work that was given back."""
    state = folded(ROUTES[Stage.RELAYING])
    work = pending(state, TERMS).fact
    state, verdict = evolve_request(state, record(report(given_back(work)), 50))
    assert verdict is Verdict.APPLIED
    return state, work


def test_work_that_was_given_back_goes_to_another_wallet_with_the_same_approval():
    state, work = moved()
    assert state.stage is Stage.RELAYING
    again = pending(state, TERMS).fact
    assert isinstance(again, RelayAssigned)
    assert (again.attempt, again.assignment) == (1, 2)
    assert again.wallet != work.wallet
    drafted, approval = state.drafted, state.signed
    state, verdict = evolve_request(state, record(again, 51))
    assert (verdict, state.stage, state.refusal) == (Verdict.APPLIED, Stage.RELAYING, None)
    assert (state.drafted, state.signed) == (drafted, approval)
    second = pending(state, TERMS).fact
    assert (second.data, second.deadline) == (work.data, work.deadline)
    assert second.relay != work.relay
    assert second.wallet == again.wallet


def test_two_lanes_never_both_broadcast():
    """However often and late the first lane hears of its work again, it is settled there; and the
    second one's work has another name, so neither takes the other's."""
    state, work = moved()
    first, second = lane(work.wallet), lane(WALLETS[1])
    evolve(first, work)
    assert evolve(first, given_back(work)) is Verdict.APPLIED
    state, _ = evolve_request(state, record(pending(state, TERMS).fact, 51))
    other = pending(state, TERMS).fact
    assert evolve(second, other) is Verdict.APPLIED
    assert evolve(first, work) is Verdict.REPEATED
    assert next_work(first, 10) == []
    assert evolve(first, prepared(first, work, 1)) is Verdict.OUT_OF_ORDER
    assert first.slots == {}
    assert evolve(second, prepared(second, other, 2)) is Verdict.APPLIED


def test_only_what_never_had_a_nonce_may_move():
    """Displaced from its nonce, or failed for want of gas: it stays where its history is."""
    state = lane(WALLETS[0])
    work = pending(folded(ROUTES[Stage.RELAYING]), TERMS).fact
    evolve(state, work)
    assert unstarted(state) == [work]
    evolve(state, prepared(state, work, 1))
    assert unstarted(state) == []
    about = {"chain_id": CHAIN, "wallet": WALLETS[0], "nonce": 0, "relay": work.relay}
    evolve(state, NonceTaken(**about, block_number=5))
    assert list(state.waiting) == [work.relay]
    assert unstarted(state) == []


@pytest.mark.parametrize(("used", "starved"), [(100, True), (98, True), (80, False)])
def test_a_mined_failure_tells_whether_gas_was_missing(used, starved):
    state = lane(WALLETS[0])
    work = pending(folded(ROUTES[Stage.RELAYING]), TERMS).fact
    evolve(state, work)
    evolve(state, prepared(state, work, 1))
    about = {
        "chain_id": CHAIN,
        "wallet": WALLETS[0],
        "nonce": 0,
        "relay": work.relay,
        "tx_hash": word(1),
        "block_number": 3,
        "block_hash": word(9),
        "succeeded": False,
    }
    evolve(state, TransactionIncluded(**about, gas_used=used))
    evolve(state, TransactionFinal(**about))
    assert state.reverted[work.relay].starved is starved


def test_a_no_op_that_was_mined_gives_its_request_back_to_the_lane():
    state = lane(WALLETS[0])
    work = pending(folded(ROUTES[Stage.RELAYING]), TERMS).fact
    evolve(state, work)
    first = prepared(state, work, 1)
    evolve(state, first)
    no_op = first.model_copy(update={"relay": None, "tx_hash": word(2), "replaces": first.tx_hash})
    assert evolve(state, no_op) is Verdict.APPLIED
    stranger = first.model_copy(
        update={"relay": "other:1", "tx_hash": word(3), "replaces": first.tx_hash}
    )
    assert evolve(state, stranger) is Verdict.CONFLICT
    about = {"chain_id": CHAIN, "wallet": WALLETS[0], "nonce": 0, "tx_hash": word(2)}
    final = {"block_number": 3, "block_hash": word(9), "succeeded": True}
    evolve(state, TransactionFinal(**about, **final))
    assert (list(state.waiting), state.settled) == ([work.relay], set())
    assert unstarted(state) == []


def test_late_and_repeated_reports_of_an_earlier_assignment_change_nothing():
    state, work = moved()
    state, _ = evolve_request(state, record(pending(state, TERMS).fact, 51))
    for fact in (report(given_back(work)), assigned(), assigned(wallet=WALLETS[2])):
        assert evolve_request(state, record(fact, 60)) == (state, Verdict.REPEATED)
    second = RelayAssigned(request_key=KEY, attempt=1, assignment=2, wallet=WALLETS[0])
    assert evolve_request(state, record(second, 61)) == (state, Verdict.REPEATED)
    third = RelayAssigned(request_key=KEY, attempt=1, assignment=3, wallet=WALLETS[0])
    assert evolve_request(state, record(third, 62)) == (state, Verdict.OUT_OF_ORDER)


@pytest.mark.parametrize("step", [submitted(), included()])
def test_what_was_broadcast_is_never_assigned_again(step):
    state, _ = moved()
    state, _ = evolve_request(state, record(step, 55))
    assert pending(state, TERMS) is None
    again = RelayAssigned(request_key=KEY, attempt=1, assignment=2, wallet=WALLETS[1])
    assert evolve_request(state, record(again, 56))[1] is Verdict.OUT_OF_ORDER


def test_names_of_work_are_read_back():
    for key in ("mint-7", "redeem:5920:a:3", "x.2:1.1"):
        for attempt, assignment in ((1, 1), (12, 1), (3, 27)):
            name = relay_name(key, attempt, assignment)
            assert relay_parts(name) == (key, attempt, assignment)


def request(number: int, *more):
    """The state of another request, signed or further on."""
    from dataclasses import replace

    state = folded([*ROUTES[Stage.SIGNED], *more])
    return replace(state, key=f"m-{number}")


def test_the_least_loaded_wallet_is_chosen():
    pool = Pool()
    for number in range(30):
        pool.saw(request(number, assigned(wallet=WALLETS[0])), 0)
    for number in range(30, 36):
        pool.saw(request(number, assigned(wallet=WALLETS[1])), 0)
    chosen = [pool.choose(request(100 + n), WALLETS, 0) for n in range(12)]
    assert chosen.count(WALLETS[0]) == 0
    assert pool.loads == {WALLETS[0]: 30, WALLETS[1]: 9, WALLETS[2]: 9}
    pool.saw(request(0, assigned(wallet=WALLETS[0])), 0)
    assert pool.loads[WALLETS[0]] == 30, "seen twice, counted once"


def test_a_wallet_that_gave_work_back_is_left_alone_and_then_tried_with_one_request():
    pool = Pool()
    state, work = moved()
    pool.saw(state, 100.0)
    chosen = {pool.choose(request(n), WALLETS, 100.0) for n in range(20)}
    assert work.wallet not in chosen and len(chosen) == 2
    later = 100.0 + SET_ASIDE_SECONDS
    tried = [pool.choose(request(50 + n), WALLETS, later) for n in range(20)]
    assert tried.count(work.wallet) == 1


def test_never_back_to_the_same_wallet_while_there_is_another():
    state, work = moved()
    pool = Pool()
    pool.saw(state, 0)
    assert pool.choose(state, WALLETS, 0) != work.wallet
    assert pool.choose(state, (work.wallet,), 0) == work.wallet


def test_work_waits_where_it_is_when_no_wallet_is_fit():
    """At once through all wallets, then ever more seldom: the log does not fill."""
    pauses = [patience_seconds(number, 3) for number in range(1, 40)]
    assert pauses[:2] == [0, 0]
    assert pauses[2] >= 30
    assert pauses == sorted(pauses)
    assert max(pauses) == 3600
    assert patience_seconds(1, 1) == float("inf")
