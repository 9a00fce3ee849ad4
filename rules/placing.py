"""Where a workload fits: nodes and cache domains for a rule's body to choose. Pure: from machine and workload to lists of CPUs and nodes.

Whole nodes and whole cache domains are chosen, not just as many CPUs as are busy: the scheduler keeps its freedom within, bursts have
room, and what a domain shares is shared with nobody by halves. Isolated CPUs, those that a cpuset forbids, and those that the
workload may not run on now are left out. Where nothing fits the answer is None, and a rule then says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hal.arrange import Apart, apart, kind_of_core
from hal.arrange_domains import by, distance, numbers_of
from hal.errors import SettingError
from hal.lists import format_cpu_list
from hal.topology_values import UNKNOWN_NODE, Cpu
from rules.situation import Machine, Workload
from rules.traits import FREE_SHARE, HEADROOM, SIZE_SHARE

BUSY_CORES_PER_CHANNEL = 3
"""Cores accessing memory at random that a channel serves: a core with some ten misses under way of 64 bytes and 100 ns each takes
about 6 GB/s at most, a channel of DDR4 or DDR5 gives 20 to 35 GB/s."""


@dataclass(frozen=True, slots=True)
class Domain:
    """CPUs that share something, and the node that their memory is on."""

    cpus: str
    """As a list, such as "0-3,8"."""
    node: int


def usable(machine: Machine, *workloads: Workload) -> tuple[Cpu, ...]:
    """Return the CPUs that may be chosen for all of these workloads; () when there is none."""
    isolated = set(machine.hardware.cpus.isolated)
    found = [cpu for cpu in machine.topology.cpus if cpu.allowed and cpu.os_index not in isolated]
    for workload in workloads:
        if workload.cpus:
            found = [cpu for cpu in found if cpu.os_index in workload.cpus]
    return tuple(found)


def cores_of(cpus: Iterable[Cpu]) -> int:
    """Return the number of cores that these CPUs are on."""
    return len({cpu.core for cpu in cpus})


def cpu_list(cpus: Iterable[Cpu]) -> str:
    """Return CPUs as settings name them."""
    return format_cpu_list(numbers_of(cpus))


def core_each(cpus: Iterable[Cpu]) -> tuple[Cpu, ...]:
    """Return one CPU of each core, the first."""
    return tuple({cpu.core: cpu for cpu in sorted(cpus, key=lambda cpu: -cpu.os_index)}.values())


def one_core(machine: Machine, workload: Workload) -> tuple[Cpu, ...]:
    """Return the CPUs of one core that a workload may run on, the last near its memory: the first ones have most interrupts.

    () where it may not run on more than that anyway.
    """
    own = usable(machine, workload)
    near = [cpu for cpu in own if cpu.node == workload.home] or list(own)
    if not near:
        return ()
    last = max(near, key=lambda cpu: cpu.os_index)
    core = tuple(cpu for cpu in own if cpu.core == last.core)
    return core if len(core) < len(own) else ()


def demand(*workloads: Workload) -> float | None:
    """Return the cores that workloads keep busy together; None when that is not known."""
    cores = [workload.number("demand.cores") for workload in workloads]
    return None if None in cores else sum(one for one in cores if one is not None)


# --- memory


def holds(machine: Machine, node: int, *workloads: Workload, share: float = 1.0) -> bool:
    """Tell whether a node has room for a share of the memory of workloads; what of it is there already counts as room.

    Of a node without a size, or a workload whose memory is not known, nobody knows: then it has none.
    """
    resident = [workload.number("demand.resident") for workload in workloads]
    known = next((one for one in machine.topology.nodes if one.os_index == node), None)
    if None in resident or known is None or not known.allowed or not known.memory_bytes:
        return False
    wanted = share * sum(amount for amount in resident if amount is not None)
    now = machine.hardware.memory_of(node)
    if now is None:
        return wanted <= known.memory_bytes * SIZE_SHARE
    there = sum(workload.node_bytes.get(node, 0) for workload in workloads)
    return wanted - there <= (now.free_bytes + now.cached_bytes) * FREE_SHARE


def shares_over(machine: Machine, nodes: Sequence[int], workload: Workload) -> str | None:
    """Return the value of memory.placement for equal shares on these nodes; None when one has no room for its share."""
    if not nodes or not all(holds(machine, node, workload, share=1 / len(nodes)) for node in nodes):
        return None
    return format_cpu_list(nodes)


# --- nodes


def nodes_of(machine: Machine, *workloads: Workload) -> Mapping[int, Sequence[Cpu]]:
    """Return the CPUs that may be chosen by node; CPUs whose node is not known are in none."""
    return {node: cpus for node, cpus in by("node", usable(machine, *workloads)).items() if node != UNKNOWN_NODE}


def node_for(machine: Machine, workload: Workload, *, near: int | None = None) -> int | None:
    """Return the node to keep a workload on: with cores and memory enough, and the least to be moved.

    Args:
        near: a node to be as near to as can be, such as a card's; the one that holds most of its memory unless given.
    """
    fitting = [node for node in nodes_of(machine, workload) if fits(machine, node, workload)]
    start = workload.home if near is None else near
    return min(fitting, key=lambda node: (_gap(machine, start, node), -_free(machine, node), node), default=None)


def fits(machine: Machine, node: int, workload: Workload) -> bool:
    """Tell whether a node has cores, with headroom, and memory enough for a workload."""
    return has_cores(machine, node, workload) and holds(machine, node, workload)


def has_cores(machine: Machine, node: int, *workloads: Workload) -> bool:
    """Tell whether a node has cores enough, with headroom, on which these workloads may run."""
    cores = demand(*workloads)
    return cores is not None and cores <= cores_of(nodes_of(machine, *workloads).get(node, ())) * HEADROOM


def emptiest_node(machine: Machine, workload: Workload, *, but: int) -> int | None:
    """Return the node with most memory free that a workload fits, but for one; None when there is none."""
    fitting = [node for node in nodes_of(machine, workload) if node != but and fits(machine, node, workload)]
    return max(fitting, key=lambda node: (_free(machine, node), -node), default=None)


def nearest_nodes(machine: Machine, workload: Workload, count: int, *, around: int) -> tuple[int, ...]:
    """Return ``count`` nodes that the workload may run on, nearest to one of them first; fewer where there are not as many."""
    nodes = sorted(nodes_of(machine, workload), key=lambda node: (distance(machine.topology, around, node), node))
    return tuple(nodes[:count])


def nodes_for_channels(machine: Machine, workload: Workload) -> int:
    """Return how many nodes it takes so that the busy cores have memory channels enough; 1 where channels are not known."""
    channels, nodes = machine.number("memory_channels"), machine.number("nodes")
    cores = demand(workload)
    if not channels or not nodes or cores is None:
        return 1
    return max(1, math.ceil(cores / (BUSY_CORES_PER_CHANNEL * channels / nodes)))


def on_nodes(
    machine: Machine, nodes: Iterable[int], workload: Workload, *others: Workload, smt: bool = True
) -> str | None:
    """Return the CPUs of nodes that these workloads may run on; None when there is none.

    Args:
        smt: off takes one CPU of each core.
    """
    there = nodes_of(machine, workload, *others)
    cpus = [cpu for node in nodes for cpu in there.get(node, ())]
    return cpu_list(cpus if smt else core_each(cpus)) if cpus else None


def _gap(machine: Machine, start: int | None, node: int) -> float:
    return 0.0 if start is None else distance(machine.topology, start, node)


def _free(machine: Machine, node: int) -> int:
    now = machine.hardware.memory_of(node)
    return now.free_bytes + now.cached_bytes if now else 0


# --- cache domains


def cache_for(machine: Machine, *workloads: Workload) -> Domain | None:
    """Return the last-level cache domain for workloads that talk to each other: on the first one's node, the smallest that fits."""
    cores = demand(*workloads)
    if cores is None:
        return None
    domains = by("llc", usable(machine, *workloads)).values()
    fitting = [cpus for cpus in domains if cores <= cores_of(cpus) * HEADROOM and cores_of(cpus) > 1]
    if not fitting:
        return None
    home = workloads[0].home
    best = min(fitting, key=lambda cpus: (_gap(machine, home, cpus[0].node), len(cpus), cpus[0].os_index))
    return Domain(cpu_list(best), best[0].node)


