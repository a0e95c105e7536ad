"""What every handler finds on the application: `request.app[STORE]` and the like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from orchestrator.core.lane_views import STUCK_AFTER_REPLACEMENTS
from projections.lag import LogProbe
from projections.metrics import HttpMetrics
from projections.store import Store
from projections.usual import UsualTimes


@dataclass(frozen=True, slots=True)
class ApiTerms:
    """What the read side must know of the write side's settings to tell what is usual.

    `confirmations` by chain: the followed block stands so far below the head.
    """

    confirmations: Mapping[int, int] = field(default_factory=dict)
    replace_after_blocks: int = 5
    token_decimals: int = 18
    supply_compared_within_seconds: float = 0

    @property
    def stuck_after_blocks(self) -> int:
        return self.replace_after_blocks * STUCK_AFTER_REPLACEMENTS


STORE = web.AppKey("store", Store)
PROBE: web.AppKey[LogProbe | None] = web.AppKey("probe")
CHAINS: web.AppKey[Iterable[int]] = web.AppKey("chains")
TERMS = web.AppKey("terms", ApiTerms)
USUAL = web.AppKey("usual", UsualTimes)
HTTP_METRICS = web.AppKey("http_metrics", HttpMetrics)
