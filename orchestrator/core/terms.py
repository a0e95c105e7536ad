"""The part of the configuration that decisions depend on, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.contract import Profile
from orchestrator.core.orchestrator_profile import ORCHESTRATOR


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """One chain as the core knows it. Addresses are checksummed; `wallets` share the relaying."""

    chain_id: int
    contract: str
    wallets: tuple[str, ...]
    profile: Profile = ORCHESTRATOR


@dataclass(frozen=True, slots=True)
class Terms:
    """`approval_ttl_seconds` counts from the fact that opened the attempt to the deadline."""

    chains: Mapping[int, ChainTerms]
    approval_ttl_seconds: int
