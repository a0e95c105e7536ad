"""Asking a KYC registry: any view with one address that answers true or false."""

from __future__ import annotations

import re

from orchestrator.core.hashing import keccak

DEFAULT_FUNCTION = "isVerified(address)"
_FUNCTION = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,100}\(address\)")


def checked_function(text: str) -> str:
    """Raises ValueError that says what is wanted."""
    if _FUNCTION.fullmatch(text) is None:
        raise ValueError(f"a view with one address, such as {DEFAULT_FUNCTION}; it answers a bool")
    return text


def calldata(function: str, account: str) -> str:
    """Selector and argument, 0x hex (Solidity ABI)."""
    selector = keccak(function.encode())[:4].hex()
    return f"0x{selector}{account[2:].lower():0>64}"


_ANSWERS = {"0x" + "0" * 63 + "1": True, "0x" + "0" * 64: False}


def answer_of(data: str) -> bool | None:
    """One word, 1 or 0. Anything else is no answer (None): nobody is verified by a contract that is
    not there."""
    return _ANSWERS.get(data)
