"""What to pay for gas: fees, their replacement rule and their cap. All in wei, all integers."""

from __future__ import annotations

from dataclasses import dataclass

BUMPS_IN_RESERVE = 10
"""A first quote leaves room for so many replacements below the cap (1.1 to the 10th is 2.6)."""


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559: the most to pay per gas, and the part of it that the block's producer keeps. On a
    chain without a base fee both are the gas price."""

    max_fee_per_gas_wei: int
    max_priority_fee_per_gas_wei: int


def below_cap(cap_wei: int, bumps: int) -> int:
    """The highest fee that can be bumped so many times and still not exceed the cap."""
    for _ in range(bumps):
        cap_wei = cap_wei * 10 // 11
    return cap_wei


def quote(base_fee_wei: int | None, priority_fee_wei: int, cap_wei: int) -> Fees:
    """Twice the base fee, which lasts for at least six full blocks (it grows by at most 1/8 a
    block, EIP-1559), and the priority fee; both under the cap. Without a base fee
    `priority_fee_wei` is the gas price itself."""
    priority = min(priority_fee_wei, cap_wei)
    return Fees(min(2 * (base_fee_wei or 0) + priority, cap_wei), priority)


def first_quote(base_fee_wei: int | None, priority_fee_wei: int, cap_wei: int) -> Fees:
    """A quote for a transaction that is prepared for the first time: far enough below the cap that
    neither a replacement nor a no-op on its nonce can ever be locked out by it at once."""
    return quote(base_fee_wei, priority_fee_wei, below_cap(cap_wei, BUMPS_IN_RESERVE))


def bumped(previous: Fees, fresh: Fees) -> Fees:
    """A replacement's fees: at least 10 % more on both, rounded up, which is what nodes demand
    (geth's `pricebump`), or the fresh quote where that is more."""
    return Fees(
        max(fresh.max_fee_per_gas_wei, _raised(previous.max_fee_per_gas_wei)),
        max(fresh.max_priority_fee_per_gas_wei, _raised(previous.max_priority_fee_per_gas_wei)),
    )


def replacement(
    previous: Fees, base_fee_wei: int | None, priority_wei: int, cap: int
) -> Fees | None:
    """`bumped` under the cap, in wei; None when a bump would exceed it. The fresh quote stops one
    bump below the cap, so that a jump of the market cannot take the last replacement away."""
    fees = bumped(previous, quote(base_fee_wei, priority_wei, below_cap(cap, 1)))
    return fees if fees.max_fee_per_gas_wei <= cap else None


def _raised(fee_wei: int) -> int:
    return max(-(-fee_wei * 11 // 10), fee_wei + 1)


def with_margin(gas: int) -> int:
    """A gas limit from an estimate: a quarter more, rounded up, for state that moves meanwhile."""
    return -(-gas * 5 // 4)
