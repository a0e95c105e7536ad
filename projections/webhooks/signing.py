"""Signatures of deliveries, as the Standard Webhooks specification 1.0.0 describes them.

HMAC-SHA256 with the secret's bytes over `id.timestamp.body`, base64, marked `v1`. Several secrets
give several signatures, so that a receiver can change over without losing a delivery.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret begins, none itself
SHORTEST_SECRET_BYTES = 24
LONGEST_SECRET_BYTES = 64


class BadSecret(ValueError):
    """The text is no secret of this form; the message does not repeat it."""


def secret_bytes(text: str) -> bytes:
    """Raises BadSecret."""
    if not text.startswith(SECRET_PREFIX):
        raise BadSecret(f"must begin with {SECRET_PREFIX}")
    try:
        found = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise BadSecret(f"what follows {SECRET_PREFIX} must be base64") from None
    if not SHORTEST_SECRET_BYTES <= len(found) <= LONGEST_SECRET_BYTES:
        raise BadSecret(f"must hold {SHORTEST_SECRET_BYTES} to {LONGEST_SECRET_BYTES} bytes")
    return found


def signature(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()


def headers(
    secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """`timestamp`: Unix seconds of this very attempt."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            signature(secret, webhook_id, timestamp, body) for secret in secrets
        ),
    }
