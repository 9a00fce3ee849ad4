"""Devices as the kernel shows them in ``/sys``: PCI functions with link and virtual functions, NICs, block devices.

Reading changes nothing and needs no privilege. A file that is missing or makes no sense costs its own field, no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from hal.errors import HostError
from hal.host import Host
from hal.pci import ADDRESS, DEVICES
from hal.topology_values import UNKNOWN_NODE, Device, Topology

_SECTOR_BYTES = (
    512  # of /sys/block/*/size, whatever the device's own sectors are (Documentation/ABI/stable/sysfs-block)
)


@dataclass(frozen=True, slots=True)
class Link:
    """A PCI Express link as it is and as the device could have it; None is unknown."""

    speed_gts: float | None
    """Gigatransfers a second and lane."""
    width: int | None
    """Lanes."""
    max_speed_gts: float | None
    max_width: int | None

    @property
    def is_reduced(self) -> bool:
        """Tell whether it runs below what the device could; idle devices lower their speed to save power."""
        pairs = ((self.speed_gts, self.max_speed_gts), (self.width, self.max_width))
        return any(now is not None and most is not None and now < most for now, most in pairs)

    @property
    def bytes_per_s(self) -> float | None:
        """What one direction carries, line coding taken off: 8b/10b up to 5 GT/s, 128b/130b up to 32, none in flits above."""
        if self.speed_gts is None or self.width is None:
            return None
        coding = 0.8 if self.speed_gts <= 5 else 128 / 130 if self.speed_gts <= 32 else 1.0
        return self.speed_gts * 1e9 / 8 * coding * self.width


@dataclass(frozen=True, slots=True)
class VirtualFunctions:
    """What a physical function offers by SR-IOV."""

    total: int
    """How many it can have."""
    made: tuple[str, ...]
    """PCI addresses of those there are, in the order of their numbers."""


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One PCI function."""

    address: str
    """Domain, bus, device, function: "0000:3b:00.0"."""
    kind: str
    """As ``Device.kind``, and "bridge"."""
    class_code: int
    """24 bits: base class, sub-class, programming interface."""
    vendor: int
    device: int
    node: int
    """OS index of its NUMA node, or UNKNOWN_NODE."""
    model: str = ""
    driver: str = ""
    names: tuple[str, ...] = ()
    """The operating system's names for what sits on it: "eth0", "nvme0n1", "card0"."""
    parent: str = ""
    """Address of the bridge or port that it is behind, or empty."""
    link: Link | None = None
    bytes_per_s: float | None = None
    """What its link carries in one direction."""
    physical: str = ""
    """Address of the physical function, for a virtual one."""
    virtual: VirtualFunctions | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One network interface that sits on a device."""

    name: str
    address: str
    """PCI address, or empty."""
    node: int
    state: str = "unknown"
    """As RFC 2863 has it: "up", "down", "dormant", "unknown", ..."""
    speed_bits_per_s: float | None = None
    rx_queues: int = 0
    tx_queues: int = 0
    mac: str = ""


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """One disk, without its partitions."""

    name: str
    address: str
    """PCI address, or empty."""
    node: int
    size_bytes: int = 0
    rotational: bool | None = None
    queues: int = 0
    """Hardware queues."""


@dataclass(frozen=True, slots=True)
class Devices:
    """Everything found, sorted by address or name."""

    pci: tuple[PciDevice, ...] = ()
    nics: tuple[Nic, ...] = ()
    blocks: tuple[BlockDevice, ...] = ()
    others: tuple[Device, ...] = ()
    """What sits on no PCI function and is neither of these: the GPU of a system on a chip, memory as a device."""

    @property
    def gpus(self) -> tuple[PciDevice, ...]:
        """Display controllers and processing accelerators."""
        return tuple(device for device in self.pci if device.kind in ("gpu", "accelerator"))

    def at(self, address: str) -> PciDevice | None:
        """Return the PCI function at an address."""
        return next((device for device in self.pci if device.address == address), None)


# PCI Code and ID Assignment Specification 1.16; more digits go before fewer.
_KINDS = {
    "01": "storage",
    "02": "net",
    "03": "gpu",
    "05": "memory",
    "06": "bridge",
    "0801": "dma",
    "0b40": "accelerator",
    "0c06": "net",
    "12": "accelerator",
}


def kind_of(class_code: int) -> str:
    """Return the kind of device that a 24-bit PCI class code stands for."""
    digits = f"{class_code:06x}"
    return _KINDS.get(digits[:4]) or _KINDS.get(digits[:2]) or "pci"


def read(host: Host) -> Devices:
    """Return the devices that a host's ``/sys`` names; none where there is no such thing."""
    nics = tuple(_nic(host, name) for name in _backed(host, "/sys/class/net"))
    blocks = tuple(_block(host, name) for name in _backed(host, "/sys/block"))
    screens = {name: _address(host, f"/sys/class/drm/{name}") for name in _names(host, "/sys/class/drm", r"card\d+")}
    named = {
        **screens,
        **{nic.name: nic.address for nic in nics},
        **{block.name: block.address for block in blocks},
    }
    pci = tuple(_pci(host, address, named) for address in _names(host, DEVICES, ADDRESS))
    nodes = {device.address: device.node for device in pci}
    others = tuple(
        Device(name, "gpu", "", _node(host, f"/sys/class/drm/{name}/device")) for name, at in screens.items() if not at
    )
    return Devices(pci, tuple(_on_node(nics, nodes)), tuple(_on_node(blocks, nodes)), others)


