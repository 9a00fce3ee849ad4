"""From what a source holds at each read to what was so in the interval between two reads.

A measurement is of exactly the interval since the read before: where that read failed there is no measurement either, as
what was counted since an earlier one would be charged to a configuration that was not in force then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rl.measured import LATENCY, THROUGHPUT, Measured, Metric, Problem
from rl.sources.found import Count, Found, Level, Spread
from rl.sources.quantiles import LEAST_EVENTS, P99, noise_of_quantile, quantile


@dataclass(frozen=True, slots=True)
class Patience:
    """How many reads in a row may show the same before the source counts as standing still."""

    counts: int = 3
    """Of counters, and of what says when it was measured."""
    levels: int = 10
    """Of numbers as they are, which may well stay the same for a while."""


class Interpreter:
    """Makes measurements of one metric out of what was found; holds what was found last."""

    def __init__(self, metric: Metric, patience: Patience | None = None) -> None:
        self._metric = metric
        self._patience = patience or Patience()
        self._last: Found | None = None
        self._still = 0
        self._t = 0.0

    def fail(self, problem: Problem, because: str, t: float) -> Measured:
        """Return that there is no value; the next count begins anew."""
        self._last = None
        return Measured(None, t, problem, because)

    def take(self, found: Found, elapsed_s: float, t: float) -> Measured:
        """Return the measurement of the interval between the last time and now.

        Args:
            elapsed_s: how long that was, on a clock that never jumps.
            t: the caller's time.
        """
        self._t = t
        last, self._last = self._last, found
        match found:
            case Level():
                return self._level(found, last if isinstance(last, Level) else None)
            case Count():
                return self._count(found, last if isinstance(last, Count) else None, elapsed_s)
            case Spread():
                return self._spread(found, last if isinstance(last, Spread) else None, elapsed_s)

    # --- a number as it is

    def _level(self, now: Level, before: Level | None) -> Measured:
        if not math.isfinite(now.value):
            return self._none(Problem.NOT_A_NUMBER, f"it says {now.value}")
        if now.stamp is not None and before is None:
            return self._first()
        if before is not None and now == before:
            self._still += 1
            if now.stamp is not None:
                return self._unchanged("not written")
            if self._still >= self._patience.levels:
                return self._none(Problem.STALE, f"{now.value:g} in {self._still + 1} reads running")
        else:
            self._still = 0
        return self._value(now.value)

    # --- a counter

    def _count(self, now: Count, before: Count | None, elapsed_s: float) -> Measured:
        if self._metric.kind == LATENCY:
            return self._none(Problem.UNFIT, "a counter has no 99th percentile")
        if not math.isfinite(now.value):
            self._last = None
            return self._none(Problem.NOT_A_NUMBER, f"it says {now.value}")
        if before is None:
            return self._first()
        if now.epoch != before.epoch or now.value < before.value:
            return self._none(Problem.RESET, f"the counter began again: from {before.value:g} to {now.value:g}")
        seconds = _seconds(now, before, elapsed_s)
        if isinstance(seconds, str):
            return self._none(Problem.CLOCK, seconds)
        counted = now.value - before.value
        if counted <= 2 * now.own or seconds == 0:
            self._still += 1
            return self._unchanged("nothing counted")
        self._still = 0
        counted -= now.own
        return self._value(counted / seconds, noise=counted**-0.5 if now.of_events else None)

    # --- buckets

    def _spread(self, now: Spread, before: Spread | None, elapsed_s: float) -> Measured:
        if self._metric.kind not in (LATENCY, THROUGHPUT):
            return self._none(Problem.UNFIT, f"a histogram has no {self._metric.kind}")
        if before is None:
            return self._first()
        if now.epoch != before.epoch or now.limits != before.limits:
            return self._none(Problem.RESET, "the histogram began again")
        counts = [n - b for n, b in zip(now.counts, before.counts, strict=True)]
        if any(count < 0 or not math.isfinite(count) for count in counts):
            return self._none(Problem.RESET, "the histogram began again")
        total = math.fsum(counts)
        if total == 0:
            self._still += 1
            return self._unchanged("nothing counted")
        self._still = 0
        if self._metric.kind == LATENCY:
            return self._p99(now.limits, counts, total)
        if elapsed_s <= 0:
            return self._none(Problem.CLOCK, "no time passed between two reads")
        return self._value(total / elapsed_s, noise=total**-0.5)

    def _p99(self, limits: tuple[float, ...], counts: list[float], total: float) -> Measured:
        if total < LEAST_EVENTS:
            wanted = f"a 99th percentile takes {LEAST_EVENTS}: a longer --interval has more"
            return self._none(Problem.TOO_FEW, f"{total:g} in the interval; {wanted}")
        value = quantile(limits, counts, P99)
        if not math.isfinite(value):
            greatest = max((limit for limit in limits if math.isfinite(limit)), default=0.0)
            return self._none(Problem.BEYOND, f"above {greatest:g}, the largest bucket with a limit")
        return self._value(value, noise=noise_of_quantile(limits, counts, P99))

    # --- what comes of it

    def _value(self, value: float, noise: float | None = None) -> Measured:
        if not math.isfinite(value):
            return self._none(Problem.NOT_A_NUMBER, f"comes to {value}")
        if value <= 0:
            return self._none(Problem.NOT_POSITIVE, f"{value:g}")
        return Measured(value, self._t, noise=noise)

    def _first(self) -> Measured:
        return self._none(Problem.FIRST, "the first read; what happened in an interval shows at the next")

    def _unchanged(self, what: str) -> Measured:
        if self._still >= self._patience.counts:
            return self._none(Problem.STALE, f"{what} in {self._still} intervals running")
        return self._none(Problem.UNCHANGED, f"{what} since the read before")

    def _none(self, problem: Problem, because: str) -> Measured:
        return Measured(None, self._t, problem, because)


def _seconds(now: Count, before: Count, elapsed_s: float) -> float | str:
    """Return the time between two counts, by the source's own clock where it has one, or what is wrong with it."""
    if elapsed_s <= 0:
        return "no time passed between two reads"
    if now.stamp_s is None or before.stamp_s is None:
        return elapsed_s
    own = now.stamp_s - before.stamp_s
    if own == 0:
        return 0.0  # the same count, handed out once more
    if not elapsed_s / 2 <= own <= elapsed_s * 2:
        return f"its own clock moved by {own:g} s in {elapsed_s:.3g} s"
    return own
