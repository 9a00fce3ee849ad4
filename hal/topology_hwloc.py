"""Reading a topology through hwloc. Import this module lazily: pyhwloc costs 0.2 s."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pyhwloc import Topology as Hwloc
from pyhwloc.hwobject import ObjOsdevType, ObjType
from pyhwloc.topology import TopologyFlags, TypeFilter

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

# Plugins that would start a GPU runtime, and with it allocate memory on the GPU, only to name it.
_RUNTIMES = ("cuda", "nvml", "opencl", "gl", "rsmi", "levelzero")

_DEVICE_KINDS = (
    (ObjOsdevType.NETWORK, "net"),
    (ObjOsdevType.OPENFABRICS, "net"),
    (ObjOsdevType.GPU, "gpu"),
    (ObjOsdevType.COPROC, "accelerator"),
    (ObjOsdevType.STORAGE, "storage"),
    (ObjOsdevType.MEMORY, "memory"),
    (ObjOsdevType.DMA, "dma"),
)
_NO_INDEX = 0xFFFFFFFF


def read_live(host: Host, *, devices: bool) -> Topology:
    """Return the running machine's topology."""
    hwloc = Hwloc.from_this_system().set_flags(TopologyFlags.INCLUDE_DISALLOWED)
    for name in _RUNTIMES:
        with contextlib.suppress(ValueError):  # not built into this hwloc
            hwloc.set_components(name)
    if devices:
        hwloc.set_io_types_filter(TypeFilter.KEEP_IMPORTANT)
    with hwloc:
        if not hwloc.is_this_system():
            return _convert(hwloc, "hwloc, as the environment's HWLOC_* variables say", has_cpu=None)
        return _convert(hwloc, "hwloc", has_cpu=_nodes_with_cpus(host))


def read_xml(text: str, name: str) -> Topology:
    """Return the topology in the text of an hwloc XML file."""
    # Loading once without filters first: pyhwloc frees a handle whose load fails only on this path, and otherwise
    # complains on the root logger.
    try:
        with Hwloc.from_xml_buffer(text, load=True):
            pass
    except (ValueError, RuntimeError, OSError) as error:
        raise TopologyError(
            f"{name}: not a topology that hwloc can read", remedy="write one with `lstopo machine.xml`"
        ) from error
    hwloc = Hwloc.from_xml_buffer(text).set_flags(TopologyFlags.INCLUDE_DISALLOWED)
    with hwloc.set_io_types_filter(TypeFilter.KEEP_IMPORTANT):
        return _convert(hwloc, f"hwloc XML {name}", has_cpu=None)


def read_synthetic(text: str) -> Topology:
    """Return the topology of a synthetic description."""
    try:
        hwloc = Hwloc.from_synthetic(text, load=True)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise TopologyError(
            f"{text!r} is not a synthetic topology",
            remedy='write levels as TYPE:COUNT, e.g. "pack:2 numa:2 core:8 pu:2"',
        ) from error
    with hwloc:
        return _without_inventions(_convert(hwloc, f"synthetic {text}", has_cpu=None), text)


def _without_inventions(topology: Topology, text: str) -> Topology:
    """Return a topology without the sizes that hwloc makes up where a description states none: 1 GiB a node, 16 MiB a cache."""
    if "memory=" not in text:
        topology = replace(topology, nodes=tuple(replace(node, memory_bytes=0) for node in topology.nodes))
    if "size=" not in text:
        topology = replace(topology, caches=tuple(replace(cache, size_bytes=0) for cache in topology.caches))
    return topology


def _nodes_with_cpus(host: Host) -> frozenset[int] | None:
    try:
        return frozenset(parse_cpu_list(host.read_text("/sys/devices/system/node/has_cpu")))
    except (HostError, ValueError):
        return None


def _convert(hwloc: Any, source: str, *, has_cpu: frozenset[int] | None) -> Topology:
    online = set(hwloc.cpuset)
    nodes = _nodes(hwloc, online)
    caches = _caches(hwloc, online)
    package_of = _membership(hwloc.iter_packages())
    core_of = _membership(hwloc.iter_cores())
    kinds = _cpu_kinds(hwloc)
    allowed = set(hwloc.allowed_cpuset)
    llcs = domains(last_cache_sharers(caches, package_of, online))
    claims: dict[int, list[NumaNode]] = {}
    for node in nodes:
        for cpu in node.cpus:
            claims.setdefault(cpu, []).append(node)
    llc_of = {cpu: index for index, members in enumerate(llcs) for cpu in members}
    cpus = tuple(
        Cpu(
            os_index=cpu,
            core=core,
            package=package_of.get(cpu, 0),
            node=_nearest_node(claims.get(cpu, ()), has_cpu),
            llc=llc_of[cpu],
            kind=next((index for index, (_, members) in enumerate(kinds) if cpu in members), 0),
            allowed=cpu in allowed,
        )
        for cpu, core in sorted(_dense(online, core_of).items())
    )
    if not cpus:
        raise TopologyError(f"{source}: a topology without CPUs", remedy="describe at least one PU")
    return Topology(
        cpus=cpus,
        nodes=nodes,
        source=source,
        packages=max(1, len(set(package_of.values()))),
        caches=caches,
        llcs=llcs,
        distances=_distances(hwloc, nodes),
        devices=_devices(hwloc),
        offline=tuple(sorted(set(hwloc.get_root_obj().complete_cpuset) - online)),
        cpu_kinds=tuple(name for name, _ in kinds),
        model=next((name for package in hwloc.iter_packages() if (name := _model(package))), ""),
    )


def _model(package: Any) -> str:
    return str(package.info.get("CPUModel", "")).strip()


