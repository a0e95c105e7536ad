"""How many requests each address or token may make: counted in memory, or in a store that the
replicas share.

A sliding window (two counters a client, weighted) needs no list of moments and lets no burst of
twice the limit through at a window's edge. When the shared store does not answer, this process
counts for itself until it does: an outage of the counting must not be one of the answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from projections.database import describe

log = structlog.get_logger()

STORE_SECONDS = 0.5
"""How long an answer may wait for the shared store."""
RETRY_SECONDS = 10.0
"""For so long after the store failed, this process counts for itself."""


class Budget(StrEnum):
    """What a request is counted under; each has a limit of its own for every client."""

    DEFAULT = "default"
    PAGE = "page"
    """What the operators' page asks for again and again, and what it is made of."""
    MONITORING = "monitoring"
    TOKEN = "token"  # noqa: S105 - a name
    """Whoever shows a valid token, whatever is asked for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a client stands after a request. Times in seconds, rounded up."""

    budget: Budget
    allowed: bool
    limit: int
    window_seconds: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """The three headers in wide use (draft-ietf-httpapi-ratelimit-headers-03), and the two of
        its present form (-10), which name the policy."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
            "RateLimit-Policy": f'"{self.budget}";q={self.limit};w={self.window_seconds}',
            "RateLimit": f'"{self.budget}";r={self.remaining};t={self.reset_seconds}',
        }


def rate_limit(text: str) -> RateLimitItem | None:
    """`100/15minutes`; None for `off`."""
    return None if text == "off" else parse(text)


class Limiter:
    """Counts requests. `limits` holds a limit a budget, None for no limit."""

    def __init__(
        self, limits: Mapping[Budget, RateLimitItem | None], store_url: str | None = None
    ) -> None:
        self._limits = dict(limits)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _shared(store_url) if store_url else None
        self._failed_at = float("-inf")

    async def count(self, budget: Budget, client: str) -> Standing | None:
        """Count one request; None where the budget has no limit."""
        item = self._limits.get(budget)
        if item is None:
            return None
        if self._shared is not None and time.monotonic() - self._failed_at > RETRY_SECONDS:
            try:
                return await _count(self._shared, item, budget, client)
            except Exception as error:  # noqa: BLE001 - whatever the store's client raises
                self._failed_at = time.monotonic()
                log.warning("limit_store_unavailable", problem=describe(error))
        return await _count(self._own, item, budget, client)


def _shared(store_url: str) -> SlidingWindowCounterRateLimiter:
    """Redis or Valkey, which speak one protocol; `rediss://` for TLS."""
    url = "async+" + store_url.replace("valkey", "redis", 1)
    waits: dict[str, Any] = {
        "socket_timeout": STORE_SECONDS,
        "socket_connect_timeout": STORE_SECONDS,
    }
    storage: Any = storage_from_string(url, implementation="redispy", **waits)
    return SlidingWindowCounterRateLimiter(storage)


async def _count(
    limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, budget: Budget, client: str
) -> Standing:
    allowed = await limiter.hit(item, budget, client)
    stats = await limiter.get_window_stats(item, budget, client)
    reset = max(1, math.ceil(stats.reset_time - time.time()))
    remaining = stats.remaining if allowed else 0
    return Standing(budget, allowed, item.amount, item.get_expiry(), remaining, reset)
