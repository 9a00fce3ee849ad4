"""What all probes measured over one interval, in SI units, with its quality.

A probe that did not run leaves ``None`` and a reason in ``Quality.missing``; a value that a probe could not measure is
``None`` inside its reading. Nothing unknown is ever 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

type Counts = NDArray[np.int64]
type Seconds = NDArray[np.float64]

BUCKETS = 40
"""Histograms have this many buckets; bucket ``i`` counts values in ``[2**i, 2**(i+1))`` nanoseconds or bytes (0 counts in 0)."""

SYSCALL_CLASSES = ("file", "network", "poll", "memory", "sync", "process", "time", "other")
"""Classes of system calls, in the order of every array that is indexed by class."""

INSTRUCTION_CLASSES = ("load", "store", "branch", "integer", "scalar_fp", "vector", "other")
"""Classes of sampled instructions; one instruction is in exactly one class."""

CHANNELS = ("futex", "pipe", "socket", "other")
"""What a wake-up went through, where known."""


@dataclass(frozen=True, slots=True)
class SyscallReading:
    """System calls made by the target."""

    by_name: Mapping[str, int]
    by_class: Counts
    """Calls, shape (8,)."""
    errors: int | None
    blocked_s: Seconds | None
    """Time threads were off CPU and not runnable inside each class, shape (8,); time outside any call counts as "other"."""
    latency: Counts | None
    """Sampled latency in ns, blocked time included, shape (8, BUCKETS)."""
    sample_every: int = 1


@dataclass(frozen=True, slots=True)
class SchedReading:
    """How the target's threads ran."""

    oncpu_s: float
    runq_s: float | None
    """Time threads were runnable but waiting for a CPU."""
    offcpu_s: float | None
    """Time threads that ran at all were blocked; those that slept through the interval are left out."""
    runq: Counts | None
    """Run-queue latency in ns, shape (BUCKETS,)."""
    slices: Counts | None
    """Uninterrupted time on CPU in ns, shape (BUCKETS,)."""
    voluntary: int | None
    involuntary: int | None
    migrations: int | None
    oncpu_by_cpu: Seconds | None
    """Shape (number of CPUs,)."""
    busiest_thread_s: float | None
    user_s: float | None
    system_s: float | None
    processes: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True)
class CounterReading:
    """Scaled event counts of the performance monitoring unit and the kernel's software events.

    ``events`` has only events that were really counted, by perf's name (``cycles``, ``instructions``,
    ``instructions:k``, ``LLC-load-misses``, ``page-faults``, ...); ``coverage`` the share of the time each was counting.
    """

    events: Mapping[str, float]
    coverage: Mapping[str, float]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Event name to reason."""
    energy_j: Mapping[str, float] = field(default_factory=dict)
    """Whole-machine energy by RAPL domain (``pkg``, ``ram``, ...)."""


@dataclass(frozen=True, slots=True)
class InstructionReading:
    """Instruction pointers sampled by time, decoded."""

    user_samples: int
    kernel_samples: int | None
    """None where the kernel allows sampling of user space only."""
    by_class: Counts
    """Decoded user-space samples, shape (7,)."""
    undecoded: int
    hot_line_share: float | None
    """Share of user samples in the ten hottest 64-byte lines of code."""
    data_accesses: int = 0
    """User samples whose instruction accesses memory at an address that could be computed."""
    data_pages: int = 0
    """Distinct 4 KiB pages among them."""
    data_pages_once: int = 0
    data_pages_twice: int = 0
    direction: float | None = None
    """0 where successive addresses of one instruction go up as often as down, 1 where always the same way."""
    data_addresses: NDArray[np.uint64] | None = None
    """Page addresses of the accesses, for asking where they live; pid in ``data_pids``."""
    data_pids: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Faults, residency and placement."""

    minor_faults: int | None
    major_faults: int | None
    fault_sequential: int | None
    """Faults next to the thread's previous one (within 64 KiB, the fault-around window)."""
    fault_near: int | None
    """Faults within 2 MiB of the previous one."""
    fault_random: int | None
    resident: int | None
    """Bytes; as all the next ones."""
    anonymous: int | None
    file: int | None
    shared: int | None
    swap: int | None
    hugepages: int | None
    """Resident bytes backed by transparent or hugetlb huge pages."""
    working_set: float | None
    """Estimate of the bytes touched in the interval."""
    pages_by_node: Counts | None
    """Sampled resident pages, shape (number of NUMA nodes,)."""
    accesses_by_node: Counts | None
    """Sampled data accesses by node of the page, same shape."""
    cpu_by_node: Seconds | None = None
    """CPU time of the target by NUMA node, same shape."""
    node_ids: tuple[int, ...] = ()
    """OS indexes of these nodes."""
    eligible: int | None = None
    """Bytes that may become huge pages: anonymous memory in whole stretches of 2 MiB."""
    eligible_present: int | None = None
    """How much of those is resident."""


