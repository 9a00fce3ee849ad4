"""On which CPUs and memory nodes a cgroup may be."""

from __future__ import annotations

import errno

from hal.errors import HostError, SettingError
from hal.host import Host
from hal.knobs.cgroup import GroupFile, Place, depth, nested
from hal.knobs.cpu import cpu_list, online_cpus
from hal.knobs.knob import Knob, one_of
from hal.lists import format_cpu_list, parse_cpu_list
from hal.settings import APPROXIMATE, Change, Subject, Value

INHERIT = "inherit"
"""Of v2: none of its own, its parent's."""
NONE = "none"
"""Of v1: none at all; no process can enter."""
_INVALID = " invalid"


class CpusetKnob(GroupFile):
    """A list of CPUs or nodes."""

    controller = "cpuset"
    values = "a list such as 0-3,8; of cgroup v2 also inherit"
    example = "0"
    effective_v2 = ""
    effective_v1 = ""
    what = ""

    def parse(self, text: str) -> str:
        word = text.strip().lower()
        return word if word in (INHERIT, NONE) else cpu_list(self, text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        version = self.place(host, subject).version
        if value in (INHERIT, NONE) and (value == INHERIT) != (version == 2):
            raise SettingError(
                f"{self.name}: in cgroup v{version} a group does not have {value}", remedy=f"It takes {self.values}."
            )
        absent = set(_members(value)) - set(self.present(host))
        if absent:
            raise SettingError(
                f"{self.name}: {self.what} {format_cpu_list(absent)} is not there",
                remedy=f"This machine has {self.what} {format_cpu_list(self.present(host))}: see `dna machine`.",
            )

    def present(self, host: Host) -> tuple[int, ...]:
        """Return the CPUs or nodes of this machine."""
        raise NotImplementedError

    def decode(self, text: str, version: int) -> str:
        return format_cpu_list(parse_cpu_list(text)) or (NONE if version == 1 else INHERIT)

    def encode(self, value: Value, version: int) -> str:
        return "\n" if value in (INHERIT, NONE) else str(value)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        if wrong or value in (INHERIT, NONE):
            return wrong
        place = self.place(host, subject)
        name = self.effective_v1 if place.version == 1 else self.effective_v2
        effective = parse_cpu_list(self.get(host, place, name))
        if set(effective) <= set(_members(value)):
            return ""
        return f"the group is on {self.what} {format_cpu_list(effective)}: the groups above it allow none of {value}"

    def order(self, change: Change) -> tuple[int, ...]:
        shrinks = set(_members(change.new)) <= set(_members(change.old))
        return nested(change, grows=not shrinks or change.new == INHERIT)

    def refusal(self, host: Host, place: Place, number: int) -> str:
        if place.version == 2:
            return ""
        return {
            errno.EACCES: f"in cgroup v1 a group has only {self.what}s that its parent has",
            errno.EBUSY: "in cgroup v1 a group has all that its children have",
            errno.EINVAL: "a group beside it has some of them for itself",
            errno.ENOSPC: "there are processes in it, which need some",
        }.get(number, "")


class Cpus(CpusetKnob):
    """The CPUs of all threads in a group."""

    name = "cgroup.cpus"
    title = "CPUs of a cgroup"
    what = "CPU"
    file_v2 = file_v1 = "cpuset.cpus"
    effective_v2 = "cpuset.cpus.effective"
    effective_v1 = "cpuset.effective_cpus"

    def present(self, host: Host) -> tuple[int, ...]:
        return online_cpus(host)

    def cost(self, old: Value, new: Value) -> str:
        return "threads on other CPUs move at once, with cold caches"


class Mems(CpusetKnob):
    """The memory nodes of all processes in a group."""

    name = "cgroup.mems"
    title = "Memory nodes of a cgroup"
    what = "node"
    file_v2 = file_v1 = "cpuset.mems"
    effective_v2 = "cpuset.mems.effective"
    effective_v1 = "cpuset.effective_mems"
    reversibility = APPROXIMATE
    reversal = "on which of the nodes each page was (in cgroup v2 the pages move with the setting)"

    def present(self, host: Host) -> tuple[int, ...]:
        try:
            return parse_cpu_list(host.read_text("/sys/devices/system/node/has_memory"))
        except HostError:
            return (0,)  # a kernel without NUMA

    def cost(self, old: Value, new: Value) -> str:
        return "in cgroup v2 all pages on other nodes move at once, and the processes wait for that"


class Partition(GroupFile):
    """Whether a group's CPUs are its alone, of v2."""

    name = "cgroup.cpuset_partition"
    title = "Whether a cgroup has its CPUs for itself (root), and out of load balancing as well (isolated)"
    values = "member, root or isolated"
    example = "isolated"
    controller = "cpuset"
    file_v2 = "cpuset.cpus.partition"
    only_v2 = "cgroup v1 has no partitions"

    def parse(self, text: str) -> str:
        return one_of(self, text, ("member", "root", "isolated"))

    def decode(self, text: str, version: int) -> str:
        return text.partition(" (")[0]  # "root invalid (why)": the reason changes by itself

    def encode(self, value: Value, version: int) -> str:
        return str(value).removesuffix(_INVALID)

    def same(self, wanted: Value, found: Value) -> bool:
        """Tell whether it was set so; whether the kernel could make it one is another question, which ``verify`` asks."""
        return str(wanted).removesuffix(_INVALID) == str(found).removesuffix(_INVALID)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        found = self.get(host, self.place(host, subject), self.file_v2)
        if _INVALID in found and not str(value).endswith(_INVALID):
            return f"it is {found}"
        return super().verify(host, subject, value)

    def order(self, change: Change) -> tuple[int, ...]:
        level = depth(change.subject.name)
        return (2, level) if change.new != "member" else (-1, -level)

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == "member" else "no other group runs on these CPUs meanwhile"


def _members(value: Value) -> tuple[int, ...]:
    return () if value in (None, INHERIT, NONE) else parse_cpu_list(str(value))


KNOBS: tuple[Knob, ...] = (Cpus(), Mems(), Partition())
