"""The machine as a profile names it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping

from dna.target import Target
from hal.checks.system import machine_line
from hal.errors import HalError
from hal.host import Host
from hal.topology import Topology


def describe(host: Host, topology: Topology) -> Mapping[str, object]:
    """Return hostname, kernel, architecture, processor model and sizes."""
    return {
        "hostname": platform.node(),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpus": topology.cpu_count,
        "cores": topology.core_count,
        "packages": topology.packages,
        "numa_nodes": topology.node_count,
        "memory": topology.memory_bytes or _memory(host),
        "model": machine_line(host) or topology.model,
    }


def _memory(host: Host) -> int:
    try:
        found = re.search(r"MemTotal:\s+(\d+) kB", host.read_text("/proc/meminfo"))
    except HalError:
        return 0
    return int(found[1]) * 1024 if found else 0


def of_target(host: Host, target: Target, pids: frozenset[int], cgroup: str | None) -> Mapping[str, object]:
    """Return what a profile says of its target: kind, value, and some of its processes."""
    first = min(pids, default=0)
    comm = ""
    if first and target.kind != "host":
        try:
            comm = host.read_text(f"/proc/{first}/comm").strip()
        except HalError:
            comm = ""
    if target.kind == "command":
        comm = os.path.basename(target.argv[0])
    return {
        "kind": target.kind,
        "value": target.value,
        "comm": comm,
        "pids": sorted(pids)[:10],
        "processes": len(pids),
        "cgroup": cgroup or "",
    }
