"""What to pay for gas: EIP-1559 fees and their replacement rule. All in wei, all integers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559: the most to pay per gas, and the part of it that the block's producer keeps."""

    max_fee_per_gas_wei: int
    max_priority_fee_per_gas_wei: int


def quote(base_fee_wei: int, priority_fee_wei: int, cap_wei: int) -> Fees:
    """Twice the base fee, which lasts for at least six full blocks (it grows by at most 1/8 a
    block, EIP-1559), and the priority fee; both under the cap."""
    priority = min(priority_fee_wei, cap_wei)
    return Fees(min(2 * base_fee_wei + priority, cap_wei), priority)


def bumped(previous: Fees, fresh: Fees) -> Fees:
    """A replacement's fees: at least 10 % more on both, rounded up, which is what nodes demand
    (geth's `pricebump`), or the fresh quote where that is more."""
    return Fees(
        max(fresh.max_fee_per_gas_wei, -(-previous.max_fee_per_gas_wei * 11 // 10)),
        max(
            fresh.max_priority_fee_per_gas_wei,
            -(-previous.max_priority_fee_per_gas_wei * 11 // 10),
        ),
    )


def with_margin(gas: int) -> int:
    """A gas limit from an estimate: a quarter more, rounded up, for state that moves meanwhile."""
    return -(-gas * 5 // 4)
