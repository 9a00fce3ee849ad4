"""Facts of network cards, disks and PCI devices."""

from __future__ import annotations

from dataclasses import replace

from hal import devices
from hal.activity import disk_busy_s, nic_bytes
from hal.devices import BlockDevice, Nic, PciDevice
from hal.errors import HalError
from hal.host import Host
from hal.interrupts import of_device
from hal.knobs import all_knobs
from hal.machine import Machine as Hardware
from hal.settings import Subject, Value
from hal.topology_values import UNKNOWN_NODE
from rules.situation import Thing

type Things = tuple[tuple[Thing, ...], tuple[Thing, ...], tuple[Thing, ...]]
"""Network cards, disks, PCI devices."""

LEAST_S = 0.2
"""Over a shorter time nothing is said of rates and shares of time."""
_PARAVIRTUAL = ("virtio_net", "vmxnet3", "hv_netvsc", "vif", "xen_netfront")
_IFF_UP = 1


class DeviceReader:
    """Reads the devices of a machine; which interrupts are whose is looked up once for each.

    Args:
        has_files: False for a machine that is only described: there is nothing but what the description says.
    """

    def __init__(self, machine: Hardware, *, has_files: bool = True) -> None:
        self._machine = machine
        self._has_files = has_files
        self._known = machine.devices
        self._irqs: dict[Subject, tuple[int, ...]] = {}
        self._before: dict[Subject, tuple[float, float]] = {}

    def read(self, host: Host) -> Things:
        """Return the devices now."""
        found = self._machine.devices
        if self._has_files:
            self._known = devices.read_again(host, self._known, of=_is_of_interest)
            found = devices.placed(self._known, self._machine.topology)
        functions = {device.address: device for device in found.pci}
        return (
            tuple(self._card(host, nic, functions.get(nic.address)) for nic in found.nics),
            tuple(self._disk(host, disk) for disk in found.blocks),
            tuple(self._with_irqs(host, _pci(host, device)) for device in found.pci if _is_of_interest(device)),
        )

    def _card(self, host: Host, nic: Nic, function: PciDevice | None) -> Thing:
        thing = _nic(host, nic, function)
        traffic = self._rate(host, thing.subject, nic_bytes(host, nic.name))
        return self._with_irqs(host, replace(thing, values={**thing.values, "traffic": traffic}))

    def _disk(self, host: Host, disk: BlockDevice) -> Thing:
        thing = _disk(host, disk)
        busy = self._rate(host, thing.subject, disk_busy_s(host, disk.name))
        share = None if busy is None else min(busy, 1.0)
        return self._with_irqs(host, replace(thing, values={**thing.values, "busy_share": share}))

    def _rate(self, host: Host, subject: Subject, count: float | None) -> float | None:
        """Return by how much a count grew a second since the reading before; None of the first, and where it began anew."""
        if count is None:
            return None
        now_s = host.monotonic_ns() * 1e-9
        then_s, before = self._before.setdefault(subject, (now_s, count))
        if now_s - then_s < LEAST_S:
            return None
        self._before[subject] = now_s, count
        return (count - before) / (now_s - then_s) if count >= before else None

    def _with_irqs(self, host: Host, thing: Thing) -> Thing:
        if not self._has_files:
            return thing
        if not self._irqs.get(thing.subject):  # an interface that was down asks for them when it comes up
            try:
                self._irqs[thing.subject] = of_device(host, thing.subject)
            except HalError:
                return thing
        return replace(thing, irqs=self._irqs[thing.subject])


def _is_of_interest(device: PciDevice) -> bool:
    """Tell whether rules look at a function: it has a link, or is of a known kind; a virtual one has its physical one's."""
    return device.kind != "bridge" and not device.physical and (device.kind != "pci" or device.link is not None)


def _nic(host: Host, nic: Nic, function: PciDevice | None) -> Thing:
    subject = Subject("nic", nic.name)
    speed = nic.speed_bits_per_s
    functions = function.virtual if function else None
    known = function is not None and function.class_code != 0 and host.exists(f"/sys/class/net/{nic.name}")
    values: dict[str, object] = {
        "name": nic.name,
        "up": _is_up(host, nic),
        "node": _node(nic.node),
        "speed": speed / 8 if speed else None,
        "rx_queues": nic.rx_queues or None,
        "tx_queues": nic.tx_queues or None,
        "rps": _steers(host, nic),
        "virtual": _is_paravirtual(host, nic),
        "virtual_functions": len(functions.made) if functions else 0 if known else None,
        "virtual_functions_possible": functions.total if functions else 0 if known else None,
    }
    return Thing(nic.name, subject, values, _node(nic.node))


def _is_up(host: Host, nic: Nic) -> bool | None:
    """Tell whether it is up; a driver that does not tell of the link leaves the state unknown (RFC 2863)."""
    if nic.state != "unknown":
        return nic.state == "up"
    try:
        return bool(int(host.read_text(f"/sys/class/net/{nic.name}/flags"), 16) & _IFF_UP)
    except (HalError, ValueError):
        return None


def _steers(host: Host, nic: Nic) -> bool | None:
    queues = (Subject("queue", f"{nic.name}/rx-{number}") for number in range(nic.rx_queues))
    found = [value for queue in queues if (value := _value(host, "nic.rps", queue)) is not None]
    return any(value != "none" for value in found) if found else None


def _is_paravirtual(host: Host, nic: Nic) -> bool | None:
    try:
        return host.read_link(f"/sys/class/net/{nic.name}/device/driver").rpartition("/")[2] in _PARAVIRTUAL
    except HalError:
        return None


def _disk(host: Host, disk: BlockDevice) -> Thing:
    subject = Subject("block", disk.name)
    read_ahead = _value(host, "block.read_ahead", subject)
    values: dict[str, object] = {
        "name": disk.name,
        "node": _node(disk.node),
        "rotational": disk.rotational,
        "size": disk.size_bytes or None,
        "queues": disk.queues or None,
        "read_ahead": int(read_ahead) * 1024 if read_ahead is not None else None,
        "scheduler": _value(host, "block.scheduler", subject),
        "rq_affinity": _value(host, "block.rq_affinity", subject),
        "requests": _value(host, "block.nr_requests", subject),
    }
    return Thing(disk.name, subject, values, _node(disk.node))


def _pci(host: Host, device: PciDevice) -> Thing:
    subject = Subject("pci", device.address)
    link = device.link
    values: dict[str, object] = {
        "address": device.address,
        "kind": device.kind,
        "node": _node(device.node),
        "speed": link.speed_gts if link else None,
        "max_speed": link.max_speed_gts if link else None,
        "width": link.width if link else None,
        "max_width": link.max_width if link else None,
        "reduced": link.is_reduced if link else None,
        "max_read_request": _value(host, "pcie.max_read_request", subject),
        "aspm": _value(host, "pcie.aspm", subject),
    }
    return Thing(device.address, subject, values, _node(device.node))


def _node(number: int) -> int | None:
    return None if number == UNKNOWN_NODE else number


def _value(host: Host, name: str, subject: Subject) -> Value:
    try:
        return all_knobs()[name].read(host, subject)
    except (HalError, ValueError):
        return None