@dataclass(frozen=True, slots=True)
class IoReading:
    """File and block I/O."""

    read_bytes: float | None
    """Bytes asked of files through system calls (page cache included); pipes and sockets excluded where ``exact_files``."""
    write_bytes: float | None
    read_calls: float | None
    write_calls: float | None
    read_sizes: Counts | None
    """Bytes a call, shape (BUCKETS,)."""
    write_sizes: Counts | None
    sequential: int | None
    """Of ``positioned`` sampled calls, those that began where the previous one on the same file ended."""
    positioned: int | None
    sync_calls: int | None
    device_read_bytes: float | None
    device_write_bytes: float | None
    block_latency: Counts | None
    """ns, shape (BUCKETS,)."""
    block_bytes: float | None
    exact_files: bool = False


@dataclass(frozen=True, slots=True)
class TcpPeer:
    """A process on this host at the other end of ``connections`` TCP connections of the target."""

    pid: int
    name: str
    connections: int
    port: int


@dataclass(frozen=True, slots=True)
class NetReading:
    """Messages through sockets."""

    sent_bytes: float | None
    received_bytes: float | None
    sent: float | None
    """Messages (calls that moved data)."""
    received: float | None
    sent_sizes: Counts | None
    received_sizes: Counts | None
    loopback_bytes: float | None
    """Of the bytes both ways, those of TCP/UDP peers on this host."""
    unix_bytes: float | None
    connections: int | None
    """Established TCP connections at the interval's end."""
    accepts: int | None
    connects: int | None
    peers: tuple[TcpPeer, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """``count`` wake-ups from one thread group to another; pid 0 stands for everything outside the target."""

    source: int
    sink: int
    source_name: str
    sink_name: str
    count: int
    channel: str = "other"
    """The commonest of CHANNELS."""


@dataclass(frozen=True, slots=True)
class GraphReading:
    """Who wakes whom, between threads of the target and to and from the outside."""

    edges: tuple[Edge, ...]
    """Heaviest first, between processes (threads when the target is a single process)."""
    nodes: int
    """Threads of the target that took part."""
    pairs: int
    """Distinct directed thread pairs inside the target."""
    reciprocal_pairs: int
    inside: int
    """Wake-ups inside the target."""
    outside: int
    """Wake-ups to or from other processes."""
    by_channel: Counts
    """Shape (4,), of ``inside + outside``."""
    cross_llc: int | None
    """Wake-ups whose waker ran on another last-level cache than the wakee last did."""
    cross_numa: int | None


@dataclass(frozen=True, slots=True)
class PressureReading:
    """Pressure stall information: share of the interval, 0 to 1."""

    scope: str
    """``"cgroup"`` of the target, or ``"host"``."""
    cpu_some: float | None
    memory_some: float | None
    memory_full: float | None
    io_some: float | None
    io_full: float | None


@dataclass(frozen=True, slots=True)
class Quality:
    """How far a sample can be trusted."""

    missing: Mapping[str, str] = field(default_factory=dict)
    """Probe (or part of one, ``"counters.cycles"``) to the reason why it is missing."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Probe to updates lost in the interval: full maps, failed inserts, missed runs."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """Probe to the share of interval or processes that it really observed, where that is below 1."""
    own_cpu_s: float = 0.0
    """CPU time of the profiler itself in the interval."""
    bpf_cpu_s: float | None = None
    """Run time of its BPF programs in the interval, on all CPUs, where the kernel counts it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One interval of one target."""

    t: float
    """End of the interval, Unix time in seconds."""
    interval_s: float
    cpus: int
    """CPUs of the machine."""
    nodes: int
    """NUMA nodes of the machine."""
    quality: Quality
    syscalls: SyscallReading | None = None
    sched: SchedReading | None = None
    counters: CounterReading | None = None
    instructions: InstructionReading | None = None
    memory: MemoryReading | None = None
    io: IoReading | None = None
    net: NetReading | None = None
    graph: GraphReading | None = None
    pressure: PressureReading | None = None


def quantile(histogram: Counts, q: float) -> float | None:
    """Return the ``q`` quantile of a log2 histogram, interpolated geometrically in its bucket; None when empty."""
    total = int(histogram.sum())
    if total == 0:
        return None
    cumulative = np.cumsum(histogram)
    rank = q * total
    bucket = int(np.searchsorted(cumulative, max(rank, 1), side="left"))  # never an empty bucket before the first event
    bucket = min(bucket, len(histogram) - 1)
    before = int(cumulative[bucket - 1]) if bucket else 0
    inside = int(histogram[bucket])
    fraction = (rank - before) / inside if inside else 0.5
    return float(2.0 ** (bucket + min(max(fraction, 0.0), 1.0)))
