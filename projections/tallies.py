"""Buckets and percentiles of the kept sums (migrations 0002 and 0004). Pure.

Latencies are counted in bins of equal ratio, as in DDSketch (Masson, Rim and Lee, VLDB 2019): bin
i holds (g^(i-1), g^i] seconds with g = (1 + e) / (1 - e), and any percentile is then known with a
relative error of at most e = 2 %, however many requests there were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

WIDTHS_SECONDS = (10, 300)
"""Buckets are kept in these widths; wider ones are sums of them."""
RELATIVE_ERROR = 0.02
SHORTEST_SECONDS = 0.001

_RATIO = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)


def bucket(at: datetime, width_seconds: int) -> datetime:
    """The begin of the bucket that holds the moment."""
    seconds = math.floor(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % width_seconds, UTC)


def kept_width(width_seconds: int) -> int:
    """The widest kept bucket that a bucket of this width is made of."""
    return max(width for width in WIDTHS_SECONDS if width_seconds % width == 0)


def latency_bin(seconds: float) -> int:
    """As migration 0004 computes it."""
    return math.ceil(math.log(max(seconds, SHORTEST_SECONDS)) / math.log(_RATIO))


def bin_seconds(number: int) -> float:
    """The middle of a bin: no value of the bin is further from it than the relative error."""
    return float(2 * _RATIO**number / (_RATIO + 1))


def percentile(bins: Mapping[int, int], share: float) -> float | None:
    """The value that `share` (0 to 1) of the counted ones do not exceed; None without any."""
    total = sum(bins.values())
    rank = max(1, math.ceil(share * total))
    for number in sorted(bins):
        rank -= bins[number]
        if rank <= 0:
            return bin_seconds(number)
    return None
