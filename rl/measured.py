"""What a workload is judged by, and what was measured of it: the values that sources and the objective share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

THROUGHPUT, LATENCY, ENERGY = "throughput", "latency-p99", "energy"

HIGHER, LOWER = 1, -1
"""Directions: which way is better."""

KINDS: dict[str, tuple[str, int]] = {THROUGHPUT: ("1/s", HIGHER), LATENCY: ("s", LOWER), ENERGY: ("W", LOWER)}
"""Kind to unit and direction. Energy is power: joules in an interval of any length."""

PROXY = "proxy"


class Problem(StrEnum):
    """Why there is no value."""

    FIRST = "first"
    """What is counted needs two reads, and this was the first, or the first after something else went wrong."""
    UNCHANGED = "unchanged"
    """Nothing was counted, or nothing was written, since the read before."""
    STALE = "stale"
    """That for so many reads that the source, not the workload, must be what stands still."""
    GONE = "gone"
    """What it is read from is not there, or no longer."""
    SLOW = "slow"
    """No answer within the time that the loop waits."""
    NOT_A_NUMBER = "not a number"
    NOT_POSITIVE = "not positive"
    """0 or less: of that there is no logarithm, and no change in per cent."""
    RESET = "reset"
    """The counter began again in this interval."""
    CLOCK = "clock"
    """No time passed, or the source's own clock jumped."""
    TOO_FEW = "too few"
    """Events in the interval, for a 99th percentile."""
    BEYOND = "beyond"
    """The 99th percentile is above the largest bucket that has a limit."""
    REFUSED = "refused"
    """The source answered with an error."""
    UNFIT = "unfit"
    """The source has no number of this kind."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that a workload is judged by."""

    kind: str
    """One of ``KINDS``."""
    source: str
    """As it was given, such as "redis:127.0.0.1:6379"; "proxy:..." where nothing was."""
    weight: float = 1.0
    unit: str = ""
    """Of the values; empty where the source's owner alone knows it. Judging does not depend on it."""
    direction: int = HIGHER

    @property
    def is_proxy(self) -> bool:
        """Tell whether it only stands for what matters."""
        return self.source.partition(":")[0] == PROXY

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"{self.weight:g}*"
        if self.is_proxy:
            return f"{weight}{self.kind} (proxy: {self.source.partition(':')[2]})"
        return f"{weight}{self.kind}={self.source}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one metric was in the interval that ended: a value above 0, or why there is none."""

    value: float | None
    t: float
    """When it was read, on the caller's clock, in seconds."""
    problem: Problem | None = None
    """None exactly where there is a value."""
    because: str = ""
    """The problem in words, with what was found."""
    noise: float | None = None
    """Relative standard error from counting so many events alone, where that is known: the real noise is greater."""
