"""Facts of the machine: what stays (what it is made of) is read once, what moves (how it is set, how busy it is) each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hal import cgroups, owners
from hal import machine as hardware
from hal.activity import CpuTime, cpu_time, deepest_idle_s, idle_share, load_average, swap_bytes
from hal.collapse import kernel_collapses
from hal.errors import HalError
from hal.glimpse import glimpse
from hal.host import Host
from hal.hypervisor import is_virtual
from hal.knobs import all_knobs
from hal.knobs.amount import meminfo
from hal.machine import Machine as Hardware
from hal.memory_channels import memory_channels
from hal.settings import SYSTEM, Subject, Value
from hal.sizes import parse_size
from hal.topology_values import Cpu, Topology
from rules.gather_devices import DeviceReader
from rules.situation import Machine

_BALANCER = "irqbalance"
_LOCAL = 10.0


class MachineReader:
    """Reads the machine behind a host again and again; the first reading is the slow one.

    Args:
        known: what the host is, where it need not be read: of a machine that is only described.
    """

    def __init__(self, host: Host, known: Hardware | None = None) -> None:
        self._host = host
        self._known = known
        once = glimpse(host)
        self._first = known or hardware.read(host)
        self._constant = {**constant_facts(self._first), **_of_the_start(once, self._first)}
        self._devices = DeviceReader(self._first, has_files=known is None)
        self._devices.read(once)  # what was counted until now
        self._before = cpu_time(host)

    def read(self) -> Machine:
        """Return the machine now. What takes time to be known (traffic, idle and busy shares) is over that since the reading
        before, and unknown where that was just now."""
        host = glimpse(self._host)
        # Of a machine that is only described nobody knows how much of its memory is free.
        here = self._known or replace(self._first, memory=hardware.memory_now(host, self._first))
        after = cpu_time(host)
        nics, disks, pcis = self._devices.read(host)
        up = [nic.values["up"] for nic in nics]
        moving = {
            **memory_facts(here),
            **_settings(host),
            **_activity(host, self._first.topology, self._before, after),
            **_daemons(host),
            "nics": None if None in up else up.count(True),
            "disks": len(disks),
        }
        if moving["idle_share"] is not None:
            self._before = after
        return Machine(here, {**self._constant, **moving}, nics, disks, pcis)


@dataclass(frozen=True, slots=True)
class _Usable:
    """CPUs that may be used: allowed to this process and not isolated; where that leaves none, those allowed."""

    cpus: tuple[Cpu, ...]

    @classmethod
    def of(cls, machine: Hardware) -> _Usable:
        allowed = tuple(cpu for cpu in machine.topology.cpus if cpu.allowed) or machine.topology.cpus
        isolated = set(machine.cpus.isolated)
        return cls(tuple(cpu for cpu in allowed if cpu.os_index not in isolated) or allowed)

    def sizes(self, level: str, *, of: str = "os_index") -> dict[int, int]:
        """Return by node, cache or core how many different ``of`` it has."""
        found: dict[int, set[int]] = {}
        for cpu in self.cpus:
            found.setdefault(int(getattr(cpu, level)), set()).add(int(getattr(cpu, of)))
        return {one: len(members) for one, members in found.items()}


def constant_facts(machine: Hardware) -> dict[str, object]:
    """Return what a machine is made of."""
    shape, usable = machine.topology, _Usable.of(machine)
    by_node = usable.sizes("node")
    return {
        "cpus": len(usable.cpus),
        "cores": len(usable.sizes("core")),
        "packages": len(usable.sizes("package")),
        "threads_per_core": max(usable.sizes("core").values()),
        "nodes": len(by_node),
        "memory_nodes": sum(not node.cpus for node in shape.nodes),
        "llcs": len(usable.sizes("llc")),
        "core_kinds": max(len(shape.cpu_kinds), 1),
        "cpus_per_node": min(by_node.values()),
        "cores_per_node": min(usable.sizes("node", of="core").values()),
        "cpus_per_llc": min(usable.sizes("llc").values()),
        "llc_size": _llc_size(shape),
        "memory": shape.memory_bytes or None,
        "memory_per_node": min((node.memory_bytes for node in shape.nodes if node.cpus), default=0) or None,
        "farthest": _farthest(shape),
        "isolated_cpus": len(machine.cpus.isolated),
    }


def _llc_size(shape: Topology) -> int | None:
    """Return the size of the smallest last-level cache: of each domain the outermost that its CPUs share."""
    sizes = []
    for domain in shape.llcs:
        own = [cache for cache in shape.caches if cache.cpus == domain and cache.size_bytes]
        if not own:
            return None
        sizes.append(max(own, key=lambda cache: cache.level).size_bytes)
    return min(sizes, default=None)


def _farthest(shape: Topology) -> float | None:
    if shape.node_count == 1:
        return 1.0
    return max(max(row) for row in shape.distances) / _LOCAL if shape.distances else None


def _of_the_start(host: Host, machine: Hardware) -> dict[str, object]:
    """Return what stays as it is until the machine is started anew."""
    channels = memory_channels(host)
    return {
        "memory_channels": channels,
        "memory_channels_per_core": channels / machine.topology.core_count if channels else None,
        "virtual": is_virtual(host),
        "cgroup_version": _cgroup_version(host),
        # Who may not set it is to hear that it is due all the same: the plan says what privilege it takes.
        "hugepages.available": all_knobs()["memory.hugepages"].support(host).works or kernel_collapses(host),
    }


def _cgroup_version(host: Host) -> int | None:
    """Return the version that the controllers are in, the mounted one's where none is in use."""
    try:
        found = [home.version for home in cgroups.homes(host).values()] or [
            hierarchy.version for hierarchy in cgroups.hierarchies(host)
        ]
    except HalError:
        return None
    return max(found, default=None)


