"""Interrupts: to which CPUs they may go, one by one and for those to come.

Who else moves them is ``hal.owners``' to say (irqbalance); what they are and where they go ``hal.interrupts``'.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from hal.errors import HostError, NotPermittedError, SettingError
from hal.host import Host
from hal.interrupts import IRQS, effective, handlers, is_movable, numbers, of_device
from hal.knobs.cpu import cpu_list, online_cpus
from hal.knobs.files import FileKnob
from hal.knobs.knob import Knob
from hal.lists import format_cpu_list, format_cpu_mask, parse_cpu_list, parse_cpu_mask
from hal.settings import SYSTEM, Subject, Value

_KEPT = "the kernel lets nobody set its affinity: managed for a multi-queue device, or bound to a CPU"


class Affinity(FileKnob):
    """The CPUs that one interrupt may go to; a device stands for all of its."""

    name = "irq.affinity"
    title = "CPUs that an interrupt, or all of a device, may go to"
    subject_kind = "irq"
    values = "a list of CPUs such as 0-3,8"
    example = "0"
    absent = "there is no interrupt in /proc/irq whose affinity could be set"
    absent_remedy = "it takes more than one CPU and, in a container, the host's /proc"

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("irq", "pci", "nic", "block")

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        if subject.kind not in self.accepts:
            raise SettingError(
                f"{self.name}: it is set on interrupts, not on a {subject.kind}",
                remedy="Name an interrupt, a network interface, a block device or a PCI function.",
            )
        if subject.kind == "irq":
            return (subject,)
        found = of_device(host, subject)
        if not found:
            raise SettingError(
                f"{self.name}: {subject} has no interrupts",
                remedy="See /proc/interrupts; an interface that is down has none.",
            )
        return tuple(Subject("irq", str(number)) for number in found)

    def path(self, subject: Subject) -> str:
        return f"{IRQS}/{subject.name}/smp_affinity_list"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (
            Subject("irq", str(number))
            for number in numbers(host)
            if handlers(host, number) and is_movable(host, number)
        )

    def parse(self, text: str) -> str:
        return cpu_list(self, text)

    def decode(self, text: str) -> str:
        return format_cpu_list(parse_cpu_list(text))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if not (subject.name.isdigit() and host.exists(f"{IRQS}/{subject.name}")):
            raise SettingError(f"{self.name}: there is no interrupt {subject.name}", remedy="See /proc/interrupts.")
        present = set(parse_cpu_list(host.read_text(self.path(subject))))
        wanted = set(parse_cpu_list(str(value)))
        if wanted != present and not is_movable(host, int(subject.name)):
            raise SettingError(f"{self.name}: interrupt {subject.name}: {_KEPT}", remedy="Leave it out.")
        # CPUs that are offline stay in a mask that already has them: so a value read can be set again.
        check_online(self, host, wanted - present)

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        try:
            super().write(host, subject, value)
        except HostError as error:
            # Kernels before 6.12 let a write be tried that they refuse with EIO, later ones with EPERM.
            if error.number == errno.EIO or (isinstance(error, NotPermittedError) and host.euid() == 0):
                raise HostError(f"{error}: {_KEPT}", number=error.number, remedy="leave it out") from error
            raise

    def outcome(self, host: Host, subject: Subject, value: Value) -> str:
        cpus = effective(host, int(subject.name))
        return f"it goes to CPU {format_cpu_list(cpus)}" if cpus else ""

    def pin(self, host: Host, subject: Subject, found: Value) -> str:
        return "" if is_movable(host, int(subject.name)) else _KEPT


class DefaultAffinity(FileKnob):
    """The CPUs that interrupts may go to which are asked for from now on."""

    name = "irq.default_affinity"
    title = "CPUs that an interrupt may go to when a driver asks for it"
    subject_kind = "system"
    values = "a list of CPUs such as 0-3,8"
    example = "0"
    absent = "there is no /proc/irq/default_smp_affinity"

    def path(self, subject: Subject) -> str:
        return f"{IRQS}/default_smp_affinity"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (SYSTEM,) if host.exists(self.path(SYSTEM)) else ()

    def parse(self, text: str) -> str:
        return cpu_list(self, text)

    def decode(self, text: str) -> str:
        return format_cpu_list(parse_cpu_mask(text))

    def encode(self, value: Value) -> str:
        return format_cpu_mask(parse_cpu_list(str(value)))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        present = set(parse_cpu_list(str(self.read(host, subject))))
        check_online(self, host, set(parse_cpu_list(str(value))) - present)


def check_online(knob: Knob, host: Host, cpus: set[int]) -> None:
    """Refuse CPUs that are not online.

    Raises:
        SettingError: one is not.
    """
    online = online_cpus(host)
    absent = cpus - set(online)
    if absent:
        raise SettingError(
            f"{knob.name}: CPU {format_cpu_list(absent)} is not online here",
            remedy=f"Online are {format_cpu_list(online)}; see `dna machine`.",
        )


KNOBS: tuple[Knob, ...] = (Affinity(), DefaultAffinity())
