"""What watching costs: CPU time of this process, and run time of its BPF programs."""

from __future__ import annotations

import time

from dna.probes.bpf.programs import Programs
from hal.host import Host

_WINDOW_S = 0.1
"""The kernel's accounting of BPF run time costs some 20 ns a run, so it is on for this long in each interval only."""


class Overhead:
    """Own cost by interval; ``tick`` is called when ``due_s`` has passed, or more often."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._programs: Programs | None = None
        self._cpu = time.process_time()
        self._window_began = 0
        self._open = False
        self._ran_before = 0.0
        self._rate: float | None = None

    def start(self, programs: Programs | None) -> None:
        """Begin the first interval."""
        self._programs = programs
        self._cpu = time.process_time()
        self._begin_window()

    def _begin_window(self) -> None:
        if self._programs is not None:
            self._programs.count_run_time(on=True)
            self._ran_before = self._ran()
            self._window_began = self._host.monotonic_ns()
            self._open = True

    def _ran(self) -> float:
        assert self._programs is not None
        return sum(seconds for seconds, _ in self._programs.run_time_s().values())

    def due_s(self) -> float:
        """Return how long until ``tick`` has something to do."""
        if not self._open:
            return float("inf")
        return max(_WINDOW_S - (self._host.monotonic_ns() - self._window_began) * 1e-9, 0.0)

    def tick(self) -> None:
        """Close the window once it has been open long enough."""
        if self._open and self.due_s() <= 0:
            self._end_window()

    def _end_window(self) -> None:
        assert self._programs is not None
        took = (self._host.monotonic_ns() - self._window_began) * 1e-9
        self._rate = (self._ran() - self._ran_before) / took if took > 0 else None
        self._programs.count_run_time(on=False)
        self._open = False

    def take(self, elapsed: float) -> tuple[float, float | None]:
        """Return (own CPU seconds, BPF seconds on all CPUs or None) of the interval that ends, and begin the next."""
        if self._open:
            self._end_window()
        cpu = time.process_time()
        own, self._cpu = cpu - self._cpu, cpu
        rate, self._rate = self._rate, None
        self._begin_window()
        return own, None if rate is None else rate * elapsed

    def close(self) -> None:
        """Leave the kernel's accounting off."""
        if self._open and self._programs is not None:
            self._programs.count_run_time(on=False)
            self._open = False