def read_again(host: Host, known: Devices, *, of: Callable[[PciDevice], bool]) -> Devices:
    """Return the devices now, given how they were: only those PCI functions are read again that are of interest.

    A server has hundreds of functions, most of them parts of the processor. Where any has come or gone all are read.
    """
    there = _names(host, DEVICES, ADDRESS)
    nics = tuple(_nic(host, name) for name in _backed(host, "/sys/class/net"))
    blocks = tuple(_block(host, name) for name in _backed(host, "/sys/block"))
    if there != [device.address for device in known.pci] or _named(nics, blocks) != _named(known.nics, known.blocks):
        return read(host)
    names = {name: device.address for device in known.pci for name in device.names}
    pci = tuple(_pci(host, device.address, names) if of(device) else device for device in known.pci)
    nodes = {device.address: device.node for device in pci}
    return replace(known, pci=pci, nics=tuple(_on_node(nics, nodes)), blocks=tuple(_on_node(blocks, nodes)))


def _named(nics: Iterable[Nic], blocks: Iterable[BlockDevice]) -> dict[str, str]:
    return {**{nic.name: nic.address for nic in nics}, **{block.name: block.address for block in blocks}}


def placed(found: Devices, shape: Topology) -> Devices:
    """Return devices with their node: the only one, where there is one, as the firmware then does not say."""
    if shape.node_count != 1:
        return found
    only = shape.nodes[0].os_index
    return Devices(
        tuple(replace(device, node=only) for device in found.pci),
        tuple(replace(nic, node=only) for nic in found.nics),
        tuple(replace(block, node=only) for block in found.blocks),
        tuple(replace(other, node=only) for other in found.others),
    )


def _on_node[T: (Nic, BlockDevice)](things: Iterable[T], nodes: Mapping[str, int]) -> Iterable[T]:
    """Give a thing the node of the PCI function that it sits on: virtio devices in between do not say."""
    return (replace(thing, node=nodes.get(thing.address, thing.node)) for thing in things)


def _pci(host: Host, address: str, named: Mapping[str, str]) -> PciDevice:
    base = f"{DEVICES}/{address}"
    code = _hex(host, f"{base}/class")
    link = _link(host, base)
    return PciDevice(
        address=address,
        kind=kind_of(code),
        class_code=code,
        vendor=_hex(host, f"{base}/vendor"),
        device=_hex(host, f"{base}/device"),
        node=_node(host, base),
        model=_model(host, address),
        driver=_target(host, f"{base}/driver").rsplit("/", 1)[-1],
        names=tuple(sorted(name for name, at in named.items() if at == address)),
        parent=_parent(_target(host, base)),
        link=link,
        bytes_per_s=link.bytes_per_s if link else None,
        physical=_last_address(_target(host, f"{base}/physfn")),
        virtual=_virtual(host, base),
    )


def _link(host: Host, base: str) -> Link | None:
    def speed(name: str) -> float | None:
        found = re.match(r"(\d+(?:\.\d+)?) GT/s", _text(host, f"{base}/{name}"))
        return float(found[1]) if found else None

    def width(name: str) -> int | None:
        lanes = _number(host, f"{base}/{name}", 0)
        return lanes if 0 < lanes <= 32 else None  # 0 is a link that is down, 255 PCIE_LNK_WIDTH_UNKNOWN

    link = Link(
        speed("current_link_speed"), width("current_link_width"), speed("max_link_speed"), width("max_link_width")
    )
    return link if link != Link(None, None, None, None) else None


