"""Intervals in which the hypervisor gave the CPUs to other machines: what was measured then says nothing of any setting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from hal.errors import HalError
from hal.host import Host

MOST = 0.05
"""Share of the CPUs' time, beyond twice what is usual."""
MOST_OF_A_TAIL = 0.01
"""The same where a 99th percentile is measured: what a hundredth of the requests meet decides it."""
BELIEVED = 3
"""So many intervals on end are how things are now."""


@dataclass(slots=True)
class Stolen:
    """Watches what is stolen from this machine, interval by interval; on bare metal, and where nothing tells, nothing is."""

    host: Host
    of_tail: bool = False
    """A percentile is measured: little is too much, and its window may reach into the interval before."""
    is_new: bool = False
    """So much was taken for so long now that it is how things are: what was compared with before cannot be any longer."""
    _usual: deque[float] = field(default_factory=lambda: deque(maxlen=12))
    _last: tuple[int, int] | None = None
    _refused: int = 0
    """Intervals on end."""
    _echoes: bool = False
    """The interval before was spoiled."""

    def refusal(self) -> str:
        """Look what was stolen since the last call; return why what was measured meanwhile does not count, "" where it does."""
        self.is_new = False
        share = self._share()
        if share is None:
            return ""
        most = MOST_OF_A_TAIL if self.of_tail else MOST
        is_burst = share > most + 2 * (median(self._usual) if self._usual else 0.0)
        echoes, self._echoes = self._echoes, is_burst and self.of_tail
        if (is_burst or echoes) and self._refused + 1 < BELIEVED:
            self._refused += 1
            if is_burst:
                return f"the hypervisor took {share:.0%} of the CPUs' time: it does not count"
            return "a percentile may hold some of the interval before, in which the hypervisor took the CPUs: it does not count"
        self.is_new = is_burst
        if is_burst:
            self._usual.clear()
            self._echoes = False
        self._refused = 0
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
