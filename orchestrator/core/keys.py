"""What a request is called: its key on the log, from the id that its source gave it."""

from __future__ import annotations

REDEEM_PREFIX = "redeem:"


def mint_key(request_id: str) -> str:
    """Kuro's id as it is. Ids that begin like a redeem's key are refused at the edge."""
    return request_id


def redeem_key(chain_id: int, request_id: str) -> str:
    """With the chain: two contracts may issue the same id."""
    return f"{REDEEM_PREFIX}{chain_id}:{request_id}"
