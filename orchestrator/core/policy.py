"""What a request must be before anything is drafted for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.core.hashing import checksummed
from orchestrator.core.terms import Terms
from schemas.base import UINT256_MAX
from schemas.requests import RejectionReason, RequestReceived

ZERO_ADDRESS = "0x" + "0" * 40
_UINT256_DIGITS = len(str(UINT256_MAX))


@dataclass(frozen=True, slots=True)
class Rejection:
    reason: RejectionReason
    detail: str


@lru_cache(maxsize=65_536)
def address_or_none(text: str) -> str | None:
    """The EIP-55 form, or None. A mixed-case address must carry its checksum; one in a single case
    has none to check."""
    try:
        found = checksummed(text)
    except ValueError:
        return None
    digits = text[2:]
    return found if text == found or digits in (digits.lower(), digits.upper()) else None


def amount_or_none(text: str) -> int | None:
    """Base units from plain decimal digits, or None. Whatever is above the largest uint256 comes
    back as 2**256: Python refuses to convert very long digits."""
    digits = _digits_or_none(text)
    if digits is None:
        return None
    return int(digits) if len(digits) <= _UINT256_DIGITS else UINT256_MAX + 1


def normalised_user(text: str) -> str:
    """Checksummed where it is an address, as received where it is not."""
    return address_or_none(text) or text


def normalised_amount(text: str) -> str:
    """Without leading zeros where it is a number, as received where it is not."""
    return _digits_or_none(text) or text


def _digits_or_none(text: str) -> str | None:
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else None


def screen(request: RequestReceived, terms: Terms) -> Rejection | None:
    """Why nothing may be drafted for this request, or None."""
    if request.chain_id not in terms.chains:
        known = ", ".join(str(chain_id) for chain_id in sorted(terms.chains))
        return Rejection(
            RejectionReason.UNKNOWN_CHAIN,
            f"chain {request.chain_id} is not served here; configured: {known}",
        )
    account = address_or_none(request.user)
    if account is None:
        return Rejection(
            RejectionReason.INVALID_ADDRESS,
            f"user {request.user!r} is no address: 0x and 40 hex digits, with a valid EIP-55 "
            "checksum where upper and lower case are mixed",
        )
    if account == ZERO_ADDRESS:
        return Rejection(RejectionReason.INVALID_ADDRESS, "user is the zero address")
    amount = amount_or_none(request.amount)
    if amount is None:
        return Rejection(
            RejectionReason.INVALID_AMOUNT,
            f"amount {request.amount!r} is no whole number of base units: decimal digits only",
        )
    if amount == 0:
        return Rejection(RejectionReason.INVALID_AMOUNT, "amount is zero")
    if amount > UINT256_MAX:
        return Rejection(
            RejectionReason.INVALID_AMOUNT, "amount is above 2**256 - 1, the largest uint256"
        )
    return None
