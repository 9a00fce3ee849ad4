"""Page faults of a changing set of processes, counted once each, from /proc/PID/stat."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TICK_SLACK = 2


@dataclass(frozen=True, slots=True)
class ProcessFaults:
    """Fault counters of one process since it started; those of its children once they were waited for."""

    start: int
    """Start time in clock ticks after boot, which tells a reused pid."""
    parent: int
    minor: int
    major: int
    child_minor: int
    child_major: int


def parse_stat(text: str) -> ProcessFaults:
    """Return the fault counters in a /proc/PID/stat line (proc(5), fields 4, 10 to 13 and 22).

    Raises:
        ValueError: if the line is not one.
    """
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20:
        raise ValueError(f"not a /proc/PID/stat line: {text[:80]!r}")
    parent, minor, child_minor, major, child_major = (int(fields[i]) for i in (1, 7, 8, 9, 10))
    return ProcessFaults(int(fields[19]), parent, minor, major, child_minor, child_major)


class FaultLedger:
    """Turns counters of living processes into faults per interval.

    The kernel adds the counters of a child that ended, and those of its own children, to its parent's child counters when
    the parent waits for it. So an interval's faults are what the living processes added themselves, plus what their child
    counters grew by, less what had been counted already while those children lived. Faults after the last read of a child
    that nobody in the target waits for are lost.
    """

    def __init__(self) -> None:
        self._known: dict[int, ProcessFaults] = {}
        self._before_s: float | None = None

    def update(self, seen: Mapping[int, ProcessFaults], alive: Set[int], uptime_s: float) -> tuple[int, int]:
        """Return (minor, major) faults since the last update.

        Args:
            seen: counters of the processes that were read now.
            alive: all processes of the target that exist; known ones that were not read keep their old counters.
            uptime_s: seconds since boot before the counters were read.
        """
        counted = self._counted_of_ended(seen, alive)
        minor = major = 0
        for pid, now in seen.items():
            base = self._base(pid, now, self._before_s)
            counted_minor, counted_major = counted.get(pid, (0, 0))
            minor += max(now.minor - base.minor, 0) + max(now.child_minor - base.child_minor - counted_minor, 0)
            major += max(now.major - base.major, 0) + max(now.child_major - base.child_major - counted_major, 0)
        for pid in self._known.keys() - alive:
            del self._known[pid]
        self._known.update(seen)
        self._before_s = uptime_s
        return minor, major

    def _base(self, pid: int, now: ProcessFaults, before_s: float | None) -> ProcessFaults:
        """Return the counters to subtract: the last ones; nothing for a process born since; else all it has."""
        known = self._known.get(pid)
        if known is not None and known.start == now.start:
            return known
        if before_s is not None and now.start >= before_s * _TICKS_PER_S - _TICK_SLACK:
            return ProcessFaults(now.start, now.parent, 0, 0, 0, 0)
        return now

    def _counted_of_ended(self, seen: Mapping[int, ProcessFaults], alive: Set[int]) -> dict[int, tuple[int, int]]:
        """Return, by parent, the faults of children that ended which earlier updates have counted."""
        counted: dict[int, tuple[int, int]] = {}
        for pid, last in self._known.items():
            ended = pid not in alive or (pid in seen and seen[pid].start != last.start)
            if ended:
                waiter = self._waiter(last.parent, alive)
                minor, major = counted.get(waiter, (0, 0))
                counted[waiter] = (
                    minor + last.minor + last.child_minor,
                    major + last.major + last.child_major,
                )
        return counted

    def _waiter(self, parent: int, alive: Set[int]) -> int:
        """Return the nearest ancestor that still lives: a parent that ended too passed its children's counters on."""
        while parent not in alive and parent in self._known:
            parent = self._known[parent].parent
        return parent
