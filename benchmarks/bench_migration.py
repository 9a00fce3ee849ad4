"""Moving a program's pages between NUMA nodes under limits of bandwidth: how fast it goes, and that no second has more.

On a machine with two nodes or more a real program's memory goes there and back under each limit. On one with a single node there
is nowhere to move to: then the pacing is measured on a machine in memory that moves 2 GiB/s, and the report says so.
Run as root: python -m benchmarks.bench_migration
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Options, Report, options
from hal.fake import FakeHost
from hal.host import Host, LinuxHost
from hal.knobs.memory_placement import nodes_with_memory
from hal.mappings import PAGE
from hal.migration import BANDWIDTH, move, nodes_of, shares
from hal.processes import start_of

_MIB = 1 << 20
LIMITS = (64 * _MIB, 256 * _MIB, BANDWIDTH)
_SLACK = 1.02
_KERNEL_RATE = 2 << 30

_HOLDER = """
import mmap, sys
area = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(area), 4096): area[at] = 1
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is moved, and on which nodes it may be."""

    host: Host
    pid: int
    start: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One move: bytes a second over all of it, and in the busiest second."""

    overall: float
    busiest: float


class PacedHost(FakeHost):
    """A machine in memory whose kernel takes its time to move pages."""

    def move_pages(self, pid: int, addresses: NDArray[np.uint64], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Move, and let the clock go on for as long as that takes."""
        self.advance(len(addresses) * PAGE / _KERNEL_RATE)
        return super().move_pages(pid, addresses, nodes)


def in_memory(size: int) -> Subject:
    """Return a process on a machine in memory."""
    pid, base, kib = 100, 1 << 32, size // 1024
    host = PacedHost()
    host.start(pid, "program")
    host.files[f"/proc/{pid}/smaps"] = (
        f"{base:x}-{base + size:x} rw-p 00000000 00:00 0 \nRss: {kib} kB\nAnonymous: {kib} kB\nVmFlags: rd wr\n"
    )
    host.pages[pid] = {base + at: 0 for at in range(0, size, PAGE)}
    return Subject(host, pid, host.tasks[pid].start, (0, 1))


@contextmanager
def real(size: int) -> Iterator[Subject]:
    """Run a program that holds memory."""
    host = LinuxHost()
    words = [sys.executable, "-S", "-c", _HOLDER, str(size)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout
            program.stdout.readline()
            yield Subject(host, program.pid, start_of(host, program.pid) or 0, nodes_with_memory(host))
        finally:
            program.kill()


def there_and_back(subject: Subject, limit: float) -> Run:
    """Move all of it to the node that has least of it."""
    present = shares(nodes_of(subject.host, subject.pid))
    target = min(subject.nodes, key=lambda node: present.get(node, 0.0))
    steps: list[tuple[float, int]] = [(subject.host.monotonic_ns() / 1e9, 0)]
    done = move(
        subject.host,
        subject.pid,
        subject.start,
        {target: 1.0},
        bandwidth=limit,
        progress=lambda moved, _of: steps.append((subject.host.monotonic_ns() / 1e9, moved)),
    )
    return Run(done.bytes / done.seconds, busiest(steps, done.seconds))


def busiest(steps: Sequence[tuple[float, int]], seconds: float) -> float:
    """Return the most bytes a second in any window of a second, or of the whole where that is shorter."""
    width = min(1.0, seconds)
    times, moved = np.array([t for t, _ in steps]), np.array([b for _, b in steps])
    first = np.searchsorted(times, times - width, side="left")
    return float((moved - moved[first]).max() / width) if width else math.nan


def measure(given: Options, report: Report, subject: Subject) -> None:
    """Move under each limit in turn."""
    free = [there_and_back(subject, math.inf).overall for _ in range(given.rounds)]
    can = report.add("no limit", [rate / _MIB for rate in free], "MiB/s", form="{:.1f}") * _MIB
    for limit in sorted({*(float(limit) for limit in LIMITS if limit < can), can / 2}):
        runs = [there_and_back(subject, limit) for _ in range(given.rounds)]
        name = f"limit {limit / _MIB:.1f} MiB/s"
        report.add(f"{name}, overall", [run.overall / _MIB for run in runs], "MiB/s", form="{:.1f}")
        report.add(f"{name}, busiest second", [run.busiest / _MIB for run in runs], "MiB/s", form="{:.1f}")
        # Of a second's worth, one batch may have been on its way when the second began.
        report.judge(f"{name}: no second has more", all(run.busiest <= limit * (_SLACK + 1 / 64) for run in runs))
        used = statistics.median(run.overall for run in runs)
        report.judge(f"{name}: at least a quarter of it is used", used >= limit / 4)


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=5, quick_rounds=2)
    report = Report("migration", "pages moved between NUMA nodes under limits of bandwidth")
    nodes = len(nodes_with_memory(LinuxHost()))
    size = (32 if given.quick or nodes < 2 else 256) * _MIB
    report.note("memory", f"{size // _MIB} MiB")
    if nodes > 1:
        report.note("machine", f"{nodes} NUMA nodes")
        with real(size) as subject:
            measure(given, report, subject)
    else:
        report.note("machine", "one NUMA node, so that nothing can be moved here: in memory, with a clock of its own")
        measure(given, report, in_memory(size))
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