def node_for_both(machine: Machine, workload: Workload, other: Workload) -> Domain | None:
    """Return the node on which two workloads fit together, that of the first one's memory if it does."""
    nodes = nodes_of(machine, workload, other)
    fitting = [n for n in nodes if has_cores(machine, n, workload, other) and holds(machine, n, workload, other)]
    if not fitting:
        return None
    node = min(fitting, key=lambda one: (_gap(machine, workload.home, one), -_free(machine, one), one))
    return Domain(cpu_list(nodes[node]), node)


# --- others


def away_from(machine: Machine, victim: Workload, neighbour: Workload) -> Apart | None:
    """Return disjoint CPUs for a workload and a neighbour that disturbs it, each with headroom; None when there is no room for both."""
    wanted = demand(victim), demand(neighbour)
    both = usable(machine, victim, neighbour)
    if wanted[0] is None or wanted[1] is None or (wanted[0] + wanted[1]) / HEADROOM > cores_of(both):
        return None
    avoid = {cpu.os_index for cpu in machine.topology.cpus} - {cpu.os_index for cpu in both}
    home = victim.home if victim.home in nodes_of(machine, victim) else None
    try:
        return apart(machine.topology, wanted[0] / HEADROOM, wanted[1] / HEADROOM, near=home, avoid=avoid)
    except SettingError:
        return None


def capable_cores(machine: Machine, workload: Workload) -> str | None:
    """Return the CPUs of the most capable kind of core; None when they do not suffice."""
    cores = demand(workload)
    kind = kind_of_core(machine.topology, "performance")
    cpus = [cpu for cpu in usable(machine, workload) if cpu.kind == kind]
    return cpu_list(cpus) if cores is not None and cpus and cores <= cores_of(cpus) * HEADROOM else None


def widened(machine: Machine, workload: Workload) -> str | None:
    """Return more CPUs than a workload is bound to: those of its nodes, else all; None when there are no more.

    Its cpuset is not known here: what that forbids, the kernel refuses.
    """
    own = {cpu.node for cpu in machine.topology.cpus if cpu.os_index in workload.cpus}
    everything = usable(machine)
    cores = demand(workload)
    near = [cpu for cpu in everything if cpu.node in own]
    if not own or cores is None:
        return None
    enough = near if cores_of(near) * HEADROOM >= cores and len(near) > len(workload.cpus) else everything
    return cpu_list(enough) if {cpu.os_index for cpu in enough} > workload.cpus else None
