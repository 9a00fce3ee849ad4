"""A kernel in memory that answers perf_event_open and its kin, for a FakeHost."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hal.errors import translate
from hal.perf import EVENTS

NAME_OF = {number: name for name, number in EVENTS.items()}


@dataclass
class Opened:
    """One open event."""

    name: str
    pid: int
    cpu: int
    leader: int
    flags: int
    identity: int
    disabled: bool
    inherit: bool
    exclude_user: bool
    exclude_kernel: bool
    pmu: int
    value: int = 0
    enabled: int = 0
    running: int = 0


class PerfKernel:
    """``refuse`` decides by event, pid and cpu which errno an open gets (0: none); ``limit`` bounds open files."""

    def __init__(self, *, limit: tuple[int, int] = (1024, 4096)) -> None:
        self.open: dict[int, Opened] = {}
        self.limit = limit
        self.refuse: Callable[[Opened], int] = lambda opened: 0
        self.read_error = 0
        self._next = 100
        self.directories: dict[str, int] = {}

    @property
    def syscalls(self) -> Mapping[str, Callable[..., int]]:
        """For FakeHost."""
        return {
            "perf_event_open": self._perf_event_open,
            "ioctl": self._ioctl,
            "read": self._read,
            "close": self._close,
            "openat": self._openat,
            "prlimit64": self._prlimit,
        }

    def _perf_event_open(self, attr: int, pid: int, cpu: int, leader: int, flags: int) -> int:
        kind, size, config, _, _, read_format, bits, _, _, _ = struct.unpack("<IIQQQQQIIQ", ctypes.string_at(attr, 64))
        assert size == 64
        assert read_format == 15
        name = NAME_OF.get((kind, config & 0xFFFFFFFF), f"{kind}:{config}")
        opened = Opened(
            name,
            pid,
            cpu,
            leader,
            flags,
            0,
            bool(bits & 1),
            bool(bits & 2),
            bool(bits & 16),
            bool(bits & 32),
            config >> 32,
        )
        if len(self.open) >= self.limit[0]:
            raise translate(errno.EMFILE, "perf_event_open", "call")
        if number := self.refuse(opened):
            raise translate(number, "perf_event_open", "call")
        self._next += 1
        opened.identity = self._next * 1000
        self.open[self._next] = opened
        return self._next

    def _ioctl(self, fd: int, request: int, argument: int) -> int:
        if request == 0x2400:
            self.open[fd].disabled = False
        else:
            ctypes.c_uint64.from_address(argument).value = self.open[fd].identity
        return 0

    def group(self, fd: int) -> list[Opened]:
        """Return a leader and its members."""
        return [self.open[fd], *(one for one in self.open.values() if one.leader == fd)]

    def _read(self, fd: int, address: int, size: int) -> int:
        if self.read_error:
            raise translate(self.read_error, "read", "call")
        group = self.group(fd)
        data = struct.pack("<QQQ", len(group), group[0].enabled, group[0].running)
        for one in group[1:] + group[:1]:  # an order of its own: only the ids say which is which
            data += struct.pack("<QQ", one.value, one.identity)
        assert len(data) <= size
        ctypes.memmove(address, data, len(data))
        return len(data)

    def _close(self, fd: int) -> int:
        self.open.pop(fd, None)
        return 0

    def _openat(self, _at: int, path: int, _flags: int) -> int:
        name = ctypes.string_at(path).decode()
        if name not in self.directories:
            raise translate(errno.ENOENT, name, "open")
        return self.directories[name]

    def _prlimit(self, _pid: int, resource: int, new: int, old: int) -> int:
        assert resource == 7
        (ctypes.c_uint64 * 2).from_address(old)[:] = list(self.limit)
        if new:
            soft, hard = (ctypes.c_uint64 * 2).from_address(new)
            assert soft <= hard == self.limit[1]
            self.limit = (soft, hard)
        return 0

    def run(self, pid: int, *, ns: int = 1_000_000, share: float = 1.0, cpu: int | None = None, **counts: int) -> None:
        """Let a thread run: events get ``counts`` (names with ``_`` for ``-``, ``__k`` for ``:k``) times ``share``."""
        for one in self.open.values():
            if one.pid != pid or (cpu is not None and one.cpu not in (-1, cpu)):
                continue
            name = one.name.replace("-", "_") + ("__k" if one.exclude_user else "")
            software = EVENTS.get(one.name, (0, 0))[0] == 1
            part = 1.0 if software else share
            one.enabled += ns
            one.running += round(ns * part)
            one.value += round(counts.get(name, 0) * part)
