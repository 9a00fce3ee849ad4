"""Samples of running threads from the kernel's software clock event: where they stood, and their registers.

No performance monitoring unit is needed: ``cpu-clock`` is a timer (``perf_event_open(2)``). Two sources with the same
face: ``CpuSampler`` watches every CPU and sees all threads, which needs CAP_PERFMON (or root, or
``kernel.perf_event_paranoid`` <= 0); ``ThreadSampler`` watches given threads and works on one's own without privilege.

The registers are those of user space. In a sample taken in the kernel they are what they were at entry to it, so only
samples with ``user`` set describe the instruction about to be executed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hal.errors import HostError, NotFoundError, NotPermittedError, PerfError, UnsupportedError
from hal.host import Host

# include/uapi/linux/perf_event.h
_TYPE_SOFTWARE = 1
_CPU_CLOCK = 0
_SAMPLE_IP, _SAMPLE_TID, _SAMPLE_TIME, _SAMPLE_REGS_USER = 1 << 0, 1 << 1, 1 << 2, 1 << 12
_FLAG_DISABLED, _FLAG_EXCLUDE_KERNEL, _FLAG_EXCLUDE_HV, _FLAG_EXCLUDE_IDLE = 1 << 0, 1 << 5, 1 << 6, 1 << 7
_FLAG_USE_CLOCKID = 1 << 25
_FLAG_FD_CLOEXEC = 8
_CLOCK_MONOTONIC = 1
_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_MISC_MODE_MASK, _MISC_USER = 7, 2
_IOC_ENABLE, _IOC_PERIOD, _IOC_SET_BPF = 0x2400, 0x40082404, 0x40042408
_ATTR_BYTES = 112  # PERF_ATTR_SIZE_VER5: the first with sample_regs_user and clockid, kernels from 4.1
_HEAD, _TAIL, _DATA_OFFSET, _DATA_SIZE = 1024 // 8, 1032 // 8, 1040 // 8, 1048 // 8

# arch/*/include/uapi/asm/perf_regs.h: general purpose registers and the stack pointer, in ascending order.
_REGISTERS: dict[str, tuple[tuple[str, int], ...]] = {
    "x86_64": (
        *((name, bit) for bit, name in enumerate(("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"))),
        *((f"r{8 + i}", 16 + i) for i in range(8)),
    ),
    "aarch64": (*((f"x{i}", i) for i in range(31)), ("sp", 31)),
}
_FIXED_WORDS = 5  # header, ip, pid and tid, time, abi
RING_BUDGET = 16 << 20
"""Most bytes of ring buffers over all CPUs or threads."""


def register_names(machine: str | None = None) -> tuple[str, ...]:
    """Return the names of the sampled registers, in the order of the columns of ``Samples.registers``.

    Raises:
        UnsupportedError: if instructions of this architecture cannot be sampled.
    """
    machine = machine or platform.machine()
    if machine not in _REGISTERS:
        raise UnsupportedError(f"no register layout for {machine}", subject=machine)
    return tuple(name for name, _ in _REGISTERS[machine])


@dataclass(frozen=True, slots=True)
class Samples:
    """``n`` samples, oldest first within each CPU or thread."""

    pid: NDArray[np.int32]
    tid: NDArray[np.int32]
    time_ns: NDArray[np.uint64]
    ip: NDArray[np.uint64]
    user: NDArray[np.bool_]
    bits: NDArray[np.uint8]
    """32 or 64: the mode of the user registers; 0 where there are none (kernel threads)."""
    registers: NDArray[np.uint64]
    """Shape (n, len(register_names()))."""
    lost: int = 0
    """Samples that the kernel dropped because a ring was full."""

    def __len__(self) -> int:
        return len(self.ip)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Samples:
        """Return the chosen samples (mask or indices); ``lost`` is kept."""
        return Samples(
            self.pid[chosen],
            self.tid[chosen],
            self.time_ns[chosen],
            self.ip[chosen],
            self.user[chosen],
            self.bits[chosen],
            self.registers[chosen],
            self.lost,
        )


def record_bytes(machine: str | None = None) -> int:
    """Return the size of one sample in a ring, in bytes."""
    return 8 * (_FIXED_WORDS + len(register_names(machine)))


def attributes(*, rate_hz: float, exclude_kernel: bool, machine: str | None = None) -> bytes:
    """Return a packed ``struct perf_event_attr`` for the sampled software clock."""
    registers = _REGISTERS[machine or platform.machine()]
    flags = _FLAG_DISABLED | _FLAG_EXCLUDE_HV | _FLAG_EXCLUDE_IDLE | _FLAG_USE_CLOCKID
    if exclude_kernel:
        flags |= _FLAG_EXCLUDE_KERNEL
    sampled = _SAMPLE_IP | _SAMPLE_TID | _SAMPLE_TIME | _SAMPLE_REGS_USER
    return struct.pack(
        "<IIQQQQQIIQQQQIIQII",
        _TYPE_SOFTWARE,
        _ATTR_BYTES,
        _CPU_CLOCK,
        _period_ns(rate_hz),
        sampled,
        0,  # read_format
        flags,
        1 << 30,  # wakeup_events: nobody sleeps on the ring, it is read once an interval
        0,  # bp_type
        0,  # config1
        0,  # config2
        0,  # branch_sample_type
        sum(1 << bit for _, bit in registers),
        0,  # sample_stack_user
        _CLOCK_MONOTONIC,
        0,  # sample_regs_intr
        0,  # aux_watermark
        0,  # sample_max_stack and reserved
    )


def _period_ns(rate_hz: float) -> int:
    return max(round(1e9 / rate_hz), 100_000)


def parse(data: bytes, registers: int) -> Samples:
    """Return the samples among perf records.

    Args:
        data: whole records, as copied from a ring; unknown record types are skipped.
        registers: number of registers in each sample.
    """
    words = memoryview(data).cast("Q")
    full = 8 * (_FIXED_WORDS + registers)
    whole: list[int] = []
    bare: list[int] = []
    at = lost = 0
    while at < len(words):
        header = words[at]
        size = header >> 48
        if size < 8:
            break
        kind = header & 0xFFFFFFFF
        if kind == _RECORD_SAMPLE:
            (whole if size == full else bare).append(at)
        elif kind == _RECORD_LOST:
            lost += words[at + 2]
        at += size >> 3
    array = np.frombuffer(data, dtype=np.uint64)
    return _gather(array, np.array(whole, dtype=np.intp), np.array(bare, dtype=np.intp), registers, lost)


def _gather(
    words: NDArray[np.uint64], whole: NDArray[np.intp], bare: NDArray[np.intp], registers: int, lost: int
) -> Samples:
    at = np.concatenate([whole, bare])
    values = np.zeros((len(at), registers), dtype=np.uint64)
    values[: len(whole)] = words[whole[:, None] + np.arange(_FIXED_WORDS, _FIXED_WORDS + registers)]
    bits = np.zeros(len(at), dtype=np.uint8)
    bits[: len(whole)] = np.where(words[whole + 4] == 2, 64, 32)
    misc = (words[at] >> np.uint64(32)) & np.uint64(_MISC_MODE_MASK)
    ids = words[at + 2]
    samples = Samples(
        (ids & np.uint64(0xFFFFFFFF)).astype(np.int32),
        (ids >> np.uint64(32)).astype(np.int32),
        words[at + 3],
        words[at + 1],
        misc == _MISC_USER,
        bits,
        values,
        lost,
    )
    return samples.where(np.argsort(samples.time_ns, kind="stable")) if len(bare) else samples


class _Ring:
    """One event with its ring buffer."""

    def __init__(self, host: Host, attr: bytes, *, pid: int, cpu: int, data_bytes: int) -> None:
        # The address of the attributes must stay valid during the call only.
        buffer = np.frombuffer(attr, dtype=np.uint8).copy()
        self.descriptor = host.syscall("perf_event_open", buffer.ctypes.data, pid, cpu, -1, _FLAG_FD_CLOEXEC)
        try:
            self._map = mmap.mmap(self.descriptor, mmap.PAGESIZE + data_bytes)
        except OSError as error:
            os.close(self.descriptor)
            raise PerfError(
                f"no ring buffer of {data_bytes >> 10} KiB for samples: {os.strerror(error.errno or 0)}",
                remedy="Raise kernel.perf_event_mlock_kb or `ulimit -l`, or run as root.",
            ) from error
        self._control = np.frombuffer(self._map, dtype=np.uint64, count=mmap.PAGESIZE // 8)
        self._offset = int(self._control[_DATA_OFFSET]) or mmap.PAGESIZE
        self._size = int(self._control[_DATA_SIZE]) or data_bytes
        self._barrier = threading.Lock()

    def enable(self) -> None:
        fcntl.ioctl(self.descriptor, _IOC_ENABLE, 0)

    def set_rate(self, rate_hz: float) -> None:
        fcntl.ioctl(self.descriptor, _IOC_PERIOD, struct.pack("<Q", _period_ns(rate_hz)))

    def attach_filter(self, program: int) -> None:
        fcntl.ioctl(self.descriptor, _IOC_SET_BPF, program)

    def take(self) -> bytes:
        """Return the records written since the last take, and free their room."""
        head = int(self._control[_HEAD])
        with self._barrier:  # an atomic read-modify-write: what follows is not read before the head (smp_rmb)
            tail = int(self._control[_TAIL])
        first, last = tail % self._size, head % self._size
        start = self._offset
        if head == tail:
            return b""
        if first < last:
            data = self._map[start + first : start + last]
        else:
            data = self._map[start + first : start + self._size] + self._map[start : start + last]
        with self._barrier:
            self._control[_TAIL] = head
        return data

    def close(self) -> None:
        if self.descriptor < 0:
            return
        del self._control
        self._map.close()
        os.close(self.descriptor)
        self.descriptor = -1


def _power_of_two(wanted: int, *, most: int) -> int:
    """Return the smallest power of two from one page up that is at least ``wanted``, kept below ``most``."""
    size = mmap.PAGESIZE
    while size < wanted and size * 2 <= most:
        size *= 2
    return size


class _Sampler:
    """What the two sources share: rings, rate, and taking everything out at once."""

    def __init__(self, host: Host, *, rate_hz: float, ring_bytes: int, exclude_kernel: bool) -> None:
        self._host = host
        self._registers = len(register_names())
        self._ring_bytes = ring_bytes
        self._rings: dict[int, _Ring] = {}
        self.rate_hz = rate_hz
        self.exclude_kernel = exclude_kernel

    def _attributes(self) -> bytes:
        return attributes(rate_hz=self.rate_hz, exclude_kernel=self.exclude_kernel)

    def set_rate(self, rate_hz: float) -> None:
        """Sample at another rate from now on."""
        self.rate_hz = rate_hz
        for ring in self._rings.values():
            ring.set_rate(rate_hz)

    def capacity(self) -> int:
        """Return how many samples one ring holds."""
        return self._ring_bytes // record_bytes()

    def take(self) -> Samples:
        """Return all samples since the last take."""
        return parse(b"".join(ring.take() for ring in self._rings.values()), self._registers)

    def close(self) -> None:
        """Stop sampling and free everything; may be called twice."""
        while self._rings:
            self._rings.popitem()[1].close()


class CpuSampler(_Sampler):
    """Samples whatever runs on each of the given CPUs.

    Args:
        cpus: CPUs to watch; those that are offline are left out.
        rate_hz: samples per second and CPU.
        samples: room wanted in each CPU's ring, in samples; bounded by ``RING_BUDGET`` over all CPUs.
        filter_program: descriptor of a loaded BPF program of type perf_event that answers 0 for samples to drop.

    Raises:
        NotPermittedError: without CAP_PERFMON.
        UnsupportedError: on an architecture without register layout, or a kernel without the event.
        PerfError: if the kernel grants no ring buffer.
    """

    def __init__(
        self, host: Host, cpus: Iterable[int], *, rate_hz: float, samples: int, filter_program: int | None = None
    ) -> None:
        wanted = list(cpus)
        size = _power_of_two(samples * record_bytes(), most=max(RING_BUDGET // max(len(wanted), 1), mmap.PAGESIZE))
        super().__init__(host, rate_hz=rate_hz, ring_bytes=size, exclude_kernel=False)
        try:
            for cpu in wanted:
                self._watch(cpu, filter_program)
        except Exception:
            self.close()
            raise
        if not self._rings:
            raise UnsupportedError("no CPU could be sampled", subject="perf_event_open")

    def _watch(self, cpu: int, filter_program: int | None) -> None:
        try:
            ring = _Ring(self._host, self._attributes(), pid=-1, cpu=cpu, data_bytes=self._ring_bytes)
        except UnsupportedError:  # ENODEV: offline
            return
        self._rings[cpu] = ring
        if filter_program is not None:
            ring.attach_filter(filter_program)
        ring.enable()


class ThreadSampler(_Sampler):
    """Samples given threads wherever they run, in user space only where the kernel grants no more.

    Args:
        rate_hz: samples per second of each thread's running time.
        samples: room wanted in each thread's ring, in samples; made smaller until the kernel grants it.
        most: threads watched at a time; each needs a descriptor and a ring.
    """

    def __init__(self, host: Host, *, rate_hz: float, samples: int, most: int = 128) -> None:
        size = _power_of_two(samples * record_bytes(), most=RING_BUDGET // most)
        super().__init__(host, rate_hz=rate_hz, ring_bytes=size, exclude_kernel=False)
        self._most = most
        self.watched = 1.0

    def follow(self, tids: frozenset[int]) -> None:
        """Watch these threads, and no longer those that are not among them; take the samples before calling this.

        ``watched`` says afterwards which share of them could be watched.

        Raises:
            NotPermittedError: if none may be watched.
            PerfError: if the kernel grants no ring buffer at all.
        """
        for tid in self._rings.keys() - tids:
            self._rings.pop(tid).close()
        refused: HostError | None = None
        for tid in sorted(tids - self._rings.keys())[: self._most - len(self._rings)]:
            try:
                ring = self._open(tid)
            except NotFoundError:  # ended meanwhile
                continue
            except NotPermittedError as error:
                refused = error
                continue
            self._rings[tid] = ring
            ring.enable()
        if refused is not None and not self._rings:
            raise refused
        self.watched = len(self._rings) / len(tids) if tids else 1.0

    def _open(self, tid: int) -> _Ring:
        while True:
            try:
                return _Ring(self._host, self._attributes(), pid=tid, cpu=-1, data_bytes=self._ring_bytes)
            except NotPermittedError:
                if self.exclude_kernel:
                    raise
                self.exclude_kernel = True  # kernel.perf_event_paranoid 2 allows user space
            except PerfError:
                if self._ring_bytes <= mmap.PAGESIZE:
                    raise
                self._ring_bytes //= 2
