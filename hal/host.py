"""The one seam to the machine: every read, write, system call and command goes through a ``Host``."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hal.errors import UnsupportedError, translate
from hal.page_cache import cached_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hal.netlink import Net

_libc = ctypes.CDLL(None, use_errno=True)

_PAGE = os.sysconf("SC_PAGE_SIZE")
_READ_AT_ONCE = 1 << 20
_MPOL_MF_MOVE = 1 << 1  # include/uapi/linux/mempolicy.h

# Numbers of the generic table (include/uapi/asm-generic/unistd.h), shared by aarch64, riscv64 and loongarch64,
# and of x86_64, which has its own.
_SYSCALLS = {
    "x86_64": {
        "read": 0,
        "close": 3,
        "ioctl": 16,
        "migrate_pages": 256,
        "sched_setaffinity": 203,
        "sched_getaffinity": 204,
        "openat": 257,
        "move_pages": 279,
        "perf_event_open": 298,
        "sched_setattr": 314,
        "sched_getattr": 315,
        "prlimit64": 302,
        "bpf": 321,
        "pidfd_open": 434,
        "process_madvise": 440,
    },
    "generic": {
        "ioctl": 29,
        "openat": 56,
        "close": 57,
        "read": 63,
        "sched_setaffinity": 122,
        "sched_getaffinity": 123,
        "migrate_pages": 238,
        "move_pages": 239,
        "perf_event_open": 241,
        "prlimit64": 261,
        "sched_setattr": 274,
        "sched_getattr": 275,
        "bpf": 280,
        "pidfd_open": 434,
        "process_madvise": 440,
    },
}

# struct sched_attr (include/uapi/linux/sched/types.h): size, policy, flags, nice, priority, runtime, deadline, period,
# lowest and highest utilisation.
_SCHED_ATTR = struct.Struct("<IIQiIQQQII")


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

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> CommandResult:
        """Run a command without a shell and return what it printed."""
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


class LinuxHost:
    """The running machine, or with ``root`` a captured tree of one (files only)."""

    def __init__(self, root: str | Path = "/") -> None:
        self._root = str(root).rstrip("/")
        self._net: Net | None = None

    @property
    def is_live(self) -> bool:
        """Tell whether this is the running machine, and not a captured tree of one."""
        return not self._root

    def _at(self, path: str) -> str:
        return self._root + path

    def read_bytes(self, path: str) -> bytes:
        try:
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read_all(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error.errno or 0, path, "read") from error

    def read_text(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "replace")

    def write_text(self, path: str, text: str) -> None:
        try:
            descriptor = os.open(self._at(path), os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error.errno or 0, path, "write") from error

    def write_bytes(self, path: str, data: bytes, *, offset: int = 0) -> None:
        try:
            descriptor = os.open(self._at(path), os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(descriptor, data, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error.errno or 0, path, "write") from error

    def make_dir(self, path: str) -> None:
        try:
            os.mkdir(self._at(path))
        except OSError as error:
            raise translate(error.errno or 0, path, "make") from error

    def remove_dir(self, path: str) -> None:
        try:
            os.rmdir(self._at(path))
        except OSError as error:
            raise translate(error.errno or 0, path, "remove") from error

    def list_dir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._at(path)))
        except OSError as error:
            raise translate(error.errno or 0, path, "list") from error

    def exists(self, path: str) -> bool:
        return os.path.exists(self._at(path))

    def read_link(self, path: str) -> str:
        try:
            return os.readlink(self._at(path))
        except OSError as error:
            raise translate(error.errno or 0, path, "read the link") from error

    def owner(self, path: str) -> int:
        try:
            return os.stat(self._at(path)).st_uid
        except OSError as error:
            raise translate(error.errno or 0, path, "stat") from error

    def mode(self, path: str) -> int:
        try:
            return os.stat(self._at(path)).st_mode & 0o7777
        except OSError as error:
            raise translate(error.errno or 0, path, "stat") from error

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> CommandResult:
        try:
            done = subprocess.run(
                list(argv),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return CommandResult(124, "", f"{argv[0]} did not finish within {timeout_s:g} s")
        except OSError as error:
            raise translate(error.errno or 0, argv[0], "run") from error
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def euid(self) -> int:
        return os.geteuid()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def affinity(self, tid: int) -> tuple[int, ...]:
        self._only_live("sched_getaffinity")
        try:
            return tuple(sorted(os.sched_getaffinity(tid)))
        except OSError as error:
            raise translate(error.errno or 0, f"thread {tid}", "read the affinity of") from error

    def set_affinity(self, tid: int, cpus: Sequence[int]) -> None:
        self._only_live("sched_setaffinity")
        try:
            os.sched_setaffinity(tid, cpus)
        except OSError as error:
            raise translate(error.errno or 0, f"thread {tid}", "set the affinity of") from error

    def scheduling(self, tid: int) -> Scheduling:
        buffer = ctypes.create_string_buffer(_SCHED_ATTR.size)
        self.syscall("sched_getattr", tid, ctypes.addressof(buffer), _SCHED_ATTR.size, 0)
        _, policy, flags, nice, priority, runtime, deadline, period, _, _ = _SCHED_ATTR.unpack(buffer)
        return Scheduling(policy, nice, priority, flags, runtime, deadline, period)

    def set_scheduling(self, tid: int, wanted: Scheduling) -> None:
        times = (wanted.runtime_ns, wanted.deadline_ns, wanted.period_ns)
        words = (_SCHED_ATTR.size, wanted.policy, wanted.flags, wanted.nice, wanted.priority, *times, 0, 0)
        buffer = ctypes.create_string_buffer(_SCHED_ATTR.pack(*words), _SCHED_ATTR.size)
        self.syscall("sched_setattr", tid, ctypes.addressof(buffer), 0)

    def set_nice(self, tid: int, nice: int) -> None:
        self._only_live("setpriority")
        try:
            os.setpriority(os.PRIO_PROCESS, tid, nice)
        except OSError as error:
            raise translate(error.errno or 0, f"thread {tid}", "set the nice value of") from error

    def move_pages(self, pid: int, addresses: NDArray[np.uint64], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
        import numpy as np

        pages = np.ascontiguousarray(addresses, dtype=np.uint64)
        targets = np.ascontiguousarray(nodes, dtype=np.int32)
        # The kernel leaves the status of what it did not come to as it was.
        status = np.full(len(pages), -errno.EAGAIN, dtype=np.int32)
        self.syscall(
            "move_pages", pid, len(pages), pages.ctypes.data, targets.ctypes.data, status.ctypes.data, _MPOL_MF_MOVE
        )
        return status

    def advise(self, pid: int, start: int, ranges: Sequence[tuple[int, int]], advice: int) -> int:
        vector = (ctypes.c_uint64 * (2 * len(ranges)))(*(word for pair in ranges for word in pair))
        descriptor = self.syscall("pidfd_open", pid, 0)
        try:
            # The descriptor now holds on to one process, whoever has this pid later: so this is the time to ask since when.
            if int(self.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]) != start:
                raise translate(errno.ESRCH, f"process {pid}", "advise on")
            return self.syscall("process_madvise", descriptor, ctypes.addressof(vector), len(ranges), advice, 0)
        finally:
            os.close(descriptor)

    def _only_live(self, name: str) -> None:
        if self._root:
            raise UnsupportedError(f"a captured machine has no system calls ({name})", subject=name)

    def page_nodes(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        import numpy as np  # here, so that counting also runs where there is none (make lab-pmu)

        pages = np.ascontiguousarray(addresses, dtype=np.uint64)
        status = np.zeros(len(pages), dtype=np.int32)
        self.syscall("move_pages", pid, len(pages), pages.ctypes.data, 0, status.ctypes.data, 0)
        return status

    def page_map(self, pid: int, address: int, count: int) -> NDArray[np.uint64]:
        import numpy as np

        entries = self._read_at(f"/proc/{pid}/pagemap", address // _PAGE * 8, count * 8)
        return np.frombuffer(entries, dtype=np.uint64)

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        return self._read_at(f"/proc/{pid}/mem", address, size)

    def _read_at(self, path: str, offset: int, size: int) -> bytes:
        try:
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, size, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error.errno or 0, path, "read") from error

    def file_size(self, path: str) -> int:
        with self._regular(path) as descriptor:
            return os.fstat(descriptor).st_size

    def cached(self, path: str, offset: int, length: int) -> int:
        with self._regular(path) as descriptor:
            return cached_bytes(descriptor, offset, min(length, os.fstat(descriptor).st_size - offset))

    def preload(self, path: str, offset: int, length: int) -> None:
        buffer = bytearray(min(length, _READ_AT_ONCE))
        with self._regular(path) as descriptor:
            end = offset + length
            while offset < end and (got := os.preadv(descriptor, [memoryview(buffer)[: end - offset]], offset)):
                offset += got

    @contextmanager
    def _regular(self, path: str) -> Iterator[int]:
        """Open a regular file for reading; what happens inside is translated too."""
        try:
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise UnsupportedError(f"{path} is no regular file", subject=path)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error.errno or 0, path, "read") from error

    def syscall(self, name: str, *arguments: int) -> int:
        self._only_live(name)
        table = _SYSCALLS.get(platform.machine(), _SYSCALLS["generic"])
        words = [ctypes.c_long(argument if argument < 1 << 63 else argument - (1 << 64)) for argument in arguments]
        result = int(_syscall(ctypes.c_long(table[name]), *words))
        if result < 0:
            raise translate(ctypes.get_errno(), name, "call")
        return result

    def net(self) -> Net:
        self._only_live("netlink")
        if self._net is None:
            from hal.netlink_linux import LinuxNet  # here: pyroute2 takes a second to load

            self._net = LinuxNet()
        return self._net


_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _read_all(descriptor: int) -> bytes:
    """Read to the end; files of procfs and sysfs report size 0, so sizes cannot be trusted."""
    first = os.read(descriptor, 65536)
    if len(first) < 4096:
        # seq_file hands out at most a page at a time; a short first read of a small file is nearly always all of it.
        rest = os.read(descriptor, 65536)
        if not rest:
            return first
        first += rest
    chunks = [first]
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)
