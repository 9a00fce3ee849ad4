"""The running machine: every read, write, system call and command, with the errors of the kernel translated in one place.

``Host`` and its values are in ``hal.host_protocol``; everybody takes them from here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hal.errors import UnsupportedError, translate
from hal.host_protocol import CommandResult, Host, Scheduling
from hal.page_cache import cached_bytes
from hal.running import run
from hal.syscalls import syscall_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hal.netlink import Net

__all__ = ["CommandResult", "Host", "LinuxHost", "Scheduling"]

_libc = ctypes.CDLL(None, use_errno=True)

_PAGE = os.sysconf("SC_PAGE_SIZE")
_READ_AT_ONCE = 1 << 20
_MPOL_MF_MOVE = 1 << 1  # include/uapi/linux/mempolicy.h

# struct sched_attr (include/uapi/linux/sched/types.h): size, policy, flags, nice, priority, runtime, deadline, period,
# lowest and highest utilisation.
_SCHED_ATTR = struct.Struct("<IIQiIQQQII")


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

    def modified_ns(self, path: str) -> int:
        try:
            return os.stat(self._at(path)).st_mtime_ns
        except OSError as error:
            raise translate(error.errno or 0, path, "stat") from error

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> CommandResult:
        try:
            return run(argv, timeout_s=timeout_s)
        except OSError as error:
            raise translate(error.errno or 0, argv[0], "run") from error

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
        words = [ctypes.c_long(argument if argument < 1 << 63 else argument - (1 << 64)) for argument in arguments]
        result = int(_syscall(ctypes.c_long(syscall_number(name)), *words))
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
