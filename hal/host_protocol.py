"""What the project asks of a machine: the one seam that every read, write, system call and command goes through.

``hal.host.LinuxHost`` is the running machine, ``hal.fake.FakeHost`` one in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hal.netlink import Net


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a finished command left: exit status and decoded output."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Scheduling:
    """How the scheduler treats one thread; see sched_setattr(2)."""

    policy: int = 0
    nice: int = 0
    priority: int = 0
    flags: int = 0
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0


class Host(Protocol):
    """What the rest of the project may ask of a machine. All failures are ``HostError``."""

    def read_bytes(self, path: str) -> bytes:
        """Return the content of a file, whole."""
        ...

    def read_text(self, path: str) -> str:
        """Return the content of a file, decoded as UTF-8 with replacement."""
        ...

    def write_text(self, path: str, text: str) -> None:
        """Write to an existing file of the machine (sysfs, procfs, cgroupfs) in one ``write``."""
        ...

    def write_bytes(self, path: str, data: bytes, *, offset: int = 0) -> None:
        """Write into an existing binary file of the machine (PCI configuration space) at an offset."""
        ...

    def make_dir(self, path: str) -> None:
        """Make a directory: on cgroupfs, a group."""
        ...

    def remove_dir(self, path: str) -> None:
        """Remove an empty directory: on cgroupfs, a group that has no processes."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether a path exists (links followed)."""
        ...

    def read_link(self, path: str) -> str:
        """Return what a symbolic link points to."""
        ...

    def owner(self, path: str) -> int:
        """Return the uid that owns a path."""
        ...

    def mode(self, path: str) -> int:
        """Return the permission bits of a path: what the kernel lets nobody write has none for writing."""
        ...

    def modified_ns(self, path: str) -> int:
        """Return when a path was last written, in nanoseconds of Unix time."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> CommandResult:
        """Run a command without a shell and return what it printed; it and what it started is gone then.

        A command that does not finish in time has the status 124, as with timeout(1).
        """
        ...

    def euid(self) -> int:
        """Return the effective uid of this process."""
        ...

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC in nanoseconds, the clock that the kernel's BPF helpers use."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def affinity(self, tid: int) -> tuple[int, ...]:
        """Return the CPUs that a thread may run on, sorted."""
        ...

    def set_affinity(self, tid: int, cpus: Sequence[int]) -> None:
        """Let a thread run on these CPUs only; the kernel leaves out those that are absent or outside its cpuset."""
        ...

    def scheduling(self, tid: int) -> Scheduling:
        """Return how the scheduler treats a thread."""
        ...

    def set_scheduling(self, tid: int, wanted: Scheduling) -> None:
        """Set a thread's scheduling policy and nice value."""
        ...

    def set_nice(self, tid: int, nice: int) -> None:
        """Set a thread's nice value."""
        ...

    def move_pages(self, pid: int, addresses: NDArray[np.uint64], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Move pages of a process to nodes; return where each is then, or a negative errno; shapes are equal.

        -EAGAIN also stands for pages that the kernel did not come to: it stops after the first that it cannot move.
        """
        ...

    def advise(self, pid: int, start: int, ranges: Sequence[tuple[int, int]], advice: int) -> int:
        """Give the kernel advice (process_madvise) on (address, length) ranges of the process that began at ``start``.

        Returns:
            How many bytes were taken: less than all where the kernel stopped at the first range that it could not do.
        """
        ...

    def page_nodes(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the NUMA node of each page of a process, or a negative errno; same shape as ``addresses``."""
        ...

    def page_map(self, pid: int, address: int, count: int) -> NDArray[np.uint64]:
        """Return the entries of /proc/PID/pagemap for ``count`` pages of a process from an address on; fewer at its end.

        Bits are those of Documentation/admin-guide/mm/pagemap.rst; no frame numbers are asked for.
        """
        ...

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        """Return bytes of another process's memory; pages that are not there are faulted in as if it had read them."""
        ...

    def file_size(self, path: str) -> int:
        """Return the size of a regular file in bytes; ``UnsupportedError`` of what is none."""
        ...

    def cached(self, path: str, offset: int, length: int) -> int:
        """Return how many bytes of a part of a regular file are in the page cache, counted in pages."""
        ...

    def preload(self, path: str, offset: int, length: int) -> None:
        """Read a part of a regular file into the page cache, and wait until it is there."""
        ...

    def syscall(self, name: str, *arguments: int) -> int:
        """Make a raw system call (``perf_event_open``, ``bpf``, ...) and return its result."""
        ...

    def net(self) -> Net:
        """Return the network interfaces: those of the network namespace that the calling thread is in."""
        ...
