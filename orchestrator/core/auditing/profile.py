"""The one place where the audit touches a contract's ways: what its events mean, what is signed for
it, and how its supply is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.contract import Approval, Profile
from orchestrator.core.hashing import keccak
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from schemas.base import RequestType

MINTS = "Minted"
ASKS = "RedeemRequested"
BURNS = ("Redeemed", "RedeemedAtOnce")
"""Events by what they mean. The second one of `BURNS` is request and evidence in one."""
BURNS_WHAT_WAS_ASKED = "Redeemed"

TOTAL_SUPPLY = "0x" + keccak(b"totalSupply()")[:4].hex()
"""ERC-20's `totalSupply()`; the answer is a uint256."""


class Ways:
    """One chain's contract, as its profile describes it."""

    def __init__(self, profile: Profile = ORCHESTRATOR) -> None:
        self._profile = profile
        self.topics: Sequence[str] = tuple(profile.event_topics)
        """topic0 of every event that matters."""

    def contract_id(self, request_id: str) -> str:
        """What the contract calls the request."""
        return self._profile.contract_id(request_id)

    def digest(self, approval: Approval) -> str:
        """What the key must have signed; 0x hex."""
        return self._profile.digest(approval)

    def event(self, topics: Sequence[str], data: str, place: str) -> tuple[str, str, str, int]:
        """Event, the contract's id of the request, account, amount. `place` (transaction hash and
        log index) names a redemption whose event carries no id. Raises ValueError for a log that
        does not decode."""
        found = self._profile.decode_event(topics, data, place)
        if found is None:
            raise ValueError("not an event of this contract")
        return found.event.value, found.request_id, found.account, found.amount


def approval(
    kind: RequestType,
    chain_id: int,
    address: str,
    request_id: str,
    account: str,
    amount: int,
    nonce: int,
    deadline: int,
) -> Approval:
    return Approval(kind, chain_id, address, request_id, account, amount, nonce, deadline)
