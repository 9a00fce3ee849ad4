"""Whether a measurement had the machine to itself: what other programs and the hypervisor took of its CPUs meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time since the machine was started, in seconds; the difference of two is that of what lay between."""

    by_all: float
    """In user mode and in the kernel, whoever did it; without that in interrupts, which nobody's count has."""
    by_own: float
    """Of this benchmark's processes, those that it started among them, as far as they still run."""
    stolen: float
    """In which a CPU was ready to run and the hypervisor ran another machine."""

    def lost_since(self, before: Used) -> float:
        """Return what others took since, in seconds of CPU time."""
        others = (self.by_all - before.by_all) - (self.by_own - before.by_own)
        return max(others, 0.0) + max(self.stolen - before.stolen, 0.0)


def used(stat: str = "/proc/stat") -> Used:
    """Read it.

    Args:
        stat: the kernel's count: proc(5).
    """
    user, nice, system, _idle, _wait, _irq, _softirq, stolen = map(int, Path(stat).read_text().split(None, 9)[1:9])
    return Used((user + nice + system) / TICKS, _own_s(), stolen / TICKS)


def _own_s() -> float:
    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
