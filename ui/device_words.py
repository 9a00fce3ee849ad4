"""Devices in a few words: what they are, what sits on them, their link, queues and virtual functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hal.devices import BlockDevice, Devices, Link, Nic, PciDevice
from ui.cpu_words import count
from ui.units import si, size, three_digits

LABELS = {
    "net": "net",
    "gpu": "gpu",
    "accelerator": "accel",
    "storage": "disk",
    "memory": "mem",
    "dma": "dma",
    "pci": "pci",
}
"""Kinds of device that are shown, in order; bridges are not."""

_MOST = 4
"""Of many alike, so many are spelled out."""


def device_lines(devices: Devices, node: int) -> Iterator[tuple[str, str]]:
    """Yield label and words for each device of a node, NICs first; functions of no use to a reader are only counted."""
    functions = [pci for pci in devices.pci if pci.node == node and not (pci.physical and devices.at(pci.physical))]
    for kind, label in LABELS.items():
        alike = [pci for pci in functions if pci.kind == kind]
        plain = [pci for pci in alike if kind in ("pci", "dma") and not pci.names]
        yield from ((label, words) for pci in alike if pci not in plain for words in _function(pci, devices))
        if plain:
            yield label, _some([f"{pci.address} {_identity(pci)}" for pci in plain])
        yield from ((label, words) for words in _without_pci(devices, kind, node))


def has_any(devices: Devices, node: int) -> bool:
    """Tell whether anything that is shown sits on a node."""
    return next(device_lines(devices, node), None) is not None


def _without_pci(devices: Devices, kind: str, node: int) -> Iterator[str]:
    nics = [nic for nic in devices.nics if kind == "net" and not nic.address and nic.node == node]
    disks = [disk for disk in devices.blocks if kind == "storage" and not disk.address and disk.node == node]
    yield from (_join([nic.name, *_nic(nic)]) for nic in nics)
    yield from (_join([disk.name, *_disk(disk)]) for disk in disks)
    yield from (device.name for device in devices.others if device.kind == kind and device.node == node)


def _function(pci: PciDevice, devices: Devices) -> Iterator[str]:
    nics = [nic for nic in devices.nics if nic.address == pci.address]
    disks = [disk for disk in devices.blocks if disk.address == pci.address]
    taken = {nic.name for nic in nics} | {disk.name for disk in disks}
    names = [name for name in pci.names if name not in taken]
    about = [f"{pci.address} {pci.driver}".strip(), pci.model or _identity(pci), link_words(pci, devices)]
    if len(nics) == 1:
        yield _join([nics[0].name, *names, *_nic(nics[0]), *about])
    elif disks:
        spinning = not pci.driver.startswith("virtio")  # a virtual disk says that it rotates
        yield _join([*_alike({disk.name: " ".join(_disk(disk, spinning=spinning)) for disk in disks}), *names, *about])
    else:
        yield _join([*(_join([nic.name, *_nic(nic)]) for nic in nics), *names, *about])
    if pci.virtual:
        yield _virtual(pci.virtual.total, pci.virtual.made, devices)


def _alike(words: Mapping[str, str]) -> list[str]:
    """Return names with their words, those that say the same together."""
    together: dict[str, list[str]] = {}
    for name, said in words.items():
        together.setdefault(said, []).append(name)
    return [
        f"{_some(names)} {said}{' each' if said and len(names) > 1 else ''}".strip() for said, names in together.items()
    ]


def _virtual(total: int, made: Sequence[str], devices: Devices) -> str:
    head = f"{len(made)} of {count(total, 'virtual function')}"
    shown = [" ".join([address, *(found.names if (found := devices.at(address)) else ())]) for address in made]
    return f"{head}: {_some(shown)}" if made else head


def _nic(nic: Nic) -> list[str]:
    speed = f"{si(nic.speed_bits_per_s / 1e9)} Gbit/s" if nic.speed_bits_per_s else ""
    state = nic.state if nic.state != "unknown" or nic.rx_queues else ""
    queues = f"queues {nic.rx_queues} rx {nic.tx_queues} tx" if nic.rx_queues or nic.tx_queues else ""
    return [part for part in (f"{state} {speed}".strip(), queues) if part]


def _disk(disk: BlockDevice, *, spinning: bool = True) -> list[str]:
    kind = {True: "HDD" if spinning else "", False: "SSD", None: ""}[disk.rotational]
    queues = count(disk.queues, "queue") if disk.queues else ""
    return [part for part in (size(disk.size_bytes) if disk.size_bytes else "", kind, queues) if part]


def _identity(pci: PciDevice) -> str:
    return f"{pci.vendor:04x}:{pci.device:04x}" if pci.vendor else ""


def link_words(pci: PciDevice, devices: Devices) -> str:
    """Return a device's link, and where it is below what it could be, what that is and whether its slot limits it."""
    link = pci.link
    if link is None or (link.speed_gts is None and link.width is None):
        return f"link {size(pci.bytes_per_s)}/s" if pci.bytes_per_s else ""
    words = f"PCIe {_link(link.speed_gts, link.width)}"
    if not link.is_reduced:
        return words
    slot = _slot(pci, devices)
    limit = f"; its slot {_link(slot.max_speed_gts, slot.max_width)}" if slot and _limits(slot, link) else ""
    return f"{words} (device could {_link(link.max_speed_gts, link.max_width)}{limit})"


def _slot(pci: PciDevice, devices: Devices) -> Link | None:
    port = devices.at(pci.parent)
    return port.link if port else None


def _limits(slot: Link, link: Link) -> bool:
    pairs = ((slot.max_speed_gts, link.max_speed_gts), (slot.max_width, link.max_width))
    return any(most is not None and wanted is not None and most < wanted for most, wanted in pairs)


def _link(speed: float | None, width: int | None) -> str:
    parts = (f"{three_digits(speed).rstrip('0').rstrip('.')} GT/s" if speed else "", f"x{width}" if width else "")
    return " ".join(part for part in parts if part)


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return ", ".join(words[:_MOST]) + more


def _join(parts: Sequence[str]) -> str:
    return " · ".join(part for part in parts if part)
