"""The arithmetic behind the feature table: from the readings of one sample to shares, ratios, rates and quantiles.

Each function takes one probe's reading; ``of_sched``, ``of_memory``, ... lift it to a sample, where a probe that did not
run makes the result unknown (None). Nothing here returns 0 for something that was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dna.sample import (
    CounterReading,
    Counts,
    GraphReading,
    InstructionReading,
    IoReading,
    MemoryReading,
    NetReading,
    PressureReading,
    Sample,
    SchedReading,
    SyscallReading,
    quantile,
)

type Measure = Callable[[Sample], float | None]

MIN_EVENTS = 16
"""Fewer events than this make a share or a quantile that says nothing (standard error above 0.12)."""

LEAST_CPU_S = 1e-3
"""Less CPU or thread time than this in an interval makes a rate or share of it meaningless."""


# --- from a reading to a sample


def of_syscalls(part: Callable[[SyscallReading], float | None]) -> Measure:
    """Lift a measure of the system call reading to the sample."""
    return lambda s: part(s.syscalls) if s.syscalls else None


def of_sched(part: Callable[[SchedReading], float | None]) -> Measure:
    """Lift a measure of the scheduling reading to the sample."""
    return lambda s: part(s.sched) if s.sched else None


def of_counters(part: Callable[[CounterReading], float | None]) -> Measure:
    """Lift a measure of the counter reading to the sample."""
    return lambda s: part(s.counters) if s.counters else None


def of_instructions(part: Callable[[InstructionReading], float | None]) -> Measure:
    """Lift a measure of the instruction reading to the sample."""
    return lambda s: part(s.instructions) if s.instructions else None


def of_memory(part: Callable[[MemoryReading], float | None]) -> Measure:
    """Lift a measure of the memory reading to the sample."""
    return lambda s: part(s.memory) if s.memory else None


def of_io(part: Callable[[IoReading], float | None]) -> Measure:
    """Lift a measure of the I/O reading to the sample."""
    return lambda s: part(s.io) if s.io else None


def of_net(part: Callable[[NetReading], float | None]) -> Measure:
    """Lift a measure of the network reading to the sample."""
    return lambda s: part(s.net) if s.net else None


def of_graph(part: Callable[[GraphReading], float | None]) -> Measure:
    """Lift a measure of the communication graph to the sample."""
    return lambda s: part(s.graph) if s.graph else None


def of_pressure(part: Callable[[PressureReading], float | None]) -> Measure:
    """Lift a measure of the pressure reading to the sample."""
    return lambda s: part(s.pressure) if s.pressure else None


def per_second(count: Measure) -> Measure:
    """Divide a count by the interval."""
    return lambda s: ratio(count(s), s.interval_s)


def per_cpu_second(count: Measure) -> Measure:
    """Divide a count by the target's CPU time."""

    def compute(s: Sample) -> float | None:
        if s.sched is None or s.sched.oncpu_s < LEAST_CPU_S:
            return None
        return ratio(count(s), s.sched.oncpu_s)

    return compute


# --- arithmetic that knows the unknown


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


def total(*parts: float | None) -> float | None:
    """Return the sum, None where any part is unknown."""
    known = [part for part in parts if part is not None]
    return float(sum(known)) if len(known) == len(parts) else None


