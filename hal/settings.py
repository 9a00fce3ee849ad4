"""What a machine is set to, and what it would take to set it otherwise, as values.

A *setting* is a knob applied to a subject with a value; a *ServerConfig* is a set of settings; a *plan* is the ordered
changes from the configuration observed to the one desired. All of them are data: printed, saved as JSON, compared, replayed.

Subjects come in two sorts. A change is always on one thread, process, file of the machine or device: what the kernel knows.
A setting may also name several of those at once ("tree", "process", "cgroup"); ``hal.planning`` resolves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

type Value = str | int | bool | None
"""The value of a setting in its knob's canonical form. None: it is not there (an interface, a group)."""

EXACT = "exact"
"""Undoing restores what was there before, exactly."""
APPROXIMATE = "approximate"
"""Undoing restores it about as it was (pages come back to nodes by share, not one by one)."""
IRREVERSIBLE = "irreversible"
"""It cannot be undone: a huge page stays one, a file stays cached."""
REVERSIBILITY = (EXACT, APPROXIMATE, IRREVERSIBLE)


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a setting is on. Build one with the functions below where there is one."""

    kind: str
    """"thread", "process", "tree", "cgroup", "irq", "nic", "queue", "vf", "pci", "block", "cpu", "node", "file" or "system"."""
    name: str = ""
    """Thread or process id, cgroup path, interrupt number, interface, PCI address, ...; empty for "system"."""
    start: int = 0
    """Of threads, processes and trees: start time in clock ticks after boot, so that a reused id is another subject."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


SYSTEM = Subject("system")
OF_PROCESSES = ("thread", "process", "tree")
"""Kinds of subject that come and go by themselves: one that is gone is normal, not an error."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A knob applied to a subject with a value."""

    knob: str
    subject: Subject
    value: Value
    reason: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[str, Subject]:
        """What is set, without to what."""
        return self.knob, self.subject


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A set of settings, at most one of a knob and subject; sorted."""

    settings: tuple[Setting, ...] = ()

    @classmethod
    def of(cls, settings: Iterable[Setting]) -> ServerConfig:
        """Return the configuration of these settings; of two for the same knob and subject the later one counts."""
        by_key = {setting.key: setting for setting in settings}
        return cls(tuple(sorted(by_key.values(), key=_position)))

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    def values(self) -> dict[tuple[str, Subject], Value]:
        """Return the value by knob and subject."""
        return {setting.key: setting.value for setting in self.settings}


def _position(setting: Setting) -> tuple[str, str, str, int]:
    """Return what settings are sorted by; comparing subjects as such takes ten times as long."""
    subject = setting.subject
    return setting.knob, subject.kind, subject.name, subject.start


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan."""

    knob: str
    subject: Subject
    old: Value
    new: Value
    reason: str = ""
    reversibility: str = EXACT
    cost: str = ""
    """What making it costs the workload, in words; empty for nothing worth saying."""
    label: str = ""
    """For people: the name of the process or device behind the subject."""

    @property
    def key(self) -> tuple[str, Subject]:
        """What is changed."""
        return self.knob, self.subject


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A setting that a plan does not make, and why."""

    setting: Setting
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class MachineId:
    """Which machine, and since which start, a plan or journal is about."""

    hostname: str
    boot_id: str
    """/proc/sys/kernel/random/boot_id, or what stands for a machine that is only described."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered changes from the observed configuration to a desired one."""

    changes: tuple[Change, ...]
    machine: MachineId
    created: float
    """Seconds since 1970."""
    title: str = ""
    """What it is for, in a few words."""
    follow: tuple[Setting, ...] = ()
    """Settings on trees, processes and cgroups behind the changes: threads and children that appear while the plan is
    applied are set as well."""
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """What should be known before it is applied: who else sets these knobs, what cannot be undone."""


def thread(tid: int, start: int) -> Subject:
    """Return the subject of one thread."""
    return Subject("thread", str(tid), start)


def process(pid: int, start: int) -> Subject:
    """Return the subject of a process: all its threads, or what it has only one of (memory)."""
    return Subject("process", str(pid), start)


def tree(pid: int, start: int) -> Subject:
    """Return the subject of a process and its descendants."""
    return Subject("tree", str(pid), start)


def cgroup(path: str) -> Subject:
    """Return the subject of a cgroup: a path inside the hierarchy, such as ``/system.slice/nginx.service``."""
    return Subject("cgroup", "/" + path.strip("/"))
