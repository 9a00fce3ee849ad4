"""The feature table: every named, unit-bearing, rate-invariant number derived from a sample, and the demand beside them.

One table makes the numbers, `dna features` and the documentation page. A feature whose inputs are missing, or rest on
fewer than ``MIN_EVENTS`` events, is None: unknown, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna.measures import (
    LEAST_CPU_S,
    MIN_EVENTS,
    Measure,
    access_random,
    blocked_share,
    channel_share,
    class_share,
    core_spread,
    device_share,
    edge_concentration,
    entropy_bits,
    event,
    event_ratio,
    event_share,
    fault_patterns,
    faults,
    graph_density,
    instruction_share,
    io_bytes,
    latency,
    mpki,
    net_bytes,
    node_seconds,
    numa_locality,
    numa_spread,
    of_counters,
    of_graph,
    of_instructions,
    of_io,
    of_memory,
    of_net,
    of_pressure,
    of_sched,
    of_syscalls,
    per_cpu_second,
    per_second,
    quantile_of,
    quantile_seconds,
    ratio,
    reciprocity,
    share,
    switches,
    syscall_entropy,
    syscall_total,
    thread_seconds,
    total,
    wakeups,
)
from dna.sample import CHANNELS, INSTRUCTION_CLASSES, SYSCALL_CLASSES, Sample
from dna.vector import Demand, Features

__all__ = [
    "BY_NAME",
    "DEMAND",
    "FEATURES",
    "FEATURE_NAMES",
    "MIN_EVENTS",
    "SHARE",
    "Feature",
    "Magnitude",
    "Scale",
    "demand_of",
    "encode",
    "entropy_bits",
    "features_of",
    "node_seconds",
    "ratio",
    "share",
]


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
    compute: Measure
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
    compute: Measure


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
    "load": " that read memory into a register",
    "store": " that write memory",
    "branch": " that jump, call or return",
    "integer": ": integer and logic on registers",
    "scalar_fp": ": scalar floating point",
    "vector": ": vector (SIMD), integer or floating point",
    "other": ": anything else",
}

# One row a line: a table that wraps cannot be read down its columns.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    *(
        Feature(f"syscall.{name}_share", "share", f"system calls about {_CLASS_MEANING[name]}", of_syscalls(class_share(i)))
        for i, name in enumerate(SYSCALL_CLASSES)
    ),
    Feature("syscall.entropy", "bit", "entropy of the mix of system calls", of_syscalls(syscall_entropy), Scale(0.0, 6.0)),
    Feature("syscall.error_share", "share", "system calls that return an error", of_syscalls(lambda r: share(r.errors, syscall_total(r)))),
    Feature("syscall.per_cpu_second", "1/s", "system calls per second of CPU time", per_cpu_second(of_syscalls(syscall_total)), _CPU_RATE),
    *(
        Feature(f"syscall.{name}_blocked_share", "share", f"blocked time spent in calls about {_CLASS_MEANING[name]}", of_syscalls(blocked_share(i)))
        for i, name in enumerate(SYSCALL_CLASSES) if name in ("file", "network", "poll", "sync", "time", "other")
    ),
    Feature("syscall.file_latency_p50", "s", "median latency of file calls", of_syscalls(latency(0, 0.5)), _SECONDS),
    Feature("syscall.file_latency_p99", "s", "99th percentile latency of file calls", of_syscalls(latency(0, 0.99)), _SECONDS),
    Feature("syscall.network_latency_p50", "s", "median latency of socket calls", of_syscalls(latency(1, 0.5)), _SECONDS),
    Feature("syscall.network_latency_p99", "s", "99th percentile latency of socket calls", of_syscalls(latency(1, 0.99)), _SECONDS),
    Feature("sched.oncpu_share", "share", "thread time spent running", of_sched(lambda r: share(r.oncpu_s, thread_seconds(r), least=LEAST_CPU_S))),
    Feature("sched.runq_share", "share", "thread time spent runnable but waiting for a CPU", of_sched(lambda r: share(r.runq_s, thread_seconds(r), least=LEAST_CPU_S))),
    Feature("sched.offcpu_share", "share", "thread time spent blocked", of_sched(lambda r: share(r.offcpu_s, thread_seconds(r), least=LEAST_CPU_S))),
    Feature("sched.runq_p50", "s", "median run-queue latency", of_sched(lambda r: quantile_seconds(r.runq, 0.5)), _SECONDS),
    Feature("sched.runq_p99", "s", "99th percentile run-queue latency", of_sched(lambda r: quantile_seconds(r.runq, 0.99)), _SECONDS),
    Feature("sched.slice_p50", "s", "median uninterrupted time on a CPU", of_sched(lambda r: quantile_seconds(r.slices, 0.5)), _SECONDS),
    Feature("sched.slice_p90", "s", "90th percentile uninterrupted time on a CPU", of_sched(lambda r: quantile_seconds(r.slices, 0.9)), _SECONDS),
    Feature("sched.voluntary_share", "share", "context switches because the thread blocked", of_sched(lambda r: share(r.voluntary, switches(r)))),
    Feature("sched.switches_per_cpu_second", "1/s", "context switches per second of CPU time", per_cpu_second(of_sched(switches)), _CPU_RATE),
    Feature("sched.migrations_per_switch", "ratio", "moves to another CPU per context switch", of_sched(lambda r: share(r.migrations, switches(r)))),
    Feature("sched.core_spread", "share", "CPUs used evenly: 0 one CPU, 1 all of the machine's", core_spread),
    Feature("sched.busiest_thread_share", "share", "CPU time of the busiest thread", of_sched(lambda r: share(r.busiest_thread_s, r.oncpu_s, least=LEAST_CPU_S))),
    Feature("sched.system_share", "share", "CPU time spent in the kernel", of_sched(lambda r: share(r.system_s, total(r.user_s, r.system_s), least=0.02))),
    Feature("cpu.ipc", "ratio", "instructions per cycle", of_counters(event_ratio("instructions", "cycles")), Scale(0.0, 6.0)),
    Feature("cpu.kernel_instruction_share", "share", "instructions executed in the kernel", of_counters(event_share("instructions:k", "instructions"))),
    Feature("cpu.llc_miss_ratio", "ratio", "last-level cache misses per reference", of_counters(event_share("cache-misses", "cache-references"))),
    Feature("cpu.llc_mpki", "1/kinstr", "last-level cache misses per 1000 instructions", of_counters(mpki("cache-misses")), _MPKI),
    Feature("cpu.l1d_mpki", "1/kinstr", "L1 data cache load misses per 1000 instructions", of_counters(mpki("L1-dcache-load-misses")), _MPKI),
    Feature("cpu.dtlb_mpki", "1/kinstr", "data TLB load misses per 1000 instructions", of_counters(mpki("dTLB-load-misses")), _MPKI),
    Feature("cpu.itlb_mpki", "1/kinstr", "instruction TLB misses per 1000 instructions", of_counters(mpki("iTLB-load-misses")), _MPKI),
    Feature("cpu.branch_mpki", "1/kinstr", "mispredicted branches per 1000 instructions", of_counters(mpki("branch-misses")), _MPKI),
    Feature("cpu.branch_miss_ratio", "ratio", "mispredicted branches per branch", of_counters(event_share("branch-misses", "branches"))),
    Feature("cpu.frontend_stall_share", "share", "cycles stalled for instructions", of_counters(event_share("stalled-cycles-frontend", "cycles"))),
    Feature("cpu.backend_stall_share", "share", "cycles stalled for data or execution units", of_counters(event_share("stalled-cycles-backend", "cycles"))),
    *(
        Feature(f"insn.{name}_share", "share", f"sampled instructions{_INSTRUCTION_MEANING[name]}", of_instructions(instruction_share(i))) for i, (name, meaning) in enumerate((n, _INSTRUCTION_MEANING[n])
        for n in INSTRUCTION_CLASSES)
    ),
    Feature("insn.kernel_share", "share", "samples of running threads that fell into the kernel", of_instructions(lambda r: share(r.kernel_samples, total(r.user_samples, r.kernel_samples)))),
    Feature("insn.hot_line_share", "share", "user samples in the ten hottest 64-byte lines of code", of_instructions(lambda r: r.hot_line_share if r.user_samples >= MIN_EVENTS else None)),
    Feature("memory.random_share", "share", "sampled data accesses that go to ever new pages in no direction", of_instructions(access_random)),
    Feature("memory.new_page_share", "share", "sampled data accesses to pages touched once among the samples: a wide footprint", of_instructions(lambda r: share(r.data_pages_once, r.data_accesses))),
    Feature("memory.direction", "share", "how far successive sampled addresses of an instruction run one way: 0 random, 1 streaming", of_instructions(lambda r: r.direction)),
    Feature("memory.faults_per_cpu_second", "1/s", "page faults per second of CPU time", per_cpu_second(of_memory(faults)), _CPU_RATE),
    Feature("memory.major_fault_share", "share", "page faults that waited for I/O", of_memory(lambda r: share(r.major_faults, faults(r)))),
    Feature("memory.fault_sequential_share", "share", "page faults next to the thread's previous one", of_memory(lambda r: share(r.fault_sequential, fault_patterns(r)))),
    Feature("memory.fault_random_share", "share", "page faults over 2 MiB from the thread's previous one", of_memory(lambda r: share(r.fault_random, fault_patterns(r)))),
    Feature("memory.anonymous_share", "share", "resident memory that is anonymous (heap, stack)", of_memory(lambda r: share(r.anonymous, r.resident, least=1))),
    Feature("memory.file_share", "share", "resident memory that is mapped files", of_memory(lambda r: share(r.file, r.resident, least=1))),
    Feature("memory.shared_share", "share", "resident memory that is shared memory", of_memory(lambda r: share(r.shared, r.resident, least=1))),
    Feature("memory.swap_share", "share", "memory swapped out, of resident and swapped", of_memory(lambda r: share(r.swap, total(r.swap, r.resident), least=1))),
    Feature("memory.hugepage_share", "share", "resident memory backed by huge pages", of_memory(lambda r: share(r.hugepages, r.resident, least=1))),
    Feature("memory.working_set_share", "share", "estimated working set of resident memory", of_memory(lambda r: share(r.working_set, r.resident, least=1))),
    Feature("memory.numa_locality", "share", "chance that an accessed page is on the node of the running thread", numa_locality),
    Feature("memory.numa_spread", "share", "evenness of pages over nodes: 0 one node, 1 all alike", numa_spread),
    Feature("io.read_share", "share", "file bytes that are read", of_io(lambda r: share(r.read_bytes, io_bytes(r), least=4096))),
    Feature("io.read_size_p50", "B", "median bytes a file read", of_io(lambda r: quantile_of(r.read_sizes, 0.5)), _BYTES),
    Feature("io.write_size_p50", "B", "median bytes a file write", of_io(lambda r: quantile_of(r.write_sizes, 0.5)), _BYTES),
    Feature("io.sequential_share", "share", "file reads and writes that go on where the last ended", of_io(lambda r: share(r.sequential, r.positioned))),
    Feature("io.sync_per_write", "ratio", "fsync-like calls per write", of_io(lambda r: share(r.sync_calls, r.write_calls))),
    Feature("io.device_share", "share", "file bytes that reached a device rather than the page cache", of_io(device_share)),
    Feature("io.block_latency_p50", "s", "median block request latency", of_io(lambda r: quantile_seconds(r.block_latency, 0.5)), _SECONDS),
    Feature("io.block_latency_p99", "s", "99th percentile block request latency", of_io(lambda r: quantile_seconds(r.block_latency, 0.99)), _SECONDS),
    Feature("io.bytes_per_cpu_second", "B/s", "file bytes per second of CPU time", per_cpu_second(of_io(io_bytes)), _BYTES_PER_CPU_SECOND),
    Feature("net.sent_share", "share", "socket bytes that are sent", of_net(lambda r: share(r.sent_bytes, net_bytes(r)))),
    Feature("net.sent_size_p50", "B", "median bytes a message sent", of_net(lambda r: quantile_of(r.sent_sizes, 0.5)), _BYTES),
    Feature("net.received_size_p50", "B", "median bytes a message received", of_net(lambda r: quantile_of(r.received_sizes, 0.5)), _BYTES),
    Feature("net.loopback_share", "share", "socket bytes exchanged with this host over IP", of_net(lambda r: share(r.loopback_bytes, net_bytes(r)))),
    Feature("net.unix_share", "share", "socket bytes through Unix sockets", of_net(lambda r: share(r.unix_bytes, net_bytes(r)))),
    Feature("net.bytes_per_cpu_second", "B/s", "socket bytes per second of CPU time", per_cpu_second(of_net(net_bytes)), _BYTES_PER_CPU_SECOND),
    Feature("comm.wakeups_per_cpu_second", "1/s", "wake-ups given and received per second of CPU time", per_cpu_second(of_graph(wakeups)), _CPU_RATE),
    Feature("comm.outside_share", "share", "wake-ups to or from other workloads", of_graph(lambda r: share(r.outside, wakeups(r)))),
    Feature("comm.density", "share", "pairs of threads that wake one another, of all pairs", of_graph(graph_density)),
    Feature("comm.reciprocity", "share", "wake-up pairs that go both ways", of_graph(reciprocity)),
    Feature("comm.concentration", "share", "wake-ups on the heaviest edge", of_graph(edge_concentration)),
    *(
        Feature(f"comm.{name}_share", "share", f"wake-ups through {name if name != 'other' else 'anything else'}", of_graph(channel_share(i)))
        for i, name in enumerate(CHANNELS)
    ),
    Feature("comm.cross_cache_share", "share", "wake-ups that cross last-level caches", of_graph(lambda r: share(r.cross_llc, wakeups(r)))),
    Feature("comm.cross_node_share", "share", "wake-ups that cross NUMA nodes", of_graph(lambda r: share(r.cross_numa, wakeups(r)))),
    Feature("pressure.cpu_some", "share", "time some task waited for a CPU", of_pressure(lambda r: r.cpu_some)),
    Feature("pressure.memory_some", "share", "time some task waited for memory", of_pressure(lambda r: r.memory_some)),
    Feature("pressure.memory_full", "share", "time all tasks waited for memory", of_pressure(lambda r: r.memory_full)),
    Feature("pressure.io_some", "share", "time some task waited for I/O", of_pressure(lambda r: r.io_some)),
    Feature("pressure.io_full", "share", "time all tasks waited for I/O", of_pressure(lambda r: r.io_full)),
)

DEMAND: tuple[Magnitude, ...] = (
    Magnitude("cores", "1", "CPU time per second: cores kept busy", per_second(of_sched(lambda r: r.oncpu_s))),
    Magnitude("processes", "1", "processes at the interval's end", of_sched(lambda r: float(r.processes))),
    Magnitude("threads", "1", "threads at the interval's end", of_sched(lambda r: float(r.threads))),
    Magnitude("resident", "B", "resident memory (summed over processes, shared pages counted in each)", of_memory(lambda r: r.resident)),
    Magnitude("working_set", "B", "estimated bytes touched in the interval", of_memory(lambda r: r.working_set)),
    Magnitude("syscalls", "1/s", "system calls", per_second(of_syscalls(syscall_total))),
    Magnitude("switches", "1/s", "context switches", per_second(of_sched(switches))),
    Magnitude("faults", "1/s", "page faults", per_second(of_memory(faults))),
    Magnitude("instructions", "1/s", "instructions", per_second(of_counters(lambda r: event(r, "instructions")))),
    Magnitude("read", "B/s", "bytes read from files", per_second(of_io(lambda r: r.read_bytes))),
    Magnitude("written", "B/s", "bytes written to files", per_second(of_io(lambda r: r.write_bytes))),
    Magnitude("io_calls", "1/s", "file reads and writes", per_second(of_io(lambda r: total(r.read_calls, r.write_calls)))),
    Magnitude("device", "B/s", "bytes to and from block devices", per_second(of_io(lambda r: total(r.device_read_bytes, r.device_write_bytes)))),
    Magnitude("sent", "B/s", "bytes sent through sockets", per_second(of_net(lambda r: r.sent_bytes))),
    Magnitude("received", "B/s", "bytes received through sockets", per_second(of_net(lambda r: r.received_bytes))),
    Magnitude("messages", "1/s", "socket messages both ways", per_second(of_net(lambda r: total(r.sent, r.received)))),
    Magnitude("connections", "1", "established TCP connections", of_net(lambda r: r.connections)),
    Magnitude("wakeups", "1/s", "wake-ups given and received", per_second(of_graph(wakeups))),
    Magnitude("power", "W", "whole-machine power (RAPL packages)", per_second(of_counters(lambda r: r.energy_j.get("pkg")))),
)
# fmt: on

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


LOGARITHMIC = np.array([feature.scale.log for feature in FEATURES])
"""Which scales are logarithmic, that is, linear in the logarithm of the value; all of shape (len(FEATURES),)."""
LOW = np.array([feature.scale.low for feature in FEATURES])
"""The least value of each scale."""
_LIMITS = np.array([(feature.scale.low, feature.scale.high) for feature in FEATURES]).T
OFFSET, END = np.where(LOGARITHMIC, np.log(np.where(LOGARITHMIC, _LIMITS, 1.0)), _LIMITS)
"""Where each scale is 0 and where it is 1, in the logarithm of the value where it is logarithmic."""


def encode(features: Features) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (values in [0, 1], known), both of shape (len(FEATURES),); unknown values are 0 where ``known`` is False.

    The same as ``Scale.encode`` feature by feature, in a fifth of the time.
    """
    raw = np.array(list(map(features.get, FEATURE_NAMES)), dtype=np.float64)  # None becomes NaN
    known = raw == raw
    np.log(np.maximum(raw, LOW), out=raw, where=LOGARITHMIC)
    values = np.minimum(np.maximum((raw - OFFSET) / (END - OFFSET), 0.0), 1.0)
    values[~known] = 0.0
    return values, known
