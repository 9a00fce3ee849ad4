"""Intervals in which the hypervisor gave the CPUs to other machines: what was measured then says nothing of any setting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from hal.errors import HalError
from hal.host import Host

MOST = 0.05
"""Share of the CPUs' time, beyond twice what is usual."""
BELIEVED = 3
"""So many intervals on end are how things are now."""


@dataclass(slots=True)
class Stolen:
    """Watches what is stolen from this machine, interval by interval; on bare metal, and where nothing tells, nothing is."""

    host: Host
    _usual: deque[float] = field(default_factory=lambda: deque(maxlen=12))
    _last: tuple[int, int] | None = None
    _strange: int = 0

    def refusal(self) -> str:
        """Look what was stolen since the last call; return why what was measured meanwhile does not count, "" where it does."""
        share = self._share()
        if share is None:
            return ""
        if share > MOST + 2 * (median(self._usual) if self._usual else 0.0):
            self._strange += 1
            if self._strange < BELIEVED:
                return f"the hypervisor took {share:.0%} of the CPUs' time: it does not count"
            self._usual.clear()
        self._strange = 0
        self._usual.append(share)
        return ""

    def _share(self) -> float | None:
        try:
            times = [int(word) for word in self.host.read_text("/proc/stat").split("\n", 1)[0].split()[1:9]]
        except (HalError, ValueError):
            return None
        if len(times) < 8:
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal: proc(5)
        now, before = (sum(times), times[7]), self._last
        self._last = now
        if before is None or now[0] <= before[0]:
            return None
        return (now[1] - before[1]) / (now[0] - before[0])
