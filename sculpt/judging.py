"""What an interval was worth, as the loop asks for it: by the metrics that were given, or by a proxy where none were."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dna.vector import Interval
from hal.host import Host
from rl.measured import Metric, Problem
from rl.proxies import NO_PROXY, Proxy, proxy_for
from rl.reward import open_reader
from rl.sources.reader import SourceReader, read_all
from sculpt.objective import Objective, Reward
from sculpt.step import Judged


@dataclass(slots=True)
class ByMetrics:
    """Judges by metrics that are read from their sources. Read once before the first interval: what is counted needs two reads."""

    objective: Objective
    readers: Sequence[SourceReader]
    clock: Callable[[], float] = time.monotonic
    problems: Counter[Problem] = field(default_factory=Counter)
    """How often a value was missing, and why."""
    _last: float | None = None

    def __call__(self, interval: Interval, stall_s: float) -> Judged:
        """Read all metrics, which takes no longer than one of them may, and make one number of them."""
        now = self.clock()
        measured = read_all(self.readers, interval.t)
        elapsed_s = 0.0 if self._last is None else now - self._last
        self._last = now
        self.problems.update(one.problem for one in measured if one.problem is not None)
        return judged(self.objective.reward(measured, interval_s=elapsed_s, stall_s=stall_s))

    def close(self) -> None:
        """Release the sources."""
        for reader in self.readers:
            reader.close()


@dataclass(slots=True)
class ByProxy:
    """Judges by a proxy: the first that the workload shows, and from then on always that one."""

    proxy: Proxy | None = None
    clock: Callable[[], float] = time.monotonic
    problems: Counter[Problem] = field(default_factory=Counter)
    _last: float | None = None

    def __call__(self, interval: Interval, stall_s: float) -> Judged:
        """Take the proxy's number out of the interval; without a proxy there is no reward, and why is said."""
        now = self.clock()
        elapsed_s = 0.0 if self._last is None else now - self._last
        self._last = now
        if self.proxy is None:
            self.proxy = proxy_for(interval.features, interval.demand)
        if self.proxy is None:
            return Judged(None, NO_PROXY, has_objective=False)
        measured = self.proxy.measure(interval.features, interval.demand, interval.t)
        self.problems.update([measured.problem] if measured.problem else [])
        objective = Objective((self.proxy.metric,))
        return judged(objective.reward([measured], interval_s=elapsed_s, stall_s=stall_s))

    def close(self) -> None:
        """Nothing is held open."""


def judged(reward: Reward) -> Judged:
    """Return a reward as the loop takes it."""
    values = tuple((str(metric), one.value) for metric, one in reward.parts)
    return Judged(reward.value, reward.because, values)


def open_judge(metrics: Sequence[Metric], host: Host) -> ByMetrics | ByProxy:
    """Open what a workload is judged by: these metrics, or where there are none a proxy that its profile shows.

    Raises:
        MetricError: this machine does not have one of them, or this user may not read it.
    """
    if not metrics:
        return ByProxy()
    readers: list[SourceReader] = []
    try:
        for metric in metrics:
            readers.append(open_reader(metric, host))
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return ByMetrics(Objective(tuple(metrics)), readers)