def _index(thing: Any) -> int:
    """Return the OS index; old and synthetic descriptions may lack it."""
    return int(thing.logical_index if thing.os_index == _NO_INDEX else thing.os_index)


def _members(thing: Any) -> tuple[int, ...]:
    return tuple(sorted(thing.cpuset or ()))


def _membership(things: Iterable[Any]) -> dict[int, int]:
    return {cpu: int(thing.logical_index) for thing in things for cpu in _members(thing)}


def _dense(online: set[int], core_of: dict[int, int]) -> dict[int, int]:
    """Return the core of each CPU, a CPU without a described core being one of its own."""
    spare = 1 + max(core_of.values(), default=-1)
    bare = {cpu: spare + rank for rank, cpu in enumerate(sorted(online - core_of.keys()))}
    return {cpu: core_of.get(cpu, bare.get(cpu, 0)) for cpu in online}


def _nodes(hwloc: Any, online: set[int]) -> tuple[NumaNode, ...]:
    allowed = set(hwloc.allowed_nodeset)
    nodes = [
        NumaNode(
            os_index=_index(node),
            cpus=tuple(cpu for cpu in _members(node) if cpu in online),
            memory_bytes=int(node.local_memory),
            kind=node.subtype or "",
            allowed=_index(node) in allowed,
        )
        for node in hwloc.iter_numa_nodes()
    ]
    return tuple(sorted(nodes, key=lambda node: node.os_index))


def _nearest_node(claims: Sequence[NumaNode], has_cpu: frozenset[int] | None) -> int:
    """Return the node the kernel would call a CPU's own, of those that claim it.

    hwloc gives memory-only nodes the CPUs they are near to, so several nodes may claim one CPU. The kernel's word
    (``has_cpu``) decides where there is one; else plain DRAM before other kinds, the closest, the lowest number.
    """
    own = [node for node in claims if has_cpu is not None and node.os_index in has_cpu]
    ranked = sorted(own or claims, key=lambda node: (node.kind not in ("", "DRAM"), len(node.cpus), node.os_index))
    return ranked[0].os_index if ranked else UNKNOWN_NODE


def _caches(hwloc: Any, online: set[int]) -> tuple[Cache, ...]:
    caches = [
        Cache(
            # By the type's name: the fields after ``size`` in pyhwloc 3.0's CacheAttr are not in hwloc 3's order.
            level=int(cache.type.name[1]),
            size_bytes=int(cache.attr.size),
            cpus=tuple(cpu for cpu in _members(cache) if cpu in online),
        )
        for cache in hwloc.iter_all_breadth_first()
        if cache.is_dcache()
    ]
    return tuple(sorted(caches, key=lambda cache: (cache.level, cache.cpus)))


def _cpu_kinds(hwloc: Any) -> list[tuple[str, frozenset[int]]]:
    """Return name and CPUs of each kind of core, in hwloc's order of efficiency; empty where all are alike."""
    kinds = hwloc.get_cpukinds()
    found = [kinds.get_info(index) for index in range(kinds.n_kinds())]
    if len(found) < 2:
        return []
    return [(info.get("CoreType", f"kind {rank}"), frozenset(cpus)) for rank, (cpus, _, info) in enumerate(found)]


def _distances(hwloc: Any, nodes: tuple[NumaNode, ...]) -> tuple[tuple[float, ...], ...]:
    for matrix in hwloc.get_distances():
        things = list(matrix.objects)
        if matrix.name != "NUMALatency" or any(thing.type != ObjType.NUMANODE for thing in things):
            continue
        position = {_index(thing): place for place, thing in enumerate(things)}
        if all(node.os_index in position for node in nodes):
            order = [position[node.os_index] for node in nodes]
            return tuple(tuple(float(matrix[row, column]) for column in order) for row in order)
    return ()


def _devices(hwloc: Any) -> tuple[Device, ...]:
    named: list[Device] = []
    for device in hwloc.iter_os_devices():
        types = int(device.attr.types)
        kind = next((name for bit, name in _DEVICE_KINDS if types & bit), "pci")
        address = _address(device.parent)
        named.append(Device(device.name or "", kind, address, _device_node(device), _pci(device.parent)))
    covered = {device.address for device in named}
    bare = [
        Device(device.name or _address(device), "pci", _address(device), _device_node(device), _pci(device))
        for device in hwloc.iter_pci_devices()
        if _address(device) not in covered
    ]
    return tuple(sorted([*named, *bare], key=lambda device: (device.kind, device.name, device.address)))


def _function(thing: Any) -> Any:
    """Return the PCI device that something sits on or is, or None."""
    while thing is not None and thing.is_io() and not thing.is_pci_device():
        thing = thing.parent
    return thing if thing is not None and thing.is_io() else None


def _pci(thing: Any) -> PciInfo | None:
    function = _function(thing)
    if function is None:
        return None
    attr, info = function.attr, function.info
    words = (info.get("PCIVendor", ""), info.get("PCIDevice", ""))
    return PciInfo(
        class_code=attr.base_class << 16 | attr.subclass << 8 | attr.prog_if,
        vendor=int(attr.vendor_id),
        device=int(attr.device_id),
        model=" ".join(word for word in words if word),
        bytes_per_s=float(attr.linkspeed) * 1e9 or None,
    )


def _address(thing: Any) -> str:
    function = _function(thing)
    if function is None:
        return ""
    attr = function.attr
    return f"{attr.domain:04x}:{attr.bus:02x}:{attr.dev:02x}.{attr.func:x}"


def _device_node(thing: Any) -> int:
    """Return the one node that the device hangs below, if it is one."""
    while thing is not None and thing.is_io():
        thing = thing.parent
    nodes = sorted(thing.nodeset or ()) if thing is not None else []
    return int(nodes[0]) if len(nodes) == 1 else UNKNOWN_NODE
