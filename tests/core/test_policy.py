"""What may be drafted at all, and how input is brought to one form."""

from __future__ import annotations

import pytest
from eth_utils.address import to_checksum_address

from orchestrator.core.lifecycle import evolve
from orchestrator.core.owing import pending
from orchestrator.core.policy import (
    address_or_none,
    amount_or_none,
    normalised_amount,
    normalised_user,
    screen,
)
from schemas.base import UINT256_MAX
from schemas.requests import ApprovalDrafted, RejectionReason, RequestRejected
from tests.core.facts import CHAIN, TERMS, USER, received, record

SWAPPED = USER[:4] + USER[4:].swapcase()
BAD_ADDRESSES = [
    "",
    "0x",
    USER[2:],
    USER[:-1],
    USER + "0",
    SWAPPED,
    "0X" + USER[2:].lower(),
    " " + USER,
    USER + "\n",
    USER.replace("0", "O"),
    "0x" + "g" * 40,
    "0x" + "\uff10" * 40,
    "XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZS",
    "vitalik.eth",
    "null",
]
BAD_AMOUNTS = ["", " ", "-1", "+1", "1.0", "1.", "1e18", "0x10", "1_000", "1,000", " 1", "1\n"]
BAD_AMOUNTS += ["١٢٣", "１２", "²", "NaN", "Infinity", "one", "\u0000", "1\u0000"]


@pytest.mark.parametrize(
    "text", [USER, USER.lower(), "0x" + USER[2:].upper(), "0x" + "ab" * 20, "0x" + "0" * 39 + "1"]
)
def test_addresses_become_checksummed(text):
    assert address_or_none(text) == to_checksum_address(text)
    assert normalised_user(text) == to_checksum_address(text)
    assert screen(received(user=text), TERMS) is None


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_what_is_no_address_is_rejected_and_kept_as_it_came(text):
    assert address_or_none(text) is None
    assert normalised_user(text) == text
    assert screen(received(user=text), TERMS).reason is RejectionReason.INVALID_ADDRESS


def test_the_zero_address_is_rejected():
    rejection = screen(received(user="0x" + "0" * 40), TERMS)
    assert rejection.reason is RejectionReason.INVALID_ADDRESS
    assert "zero" in rejection.detail


@pytest.mark.parametrize("text", BAD_AMOUNTS)
def test_what_is_no_amount_is_rejected_and_kept_as_it_came(text):
    assert amount_or_none(text) is None
    assert normalised_amount(text) == text
    assert screen(received(amount=text), TERMS).reason is RejectionReason.INVALID_AMOUNT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("007", 7),
        ("0" * 5000 + "12", 12),
        (str(UINT256_MAX), UINT256_MAX),
        ("000" + str(UINT256_MAX), UINT256_MAX),
    ],
)
def test_amounts_lose_leading_zeros(text, value):
    assert amount_or_none(text) == value
    assert normalised_amount(text) == str(value)
    request = received(amount=text)
    assert screen(request, TERMS) is None
    state, _ = evolve(None, record(request))
    assert isinstance(pending(state, TERMS).fact, ApprovalDrafted)


@pytest.mark.parametrize("text", ["0", "000", "0" * 5000])
def test_zero_is_rejected(text):
    assert normalised_amount(text) == "0"
    assert screen(received(amount=text), TERMS).detail == "amount is zero"


@pytest.mark.parametrize(
    "text", [str(UINT256_MAX + 1), "9" * 78, "1" + "0" * 78, "9" * 4300, "9" * 4301, "9" * 100_000]
)
def test_amounts_above_uint256_are_rejected_and_never_raise(text):
    assert amount_or_none(text) > UINT256_MAX
    assert normalised_amount(text) == text
    rejection = screen(received(amount=text), TERMS)
    assert rejection.reason is RejectionReason.INVALID_AMOUNT
    assert len(rejection.detail) < 200


@pytest.mark.parametrize("chain_id", [1, CHAIN + 1, 2**63 - 1])
def test_unknown_chains_are_rejected_first(chain_id):
    rejection = screen(received(chain_id=chain_id, user="nonsense", amount="-1"), TERMS)
    assert rejection.reason is RejectionReason.UNKNOWN_CHAIN
    assert str(chain_id) in rejection.detail
    assert str(CHAIN) in rejection.detail


@pytest.mark.parametrize("fault", [{"user": "x"}, {"amount": "-1"}, {"chain_id": 7}])
def test_a_bad_request_owes_its_rejection(fault):
    state, _ = evolve(None, record(received(**fault)))
    owed = pending(state, TERMS).fact
    assert isinstance(owed, RequestRejected)
    state, _ = evolve(state, record(owed))
    assert pending(state, TERMS) is None
