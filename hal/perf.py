"""Counting events with perf_event_open(2): events by perf's names, groups, decoding and scaling.

Standard library only, and of a host nothing but ``syscall``: this file also runs where little else does (the emulated
machine of ``make lab-pmu``). Numbers and layouts are those of include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import ctypes
import difflib
import errno
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, Self

from hal.errors import HostError, PerfError

TYPE_HARDWARE, TYPE_SOFTWARE, TYPE_HW_CACHE = 0, 1, 3
FLAG_FD_CLOEXEC, FLAG_PID_CGROUP = 8, 4
_DISABLED, _INHERIT, _EXCLUDE_USER, _EXCLUDE_KERNEL, _EXCLUDE_HV = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 6
_FORMAT = 0b1111  # TOTAL_TIME_ENABLED | TOTAL_TIME_RUNNING | ID | GROUP
_IOC_ENABLE, _IOC_ID = 0x2400, 0x80082407
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0: nothing newer is needed, and every kernel knows it

COVERAGE_FLOOR = 0.05
"""A count that ran for less than this share of the time is rejected: scaling it by 20 and more makes noise."""

_HARDWARE = {
    "cycles": 0,
    "instructions": 1,
    "cache-references": 2,
    "cache-misses": 3,
    "branches": 4,
    "branch-misses": 5,
    "bus-cycles": 6,
    "stalled-cycles-frontend": 7,
    "stalled-cycles-backend": 8,
    "ref-cycles": 9,
}
_SOFTWARE = {
    "cpu-clock": 0,
    "task-clock": 1,
    "page-faults": 2,
    "context-switches": 3,
    "cpu-migrations": 4,
    "minor-faults": 5,
    "major-faults": 6,
    "alignment-faults": 7,
    "emulation-faults": 8,
    "cgroup-switches": 11,
}
_CACHES = {"L1-dcache": 0, "L1-icache": 1, "LLC": 2, "dTLB": 3, "iTLB": 4, "branch": 5, "node": 6}
_CACHE_USES = {
    "loads": 0,
    "load-misses": 1 << 16,
    "stores": 1 << 8,
    "store-misses": 1 << 8 | 1 << 16,
    "prefetches": 2 << 8,
    "prefetch-misses": 2 << 8 | 1 << 16,
}

EVENTS: Mapping[str, tuple[int, int]] = {
    **{name: (TYPE_HARDWARE, config) for name, config in _HARDWARE.items()},
    **{f"{c}-{u}": (TYPE_HW_CACHE, n | config) for c, n in _CACHES.items() for u, config in _CACHE_USES.items()},
    **{name: (TYPE_SOFTWARE, config) for name, config in _SOFTWARE.items()},
}
"""Name to (type, config). What a generic event means on a given PMU is the kernel driver's choice: ``cache-misses`` is the
last-level cache on Intel, the level-1 data cache on ARM."""


class SyscallHost(Protocol):
    """The part of ``hal.host.Host`` that counting needs: ``perf_event_open``, ``read``, ``ioctl`` and ``close``."""

    def syscall(self, name: str, *arguments: int) -> int:
        """Make a system call and return its result; failures are HostError with the errno in ``number``."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """One countable event; make it with ``event()``."""

    name: str
    type: int
    config: int
    exclude_user: bool = False
    exclude_kernel: bool = False

    @property
    def is_software(self) -> bool:
        """True for events that the kernel counts by itself, on every machine."""
        return self.type == TYPE_SOFTWARE

    def user_only(self) -> Event:
        """Return the same event counted in user space only, which needs less privilege."""
        return replace(self, exclude_kernel=True)

    def on(self, pmu_type: int) -> Event:
        """Return the event bound to one of several core PMUs (a hybrid CPU), by the type sysfs gives for it.

        The upper half of ``config`` names the PMU (PERF_PMU_TYPE_SHIFT; x86 since 5.13, ARM since 6.6).
        """
        if self.type not in (TYPE_HARDWARE, TYPE_HW_CACHE):
            return self
        return replace(self, config=self.config & 0xFFFFFFFF | pmu_type << 32)

    def attr(self, *, inherit: bool, disabled: bool) -> bytes:
        """Return the packed ``struct perf_event_attr``, 64 bytes."""
        flags = _EXCLUDE_HV if self.exclude_kernel else 0
        flags |= _DISABLED if disabled else 0
        flags |= _INHERIT if inherit else 0
        flags |= _EXCLUDE_USER if self.exclude_user else 0
        flags |= _EXCLUDE_KERNEL if self.exclude_kernel else 0
        return struct.pack("<IIQQQQQIIQ", self.type, _ATTR_SIZE, self.config, 0, 0, _FORMAT, flags, 0, 0, 0)


def event(name: str) -> Event:
    """Return an event by perf's name, with an optional modifier: ``cycles``, ``instructions:k``, ``LLC-load-misses:u``.

    Raises:
        PerfError: no event of that name, or another modifier than ``u``, ``k`` or ``uk``.
    """
    base, _, modifier = name.partition(":")
    if base not in EVENTS:
        near = difflib.get_close_matches(base, EVENTS, n=3)
        raise PerfError(
            f"no performance event is named {base!r}",
            remedy=f"did you mean {' or '.join(near)}?" if near else "see hal.perf.EVENTS for those there are",
        )
    if ":" in name and sorted(modifier) not in (["u"], ["k"], ["k", "u"]):
        raise PerfError(f"{name!r}: the modifier must be u (user space), k (kernel) or uk")
    kind, config = EVENTS[base]
    only = modifier if len(modifier) == 1 else ""
    return Event(name, kind, config, exclude_user=only == "k", exclude_kernel=only == "u")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a group counted: nanoseconds it was enabled, nanoseconds it was really on the PMU, one value an event."""

    enabled: int
    running: int
    values: tuple[int, ...]

    def since(self, earlier: Counts) -> Counts:
        """Return the difference, never negative."""
        values = (max(now - before, 0) for now, before in zip(self.values, earlier.values, strict=True))
        return Counts(max(self.enabled - earlier.enabled, 0), max(self.running - earlier.running, 0), tuple(values))

    def plus(self, other: Counts) -> Counts:
        """Return the sum, of groups of the same events on other threads or CPUs."""
        values = tuple(a + b for a, b in zip(self.values, other.values, strict=True))
        return Counts(self.enabled + other.enabled, self.running + other.running, values)

    @property
    def coverage(self) -> float:
        """The share of the enabled time that was counted, 0 to 1; 1 where there was no time to count in."""
        return min(self.running / self.enabled, 1.0) if self.enabled > 0 else 1.0


