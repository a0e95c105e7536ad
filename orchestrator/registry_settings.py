"""Where a chain's KYC registry is, and how it is asked. Which mints need it says the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.core.policy import address_or_none
from orchestrator.core.registry import DEFAULT_FUNCTION, checked_function


class Registry(NamedTuple):
    """`address` is None where none is set."""

    address: str | None = None
    function: str = DEFAULT_FUNCTION


NO_REGISTRY = Registry()


def registry_of(chain_id: int, environ: Mapping[str, str], problems: list[str]) -> Registry:
    name = f"KYC_REGISTRY_CONTRACT_ADDRESS_{chain_id}"
    given = environ.get(name, "")
    registry = address_or_none(given) if given else None
    if given and registry is None:
        problems.append(f"{name}: what is given is no address (0x, 40 hex digits, EIP-55)")
    name = f"KYC_REGISTRY_FUNCTION_{chain_id}"
    try:
        return Registry(registry, checked_function(environ.get(name) or DEFAULT_FUNCTION))
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return Registry(registry)
