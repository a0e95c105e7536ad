"""Looks at a chain that was reset, that lags, or where nothing moves."""

from __future__ import annotations

import pytest

from orchestrator.core.chain import ChainView, Head
from orchestrator.core.gas import SAMPLES_NEEDED, GasMemory
from orchestrator.core.lane_views import affordable, conclude, holes, lags, overdue, stuck
from orchestrator.core.lanes import LaneState, evolve, in_flight
from schemas.lanes import (
    LaneOpened,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionOrphaned,
    TransactionPrepared,
)
from tests.core.facts import CHAIN, WALLETS, word

LANE = {"chain_id": CHAIN, "wallet": WALLETS[0]}


def view(number: int, nonce: int, *, timestamp: int = 0, depth: int = 2):
    def head(at: int) -> Head:
        return Head(at, word(at), word(at - 1), timestamp or 1000 + at, 1)

    return ChainView(head(number), head(max(0, number - depth)), nonce, nonce, {})


def prepared(nonce: int, block: int, fee: int = 100) -> list:
    tx = word(500 + nonce)
    about = {**LANE, "nonce": nonce, "tx_hash": tx}
    return [
        TransactionPrepared(
            **about,
            raw="0x00",
            gas_limit=10,
            max_fee_per_gas_wei=fee,
            max_priority_fee_per_gas_wei=1,
            block_number=block,
        ),
        TransactionBroadcast(**about),
    ]


def final(nonce: int, block: int) -> list:
    about = {
        **LANE,
        "nonce": nonce,
        "tx_hash": word(500 + nonce),
        "block_number": block,
        "block_hash": word(block),
        "succeeded": True,
    }
    included = TransactionIncluded(**about, gas_used=5)
    return [included, TransactionFinal(**about, final_timestamp=1000 + block + 2)]


def lane(*facts) -> LaneState:
    state = LaneState(CHAIN, WALLETS[0])
    evolve(state, LaneOpened(**LANE, first_nonce=7, block_number=10))
    for fact in facts:
        evolve(state, fact)
    return state


def test_a_node_that_lags_is_no_reset_and_a_younger_lower_chain_is():
    state = lane(*prepared(7, 10), *final(7, 20))
    assert conclude(state, view(15, 0)) == []
    assert lags(state, view(15, 0))
    assert holes(state, view(15, 0)) == []
    [halted] = conclude(state, view(15, 0, timestamp=9000))
    assert halted.kind == "LaneHalted" and "reset" in halted.reason


def test_a_chain_that_has_grown_again_without_our_transactions_is_a_reset():
    state = lane(*prepared(7, 10), *final(7, 20))
    [halted] = conclude(state, view(40, 3))
    assert (halted.chain_nonce, halted.log_nonce) == (3, 8)


def test_fewer_transactions_than_at_the_opening_are_waited_for_until_that_block_is_final():
    assert conclude(lane(), view(11, 6)) == []
    assert holes(lane(), view(11, 6)) == []
    assert conclude(lane(), view(12, 6))[0].kind == "LaneHalted"


def test_when_nothing_moves_the_lowest_is_late_and_what_is_as_old():
    facts = [fact for nonce in range(7, 10) for fact in prepared(nonce, 10)]
    state = lane(*facts, *prepared(10, 11))
    assert overdue(state, view(14, 7), 5) == []
    assert [version.nonce for version in overdue(state, view(15, 7), 5)] == [7, 8, 9]
    assert overdue(state, view(15, 6), 5) == [], (
        "a nonce that is missing below is no matter of fees"
    )


def test_what_a_reorganisation_orphaned_gets_its_time_again():
    preparation, broadcast = prepared(7, 10)
    included, _ = final(7, 12)
    about = {**LANE, "nonce": 7, "tx_hash": broadcast.tx_hash}
    orphaned = TransactionOrphaned(**about, block_hash=included.block_hash)
    again = TransactionBroadcast(**about, block_number=14)
    state = lane(preparation, broadcast, included, orphaned)
    assert overdue(state, view(16, 7), 5) == [], "no node has it"
    evolve(state, again)
    assert overdue(state, view(18, 7), 5) == []
    assert [version.nonce for version in overdue(state, view(19, 7), 5)] == [7]


def test_a_long_queue_that_moves_is_not_late():
    facts = [fact for nonce in range(7, 12) for fact in prepared(nonce, 10)]
    state = lane(*facts, *final(7, 30))
    assert overdue(state, view(34, 8), 5) == []
    assert [version.nonce for version in overdue(state, view(35, 8), 5)] == [8, 9, 10, 11]
    assert stuck(state, view(49, 8), 5) is None
    assert "nonce 8" in stuck(state, view(50, 8), 5)


def test_what_no_node_took_is_sent_again_not_replaced():
    state = lane(prepared(7, 10)[0])
    assert overdue(state, view(100, 7), 5) == []


def test_what_is_mined_takes_no_room_among_what_is_out():
    state = lane(*prepared(7, 10), *prepared(8, 10))
    assert in_flight(state) == 2
    evolve(state, final(7, 12)[0])
    assert in_flight(state) == 1
    assert len(state.slots) == 2


def test_the_balance_covers_what_is_out_and_what_comes():
    state = lane(*prepared(7, 10), *prepared(8, 10))
    assert affordable(state, 2000, 500) == 0
    assert affordable(state, 3999, 500) == 3
    assert affordable(state, 0, 500) == 0


@pytest.mark.parametrize("failures", [0, 1])
def test_gas_is_learnt_from_enough_successes_and_forgotten_by_a_failure(failures):
    memory, shape = GasMemory(), ("0xabc", "0x12345678", 100)
    for number in range(SAMPLES_NEEDED):
        assert memory.limit(shape) is None
        memory.learn(shape, 1000 + number)
    assert memory.limit(shape) == -(-(1000 + SAMPLES_NEEDED - 1) * 3 // 2)
    assert memory.limit(("0xabc", "0x12345678", 101)) is None
    for _ in range(failures):
        memory.learn(shape, None)
        assert memory.limit(shape) is None
    for number in range(1000):
        memory.learn(("0xabc", "0x12345678", number + 200), 1)
    assert memory.limit(shape) is None
