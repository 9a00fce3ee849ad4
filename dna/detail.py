"""What the views show of a sample beyond features: plain JSON values, small enough to store with every interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from dna.sample import INSTRUCTION_CLASSES, SYSCALL_CLASSES, Counts, GraphReading, MemoryReading, Quality, Sample

_TOP = 12
type Detail = Mapping[str, object]


def _histogram(counts: Counts | None) -> list[int] | None:
    return None if counts is None else [int(count) for count in counts]


def _graph(graph: GraphReading, interval_s: float) -> dict[str, object]:
    edges = [
        {
            "source": edge.source,
            "sink": edge.sink,
            "source_name": edge.source_name,
            "sink_name": edge.sink_name,
            "per_s": edge.count / interval_s,
            "channel": edge.channel,
        }
        for edge in graph.edges[:_TOP]
    ]
    return {"edges": edges, "nodes": graph.nodes}


def detail_of(sample: Sample) -> Detail:
    """Return the detail of one sample.

    Keys, each only where measured: ``syscalls`` {name: calls/s} (the commonest), ``syscall_classes`` {class: calls/s},
    ``latency`` {class: log2-ns histogram}, ``runq`` and ``slices`` (log2-ns histograms), ``oncpu_by_cpu`` [share of the
    interval per CPU], ``instructions`` {class: samples}, ``edges`` and ``peers`` and ``nodes`` of the communication graph,
    ``pages_by_node`` {NUMA node: sampled pages} and ``huge_pages`` {eligible, present: bytes} of the memory.
    """
    detail: dict[str, object] = {}
    seconds = sample.interval_s
    if calls := sample.syscalls:
        top = sorted(calls.by_name.items(), key=lambda item: -item[1])[:_TOP]
        detail["syscalls"] = {name: count / seconds for name, count in top}
        detail["syscall_classes"] = {
            n: float(c) / seconds for n, c in zip(SYSCALL_CLASSES, calls.by_class, strict=True)
        }
        if calls.latency is not None:
            rows = zip(SYSCALL_CLASSES, calls.latency, strict=True)
            detail["latency"] = {name: _histogram(row) for name, row in rows if row.any()}
    if sched := sample.sched:
        detail["runq"] = _histogram(sched.runq)
        detail["slices"] = _histogram(sched.slices)
        if sched.oncpu_by_cpu is not None:
            detail["oncpu_by_cpu"] = [float(busy) / seconds for busy in sched.oncpu_by_cpu]
    if mix := sample.instructions:
        detail["instructions"] = {n: int(c) for n, c in zip(INSTRUCTION_CLASSES, mix.by_class, strict=True)}
    if sample.graph:
        detail.update(_graph(sample.graph, seconds))
    if sample.net:
        detail["peers"] = [asdict(peer) for peer in sample.net.peers]
    if sample.memory:
        detail.update(_memory(sample.memory))
    return {key: value for key, value in detail.items() if value is not None}


def _memory(memory: MemoryReading) -> dict[str, object]:
    found: dict[str, object] = {}
    pages = memory.pages_by_node
    if pages is not None and len(memory.node_ids) == len(pages):
        found["pages_by_node"] = {str(n): int(count) for n, count in zip(memory.node_ids, pages, strict=True)}
    if memory.eligible is not None:
        found["huge_pages"] = {"eligible": memory.eligible, "present": memory.eligible_present}
    return found


def quality_of(quality: Quality) -> Mapping[str, object]:
    """Return ``Quality`` as plain JSON values."""
    return {
        "missing": dict(quality.missing),
        "lost": dict(quality.lost),
        "coverage": dict(quality.coverage),
        "own_cpu_s": quality.own_cpu_s,
        "bpf_cpu_s": quality.bpf_cpu_s,
    }
