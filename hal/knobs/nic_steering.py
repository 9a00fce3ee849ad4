"""Which CPUs handle the packets of each queue (Documentation/networking/scaling.rst).

A subject is a queue, ``eth0/rx-0``; an interface stands for all of its.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hal.errors import SettingError
from hal.host import Host
from hal.knobs.cpu import cpu_list, online_cpus
from hal.knobs.files import FileKnob, names, readable
from hal.knobs.knob import Knob, whole_number
from hal.knobs.nic import CLASS, Core, nic_of, nics
from hal.lists import format_cpu_list, format_cpu_mask, parse_cpu_list, parse_cpu_mask
from hal.settings import Subject, Value

_NONE = "none"


class QueueKnob(FileKnob):
    """A knob on one queue of an interface."""

    subject_kind = "queue"
    absent = "no network interface here has queues with this"
    direction: ClassVar[str]
    """"rx" or "tx"."""
    file: ClassVar[str]

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("queue", "nic")

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        if subject.kind != "nic":
            return super().members(host, subject)
        nic_of(self, host, subject.name)
        found = tuple(self._queues(host, subject.name))
        if not found:
            raise SettingError(
                f"{self.name}: {subject.name} has no {self.direction} queue with it",
                remedy="Some files are there only where there are several queues.",
            )
        return found

    def _queues(self, host: Host, nic: str) -> Iterable[Subject]:
        own = [name for name in names(host, f"{CLASS}/{nic}/queues") if name.startswith(f"{self.direction}-")]
        ordered = sorted(own, key=lambda name: int(name.partition("-")[2]))
        found = (Subject("queue", f"{nic}/{name}") for name in ordered)
        return (queue for queue in found if readable(host, self.path(queue)))

    def path(self, subject: Subject) -> str:
        nic, _, queue = subject.name.partition("/")
        return f"{CLASS}/{nic}/queues/{queue}/{self.file}"

    def subjects(self, host: Host) -> Iterable[Subject]:
        return (queue for nic in nics(host) for queue in self._queues(host, nic))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        nic, _, queue = subject.name.partition("/")
        nic_of(self, host, nic)
        known = [one.name for one in self._queues(host, nic)]
        if subject.name not in known:
            raise SettingError(
                f"{self.name}: {nic} has no queue {queue!r} with it", remedy=f"There is {', '.join(known) or 'none'}."
            )


class CpusKnob(QueueKnob):
    """A knob that is a set of CPUs, possibly empty."""

    values = "a list of CPUs such as 0-3,8, or none"
    example = "0-1"

    def parse(self, text: str) -> str:
        return _NONE if text.strip().lower() == _NONE else cpu_list(self, text)

    def decode(self, text: str) -> str:
        return format_cpu_list(parse_cpu_mask(text)) or _NONE

    def encode(self, value: Value) -> str:
        return format_cpu_mask(() if value == _NONE else parse_cpu_list(str(value)))

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        wanted = set() if value == _NONE else set(parse_cpu_list(str(value)))
        present = self.read(host, subject)
        kept = set() if present == _NONE else set(parse_cpu_list(str(present)))
        absent = wanted - kept - set(online_cpus(host))
        if absent:
            raise SettingError(
                f"{self.name}: CPU {format_cpu_list(absent)} is not online here",
                remedy=f"Online are {format_cpu_list(online_cpus(host))}; see `dna machine`.",
            )


class Rps(CpusKnob):
    """The CPUs that handle what a receiving queue brings."""

    name = "nic.rps"
    title = "CPUs that handle the packets of a receiving queue (RPS); none: the one that is interrupted"
    direction = "rx"
    file = "rps_cpus"

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: the kernel leaves out isolated CPUs" if wrong else ""

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == _NONE else "each packet is handed to another CPU by an interrupt between CPUs"


class Xps(CpusKnob):
    """The CPUs that send through a queue."""

    name = "nic.xps"
    title = "CPUs that send through a queue (XPS)"
    direction = "tx"
    file = "xps_cpus"


class Flows(QueueKnob):
    """How many flows a receiving queue sends after their readers."""

    name = "nic.rfs"
    title = "How many flows of a receiving queue are brought to the CPUs that read them (RFS)"
    values = "a number, rounded up to a power of 2; 0 for none; nic.rfs_entries must be there too"
    example = "4096"
    direction = "rx"
    file = "rps_flow_cnt"

    def parse(self, text: str) -> int:
        return _power_of_2(whole_number(self, text, least=0, most=1 << 29))

    def decode(self, text: str) -> int:
        return int(text)

    def cost(self, old: Value, new: Value) -> str:
        return "8 bytes of memory a flow and queue" if new else ""


class FlowEntries(Core):
    """How many flows the kernel remembers the readers of."""

    name = "nic.rfs_entries"
    title = "How many flows the kernel remembers the reading CPU of (RFS)"
    values = "a number, rounded up to a power of 2; 0 switches RFS off"
    example = "32768"
    file = "rps_sock_flow_entries"
    most = 1 << 29  # net/core/sysctl_net_core.c

    def parse(self, text: str) -> int:
        return _power_of_2(int(super().parse(text)))


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length() if number else 0


KNOBS: tuple[Knob, ...] = (Rps(), Xps(), Flows(), FlowEntries())
