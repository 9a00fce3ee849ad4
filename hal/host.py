"""The one seam to the machine: every read, write, system call and command goes through a ``Host``."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hal.errors import UnsupportedError, translate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_libc = ctypes.CDLL(None, use_errno=True)

# Numbers of the generic table (include/uapi/asm-generic/unistd.h), shared by aarch64, riscv64 and loongarch64,
# and of x86_64, which has its own.
_SYSCALLS = {
    "x86_64": {
        "read": 0,
        "close": 3,
        "ioctl": 16,
        "sched_setaffinity": 203,
        "sched_getaffinity": 204,
        "openat": 257,
        "move_pages": 279,
        "perf_event_open": 298,
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
        "move_pages": 239,
        "perf_event_open": 241,
        "prlimit64": 261,
        "bpf": 280,
        "pidfd_open": 434,
        "process_madvise": 440,
    },
}


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a finished command left: exit status and decoded output."""

    status: int
    stdout: str
    stderr: str


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

    def page_nodes(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the NUMA node of each page of a process, or a negative errno; same shape as ``addresses``."""
        ...

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        """Return bytes of another process's memory."""
        ...

    def syscall(self, name: str, *arguments: int) -> int:
        """Make a raw system call (``perf_event_open``, ``bpf``, ...) and return its result."""
        ...


class LinuxHost:
    """The running machine, or with ``root`` a captured tree of one (files only)."""

    def __init__(self, root: str | Path = "/") -> None:
        self._root = str(root).rstrip("/")

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

    def page_nodes(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        import numpy as np  # here, so that counting also runs where there is none (make lab-pmu)

        pages = np.ascontiguousarray(addresses, dtype=np.uint64)
        status = np.zeros(len(pages), dtype=np.int32)
        self.syscall("move_pages", pid, len(pages), pages.ctypes.data, 0, status.ctypes.data, 0)
        return status

    def read_memory(self, pid: int, address: int, size: int) -> bytes:
        path = f"/proc/{pid}/mem"
        try:
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, size, address)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error.errno or 0, path, "read") from error

    def syscall(self, name: str, *arguments: int) -> int:
        if self._root:
            raise UnsupportedError(f"a captured machine has no system calls ({name})", subject=name)
        table = _SYSCALLS.get(platform.machine(), _SYSCALLS["generic"])
        words = [ctypes.c_long(argument if argument < 1 << 63 else argument - (1 << 64)) for argument in arguments]
        result = int(_syscall(ctypes.c_long(table[name]), *words))
        if result < 0:
            raise translate(ctypes.get_errno(), name, "call")
        return result


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
