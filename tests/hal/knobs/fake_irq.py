"""Interrupts of the machine in memory: of a network card, one that the kernel manages, and some that nobody asked for."""

from __future__ import annotations

import errno

from hal.fake import FakeHost
from hal.lists import format_cpu_list, parse_cpu_list, parse_cpu_mask
from hal.settings import SYSTEM, Subject, Value

CPUS = range(8)
UNUSED, MOVABLE, MANAGED = 11, (120, 121), 122
NAMES = {120: "ens80", 121: "ens80-TxRx-0", 122: "nvme9q1"}


def furnish(host: FakeHost) -> None:
    """Add the interrupts."""
    for number in (UNUSED, *MOVABLE, MANAGED):
        add_interrupt(host, number, NAMES.get(number, ""))
    host.modes[f"/proc/irq/{MANAGED}/smp_affinity_list"] = 0o444
    host.files |= {"/proc/irq/default_smp_affinity": "ff\n", "/proc/interrupts": table(host)}
    host.handlers["/proc/irq/default_smp_affinity"] = _mask


def add_interrupt(host: FakeHost, number: int, name: str, affinity: str = "0-7") -> None:
    """Add one interrupt; where it goes follows from where it may go."""
    base = f"/proc/irq/{number}"
    host.files |= {
        f"{base}/smp_affinity_list": affinity + "\n",
        f"{base}/effective_affinity_list": f"{parse_cpu_list(affinity)[0]}\n",
        f"{base}/node": "0\n",
        f"/sys/kernel/irq/{number}/actions": f"{name}\n" if name else "",
    }

    def move(_old: str, written: str) -> str:
        cpus = parse_cpu_list(written)
        if host.modes.get(f"{base}/smp_affinity_list") == 0o444:
            raise OSError(errno.EPERM, "managed")
        if not set(cpus) & set(CPUS):
            raise OSError(errno.EINVAL, "no such CPU")
        host.files[f"{base}/effective_affinity_list"] = f"{min(set(cpus) & set(CPUS))}\n"
        return format_cpu_list(cpus) + "\n"

    host.handlers[f"{base}/smp_affinity_list"] = move


def table(host: FakeHost) -> str:
    """Return what /proc/interrupts shows."""
    head = " ".join(f"{f'CPU{cpu}':>10}" for cpu in CPUS)
    rows = [
        f"{number:>4}: "
        + " ".join(f"{number * 10 + cpu:>10}" for cpu in CPUS)
        + f"  PCI-MSIX-0000:81:00.0   {number}-edge   {name}"
        for number, name in NAMES.items()
    ]
    return (
        "\n".join(
            [f"     {head}", *rows, " LOC: " + " ".join("7" for _ in CPUS) + "   Local timer interrupts", " ERR: 0"]
        )
        + "\n"
    )


def _mask(_old: str, written: str) -> str:
    if not set(parse_cpu_mask(written)) & set(CPUS):
        raise OSError(errno.EINVAL, "no such CPU")
    return written + "\n"


CASES: dict[str, tuple[Subject, Value]] = {
    "irq.affinity": (Subject("irq", str(MOVABLE[1])), "2-3"),
    "irq.default_affinity": (SYSTEM, "0-3"),
}
