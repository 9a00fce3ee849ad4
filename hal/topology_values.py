"""The values of a topology; ``hal.topology`` has them too, with the functions that read one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN_NODE = -1


@dataclass(frozen=True, slots=True)
class Cpu:
    """One online logical CPU (hardware thread)."""

    os_index: int
    core: int
    """Index of the physical core, counted over the whole machine; CPUs of one core are SMT siblings."""
    package: int
    node: int
    """OS index of the nearest NUMA node with CPUs, or UNKNOWN_NODE when the description names none for it."""
    llc: int
    """Index into ``Topology.llcs``: the last-level cache domain."""
    kind: int = 0
    """Index into ``Topology.cpu_kinds`` on hybrid machines, least capable first; 0 where all are alike."""
    allowed: bool = True
    """False when this process's cpuset leaves the CPU out."""


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One NUMA node; ``cpus`` is empty for memory without CPUs of its own (CXL, HBM, persistent memory)."""

    os_index: int
    cpus: tuple[int, ...]
    memory_bytes: int
    """0 when the description does not say."""
    kind: str = ""
    """Kind of memory where known: "DRAM", "HBM", "CXL-DRAM", ..."""
    allowed: bool = True
    """False when this process's cpuset forbids memory of this node."""


@dataclass(frozen=True, slots=True)
class Cache:
    """One data or unified cache."""

    level: int
    size_bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PciInfo:
    """What a description says of a PCI function besides where it is."""

    class_code: int
    """24 bits: base class, sub-class, programming interface."""
    vendor: int
    device: int
    model: str = ""
    bytes_per_s: float | None = None
    """What its link carries in one direction."""


@dataclass(frozen=True, slots=True)
class Device:
    """One PCI device or the operating system's name for what sits on it."""

    name: str
    kind: str
    """"net", "gpu", "storage", "memory", "dma", "accelerator" or "pci"."""
    address: str
    """PCI address such as "0000:3b:00.0", or empty."""
    node: int
    """OS index of the NUMA node that it is attached to, or UNKNOWN_NODE."""
    pci: PciInfo | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """What a machine is made of. Tuples are sorted by OS index."""

    cpus: tuple[Cpu, ...]
    nodes: tuple[NumaNode, ...]
    source: str
    packages: int = 1
    caches: tuple[Cache, ...] = ()
    llcs: tuple[tuple[int, ...], ...] = ()
    """CPUs of each last-level cache domain."""
    distances: tuple[tuple[float, ...], ...] = ()
    """Distance from ``nodes[i]`` to ``nodes[j]`` as the firmware states it (10 is local); empty when unknown."""
    devices: tuple[Device, ...] = ()
    offline: tuple[int, ...] = ()
    """CPUs that are there but switched off; they are in nothing else."""
    cpu_kinds: tuple[str, ...] = ()
    """Names of the kinds of core on a hybrid machine; empty where all are alike."""
    model: str = ""
    """The processor's, where the description names it."""

    @property
    def cpu_count(self) -> int:
        """Number of online CPUs."""
        return len(self.cpus)

    @property
    def node_count(self) -> int:
        """Number of NUMA nodes, those without CPUs included."""
        return len(self.nodes)

    @property
    def core_count(self) -> int:
        """Number of physical cores."""
        return len({cpu.core for cpu in self.cpus})

    @property
    def llc_count(self) -> int:
        """Number of last-level cache domains."""
        return len(self.llcs)

    @property
    def memory_bytes(self) -> int:
        """Memory of all nodes."""
        return sum(node.memory_bytes for node in self.nodes)

    @property
    def cpu_slots(self) -> int:
        """Length of the arrays indexed by CPU: the highest OS index + 1."""
        return 1 + max(cpu.os_index for cpu in self.cpus)

    def node_of_cpu(self) -> NDArray[np.int64]:
        """Return the node's OS index of each CPU, shape (cpu_slots,); -1 for a CPU that is absent or offline."""
        return self._by_cpu({cpu.os_index: cpu.node for cpu in self.cpus})

    def llc_of_cpu(self) -> NDArray[np.int64]:
        """Return the last-level cache domain of each CPU, shape (cpu_slots,); -1 for one absent or offline."""
        return self._by_cpu({cpu.os_index: cpu.llc for cpu in self.cpus})

    def core_of_cpu(self) -> NDArray[np.int64]:
        """Return the physical core of each CPU, shape (cpu_slots,); -1 for one absent or offline."""
        return self._by_cpu({cpu.os_index: cpu.core for cpu in self.cpus})

    def distance(self, origin: int, destination: int) -> float | None:
        """Return the distance between two nodes by OS index, or None when it is not known."""
        position = {node.os_index: index for index, node in enumerate(self.nodes)}
        if not self.distances or origin not in position or destination not in position:
            return None
        return self.distances[position[origin]][position[destination]]

    def _by_cpu(self, values: dict[int, int]) -> NDArray[np.int64]:
        array = np.full(self.cpu_slots, -1, dtype=np.int64)
        for cpu, value in values.items():
            array[cpu] = value
        return array


def last_cache_sharers(
    caches: Iterable[Cache], package_of: Mapping[int, int], online: Iterable[int]
) -> dict[int, tuple[int, ...]]:
    """Return the CPUs that each CPU shares its outermost cache with, or its package where no cache is known.

    CPUs of one chip may differ in their outermost level.
    """
    members: dict[int, list[int]] = {}
    for cpu in sorted(online):
        members.setdefault(package_of.get(cpu, 0), []).append(cpu)
    last = {cpu: tuple(together) for together in members.values() for cpu in together}
    for cache in sorted(caches, key=lambda cache: (cache.level, cache.cpus)):
        last.update(dict.fromkeys(cache.cpus, cache.cpus))
    return last


def domains(last_cache: Mapping[int, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return the last-level cache domains, given the CPUs that each CPU says it shares its last cache with.

    A CPU is in exactly one domain even where those claims contradict each other, as in broken firmware tables.
    """
    together: dict[tuple[int, ...], list[int]] = {}
    for cpu in sorted(last_cache):
        together.setdefault(last_cache[cpu], []).append(cpu)
    return tuple(sorted(tuple(cpus) for cpus in together.values()))
