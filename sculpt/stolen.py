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
USUAL_OF = 12
"""What is usual is the median of so many intervals: what lasts for half of them is how things are."""


@dataclass(slots=True)
class Stolen:
    """Watches what is stolen from this machine, interval by interval; on bare metal, and where nothing tells, nothing is."""

    host: Host
    of_tail: bool = False
    """A percentile is measured: little is too much, and its window may reach into the interval before."""
    is_spoiled: bool = False
    """The latest interval does not count."""
    is_new: bool = False
    """So much was taken for so long now that it is how things are: what was compared with before cannot be any longer."""
    usual: float | None = None
    """Share of the CPUs' time that was usual when an interval counted last."""
    _shares: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL_OF))
    _last: tuple[int, int] | None = None
    _echoes: bool = False
    """The interval before was a burst."""

    def refusal(self) -> str:
        """Look what was stolen since the last call; return why what was measured meanwhile does not count, "" where it does."""
        self.is_spoiled = self.is_new = False
        share = self._share()
        if share is None:
            return ""
        self._shares.append(share)
        usual = median(self._shares)
        is_burst = share > self._most(usual)
        echoes, self._echoes = self._echoes, is_burst and self.of_tail
        self.is_spoiled = is_burst or echoes
        if is_burst:
            return f"the hypervisor took {share:.0%} of the CPUs' time: it does not count"
        if echoes:
            return "a percentile may hold some of the interval before, in which the hypervisor took the CPUs: it does not count"
        self.is_new = self.usual is not None and share > self._most(self.usual)
        self.usual = usual
        return ""

    def _most(self, usual: float) -> float:
        return (MOST_OF_A_TAIL if self.of_tail else MOST) + 2 * usual

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