def zero(size: int) -> Counts:
    """Return nothing counted, for ``size`` events."""
    return Counts(0, 0, (0,) * size)


def scaled(counts: Counts, *, floor: float = COVERAGE_FLOOR) -> tuple[float, ...] | None:
    """Return the counts extrapolated to the whole enabled time, or None where too little of it was counted.

    A group shares the PMU with others by turns; value * enabled / running is what it would have counted alone.
    """
    if counts.enabled == 0:
        return tuple(float(value) for value in counts.values)
    if counts.running == 0 or counts.coverage < floor:
        return None
    factor = max(counts.enabled / counts.running, 1.0)
    return tuple(value * factor for value in counts.values)


def decode(data: bytes, ids: tuple[int, ...]) -> Counts:
    """Decode a group read into values in the order of ``ids``.

    Raises:
        PerfError: the record is cut off or lacks one of the ids.
    """
    if len(data) < 24:
        raise PerfError(f"a group read gave {len(data)} bytes")
    size, enabled, running = struct.unpack_from("<QQQ", data)
    if len(data) < 24 + 16 * size:
        raise PerfError(f"a group of {size} events gave {len(data)} bytes")
    words = struct.unpack_from(f"<{2 * size}Q", data, 24)
    if words[1::2] == ids:  # the usual case, and this runs for every thread of the target
        return Counts(enabled, running, words[::2])
    by_id = dict(zip(words[1::2], words[::2], strict=True))
    try:
        return Counts(enabled, running, tuple(by_id[identity] for identity in ids))
    except KeyError as error:
        raise PerfError(f"a group read lacks the event of id {error}") from error


