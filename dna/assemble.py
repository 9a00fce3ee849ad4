"""Put the readings of all probes together into one sample: some fields need what several probes know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dna.measures import node_seconds
from dna.probes.base import Reading
from dna.probes.faults import FaultPattern
from dna.sample import CounterReading, MemoryReading, Quality, Sample, SchedReading
from hal.topology import Topology

type Readings = Mapping[str, tuple[str, Reading[Any]]]
"""Field of the sample to (name of the probe, its reading)."""


def assemble(
    readings: Readings,
    *,
    t: float,
    interval_s: float,
    topology: Topology,
    missing: Mapping[str, str],
    cost: tuple[float, float | None] = (0.0, None),
) -> Sample:
    """Return the sample of one interval; ``cost`` is (own CPU seconds, BPF seconds)."""
    values = {field: reading.value for field, (_, reading) in readings.items()}
    pattern: FaultPattern | None = values.pop("faults", None)
    if values.get("memory") is not None:
        values["memory"] = _with_faults(values["memory"], values.get("counters"), pattern)
        values["memory"] = _with_nodes(values["memory"], values.get("sched"), topology)
    return Sample(
        t=t,
        interval_s=interval_s,
        cpus=topology.cpu_count,
        nodes=topology.node_count,
        quality=_quality(readings, missing, cost),
        **values,
    )


def _with_faults(memory: MemoryReading, counters: CounterReading | None, pattern: FaultPattern | None) -> MemoryReading:
    """Take fault counts from the kernel's software events where they were counted: they include what has ended."""
    events = counters.events if counters else {}
    if "minor-faults" in events and "major-faults" in events:
        memory = replace(memory, minor_faults=round(events["minor-faults"]), major_faults=round(events["major-faults"]))
    if pattern is not None:
        memory = replace(
            memory,
            fault_sequential=pattern.sequential,
            fault_near=pattern.near,
            fault_random=pattern.random,
        )
    return memory


def _with_nodes(memory: MemoryReading, sched: SchedReading | None, topology: Topology) -> MemoryReading:
    """Add where the threads ran, by NUMA node in the order of the topology, as pages are counted."""
    if sched is None or sched.oncpu_by_cpu is None or memory.pages_by_node is None:
        return memory
    position = {node.os_index: place for place, node in enumerate(topology.nodes)}
    places = np.array([position.get(int(node), 0) for node in topology.node_of_cpu()], dtype=np.int64)
    length = min(len(places), len(sched.oncpu_by_cpu))
    seconds = node_seconds(sched.oncpu_by_cpu[:length], places[:length], len(topology.nodes))
    return replace(memory, cpu_by_node=seconds)


def _quality(readings: Readings, missing: Mapping[str, str], cost: tuple[float, float | None]) -> Quality:
    parts = {f"{name}.{part}": why for name, reading in readings.values() for part, why in reading.missing}
    return Quality(
        missing={**missing, **parts},
        lost={name: reading.lost for name, reading in readings.values() if reading.lost},
        coverage={name: reading.coverage for name, reading in readings.values() if reading.coverage < 1.0},
        own_cpu_s=cost[0],
        bpf_cpu_s=cost[1],
    )
