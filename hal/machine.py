"""One machine as a value: topology, states of its CPUs, memory that is free, devices. Live, captured or only described."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass, field, replace

from hal import cgroups, devices, topology
from hal.checks.system import machine_line
from hal.devices import BlockDevice, Devices, Nic, PciDevice, kind_of
from hal.errors import HostError
from hal.host import Host, LinuxHost
from hal.lists import parse_cpu_list
from hal.topology import UNKNOWN_NODE, Cpu, Device, NumaNode, Topology

SCHEMA = "workload-dna/machine/1"

_CPU = "/sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class CpuStates:
    """CPUs that the scheduler treats unlike the others, by OS index."""

    isolated: tuple[int, ...] = ()
    """Kept out of load balancing, by isolcpus= or an isolated cpuset partition."""
    nohz_full: tuple[int, ...] = ()
    """Without the scheduler's tick while one task runs."""


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """What a node's memory is used for, in bytes, at the time of reading."""

    node: int
    free_bytes: int
    cached_bytes: int
    """Page cache and reclaimable slabs, which the kernel gives up when asked for memory."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that is known of one machine."""

    topology: Topology
    model: str = ""
    """The processor's."""
    kernel: str = ""
    architecture: str = ""
    cpus: CpuStates = field(default_factory=CpuStates)
    memory: tuple[NodeMemory, ...] = ()
    """Empty for a machine that is only described."""
    devices: Devices = field(default_factory=Devices)

    def memory_of(self, node: int) -> NodeMemory | None:
        """Return what is known of a node's memory now."""
        return next((memory for memory in self.memory if memory.node == node), None)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON data; the schema is described in docs/machine.md."""
        shape = self.topology
        return {
            "schema": SCHEMA,
            "source": shape.source,
            "model": self.model or None,
            "kernel": self.kernel or None,
            "arch": self.architecture or None,
            "packages": shape.packages,
            "cores": shape.core_count,
            "cpus": [self._cpu(cpu) for cpu in shape.cpus],
            "offline": list(shape.offline),
            "nodes": [self._node(node) for node in shape.nodes],
            "distances": [list(row) for row in shape.distances],
            "caches": [asdict(cache) for cache in shape.caches],
            "llcs": [list(cpus) for cpus in shape.llcs],
            "pci": [_pci_data(device) for device in self.devices.pci],
            "nics": [_with_node(asdict(nic)) for nic in self.devices.nics],
            "blocks": [_with_node(asdict(block)) for block in self.devices.blocks],
            "others": [_with_node(asdict(device)) for device in self.devices.others],
        }

    def _cpu(self, cpu: Cpu) -> dict[str, object]:
        kinds = self.topology.cpu_kinds
        return {
            "cpu": cpu.os_index,
            "core": cpu.core,
            "package": cpu.package,
            "node": None if cpu.node == UNKNOWN_NODE else cpu.node,
            "llc": cpu.llc,
            "kind": kinds[cpu.kind] if kinds else None,
            "allowed": cpu.allowed,
            "isolated": cpu.os_index in self.cpus.isolated,
            "nohz_full": cpu.os_index in self.cpus.nohz_full,
        }

    def _node(self, node: NumaNode) -> dict[str, object]:
        now = self.memory_of(node.os_index)
        return {
            "node": node.os_index,
            "cpus": [cpu.os_index for cpu in self.topology.cpus if cpu.node == node.os_index],
            "near_cpus": list(node.cpus),
            "memory_bytes": node.memory_bytes or None,
            "free_bytes": now.free_bytes if now else None,
            "cached_bytes": now.cached_bytes if now else None,
            "kind": node.kind or None,
            "allowed": node.allowed,
        }


def _pci_data(device: PciDevice) -> dict[str, object]:
    data = _with_node(asdict(device))
    data["class"] = f"{data.pop('class_code'):06x}"
    return data | {"vendor": f"{device.vendor:04x}", "device": f"{device.device:04x}"}


def _with_node(data: dict[str, object]) -> dict[str, object]:
    """Return a device's data with null where there is nothing: no node, no address."""
    return {
        name: None if value == "" or (name == "node" and value == UNKNOWN_NODE) else value
        for name, value in data.items()
    }


