"""Reading a topology from the kernel's own files, for machines that hwloc cannot be pointed at."""

from __future__ import annotations

import re

from hal.allowed import allowed_cpus, allowed_nodes
from hal.devices import read as read_devices
from hal.errors import HostError, TopologyError
from hal.host import Host
from hal.lists import parse_cpu_list
from hal.topology_values import (
    UNKNOWN_NODE,
    Cache,
    Cpu,
    Device,
    NumaNode,
    PciInfo,
    Topology,
    domains,
    last_cache_sharers,
)

_CPU = "/sys/devices/system/cpu"
_NODE = "/sys/devices/system/node"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def read(host: Host, *, source: str, devices: bool = True) -> Topology:
    """Return the topology that ``/sys`` and ``/proc`` of a host describe.

    Raises:
        TopologyError: no CPU can be told.
    """
    online = _online(host)
    if not online:
        raise TopologyError(
            "neither /sys/devices/system/cpu nor /proc names a CPU",
            remedy="mount /sys and /proc, or read the topology from an hwloc XML file",
        )
    allowed = allowed_cpus(host)
    nodes = _nodes(host, online)
    caches = _caches(host, online)
    packages = {cpu: _number(host, f"{_CPU}/cpu{cpu}/topology/physical_package_id", 0) for cpu in online}
    llcs = domains(last_cache_sharers(caches, packages, online))
    llc_of = {cpu: index for index, members in enumerate(llcs) for cpu in members}
    package_index = {number: index for index, number in enumerate(sorted(set(packages.values())))}
    cores = _cores(host, online)
    kinds = _kinds(host)
    node_of = {cpu: node.os_index for node in reversed(nodes) for cpu in node.cpus}
    return Topology(
        cpus=tuple(
            Cpu(
                os_index=cpu,
                core=cores[cpu],
                package=package_index[packages[cpu]],
                node=node_of.get(cpu, UNKNOWN_NODE),
                llc=llc_of[cpu],
                kind=next((index for index, (_, members) in enumerate(kinds) if cpu in members), 0),
                allowed=allowed is None or cpu in allowed,
            )
            for cpu in online
        ),
        nodes=nodes,
        source=source,
        packages=len(package_index),
        caches=caches,
        llcs=llcs,
        distances=_distances(host, nodes),
        devices=_devices(host) if devices else (),
        # Not /sys/devices/system/cpu/offline, which names every number that the kernel has room for.
        offline=tuple(cpu for cpu in _list(host, f"{_CPU}/present") if cpu not in online),
        cpu_kinds=tuple(name for name, _ in kinds),
    )


def _text(host: Host, path: str, default: str = "") -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return default


def _number(host: Host, path: str, default: int) -> int:
    try:
        return int(_text(host, path))
    except ValueError:
        return default


def _list(host: Host, path: str) -> tuple[int, ...]:
    try:
        return parse_cpu_list(_text(host, path))
    except ValueError:
        return ()


def _names(host: Host, path: str) -> list[str]:
    try:
        return host.list_dir(path)
    except HostError:
        return []


def _online(host: Host) -> tuple[int, ...]:
    if found := _list(host, f"{_CPU}/online"):
        return found
    stat = re.findall(r"^cpu(\d+) ", _text(host, "/proc/stat"), flags=re.MULTILINE)
    found_in_proc = stat or re.findall(r"^processor\s*:\s*(\d+)", _text(host, "/proc/cpuinfo"), flags=re.MULTILINE)
    return tuple(sorted({int(number) for number in found_in_proc}))


def _cores(host: Host, online: tuple[int, ...]) -> dict[int, int]:
    """Return a core index for each CPU; SMT siblings share it."""
    cores: dict[int, int] = {}
    for cpu in online:
        if cpu in cores:
            continue
        base = f"{_CPU}/cpu{cpu}/topology"
        # core_cpus_list is the name since 5.5 (2e4c54dac7b3); thread_siblings_list before.
        siblings = _list(host, f"{base}/core_cpus_list") or _list(host, f"{base}/thread_siblings_list")
        index = 1 + max(cores.values(), default=-1)
        for sibling in {cpu, *siblings} & set(online):
            cores.setdefault(sibling, index)
    return cores