class Group:
    """Events counted at the same moments, so that their ratios hold whatever else wants the PMU.

    The first is the leader. ``pid`` is a thread id (0: the caller), -1 for everything on ``cpu``, or with ``cgroup`` an
    open directory of a cgroup; ``cpu`` -1 is any. With ``inherit``, threads and processes that the thread starts later
    are counted too, and stay counted when they have ended; so do those they start. (Inherited groups can be read as one
    since kernel 4.13, commit 2aeb18835476.)

    Raises:
        HostError: the kernel refused an event; ``why_not`` says what that means.
    """

    def __init__(
        self,
        host: SyscallHost,
        events: Sequence[Event],
        *,
        pid: int = 0,
        cpu: int = -1,
        inherit: bool = False,
        cgroup: bool = False,
    ) -> None:
        self.events = tuple(events)
        self._host = host
        self._fds: list[int] = []
        self._ids: tuple[int, ...] = ()
        self._buffer = ctypes.create_string_buffer(24 + 16 * len(self.events))
        flags = FLAG_FD_CLOEXEC | (FLAG_PID_CGROUP if cgroup else 0)
        try:
            for one in self.events:
                self._open(one.attr(inherit=inherit, disabled=not self._fds), pid, cpu, flags)
            # The members follow their leader: enabling it last makes all begin at once.
            host.syscall("ioctl", self._fds[0], _IOC_ENABLE, 0)
        except BaseException:
            self.close()
            raise

    def _open(self, attr: bytes, pid: int, cpu: int, flags: int) -> None:
        packed = ctypes.create_string_buffer(attr, len(attr))
        leader = self._fds[0] if self._fds else -1
        self._fds.append(self._host.syscall("perf_event_open", ctypes.addressof(packed), pid, cpu, leader, flags))
        identity = ctypes.c_uint64()
        self._host.syscall("ioctl", self._fds[-1], _IOC_ID, ctypes.addressof(identity))
        self._ids += (identity.value,)

    def read(self) -> Counts | None:
        """Return what was counted since it was opened, children included; None where this read cannot be had.

        The kernel answers ECHILD while a child carries only part of the group, because it was forked in the middle of
        opening; once it is gone, nothing of the sum is lost.
        """
        try:
            size = self._host.syscall("read", self._fds[0], ctypes.addressof(self._buffer), len(self._buffer))
        except HostError as error:
            if error.number == errno.ECHILD:
                return None
            raise
        # A leader that could not be put on the PMU in an error state reads as end of file.
        return decode(self._buffer.raw[:size], self._ids) if size else None

    def close(self) -> None:
        """Release the descriptors, members first; harmless when closed before."""
        while self._fds:
            with suppress(HostError):
                self._host.syscall("close", self._fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event cannot be counted, and what would change that."""

    reason: str
    remedy: str = ""


def why_not(error: HostError) -> Refusal:
    """Say what an errno of ``perf_event_open`` means."""
    number = error.number
    if number in (errno.EACCES, errno.EPERM):
        return Refusal(
            "the kernel does not let this user count it",
            "run as root or with CAP_PERFMON, or lower it: sudo sysctl kernel.perf_event_paranoid=1",
        )
    if number in (errno.EMFILE, errno.ENFILE):
        return Refusal("out of file descriptors", "raise the limit: ulimit -n")
    if number == errno.ENOSYS:
        return Refusal("this kernel has no perf_event_open, or a seccomp filter (a container's) hides it")
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP, errno.EINVAL):
        return Refusal("this machine's PMU does not have it")
    if number == errno.EBUSY:
        return Refusal("another user of the PMU holds the counters")
    return Refusal(str(error))


def try_events(host: SyscallHost, events: Sequence[Event]) -> HostError | None:
    """Try to count a group on the caller itself; return None when it works, else the kernel's answer.

    Says also whether the events fit on the PMU together.
    """
    try:
        Group(host, events).close()
    except HostError as error:
        return error
    return None
