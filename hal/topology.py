"""The machine's topology: CPUs, cores, caches, NUMA nodes with their distances, and devices with their locality.

Read through hwloc (pyhwloc) from the running machine, an hwloc XML file or a synthetic description; from ``/sys`` for a
captured or in-memory machine, and wherever pyhwloc cannot be used. ``Topology.source`` says which it was.

Only what is online is in a topology. CPUs outside this process's cpuset are in it too, with ``allowed`` false: what is
watched may well run there.
"""

from __future__ import annotations

import os
from types import ModuleType

from hal import topology_sysfs
from hal.errors import HostError, NotFoundError, TopologyError
from hal.host import Host, LinuxHost
from hal.topology_values import UNKNOWN_NODE, Cache, Cpu, Device, NumaNode, PciInfo, Topology, domains

__all__ = [
    "UNKNOWN_NODE",
    "Cache",
    "Cpu",
    "Device",
    "NumaNode",
    "PciInfo",
    "Topology",
    "domains",
    "from_synthetic",
    "from_xml",
    "live",
    "named",
]


def live(host: Host, *, devices: bool = True) -> Topology:
    """Return the topology of the machine behind ``host``.

    The running machine is read through hwloc; a captured or in-memory one, and one where pyhwloc is missing or broken,
    from its ``/sys``. ``devices`` off saves about 10 ms.

    Raises:
        TopologyError: not even the CPUs can be told.
    """
    if not (isinstance(host, LinuxHost) and host.is_live):
        return topology_sysfs.read(host, source="sysfs", devices=devices)
    try:
        from hal import topology_hwloc

        return topology_hwloc.read_live(host, devices=devices)
    except Exception as error:  # a foreign C library: whatever it stumbles over, the kernel's own files remain
        reason = str(error) or type(error).__name__
        return topology_sysfs.read(host, source=f"sysfs (pyhwloc cannot be used: {reason})", devices=devices)


def from_xml(path: str | os.PathLike[str], host: Host | None = None) -> Topology:
    """Return the topology in an hwloc XML file (any version that hwloc reads; ``lstopo machine.xml`` writes one).

    Raises:
        TopologyError: the file is not there, not hwloc's XML, or pyhwloc cannot be used.
    """
    try:
        text = (host or LinuxHost()).read_text(os.fspath(path))
    except NotFoundError as error:
        raise TopologyError(f"{path}: no such file", remedy="write one with `lstopo machine.xml`") from error
    except HostError as error:
        raise TopologyError(str(error), remedy=error.remedy or "check the file's permissions") from error
    topology: Topology = _hwloc().read_xml(text, str(path))
    return topology


def from_synthetic(text: str) -> Topology:
    """Return the topology that an hwloc synthetic description gives, such as ``"pack:2 numa:2 core:8 pu:2"``.

    Raises:
        TopologyError: the description is wrong, or pyhwloc cannot be used.
    """
    topology: Topology = _hwloc().read_synthetic(text)
    return topology


def named(text: str, host: Host | None = None) -> Topology:
    """Return the topology that a user names: an hwloc XML file, or else a synthetic description.

    Raises:
        TopologyError: it is neither.
    """
    looks_like_path = text.endswith(".xml") or text.startswith(("/", "./", "../"))
    if text and (looks_like_path or (host or LinuxHost()).exists(text)):
        return from_xml(text, host)
    return from_synthetic(text)


def _hwloc() -> ModuleType:
    try:
        from hal import topology_hwloc
    except (ImportError, OSError) as error:
        raise TopologyError(
            f"pyhwloc cannot be used: {error}", remedy="install it into this environment: pip install 'pyhwloc>=3'"
        ) from error
    return topology_hwloc