def entropy_bits(counts: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Return Shannon's entropy of a distribution given by counts, in bits."""
    whole = float(counts.sum())
    if whole <= 0:
        return 0.0
    p = counts[counts > 0] / whole
    return float(-(p * np.log2(p)).sum()) + 0.0


def quantile_of(histogram: Counts | None, q: float) -> float | None:
    """Return the ``q`` quantile of a log2 histogram, None where it has fewer than MIN_EVENTS events."""
    return quantile(histogram, q) if histogram is not None and histogram.sum() >= MIN_EVENTS else None


def quantile_seconds(histogram: Counts | None, q: float) -> float | None:
    """Return ``quantile_of`` a histogram of nanoseconds, in seconds."""
    value = quantile_of(histogram, q)
    return None if value is None else value * 1e-9


# --- system calls


def syscall_total(r: SyscallReading) -> float:
    """Return the number of system calls."""
    return float(r.by_class.sum())


def class_share(index: int) -> Callable[[SyscallReading], float | None]:
    """Return the measure of one class's share of the calls."""
    return lambda r: share(float(r.by_class[index]), syscall_total(r))


def syscall_entropy(r: SyscallReading) -> float | None:
    """Return the entropy of the mix of calls by name, in bits."""
    counts = np.array(list(r.by_name.values()), dtype=np.float64)
    return entropy_bits(counts) if counts.sum() >= MIN_EVENTS else None


def blocked_share(index: int) -> Callable[[SyscallReading], float | None]:
    """Return the measure of the share of blocked time spent in one class."""

    def compute(r: SyscallReading) -> float | None:
        if r.blocked_s is None:
            return None
        return share(float(r.blocked_s[index]), float(r.blocked_s.sum()), least=LEAST_CPU_S)

    return compute


def latency(index: int, q: float) -> Callable[[SyscallReading], float | None]:
    """Return the measure of a quantile of one class's latency, in seconds."""
    return lambda r: None if r.latency is None else quantile_seconds(r.latency[index], q)


# --- scheduling


def thread_seconds(r: SchedReading) -> float | None:
    """Return the time all threads lived: running, waiting for a CPU, and blocked."""
    return total(r.oncpu_s, r.runq_s, r.offcpu_s)


def switches(r: SchedReading) -> float | None:
    """Return the number of context switches."""
    return total(r.voluntary, r.involuntary)


def core_spread(s: Sample) -> float | None:
    """Return the effective number of CPUs used (2 to the entropy) over the CPUs there are, 0 for one and 1 for all."""
    if s.sched is None or s.sched.oncpu_by_cpu is None or s.cpus < 2 or s.sched.oncpu_by_cpu.sum() < LEAST_CPU_S:
        return None
    effective = 2.0 ** entropy_bits(s.sched.oncpu_by_cpu)
    return _in_unit((effective - 1.0) / (s.cpus - 1.0))


# --- counters


def event(r: CounterReading, name: str) -> float | None:
    """Return an event's count, None where it was not counted."""
    return r.events.get(name)


def event_ratio(part: str, whole: str) -> Callable[[CounterReading], float | None]:
    """Return the measure of one event per other event."""
    return lambda r: ratio(event(r, part), event(r, whole))


def mpki(name: str) -> Callable[[CounterReading], float | None]:
    """Return the measure of an event per 1000 instructions."""

    def compute(r: CounterReading) -> float | None:
        value = ratio(event(r, name), event(r, "instructions"))
        return None if value is None else value * 1000.0

    return compute


def event_share(part: str, whole: str) -> Callable[[CounterReading], float | None]:
    """Return the measure of the share of one event in another."""
    return lambda r: share(event(r, part), event(r, whole), least=1000)


# --- instructions


def instruction_share(index: int) -> Callable[[InstructionReading], float | None]:
    """Return the measure of one class's share of the decoded samples."""
    return lambda r: share(float(r.by_class[index]), float(r.by_class.sum()))


def access_random(r: InstructionReading) -> float | None:
    """Return the share of sampled data accesses to pages not seen before, where addresses follow no direction.

    The share of pages seen once is the Good-Turing estimate of the mass of pages not yet seen (Good, Biometrika 1953).
    """
    if r.direction is None:
        return None
    unseen = share(r.data_pages_once, r.data_accesses)
    return None if unseen is None else unseen * (1.0 - r.direction)


# --- memory


def faults(r: MemoryReading) -> float | None:
    """Return the number of page faults."""
    return total(r.minor_faults, r.major_faults)


def fault_patterns(r: MemoryReading) -> float | None:
    """Return the number of page faults whose distance from the previous one is known."""
    return total(r.fault_sequential, r.fault_near, r.fault_random)


def node_seconds(oncpu_by_cpu: NDArray[np.float64], node_of_cpu: NDArray[np.int64], nodes: int) -> NDArray[np.float64]:
    """Return CPU time by NUMA node; both inputs have one entry per CPU."""
    return np.bincount(node_of_cpu, weights=oncpu_by_cpu, minlength=nodes).astype(np.float64)


def numa_locality(s: Sample) -> float | None:
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
    return _in_unit(float((cpu / cpu.sum()) @ (pages / pages.sum())))


def numa_spread(s: Sample) -> float | None:
    """Return the entropy of the pages' nodes over the most there can be: 0 one node, 1 all alike."""
    m = s.memory
    if m is None or m.pages_by_node is None or m.pages_by_node.sum() < MIN_EVENTS:
        return None
    return 0.0 if s.nodes == 1 else _in_unit(entropy_bits(m.pages_by_node) / math.log2(s.nodes))


# --- I/O, network, communication graph


def io_bytes(r: IoReading) -> float | None:
    """Return the bytes read and written."""
    return total(r.read_bytes, r.write_bytes)


def device_share(r: IoReading) -> float | None:
    """Return the share of file bytes that reached a device."""
    return share(total(r.device_read_bytes, r.device_write_bytes), io_bytes(r), least=65536)


def net_bytes(r: NetReading) -> float | None:
    """Return the bytes sent and received."""
    return total(r.sent_bytes, r.received_bytes)


def wakeups(r: GraphReading) -> float:
    """Return the number of wake-ups given and received."""
    return float(r.inside + r.outside)


def graph_density(r: GraphReading) -> float | None:
    """Return the share of the possible directed thread pairs that wake one another."""
    if r.nodes < 2 or r.inside < MIN_EVENTS:
        return None
    return min(r.pairs / (r.nodes * (r.nodes - 1)), 1.0)


def reciprocity(r: GraphReading) -> float | None:
    """Return the share of thread pairs that wake each other both ways."""
    return share(r.reciprocal_pairs, r.pairs, least=1) if r.inside >= MIN_EVENTS else None


def edge_concentration(r: GraphReading) -> float | None:
    """Return the share of the wake-ups that go along the heaviest edge."""
    return share(r.edges[0].count, sum(edge.count for edge in r.edges)) if r.edges else None


def channel_share(index: int) -> Callable[[GraphReading], float | None]:
    """Return the measure of one channel's share of the wake-ups."""
    return lambda r: share(float(r.by_channel[index]), float(r.by_channel.sum()))


def _in_unit(value: float) -> float:
    """Take away what rounding adds beyond [0, 1]."""
    return min(max(value, 0.0), 1.0)
