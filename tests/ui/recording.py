"""A recording of a workload like a busy Redis, made from a sample, for the views to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np

from dna.detail import detail_of, quality_of
from dna.features import demand_of, features_of
from dna.sample import (
    BUCKETS,
    Edge,
    GraphReading,
    InstructionReading,
    NetReading,
    Quality,
    Sample,
    SchedReading,
    SyscallReading,
    TcpPeer,
)
from dna.vector import Dna, Interval, Profile

MACHINE: Mapping[str, object] = {
    "hostname": "db7",
    "kernel": "6.1.0-30-amd64",
    "arch": "x86_64",
    "cpus": 8,
    "cores": 4,
    "packages": 1,
    "numa_nodes": 1,
    "memory": 16 << 30,
    "model": "Example CPU @ 2.5GHz",
}
TARGET: Mapping[str, object] = {"kind": "pid", "value": "4242", "pids": [4242], "processes": 1, "comm": "redis-server"}
NO_PMU = "this machine has no performance monitoring unit"
REMEDIES = {"counters": "Run on bare metal."}
START = 1_700_000_000.0


def _histogram(peak: int, scale: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([scale // (1 + abs(i - peak)) ** 2 for i in range(BUCKETS)], dtype=np.int64)


def sample_at(index: int, *, interval_s: float = 5.0) -> Sample:
    """Return the ``index``-th sample of the recording."""
    random = Random(index)
    calls = random.randrange(80_000, 120_000)
    latency = np.zeros((8, BUCKETS), dtype=np.int64)
    latency[1], latency[2] = _histogram(11, 9000), _histogram(14, 7000)
    return Sample(
        t=START + (index + 1) * interval_s,
        interval_s=interval_s,
        cpus=8,
        nodes=1,
        quality=Quality(
            missing={"counters": NO_PMU, "energy": NO_PMU, "pressure": "this kernel has no pressure information"},
            lost={"graph": 12},
            own_cpu_s=0.02,
            bpf_cpu_s=0.01,
        ),
        syscalls=SyscallReading(
            by_name={"epoll_wait": calls, "read": calls, "write": calls, "openat": 40, "close": 40},
            by_class=np.array([80, 2 * calls, calls, 0, 0, 0, 9, 1]),
            errors=7,
            blocked_s=np.array([0.0, 0.0, 1.1, 0.0, 0.0, 0.0, 0.0, 0.1]),
            latency=latency,
        ),
        sched=SchedReading(
            oncpu_s=3.9,
            runq_s=0.1,
            offcpu_s=1.0,
            runq=_histogram(13, 900),
            slices=_histogram(17, 900),
            voluntary=30_000,
            involuntary=500,
            migrations=300,
            oncpu_by_cpu=np.array([2.0, 1.5, 0.3, 0.1, 0.0, 0.0, 0.0, 0.0]),
            busiest_thread_s=3.8,
            user_s=1.2,
            system_s=2.7,
            processes=1,
            threads=5,
        ),
        instructions=InstructionReading(900, 1900, np.array([300, 150, 200, 230, 5, 10, 5]), 4, 0.3),
        net=NetReading(
            5.0 * calls,
            30.0 * calls,
            calls,
            calls,
            _histogram(2, 9000),
            _histogram(5, 9000),
            35.0 * calls,
            0,
            50,
            0,
            0,
            (TcpPeer(4300, "redis-benchmark", 50, 6379),),
        ),
        graph=GraphReading(
            edges=(
                Edge(4242, 0, "redis-server", "outside", 50_000, "socket"),
                Edge(0, 4242, "outside", "redis-server", 49_000, "socket"),
                Edge(4242, 4243, "redis-server", "bio_close_file", 30, "futex"),
            ),
            nodes=5,
            pairs=3,
            reciprocal_pairs=1,
            inside=60,
            outside=99_000,
            by_channel=np.array([60, 0, 99_000, 0]),
            cross_llc=0,
            cross_numa=0,
        ),
    )


def interval_at(index: int, *, interval_s: float = 5.0) -> Interval:
    """Return the ``index``-th interval of the recording."""
    sample = sample_at(index, interval_s=interval_s)
    vector = np.random.default_rng(index // 4).normal(size=16)
    return Interval(
        t=sample.t,
        features=features_of(sample),
        demand=demand_of(sample),
        quality=quality_of(sample.quality),
        dna=Dna(vector, 0.4, "model-1"),
        detail=detail_of(sample),
    )


@dataclass
class Recording:
    """A stand-in for the profiler: a source that yields given intervals at once."""

    intervals: tuple[Interval, ...]
    machine: Mapping[str, object] = field(default_factory=lambda: MACHINE)
    target_info: Mapping[str, object] = field(default_factory=lambda: TARGET)
    remedies: Mapping[str, str] = field(default_factory=lambda: REMEDIES)
    stopped: bool = False
    shown: list[Interval] = field(default_factory=list)

    def __iter__(self) -> Iterator[Interval]:
        for interval in self.intervals:
            if self.stopped:
                return
            self.shown.append(interval)
            yield interval

    def stop(self) -> None:
        self.stopped = True

    def profile(self, name: str = "") -> Profile:
        return Profile("p1", name, self.machine, self.target_info, START, 5.0, tuple(self.shown), "dna test")


def recording() -> Recording:
    """Return twelve intervals of the workload."""
    return Recording(tuple(interval_at(index) for index in range(12)))


def bare_interval() -> Interval:
    """Return an interval of which nothing was measured."""
    quality = Quality(missing={"syscalls": "no BPF"})
    sample = Sample(t=START + 5, interval_s=5.0, cpus=1, nodes=1, quality=quality)
    return Interval(sample.t, features_of(sample), demand_of(sample), quality_of(sample.quality), None, {})
