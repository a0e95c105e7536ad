"""Fees: quotes under the cap, replacements that nodes accept."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.fees import Fees, bumped, quote, with_margin

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
        least = Fraction(old) * Fraction(11, 10)
        assert now >= least
        assert now >= asked
        assert now == asked or now - 1 < least
    assert new.max_priority_fee_per_gas_wei <= new.max_fee_per_gas_wei


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
