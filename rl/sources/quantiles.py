"""The 99th percentile of what fell into buckets in one interval, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

P99 = 0.99
LEAST_EVENTS = 100
"""Of fewer, the 99th percentile is the greatest value or beyond it, and says next to nothing."""


def quantile(limits: Sequence[float], counts: Sequence[float], q: float) -> float:
    """Return the ``q`` quantile, interpolated linearly in its bucket as Prometheus does; infinite in a bucket without limit.

    Args:
        limits: upper limits of the buckets, ascending; the first bucket begins at 0.
        counts: events in each bucket; not all 0.
    """
    rank = q * math.fsum(counts)
    before, low = 0.0, 0.0
    for limit, count in zip(limits, counts, strict=True):
        if count > 0 and before + count >= rank:
            return low + (limit - low) * max(rank - before, 0.0) / count if math.isfinite(limit) else math.inf
        before += count
        low = limit
    return low  # rounding alone leads here


def noise_of_quantile(limits: Sequence[float], counts: Sequence[float], q: float) -> float:
    """Return the relative standard error of the ``q`` quantile: half of what one deviation of its rank to both sides spans."""
    total = math.fsum(counts)
    deviation = math.sqrt(q * (1 - q) / total)
    middle = quantile(limits, counts, q)
    low, high = quantile(limits, counts, q - deviation), quantile(limits, counts, min(q + deviation, 1.0))
    return ((high - low) / 2 if math.isfinite(high) else middle - low) / middle
