"""The feature table: every named, unit-bearing, rate-invariant number derived from a sample, and the demand beside them.

One table makes the numbers, `dna features` and the documentation page. A feature whose inputs are missing, or rest on
fewer than ``MIN_EVENTS`` events, is None: unknown, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna.sample import (
    CHANNELS,
    INSTRUCTION_CLASSES,
    SYSCALL_CLASSES,
    CounterReading,
    Counts,
    IoReading,
    MemoryReading,
    NetReading,
    Sample,
    quantile,
)
from dna.vector import Demand, Features

MIN_EVENTS = 16
"""Fewer events than this make a share or a quantile that says nothing (standard error above 0.12)."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a value becomes a number in [0, 1] for the encoder: linear or logarithmic between two limits, clipped."""

    low: float
    high: float
    log: bool = False

    def encode(self, value: float) -> float:
        """Map ``value`` to [0, 1]."""
        if self.log:
            position = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            position = (value - self.low) / (self.high - self.low)
        return min(max(position, 0.0), 1.0)

    def decode(self, position: float) -> float:
        """Return the value at ``position`` in [0, 1]."""
        if self.log:
            return float(self.low * (self.high / self.low) ** position)
        return self.low + position * (self.high - self.low)


SHARE = Scale(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table."""

    name: str
    unit: str
    meaning: str
    compute: Callable[[Sample], float | None]
    scale: Scale = SHARE

    @property
    def group(self) -> str:
        """The part of the name before the dot."""
        return self.name.split(".", 1)[0]


@dataclass(frozen=True, slots=True)
class Magnitude:
    """One row of the demand table: how much, beside how."""

    name: str
    unit: str
    meaning: str
    compute: Callable[[Sample], float | None]


def ratio(part: float | None, whole: float | None) -> float | None:
    """Return part / whole, None where either is unknown or the whole is not positive."""
    if part is None or whole is None or whole <= 0:
        return None
    return float(part) / float(whole)


def share(part: float | None, whole: float | None, *, least: float = MIN_EVENTS) -> float | None:
    """Return part / whole in [0, 1], None where unknown or the whole is below ``least`` events."""
    if whole is None or whole < least:
        return None
    value = ratio(part, whole)
    return None if value is None else min(max(value, 0.0), 1.0)


def entropy_bits(counts: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Return Shannon's entropy of a distribution given by counts, in bits."""
    total = float(counts.sum())
    if total <= 0:
        return 0.0
    p = counts[counts > 0] / total
    return float(-(p * np.log2(p)).sum()) + 0.0


def _cpu_seconds(s: Sample) -> float | None:
    return s.sched.oncpu_s if s.sched else None


_LEAST_CPU_S = 1e-3
"""Less CPU time than this in an interval makes a rate per CPU second meaningless."""


def _per_cpu_second(count: float | None, s: Sample) -> float | None:
    cpu = _cpu_seconds(s)
    return ratio(count, cpu) if cpu is not None and cpu >= _LEAST_CPU_S else None


def _seconds_quantile(histogram: Counts | None, q: float) -> float | None:
    value = _quantile(histogram, q)
    return None if value is None else value * 1e-9


def _quantile(histogram: Counts | None, q: float) -> float | None:
    return quantile(histogram, q) if histogram is not None and histogram.sum() >= MIN_EVENTS else None


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return float(sum(known)) if len(known) == len(parts) else None


# --- system calls


def _syscall_total(s: Sample) -> float | None:
    return float(s.syscalls.by_class.sum()) if s.syscalls else None


def _class_share(index: int) -> Callable[[Sample], float | None]:
    return lambda s: share(float(s.syscalls.by_class[index]), _syscall_total(s)) if s.syscalls else None


def _syscall_entropy(s: Sample) -> float | None:
    if s.syscalls is None or s.syscalls.by_class.sum() < MIN_EVENTS:
        return None
    return entropy_bits(np.array(list(s.syscalls.by_name.values()), dtype=np.float64))


def _blocked_share(index: int) -> Callable[[Sample], float | None]:
    def compute(s: Sample) -> float | None:
        if s.syscalls is None or s.syscalls.blocked_s is None:
            return None
        return share(float(s.syscalls.blocked_s[index]), float(s.syscalls.blocked_s.sum()), least=1e-3)

    return compute


def _latency(index: int, q: float) -> Callable[[Sample], float | None]:
    def compute(s: Sample) -> float | None:
        if s.syscalls is None or s.syscalls.latency is None:
            return None
        return _seconds_quantile(s.syscalls.latency[index], q)

    return compute


# --- scheduling


def _thread_seconds(s: Sample) -> float | None:
    if s.sched is None:
        return None
    return _sum(s.sched.oncpu_s, s.sched.runq_s, s.sched.offcpu_s)


def _switches(s: Sample) -> float | None:
    return _sum(s.sched.voluntary, s.sched.involuntary) if s.sched else None


def _core_spread(s: Sample) -> float | None:
    """Return the effective number of CPUs used (2 to the entropy) over the CPUs there are, 0 for one and 1 for all."""
    if s.sched is None or s.sched.oncpu_by_cpu is None or s.cpus < 2 or s.sched.oncpu_by_cpu.sum() < _LEAST_CPU_S:
        return None
    effective = 2.0 ** entropy_bits(s.sched.oncpu_by_cpu)
    return min(max((effective - 1.0) / (s.cpus - 1.0), 0.0), 1.0)


# --- counters


def _event(counters: CounterReading | None, *names: str) -> float | None:
    """Return the first of the named events that was counted."""
    if counters is None:
        return None
    return next((counters.events[name] for name in names if name in counters.events), None)


def _event_ratio(
    parts: tuple[str, ...], wholes: tuple[str, ...], scale: float = 1.0
) -> Callable[[Sample], float | None]:
    def compute(s: Sample) -> float | None:
        value = ratio(_event(s.counters, *parts), _event(s.counters, *wholes))
        return None if value is None else value * scale

    return compute


def _event_share(parts: tuple[str, ...], wholes: tuple[str, ...]) -> Callable[[Sample], float | None]:
    return lambda s: share(_event(s.counters, *parts), _event(s.counters, *wholes), least=1000)


# --- instructions


def _instruction_share(index: int) -> Callable[[Sample], float | None]:
    def compute(s: Sample) -> float | None:
        if s.instructions is None:
            return None
        return share(float(s.instructions.by_class[index]), float(s.instructions.by_class.sum()))

    return compute


def _access_random(s: Sample) -> float | None:
    """Return the share of sampled data accesses to pages not seen before, where addresses follow no direction.

    The share of pages seen once is the Good-Turing estimate of the mass of pages not yet seen (Good, Biometrika 1953).
    """
    i = s.instructions
    if i is None or i.direction is None:
        return None
    unseen = share(i.data_pages_once, i.data_accesses)
    return None if unseen is None else unseen * (1.0 - i.direction)


# --- memory


def _faults(s: Sample) -> float | None:
    return _sum(s.memory.minor_faults, s.memory.major_faults) if s.memory else None


def _fault_pattern_total(m: MemoryReading) -> float | None:
    return _sum(m.fault_sequential, m.fault_near, m.fault_random)


def _memory_share(
    part: Callable[[MemoryReading], float | None], whole: Callable[[MemoryReading], float | None]
) -> Callable[[Sample], float | None]:
    return lambda s: share(part(s.memory), whole(s.memory), least=1) if s.memory else None


def _fault_share(part: Callable[[MemoryReading], float | None]) -> Callable[[Sample], float | None]:
    return lambda s: share(part(s.memory), _fault_pattern_total(s.memory)) if s.memory else None


def node_seconds(oncpu_by_cpu: NDArray[np.float64], node_of_cpu: NDArray[np.int64], nodes: int) -> NDArray[np.float64]:
    """Return CPU time by NUMA node; both inputs have one entry per CPU."""
    return np.bincount(node_of_cpu, weights=oncpu_by_cpu, minlength=nodes)


def _numa_locality(s: Sample) -> float | None:
    """Return the chance that a page (of those accessed, where known, else of those resident) is on the node of a running thread."""
    m = s.memory
    if m is None or m.pages_by_node is None:
        return None
    if s.nodes == 1:
        return 1.0
    cpu = m.cpu_by_node
    pages = m.pages_by_node
    if m.accesses_by_node is not None and m.accesses_by_node.sum() >= 4 * MIN_EVENTS:
        pages = m.accesses_by_node
    if cpu is None or cpu.sum() <= 0 or pages.sum() < MIN_EVENTS:
        return None
    return float((cpu / cpu.sum()) @ (pages / pages.sum()))


def _numa_spread(s: Sample) -> float | None:
    m = s.memory
    if m is None or m.pages_by_node is None or m.pages_by_node.sum() < MIN_EVENTS:
        return None
    return 0.0 if s.nodes == 1 else entropy_bits(m.pages_by_node) / math.log2(s.nodes)


# --- I/O and network


def _io(part: Callable[[IoReading], float | None]) -> Callable[[Sample], float | None]:
    return lambda s: part(s.io) if s.io else None


def _io_bytes(i: IoReading) -> float | None:
    return _sum(i.read_bytes, i.write_bytes)


def _device_share(i: IoReading) -> float | None:
    return share(_sum(i.device_read_bytes, i.device_write_bytes), _io_bytes(i), least=65536)


def _net(part: Callable[[NetReading], float | None]) -> Callable[[Sample], float | None]:
    return lambda s: part(s.net) if s.net else None


def _net_bytes(n: NetReading) -> float | None:
    return _sum(n.sent_bytes, n.received_bytes)


# --- communication graph


def _wakeups(s: Sample) -> float | None:
    return float(s.graph.inside + s.graph.outside) if s.graph else None


def _density(s: Sample) -> float | None:
    if s.graph is None or s.graph.nodes < 2 or s.graph.inside < MIN_EVENTS:
        return None
    return min(s.graph.pairs / (s.graph.nodes * (s.graph.nodes - 1)), 1.0)


def _concentration(s: Sample) -> float | None:
    if s.graph is None or not s.graph.edges:
        return None
    return share(s.graph.edges[0].count, sum(edge.count for edge in s.graph.edges))


def _channel_share(index: int) -> Callable[[Sample], float | None]:
    return lambda s: share(float(s.graph.by_channel[index]), float(s.graph.by_channel.sum())) if s.graph else None


def _rate(count: float | None, s: Sample) -> float | None:
    return ratio(count, s.interval_s)


_CPU_RATE = Scale(1.0, 1e7, log=True)
_SECONDS = Scale(1e-7, 10.0, log=True)
_BYTES = Scale(1.0, 1 << 24, log=True)
_BYTES_PER_CPU_SECOND = Scale(1e3, 1e11, log=True)
_MPKI = Scale(0.01, 1000.0, log=True)

_CLASS_MEANING = {
    "file": "files and directories",
    "network": "sockets",
    "poll": "waiting for readiness (epoll, poll, select)",
    "memory": "mapping memory",
    "sync": "futexes and other synchronisation",
    "process": "processes, threads and signals",
    "time": "clocks, timers and sleeping",
    "other": "anything else",
}

_INSTRUCTION_MEANING = {
    "load": "read memory into a register",
    "store": "write memory",
    "branch": "jump, call or return",
    "integer": "integer and logic on registers",
    "scalar_fp": "scalar floating point",
    "vector": "vector (SIMD), integer or floating point",
    "other": "anything else",
}

FEATURES: tuple[Feature, ...] = (
    *(
        Feature(f"syscall.{name}_share", "share", f"system calls about {_CLASS_MEANING[name]}", _class_share(i))
        for i, name in enumerate(SYSCALL_CLASSES)
    ),
    Feature("syscall.entropy", "bit", "entropy of the mix of system calls", _syscall_entropy, Scale(0.0, 6.0)),
    Feature(
        "syscall.error_share",
        "share",
        "system calls that return an error",
        lambda s: share(s.syscalls.errors, _syscall_total(s)) if s.syscalls else None,
    ),
    Feature(
        "syscall.per_cpu_second",
        "1/s",
        "system calls per second of CPU time",
        lambda s: _per_cpu_second(_syscall_total(s), s),
        _CPU_RATE,
    ),
    *(
        Feature(
            f"syscall.{name}_blocked_share",
            "share",
            f"blocked time spent in calls about {_CLASS_MEANING[name]}",
            _blocked_share(i),
        )
        for i, name in enumerate(SYSCALL_CLASSES)
        if name in ("file", "network", "poll", "sync", "time", "other")
    ),
    Feature("syscall.file_latency_p50", "s", "median latency of file calls", _latency(0, 0.5), _SECONDS),
    Feature("syscall.file_latency_p99", "s", "99th percentile latency of file calls", _latency(0, 0.99), _SECONDS),
    Feature("syscall.network_latency_p50", "s", "median latency of socket calls", _latency(1, 0.5), _SECONDS),
    Feature(
        "syscall.network_latency_p99",
        "s",
        "99th percentile latency of socket calls",
        _latency(1, 0.99),
        _SECONDS,
    ),
    Feature(
        "sched.oncpu_share",
        "share",
        "thread time spent running",
        lambda s: share(_cpu_seconds(s), _thread_seconds(s), least=1e-3),
    ),
    Feature(
        "sched.runq_share",
        "share",
        "thread time spent runnable but waiting for a CPU",
        lambda s: share(s.sched.runq_s, _thread_seconds(s), least=1e-3) if s.sched else None,
    ),
    Feature(
        "sched.offcpu_share",
        "share",
        "thread time spent blocked",
        lambda s: share(s.sched.offcpu_s, _thread_seconds(s), least=1e-3) if s.sched else None,
    ),
    Feature(
        "sched.runq_p50",
        "s",
        "median run-queue latency",
        lambda s: _seconds_quantile(s.sched.runq, 0.5) if s.sched else None,
        _SECONDS,
    ),
    Feature(
        "sched.runq_p99",
        "s",
        "99th percentile run-queue latency",
        lambda s: _seconds_quantile(s.sched.runq, 0.99) if s.sched else None,
        _SECONDS,
    ),
    Feature(
        "sched.slice_p50",
        "s",
        "median uninterrupted time on a CPU",
        lambda s: _seconds_quantile(s.sched.slices, 0.5) if s.sched else None,
        _SECONDS,
    ),
    Feature(
        "sched.slice_p90",
        "s",
        "90th percentile uninterrupted time on a CPU",
        lambda s: _seconds_quantile(s.sched.slices, 0.9) if s.sched else None,
        _SECONDS,
    ),
    Feature(
        "sched.voluntary_share",
        "share",
        "context switches because the thread blocked",
        lambda s: share(s.sched.voluntary, _switches(s)) if s.sched else None,
    ),
    Feature(
        "sched.switches_per_cpu_second",
        "1/s",
        "context switches per second of CPU time",
        lambda s: _per_cpu_second(_switches(s), s),
        _CPU_RATE,
    ),
    Feature(
        "sched.migrations_per_switch",
        "ratio",
        "moves to another CPU per context switch",
        lambda s: share(s.sched.migrations, _switches(s)) if s.sched else None,
    ),
    Feature("sched.core_spread", "share", "CPUs used evenly: 0 one CPU, 1 all of the machine's", _core_spread),
    Feature(
        "sched.busiest_thread_share",
        "share",
        "CPU time of the busiest thread",
        lambda s: share(s.sched.busiest_thread_s, s.sched.oncpu_s, least=_LEAST_CPU_S) if s.sched else None,
    ),
    Feature(
        "sched.system_share",
        "share",
        "CPU time spent in the kernel",
        lambda s: share(s.sched.system_s, _sum(s.sched.user_s, s.sched.system_s), least=0.02) if s.sched else None,
    ),
    Feature(
        "cpu.ipc",
        "ratio",
        "instructions per cycle",
        _event_ratio(("instructions",), ("cycles",)),
        Scale(0.0, 6.0),
    ),
    Feature(
        "cpu.kernel_instruction_share",
        "share",
        "instructions executed in the kernel",
        _event_share(("instructions:k",), ("instructions",)),
    ),
    Feature(
        "cpu.llc_miss_ratio",
        "ratio",
        "last-level cache misses per reference",
        _event_share(("cache-misses",), ("cache-references",)),
    ),
    Feature(
        "cpu.llc_mpki",
        "1/kinstr",
        "last-level cache misses per 1000 instructions",
        _event_ratio(("cache-misses",), ("instructions",), 1000.0),
        _MPKI,
    ),
    Feature(
        "cpu.l1d_mpki",
        "1/kinstr",
        "L1 data cache load misses per 1000 instructions",
        _event_ratio(("L1-dcache-load-misses",), ("instructions",), 1000.0),
        _MPKI,
    ),
    Feature(
        "cpu.dtlb_mpki",
        "1/kinstr",
        "data TLB load misses per 1000 instructions",
        _event_ratio(("dTLB-load-misses",), ("instructions",), 1000.0),
        _MPKI,
    ),
    Feature(
        "cpu.itlb_mpki",
        "1/kinstr",
        "instruction TLB misses per 1000 instructions",
        _event_ratio(("iTLB-load-misses",), ("instructions",), 1000.0),
        _MPKI,
    ),
    Feature(
        "cpu.branch_mpki",
        "1/kinstr",
        "mispredicted branches per 1000 instructions",
        _event_ratio(("branch-misses",), ("instructions",), 1000.0),
        _MPKI,
    ),
    Feature(
        "cpu.branch_miss_ratio",
        "ratio",
        "mispredicted branches per branch",
        _event_share(("branch-misses",), ("branches",)),
    ),
    Feature(
        "cpu.frontend_stall_share",
        "share",
        "cycles stalled for instructions",
        _event_share(("stalled-cycles-frontend",), ("cycles",)),
    ),
    Feature(
        "cpu.backend_stall_share",
        "share",
        "cycles stalled for data or execution units",
        _event_share(("stalled-cycles-backend",), ("cycles",)),
    ),
    *(
        Feature(
            f"insn.{name}_share",
            "share",
            f"sampled instructions that {meaning}"
            if name in ("load", "store", "branch")
            else f"sampled instructions: {meaning}",
            _instruction_share(i),
        )
        for i, (name, meaning) in enumerate((n, _INSTRUCTION_MEANING[n]) for n in INSTRUCTION_CLASSES)
    ),
    Feature(
        "insn.kernel_share",
        "share",
        "samples of running threads that fell into the kernel",
        lambda s: (
            share(s.instructions.kernel_samples, s.instructions.user_samples + s.instructions.kernel_samples)
            if s.instructions
            else None
        ),
    ),
    Feature(
        "insn.hot_line_share",
        "share",
        "user samples in the ten hottest 64-byte lines of code",
        lambda s: (
            s.instructions.hot_line_share if s.instructions and s.instructions.user_samples >= MIN_EVENTS else None
        ),
    ),
    Feature(
        "memory.random_share",
        "share",
        "sampled data accesses that go to ever new pages in no direction",
        _access_random,
    ),
    Feature(
        "memory.new_page_share",
        "share",
        "sampled data accesses to pages touched once among the samples: a wide footprint",
        lambda s: share(s.instructions.data_pages_once, s.instructions.data_accesses) if s.instructions else None,
    ),
    Feature(
        "memory.direction",
        "share",
        "how far successive sampled addresses of an instruction run one way: 0 random, 1 streaming",
        lambda s: s.instructions.direction if s.instructions else None,
    ),
    Feature(
        "memory.faults_per_cpu_second",
        "1/s",
        "page faults per second of CPU time",
        lambda s: _per_cpu_second(_faults(s), s),
        _CPU_RATE,
    ),
    Feature(
        "memory.major_fault_share",
        "share",
        "page faults that waited for I/O",
        lambda s: share(s.memory.major_faults, _faults(s)) if s.memory else None,
    ),
    Feature(
        "memory.fault_sequential_share",
        "share",
        "page faults next to the thread's previous one",
        _fault_share(lambda m: m.fault_sequential),
    ),
    Feature(
        "memory.fault_random_share",
        "share",
        "page faults over 2 MiB from the thread's previous one",
        _fault_share(lambda m: m.fault_random),
    ),
    Feature(
        "memory.anonymous_share",
        "share",
        "resident memory that is anonymous (heap, stack)",
        _memory_share(lambda m: m.anonymous, lambda m: m.resident),
    ),
    Feature(
        "memory.file_share",
        "share",
        "resident memory that is mapped files",
        _memory_share(lambda m: m.file, lambda m: m.resident),
    ),
    Feature(
        "memory.shared_share",
        "share",
        "resident memory that is shared memory",
        _memory_share(lambda m: m.shared, lambda m: m.resident),
    ),
    Feature(
        "memory.swap_share",
        "share",
        "memory swapped out, of resident and swapped",
        _memory_share(lambda m: m.swap, lambda m: _sum(m.swap, m.resident)),
    ),
    Feature(
        "memory.hugepage_share",
        "share",
        "resident memory backed by huge pages",
        _memory_share(lambda m: m.hugepages, lambda m: m.resident),
    ),
    Feature(
        "memory.working_set_share",
        "share",
        "estimated working set of resident memory",
        _memory_share(lambda m: m.working_set, lambda m: m.resident),
    ),
    Feature(
        "memory.numa_locality",
        "share",
        "chance that an accessed page is on the node of the running thread",
        _numa_locality,
    ),
    Feature("memory.numa_spread", "share", "evenness of pages over nodes: 0 one node, 1 all alike", _numa_spread),
    Feature(
        "io.read_share",
        "share",
        "file bytes that are read",
        _io(lambda i: share(i.read_bytes, _io_bytes(i), least=4096)),
    ),
    Feature(
        "io.read_size_p50",
        "B",
        "median bytes a file read",
        _io(lambda i: _quantile(i.read_sizes, 0.5)),
        _BYTES,
    ),
    Feature(
        "io.write_size_p50",
        "B",
        "median bytes a file write",
        _io(lambda i: _quantile(i.write_sizes, 0.5)),
        _BYTES,
    ),
    Feature(
        "io.sequential_share",
        "share",
        "file reads and writes that go on where the last ended",
        _io(lambda i: share(i.sequential, i.positioned)),
    ),
    Feature(
        "io.sync_per_write",
        "ratio",
        "fsync-like calls per write",
        _io(lambda i: share(i.sync_calls, i.write_calls)),
    ),
    Feature(
        "io.device_share",
        "share",
        "file bytes that reached a device rather than the page cache",
        _io(_device_share),
    ),
    Feature(
        "io.block_latency_p50",
        "s",
        "median block request latency",
        _io(lambda i: _seconds_quantile(i.block_latency, 0.5)),
        _SECONDS,
    ),
    Feature(
        "io.block_latency_p99",
        "s",
        "99th percentile block request latency",
        _io(lambda i: _seconds_quantile(i.block_latency, 0.99)),
        _SECONDS,
    ),
    Feature(
        "io.bytes_per_cpu_second",
        "B/s",
        "file bytes per second of CPU time",
        lambda s: _per_cpu_second(_io_bytes(s.io), s) if s.io else None,
        _BYTES_PER_CPU_SECOND,
    ),
    Feature(
        "net.sent_share",
        "share",
        "socket bytes that are sent",
        _net(lambda n: share(n.sent_bytes, _net_bytes(n))),
    ),
    Feature(
        "net.sent_size_p50",
        "B",
        "median bytes a message sent",
        _net(lambda n: _quantile(n.sent_sizes, 0.5)),
        _BYTES,
    ),
    Feature(
        "net.received_size_p50",
        "B",
        "median bytes a message received",
        _net(lambda n: _quantile(n.received_sizes, 0.5)),
        _BYTES,
    ),
    Feature(
        "net.loopback_share",
        "share",
        "socket bytes exchanged with this host over IP",
        _net(lambda n: share(n.loopback_bytes, _net_bytes(n))),
    ),
    Feature(
        "net.unix_share",
        "share",
        "socket bytes through Unix sockets",
        _net(lambda n: share(n.unix_bytes, _net_bytes(n))),
    ),
    Feature(
        "net.bytes_per_cpu_second",
        "B/s",
        "socket bytes per second of CPU time",
        lambda s: _per_cpu_second(_net_bytes(s.net), s) if s.net else None,
        _BYTES_PER_CPU_SECOND,
    ),
    Feature(
        "comm.wakeups_per_cpu_second",
        "1/s",
        "wake-ups given and received per second of CPU time",
        lambda s: _per_cpu_second(_wakeups(s), s),
        _CPU_RATE,
    ),
    Feature(
        "comm.outside_share",
        "share",
        "wake-ups to or from other workloads",
        lambda s: share(s.graph.outside, _wakeups(s)) if s.graph else None,
    ),
    Feature("comm.density", "share", "pairs of threads that wake one another, of all pairs", _density),
    Feature(
        "comm.reciprocity",
        "share",
        "wake-up pairs that go both ways",
        lambda s: (
            share(s.graph.reciprocal_pairs, s.graph.pairs, least=1)
            if s.graph and s.graph.inside >= MIN_EVENTS
            else None
        ),
    ),
    Feature("comm.concentration", "share", "wake-ups on the heaviest edge", _concentration),
    *(
        Feature(
            f"comm.{name}_share",
            "share",
            f"wake-ups through {name if name != 'other' else 'anything else'}",
            _channel_share(i),
        )
        for i, name in enumerate(CHANNELS)
    ),
    Feature(
        "comm.cross_cache_share",
        "share",
        "wake-ups that cross last-level caches",
        lambda s: share(s.graph.cross_llc, _wakeups(s)) if s.graph else None,
    ),
    Feature(
        "comm.cross_node_share",
        "share",
        "wake-ups that cross NUMA nodes",
        lambda s: share(s.graph.cross_numa, _wakeups(s)) if s.graph else None,
    ),
    Feature(
        "pressure.cpu_some",
        "share",
        "time some task waited for a CPU",
        lambda s: s.pressure.cpu_some if s.pressure else None,
    ),
    Feature(
        "pressure.memory_some",
        "share",
        "time some task waited for memory",
        lambda s: s.pressure.memory_some if s.pressure else None,
    ),
    Feature(
        "pressure.memory_full",
        "share",
        "time all tasks waited for memory",
        lambda s: s.pressure.memory_full if s.pressure else None,
    ),
    Feature(
        "pressure.io_some",
        "share",
        "time some task waited for I/O",
        lambda s: s.pressure.io_some if s.pressure else None,
    ),
    Feature(
        "pressure.io_full",
        "share",
        "time all tasks waited for I/O",
        lambda s: s.pressure.io_full if s.pressure else None,
    ),
)

DEMAND: tuple[Magnitude, ...] = (
    Magnitude("cores", "1", "CPU time per second: cores kept busy", lambda s: _rate(_cpu_seconds(s), s)),
    Magnitude(
        "processes",
        "1",
        "processes at the interval's end",
        lambda s: float(s.sched.processes) if s.sched else None,
    ),
    Magnitude("threads", "1", "threads at the interval's end", lambda s: float(s.sched.threads) if s.sched else None),
    Magnitude(
        "resident",
        "B",
        "resident memory (summed over processes, shared pages counted in each)",
        lambda s: s.memory.resident if s.memory else None,
    ),
    Magnitude(
        "working_set",
        "B",
        "estimated bytes touched in the interval",
        lambda s: s.memory.working_set if s.memory else None,
    ),
    Magnitude("syscalls", "1/s", "system calls", lambda s: _rate(_syscall_total(s), s)),
    Magnitude("switches", "1/s", "context switches", lambda s: _rate(_switches(s), s)),
    Magnitude("faults", "1/s", "page faults", lambda s: _rate(_faults(s), s)),
    Magnitude("instructions", "1/s", "instructions", lambda s: _rate(_event(s.counters, "instructions"), s)),
    Magnitude("read", "B/s", "bytes read from files", lambda s: _rate(s.io.read_bytes, s) if s.io else None),
    Magnitude("written", "B/s", "bytes written to files", lambda s: _rate(s.io.write_bytes, s) if s.io else None),
    Magnitude(
        "io_calls",
        "1/s",
        "file reads and writes",
        lambda s: _rate(_sum(s.io.read_calls, s.io.write_calls), s) if s.io else None,
    ),
    Magnitude(
        "device",
        "B/s",
        "bytes to and from block devices",
        lambda s: _rate(_sum(s.io.device_read_bytes, s.io.device_write_bytes), s) if s.io else None,
    ),
    Magnitude("sent", "B/s", "bytes sent through sockets", lambda s: _rate(s.net.sent_bytes, s) if s.net else None),
    Magnitude(
        "received",
        "B/s",
        "bytes received through sockets",
        lambda s: _rate(s.net.received_bytes, s) if s.net else None,
    ),
    Magnitude(
        "messages",
        "1/s",
        "socket messages both ways",
        lambda s: _rate(_sum(s.net.sent, s.net.received), s) if s.net else None,
    ),
    Magnitude("connections", "1", "established TCP connections", lambda s: s.net.connections if s.net else None),
    Magnitude("wakeups", "1/s", "wake-ups given and received", lambda s: _rate(_wakeups(s), s)),
    Magnitude(
        "power",
        "W",
        "whole-machine power (RAPL packages)",
        lambda s: _rate(s.counters.energy_j.get("pkg"), s) if s.counters and s.counters.energy_j else None,
    ),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
BY_NAME: dict[str, Feature] = {feature.name: feature for feature in FEATURES}


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def features_of(sample: Sample) -> Features:
    """Return every feature of the table for one sample."""
    return {feature.name: _finite(feature.compute(sample)) for feature in FEATURES}


def demand_of(sample: Sample) -> Demand:
    """Return every magnitude of the demand table for one sample."""
    return {row.name: _finite(row.compute(sample)) for row in DEMAND}


def encode(features: Features) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (values in [0, 1], known), both of shape (len(FEATURES),); unknown values are 0 where ``known`` is False."""
    raw = [features.get(name) for name in FEATURE_NAMES]
    known = np.array([value is not None for value in raw], dtype=np.bool_)
    values = np.array(
        [0.0 if value is None else feature.scale.encode(value) for feature, value in zip(FEATURES, raw, strict=True)]
    )
    return values, known