def _virtual(host: Host, base: str) -> VirtualFunctions | None:
    total = _number(host, f"{base}/sriov_totalvfs", 0)
    if total <= 0:
        return None
    names = sorted(_names(host, base, r"virtfn\d+"), key=lambda name: int(name.removeprefix("virtfn")))
    return VirtualFunctions(total, tuple(_last_address(_target(host, f"{base}/{name}")) for name in names))


def _model(host: Host, address: str) -> str:
    """Return what a driver says that it drives; the ids of others are names to those who have pci.ids."""
    found = re.search(r"^Model:\s*(.+)$", _text(host, f"/proc/driver/nvidia/gpus/{address}/information"), re.MULTILINE)
    return found[1].strip() if found else ""


def _backed(host: Host, folder: str) -> list[str]:
    """Return the names in a class that sit on a device; loop devices, bridges and the like do not."""
    return [name for name in _names(host, folder, r".+") if host.exists(f"{folder}/{name}/device")]


def _nic(host: Host, name: str) -> Nic:
    base = f"/sys/class/net/{name}"
    queues = _names(host, f"{base}/queues", r"[rt]x-\d+")
    megabits = _number(host, f"{base}/speed", -1)  # EINVAL while down, -1 where there is no such thing
    return Nic(
        name=name,
        address=_address(host, base),
        node=_node(host, f"{base}/device"),
        state=_text(host, f"{base}/operstate") or "unknown",
        speed_bits_per_s=megabits * 1e6 if megabits > 0 else None,
        rx_queues=sum(queue.startswith("rx") for queue in queues),
        tx_queues=sum(queue.startswith("tx") for queue in queues),
        mac=_text(host, f"{base}/address"),
    )


def _block(host: Host, name: str) -> BlockDevice:
    base = f"/sys/block/{name}"
    return BlockDevice(
        name=name,
        address=_address(host, base) or _controller(host, base),
        node=_node(host, f"{base}/device"),
        size_bytes=max(0, _number(host, f"{base}/size", 0)) * _SECTOR_BYTES,
        rotational={"0": False, "1": True}.get(_text(host, f"{base}/queue/rotational")),
        queues=len(_names(host, f"{base}/mq", r"\d+")),
    )


def _controller(host: Host, base: str) -> str:
    """Return the address behind an NVMe name space that has several paths: that of the first."""
    paths = _names(host, f"{base}/device", r"nvme\d+")
    return next((found for path in paths if (found := _last_address(_target(host, f"{base}/device/{path}")))), "")


def _address(host: Host, base: str) -> str:
    """Return the PCI address of what a class link points to: the last one in the path, or as its uevent says."""
    for link in (base, f"{base}/device"):
        if found := _last_address(_target(host, link)):
            return found
    uevent = re.search(r"^PCI_SLOT_NAME=(\S+)", _text(host, f"{base}/device/uevent"), re.MULTILINE)
    return uevent[1] if uevent else ""


def _last_address(path: str) -> str:
    found = re.findall(rf"(?<=/){ADDRESS}(?![^/])", path)
    return str(found[-1]) if found else ""


def _parent(path: str) -> str:
    found = re.findall(rf"(?<=/){ADDRESS}(?![^/])", path)
    return str(found[-2]) if len(found) > 1 else ""


def _node(host: Host, base: str) -> int:
    number = _number(host, f"{base}/numa_node", UNKNOWN_NODE)
    return number if number >= 0 else UNKNOWN_NODE


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""


def _number(host: Host, path: str, default: int) -> int:
    try:
        return int(_text(host, path))
    except ValueError:
        return default


def _hex(host: Host, path: str) -> int:
    try:
        return int(_text(host, path), 16)
    except ValueError:
        return 0


def _target(host: Host, path: str) -> str:
    try:
        return host.read_link(path)
    except HostError:
        return ""


def _names(host: Host, folder: str, pattern: str) -> list[str]:
    try:
        return [name for name in host.list_dir(folder) if re.fullmatch(pattern, name)]
    except HostError:
        return []
