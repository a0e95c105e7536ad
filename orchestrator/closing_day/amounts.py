"""Amounts of statements, as whole numbers of the smallest unit."""

from __future__ import annotations

import re

from orchestrator.errors import OrchestratorError

_AMOUNT = re.compile(r"([+-]?)(\d{1,30})(?:\.(\d{0,30}))?", re.ASCII)


class StatementError(OrchestratorError):
    """The statement cannot be read; says where and why. Nothing is concluded from it."""


def minor_units(text: str, decimals: int, place: str) -> int:
    """`12.5` is 1250 with two decimals. Raises StatementError for what is finer than that, for
    thousands separators and for exponents: nothing is rounded or guessed."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise StatementError(f"{place}: {text[:40]!r} is no amount")
    fraction = (found[3] or "").rstrip("0")
    if len(fraction) > decimals:
        raise StatementError(f"{place}: {text} is finer than {decimals} decimals")
    units = int(found[2] + fraction.ljust(decimals, "0"))
    return -units if found[1] == "-" else units