def memory_facts(machine: Hardware) -> dict[str, object]:
    """Return what of the memory is free or reclaimable now."""
    free = {memory.node: memory.free_bytes + memory.cached_bytes for memory in machine.memory}
    free = {node: amount for node, amount in free.items() if amount}  # never none at all: then nothing was read
    with_cpus = [free[node.os_index] for node in machine.topology.nodes if node.cpus and node.os_index in free]
    return {"free": sum(free.values()) if free else None, "free_per_node": max(with_cpus, default=None)}


def _settings(host: Host) -> dict[str, object]:
    return {
        "hugepages.mode": knob_value(host, "memory.thp"),
        "numa_balancing": _is_on(knob_value(host, "memory.numa_balancing")),
        "zone_reclaim": _is_on(knob_value(host, "memory.zone_reclaim")),
        "swappiness": knob_value(host, "memory.swappiness"),
        "dirty_background": _bytes(host, knob_value(host, "memory.dirty_background")),
        "governor": _of_first(host, "power.governor"),
        "energy_preference": _of_first(host, "power.energy_preference"),
    }


def knob_value(host: Host, name: str, subject: Subject = SYSTEM) -> Value:
    """Return what a knob is set to, None where that cannot be read."""
    try:
        return all_knobs()[name].read(host, subject)
    except (HalError, ValueError):
        return None


def _bytes(host: Host, limit: Value) -> float | None:
    """Return a limit that may be a share of available memory in bytes."""
    if limit is None:
        return None
    share = str(limit).removesuffix("%")
    if share == str(limit):
        return parse_size(share)
    available = meminfo(host, "MemAvailable")
    return available * int(share) / 100 if available else None


def _of_first(host: Host, name: str) -> Value:
    """Return what a knob is set to on the first of its subjects."""
    try:
        first = next(iter(all_knobs()[name].subjects(host)), None)
    except HalError:
        return None
    return knob_value(host, name, first) if first else None


def _is_on(value: Value) -> bool | None:
    return None if value is None else bool(value)


def _activity(host: Host, shape: Topology, before: CpuTime | None, after: CpuTime | None) -> Mapping[str, object]:
    load = load_average(host)
    return {
        "load": load / shape.cpu_count if load is not None else None,
        "idle_share": idle_share(before, after),
        "deepest_idle": deepest_idle_s(host, shape.cpus[0].os_index),
        "swap": swap_bytes(host),
    }


def _daemons(host: Host) -> dict[str, object]:
    try:
        running = {owner.name for owner in owners.owners(host)}
    except HalError:
        return {"irqbalance": None, "tuner": None}
    return {_BALANCER: _BALANCER in running, "tuner": bool(running & owners.TUNERS)}
