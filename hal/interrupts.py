"""Interrupts: of which device, where they may go, where they go, how often they came; see Documentation/core-api/irq/irq-affinity.rst."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hal.errors import HostError
from hal.host import Host
from hal.lists import parse_cpu_list
from hal.pci import DEVICES, address_of
from hal.settings import Subject
from hal.topology_values import UNKNOWN_NODE

IRQS = "/proc/irq"
_SYS = "/sys/kernel/irq"
_WRITABLE = 0o222


@dataclass(frozen=True, slots=True)
class Interrupt:
    """One interrupt line or message."""

    number: int
    device: str
    """PCI address of the function that raises it, or empty."""
    handlers: tuple[str, ...]
    """Names of those who asked for it: "eth0-TxRx-0"."""
    affinity: tuple[int, ...]
    """The CPUs that it may go to."""
    effective: tuple[int, ...] | None
    """The CPUs that it does go to; None where the kernel does not say."""
    node: int
    """OS index of its NUMA node, or UNKNOWN_NODE."""
    is_movable: bool
    """False where the kernel lets nobody set its affinity: managed by it (a queue of NVMe or virtio-blk), or of one CPU."""
    counts: Mapping[int, int]
    """How often it came, by CPU, since boot."""


def interrupts(host: Host) -> tuple[Interrupt, ...]:
    """Return every interrupt that a device asked for, by number; none where there is no /proc/irq."""
    counts = counts_by_number(host)
    devices = {number: address for address in _names(host, DEVICES) for number in of_function(host, address)}
    found = (_interrupt(host, number, devices.get(number, ""), counts.get(number, {})) for number in numbers(host))
    return tuple(one for one in found if one.handlers)


def _interrupt(host: Host, number: int, device: str, counts: Mapping[int, int]) -> Interrupt:
    node = _text(host, f"{IRQS}/{number}/node")
    return Interrupt(
        number=number,
        device=device,
        handlers=handlers(host, number),
        affinity=_cpus(host, f"{IRQS}/{number}/smp_affinity_list") or (),
        effective=effective(host, number),
        node=int(node) if node.isdigit() else UNKNOWN_NODE,
        is_movable=is_movable(host, number),
        counts=counts,
    )


def numbers(host: Host) -> tuple[int, ...]:
    """Return the numbers of all interrupts, used or not, sorted."""
    return tuple(sorted(int(name) for name in _names(host, IRQS) if name.isdigit()))


def handlers(host: Host, number: int) -> tuple[str, ...]:
    """Return the names of those who asked for an interrupt; none for one that is not in use."""
    return tuple(name for name in _text(host, f"{_SYS}/{number}/actions").split(",") if name)


def effective(host: Host, number: int) -> tuple[int, ...] | None:
    """Return the CPUs that an interrupt does go to; None where the kernel does not say.

    After a change of affinity it may be those of before until the interrupt comes once more.
    """
    return _cpus(host, f"{IRQS}/{number}/effective_affinity_list")


def is_movable(host: Host, number: int) -> bool:
    """Tell whether the kernel lets its affinity be set, as far as it says so, which it does since 6.12."""
    try:
        return bool(host.mode(f"{IRQS}/{number}/smp_affinity_list") & _WRITABLE)
    except HostError:
        return False


def counts_by_number(host: Host) -> dict[int, dict[int, int]]:
    """Return how often each interrupt came, by number and CPU; those that have a name only (LOC, ...) are left out."""
    lines = _text(host, "/proc/interrupts").splitlines()
    cpus = [int(number) for number in re.findall(r"CPU(\d+)", lines[0])] if lines else []
    found = {}
    for line in lines[1:]:
        number, _, rest = line.strip().partition(":")
        words = rest.split()[: len(cpus)]
        if number.isdigit() and len(words) == len(cpus) and all(word.isdigit() for word in words):
            found[int(number)] = dict(zip(cpus, map(int, words), strict=True))
    return found


def of_function(host: Host, address: str) -> tuple[int, ...]:
    """Return the numbers of the interrupts of a PCI function: its messages, or its line where it uses none."""
    messages = tuple(int(name) for name in _names(host, f"{DEVICES}/{address}/msi_irqs") if name.isdigit())
    if messages:
        return tuple(sorted(messages))
    line = _text(host, f"{DEVICES}/{address}/irq")
    return (int(line),) if line.isdigit() and line != "0" else ()


def of_device(host: Host, subject: Subject) -> tuple[int, ...]:
    """Return the numbers of the interrupts of a subject ("pci", "nic" or "block") that are in use.

    Where no PCI function is behind it, they are told by name: "virtio2-input.0" is of what sits on virtio2, "eth0-rx" of eth0.
    """
    present = set(numbers(host))
    address = address_of(host, subject)
    if address and (found := [number for number in of_function(host, address) if number in present]):
        return tuple(number for number in found if handlers(host, number)) or tuple(found)
    names = {subject.name, _parent_device(host, subject)} - {""}
    return tuple(
        number for number in sorted(present) if any(_is_of(handler, names) for handler in handlers(host, number))
    )


def _is_of(handler: str, names: set[str]) -> bool:
    return any(handler == name or re.match(rf"{re.escape(name)}[-:.@]", handler) for name in names)


def _parent_device(host: Host, subject: Subject) -> str:
    folder = {"nic": "/sys/class/net", "block": "/sys/block"}.get(subject.kind)
    try:
        return host.read_link(f"{folder}/{subject.name}/device").rsplit("/", 1)[-1] if folder else ""
    except HostError:
        return ""


def _cpus(host: Host, path: str) -> tuple[int, ...] | None:
    text = _text(host, path)
    try:
        return parse_cpu_list(text) if text else None
    except ValueError:
        return None


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip("\n")
    except HostError:
        return ""


def _names(host: Host, path: str) -> list[str]:
    try:
        return host.list_dir(path)
    except HostError:
        return []
