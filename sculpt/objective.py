"""One number out of several metrics: the reward of an interval. Pure.

The reward is a weighted product, ``exp(sum of weight * direction * log(value))``, weights taken in proportion to the largest: the
difference of two rewards' logarithms is the gain of the metric that matters most where nothing else changed, so that limits
and budgets in per cent mean what they say. Units cancel. Throughput with energy, both of weight 1, is work per joule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rl.measured import THROUGHPUT, Measured, Metric

_MOST_STALLED = 0.99
"""Share of an interval: one that was nothing but stall still has a logarithm."""
_LARGEST = 700.0
"""Of a logarithm whose exponential is still a number."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What one interval was worth."""

    value: float | None
    """Above 0, greater is better; None when it cannot be told."""
    because: str = ""
    """Why it cannot be told."""
    parts: tuple[tuple[Metric, Measured], ...] = ()
    charged: float = 0.0
    """The logarithm that the change itself cost."""
    noise: float | None = None
    """Relative standard error from counting events alone; None where that of any part is not known."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What a workload is judged by. At least one metric."""

    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("an objective needs a metric")

    @property
    def weights(self) -> tuple[float, ...]:
        """The metrics' weights, the largest 1."""
        largest = max(metric.weight for metric in self.metrics)
        return tuple(metric.weight / largest for metric in self.metrics)

    @property
    def shows_stalls(self) -> bool:
        """Tell whether a change that stops the workload shows in what is measured: work that was not done is missing."""
        return any(metric.kind == THROUGHPUT for metric in self.metrics)

    def reward(self, measured: Sequence[Measured], *, interval_s: float, stall_s: float = 0.0) -> Reward:
        """Return the reward of an interval in which the metrics were this; same order and length.

        Args:
            stall_s: of the interval, how long the change itself held up the workload, as while pages move. A throughput shows it
                already; a 99th percentile, or power, hardly or the wrong way, and is charged the share of time that was lost.

        Returns:
            A reward without value where any part is missing: what is left would be another objective.
        """
        parts = tuple(zip(self.metrics, measured, strict=True))
        missing = [f"{metric}: {_why(one)}" for metric, one in parts if one.value is None or not one.value > 0]
        if missing:
            return Reward(None, "; ".join(missing), parts)
        charged = 0.0 if self.shows_stalls else _charge(stall_s, interval_s)
        logarithm = charged + math.fsum(
            weight * metric.direction * math.log(one.value)
            for weight, (metric, one) in zip(self.weights, parts, strict=True)
            if one.value is not None
        )
        if not math.isfinite(logarithm):
            return Reward(None, "what was measured is no finite number", parts)
        value = math.exp(min(max(logarithm, -_LARGEST), _LARGEST))
        return Reward(value, "", parts, charged, self._noise(measured))

    def _noise(self, measured: Sequence[Measured]) -> float | None:
        known = [one.noise for one in measured if one.noise is not None]
        if len(known) < len(measured):
            return None
        return math.hypot(*(weight * noise for weight, noise in zip(self.weights, known, strict=True)))


def _why(one: Measured) -> str:
    return f"{one.problem or 'no value'} ({one.because})" if one.because else str(one.problem or "no value")


def _charge(stall_s: float, interval_s: float) -> float:
    if stall_s <= 0 or interval_s <= 0:
        return 0.0
    return math.log1p(-min(stall_s / interval_s, _MOST_STALLED))