def read(host: Host) -> Machine:
    """Return the machine behind a host.

    Raises:
        TopologyError: not even the CPUs can be told.
    """
    shape = topology.live(host, devices=False)
    is_here = isinstance(host, LinuxHost) and host.is_live
    return Machine(
        topology=shape,
        model=machine_line(host) or shape.model,
        kernel=_text(host, "/proc/sys/kernel/osrelease"),
        architecture=platform.machine() if is_here else "",
        cpus=cpu_states(host, shape),
        memory=_memory_of_all(host, shape),
        devices=devices.placed(devices.read(host), shape),
    )


def memory_now(host: Host, machine: Machine) -> tuple[NodeMemory, ...]:
    """Return what the memory of a machine that was read before is used for now."""
    return _memory_of_all(host, machine.topology)


def _memory_of_all(host: Host, shape: Topology) -> tuple[NodeMemory, ...]:
    return tuple(_memory(host, node.os_index, alone=shape.node_count == 1) for node in shape.nodes)


def described(shape: Topology) -> Machine:
    """Return the machine of a description: what it says, and nothing of the moment."""
    return Machine(topology=shape, model=shape.model, devices=_devices_in(shape.devices))


def named(text: str) -> Machine:
    """Return the machine that a user names: a folder with its ``sys`` and ``proc``, an hwloc XML file, or a synthetic description.

    Raises:
        TopologyError: it is none of these.
    """
    if os.path.isdir(os.path.join(text, "sys")):
        return read(LinuxHost(root=os.path.abspath(text)))
    return described(topology.named(text))


def cpu_states(host: Host, shape: Topology) -> CpuStates:
    """Return which of a topology's CPUs the scheduler treats unlike the others."""
    online = {cpu.os_index for cpu in shape.cpus}
    isolated = {*_list(host, f"{_CPU}/isolated"), *_partitions(host)}
    return CpuStates(
        isolated=tuple(sorted(isolated & online)),
        nohz_full=tuple(cpu for cpu in _list(host, f"{_CPU}/nohz_full") if cpu in online),
    )


def _partitions(host: Host) -> tuple[int, ...]:
    """Return the CPUs of isolated cpuset partitions; the file came with 6.8 (877c737db935)."""
    try:
        mounts = [tree.mount for tree in cgroups.hierarchies(host) if not tree.controllers]
    except HostError:
        return ()
    return tuple(cpu for mount in mounts for cpu in _list(host, f"{mount}/cpuset.cpus.isolated"))


def _memory(host: Host, node: int, *, alone: bool) -> NodeMemory:
    text = _text(host, f"/sys/devices/system/node/node{node}/meminfo")
    if not text and alone:
        text = _text(host, "/proc/meminfo")

    def amount(*names: str) -> int:
        found = (re.search(rf"\b{name}:\s+(\d+) kB", text) for name in names)
        return sum(int(one[1]) * 1024 for one in found if one)

    file_pages = amount("FilePages") or amount("Cached", "Buffers")
    shared = min(amount("Shmem"), file_pages)  # counted with the page cache, but there is nowhere to drop it to
    return NodeMemory(node, amount("MemFree"), file_pages - shared + amount("SReclaimable"))


def _devices_in(all_of_them: tuple[Device, ...]) -> Devices:
    """Return the devices of a description, which knows no queues, states or virtual functions."""
    functions: dict[str, PciDevice] = {}
    for device in all_of_them:
        if device.address:
            known = functions.get(device.address)
            functions[device.address] = _with_name(known, device) if known else _function(device)
    return Devices(
        pci=tuple(functions[address] for address in sorted(functions)),
        nics=tuple(Nic(d.name, d.address, d.node) for d in all_of_them if d.kind == "net"),
        blocks=tuple(BlockDevice(d.name, d.address, d.node) for d in all_of_them if d.kind == "storage"),
        others=tuple(d for d in all_of_them if not d.address and d.kind not in ("net", "storage")),
    )


def _function(device: Device) -> PciDevice:
    info = device.pci
    named = () if device.name == device.address else (device.name,)
    if info is None:
        return PciDevice(device.address, device.kind, 0, 0, 0, device.node, names=named)
    kind = kind_of(info.class_code) if device.kind == "pci" else device.kind
    return PciDevice(
        device.address,
        kind,
        info.class_code,
        info.vendor,
        info.device,
        device.node,
        model=info.model,
        names=named,
        bytes_per_s=info.bytes_per_s,
    )


def _with_name(known: PciDevice, device: Device) -> PciDevice:
    return replace(known, names=tuple(sorted({*known.names, device.name})))


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""


def _list(host: Host, path: str) -> tuple[int, ...]:
    try:
        return parse_cpu_list(_text(host, path))
    except ValueError:  # an unset nohz_full reads "(null)"
        return ()
