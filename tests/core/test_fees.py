"""Fees: quotes under the cap, replacements that nodes accept."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.fees import (
    BUMPS_IN_RESERVE,
    Fees,
    below_cap,
    bumped,
    first_quote,
    quote,
    replacement,
    with_margin,
)

WEI = st.integers(0, 2**96)


@given(WEI, WEI, st.integers(1, 2**96))
def test_a_quote_stays_under_the_cap_and_is_a_valid_fee(base_fee, priority, cap):
    fees = quote(base_fee, priority, cap)
    assert 0 <= fees.max_priority_fee_per_gas_wei <= fees.max_fee_per_gas_wei <= cap
    if 2 * base_fee + priority <= cap:
        assert fees == Fees(2 * base_fee + priority, priority)


@given(WEI, WEI, WEI, WEI)
def test_a_replacement_pays_a_tenth_more_on_both_and_a_single_wei_less_would_not_do(a, b, c, d):
    previous, fresh = Fees(max(a, b), min(a, b)), Fees(max(c, d), min(c, d))
    new = bumped(previous, fresh)
    for old, now, asked in (
        (previous.max_fee_per_gas_wei, new.max_fee_per_gas_wei, fresh.max_fee_per_gas_wei),
        (
            previous.max_priority_fee_per_gas_wei,
            new.max_priority_fee_per_gas_wei,
            fresh.max_priority_fee_per_gas_wei,
        ),
    ):
        least = max(Fraction(old) * Fraction(11, 10), Fraction(old + 1))
        assert now >= least
        assert now >= asked
        assert now == asked or now - 1 < least
    assert new.max_priority_fee_per_gas_wei <= new.max_fee_per_gas_wei


@given(WEI, WEI, st.integers(1, 2**96))
def test_a_first_quote_leaves_room_for_ten_replacements(base_fee, priority, cap):
    fees = first_quote(base_fee, priority, cap)
    for _ in range(BUMPS_IN_RESERVE):
        if fees.max_fee_per_gas_wei < 20:
            return  # a few wei: rounding up takes more than a tenth
        fees = bumped(fees, Fees(0, 0))
        assert fees.max_fee_per_gas_wei <= cap


@given(WEI, WEI, st.integers(1000, 2**96))
def test_a_market_that_jumps_leaves_one_more_replacement(base_fee, priority, cap):
    first = first_quote(1, 1, cap)
    second = replacement(first, base_fee, priority, cap)
    assert second is not None
    assert second.max_fee_per_gas_wei <= max(
        below_cap(cap, 1), bumped(first, Fees(0, 0)).max_fee_per_gas_wei
    )
    assert replacement(second, None, 0, cap) is not None
    assert replacement(Fees(cap, 1), base_fee, priority, cap) is None


def test_without_a_base_fee_both_fees_are_the_gas_price():
    assert quote(None, 7, 100) == Fees(7, 7)
    assert replacement(Fees(10, 10), None, 3, 100) == Fees(11, 11)
    assert replacement(Fees(10, 10), None, 30, 100) == Fees(30, 30)


def test_numbers_by_hand():
    assert quote(7, 3, 100) == Fees(17, 3)
    assert quote(7, 3, 10) == Fees(10, 3)
    assert quote(7, 30, 10) == Fees(10, 10)
    assert quote(0, 0, 10) == Fees(0, 0)
    assert bumped(Fees(10, 1), Fees(0, 0)) == Fees(11, 2)
    assert bumped(Fees(11, 9), Fees(0, 0)) == Fees(13, 10)
    assert bumped(Fees(10, 1), Fees(500, 0)) == Fees(500, 2)
    assert [with_margin(gas) for gas in (0, 1, 4, 21_000, 21_001)] == [0, 2, 5, 26_250, 26_252]


@given(st.integers(0, 2**40))
def test_a_margin_is_a_quarter_rounded_up(gas):
    assert with_margin(gas) - 1 < Fraction(gas) * Fraction(5, 4) <= with_margin(gas)