def _nodes(host: Host, online: tuple[int, ...]) -> tuple[NumaNode, ...]:
    numbers = sorted(int(name[4:]) for name in _names(host, _NODE) if re.fullmatch(r"node\d+", name))
    if not numbers:  # a kernel without CONFIG_NUMA: all memory is one node
        total = re.search(r"^MemTotal:\s+(\d+) kB", _text(host, "/proc/meminfo"), flags=re.MULTILINE)
        return (NumaNode(0, online, int(total[1]) * 1024 if total else 0),)
    allowed = allowed_nodes(host)
    return tuple(_node(host, number, online, allowed is None or number in allowed) for number in numbers)


def _node(host: Host, number: int, online: tuple[int, ...], allowed: bool) -> NumaNode:
    cpus = tuple(cpu for cpu in _list(host, f"{_NODE}/node{number}/cpulist") if cpu in online)
    total = re.search(r"MemTotal:\s+(\d+) kB", _text(host, f"{_NODE}/node{number}/meminfo"))
    return NumaNode(number, cpus, int(total[1]) * 1024 if total else 0, allowed=allowed)


def _distances(host: Host, nodes: tuple[NumaNode, ...]) -> tuple[tuple[float, ...], ...]:
    rows = [_text(host, f"{_NODE}/node{node.os_index}/distance").split() for node in nodes]
    try:
        matrix = tuple(tuple(float(cell) for cell in row) for row in rows)
    except ValueError:
        return ()
    return matrix if all(len(row) == len(nodes) for row in matrix) else ()


def _caches(host: Host, online: tuple[int, ...]) -> tuple[Cache, ...]:
    found: set[Cache] = set()
    for cpu in online:
        base = f"{_CPU}/cpu{cpu}/cache"
        for name in _names(host, base):
            if name.startswith("index") and (cache := _cache(host, f"{base}/{name}", cpu, online)):
                found.add(cache)
    return tuple(sorted(found, key=lambda cache: (cache.level, cache.cpus)))


def _cache(host: Host, base: str, cpu: int, online: tuple[int, ...]) -> Cache | None:
    level = _number(host, f"{base}/level", 0)
    if level <= 0 or _text(host, f"{base}/type") not in ("Data", "Unified"):
        return None
    size = re.fullmatch(r"(\d+)([KMG]?)", _text(host, f"{base}/size"))
    shared = {cpu, *_list(host, f"{base}/shared_cpu_list")} & set(online)
    return Cache(level, int(size[1]) * _UNITS[size[2]] if size else 0, tuple(sorted(shared)))


def _kinds(host: Host) -> list[tuple[str, tuple[int, ...]]]:
    """Return the kinds of core that a hybrid x86 machine has, by its per-kind PMUs; least capable first."""
    found = [(name, _list(host, f"/sys/devices/{pmu}/cpus")) for pmu, name in _HYBRID]
    present = [(name, cpus) for name, cpus in found if cpus]
    return present if len(present) > 1 else []


_HYBRID = (("cpu_lowpower", "IntelLowPower"), ("cpu_atom", "IntelAtom"), ("cpu_core", "IntelCore"))


def _devices(host: Host) -> tuple[Device, ...]:
    """Return what the operating system has names for; hwloc knows more."""
    found = read_devices(host)
    info = {
        device.address: PciInfo(device.class_code, device.vendor, device.device, device.model, device.bytes_per_s)
        for device in found.pci
    }
    nics = [Device(nic.name, "net", nic.address, nic.node, info.get(nic.address)) for nic in found.nics]
    disks = [Device(disk.name, "storage", disk.address, disk.node, info.get(disk.address)) for disk in found.blocks]
    taken = {device.name for device in [*nics, *disks]}
    gpus = [
        Device(name, gpu.kind, gpu.address, gpu.node, info[gpu.address])
        for gpu in found.gpus
        for name in gpu.names
        if name not in taken
    ]
    return tuple(sorted([*nics, *disks, *gpus], key=lambda device: (device.kind, device.name, device.address)))
