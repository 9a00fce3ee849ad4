"""Threads: on which CPUs, under which scheduling policy, how nice."""

from __future__ import annotations

from hal import cgroups
from hal.errors import HalError, HostError, SettingError
from hal.host import Host, Scheduling
from hal.knobs.knob import RANKS, WORKS, Knob, Support, whole_number
from hal.lists import format_cpu_list, parse_cpu_list
from hal.settings import Subject, Value
from hal.subjects import hold_same

POLICIES = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}
"""include/uapi/linux/sched.h"""
_BY_NAME = {name: number for number, name in POLICIES.items()}
_REALTIME = ("fifo", "rr")
_RESET_ON_FORK = 1
_KEPT_FLAGS = 0x07  # reset-on-fork, reclaim, overrun: what sched_setattr(2) takes back as it was given


class CpuKnob(Knob):
    """A knob on threads."""

    subject_kind = "thread"
    rank = RANKS["place"]


class Affinity(CpuKnob):
    """The CPUs that a thread may run on."""

    name = "cpu.affinity"
    title = "CPUs that a thread may run on"
    values = "a list of CPUs such as 0-3,8"
    example = "0"

    def parse(self, text: str) -> str:
        return cpu_list(self, text)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        absent = set(parse_cpu_list(str(value))) - set(online_cpus(host))
        if absent:
            raise SettingError(
                f"{self.name}: CPU {format_cpu_list(absent)} is not online here",
                remedy=f"Online are {format_cpu_list(online_cpus(host))}; see `dna machine`.",
            )

    def read(self, host: Host, subject: Subject) -> str:
        return format_cpu_list(host.affinity(int(subject.name)))

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        cpus = parse_cpu_list(str(value))
        if set(cpus) >= set(online_cpus(host)):
            # As a thread has it that was never pinned: CPUs that come online later are its too.
            cpus = tuple(range(possible_cpus(host)))
        hold_same(host, subject)
        host.set_affinity(int(subject.name), cpus)

    def verify(self, host: Host, subject: Subject, value: Value) -> str:
        wrong = super().verify(host, subject, value)
        return f"{wrong}: its cpuset allows no more" if wrong else ""

    def pin(self, host: Host, subject: Subject, found: Value) -> str:
        allowed = cpuset_of(host, int(subject.name))
        held = set(parse_cpu_list(str(found)))
        return f"pinned to {found} before" if held < set(allowed) else ""


class Policy(CpuKnob):
    """How the scheduler treats a thread."""

    name = "cpu.policy"
    title = "Scheduling policy of a thread"
    values = "other, batch, idle, fifo:PRIORITY or rr:PRIORITY (1 to 99)"
    example = "batch"

    def parse(self, text: str) -> str:
        name, colon, priority = text.strip().lower().partition(":")
        if name in _REALTIME and colon:
            return f"{name}:{whole_number(self, priority, least=1, most=99)}"
        if name in ("other", "batch", "idle") and not colon:
            return name
        raise self.malformed(text)

    def read(self, host: Host, subject: Subject) -> str:
        found = host.scheduling(int(subject.name))
        name = POLICIES.get(found.policy, str(found.policy))
        if name in _REALTIME:
            name += f":{found.priority}"
        if name == "deadline":
            name += f":{found.runtime_ns}/{found.deadline_ns}/{found.period_ns}"
        return name + ("+reset" if found.flags & _RESET_ON_FORK else "")

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        wanted = scheduling_of(str(value), host.scheduling(int(subject.name)))
        hold_same(host, subject)
        host.set_scheduling(int(subject.name), wanted)

    def cost(self, old: Value, new: Value) -> str:
        if str(new).startswith(_REALTIME):
            return "a real-time thread that does not sleep starves every other on its CPU"
        return ""


class Nice(CpuKnob):
    """The weight of a thread among those of its CPU."""

    name = "cpu.nice"
    title = "Nice value of a thread (-20 runs most, 19 least)"
    values = "a number from -20 to 19"
    example = "5"

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=-20, most=19)

    def read(self, host: Host, subject: Subject) -> int:
        return host.scheduling(int(subject.name)).nice

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        hold_same(host, subject)
        host.set_nice(int(subject.name), int(value or 0))


class AutogroupNice(Knob):
    """The weight of a session's processes together, where the kernel makes each session a scheduling group of its own."""

    name = "cpu.autogroup_nice"
    title = "Nice value of a whole session (autogroup) against other sessions"
    values = "a number from -20 to 19"
    example = "10"
    subject_kind = "process"
    rank = RANKS["place"]

    def support(self, host: Host) -> Support:
        if _autogroup_mode(host) == "1":
            return WORKS
        return Support(False, "sessions are no scheduling groups here (sched_autogroup)", "use cpu.nice")

    def members(self, host: Host, subject: Subject) -> tuple[Subject, ...]:
        """Return one process of each session: the value is the session's."""
        firsts: dict[int, Subject] = {}
        others = []
        for one in super().members(host, subject):
            found = autogroup(host, int(one.name))
            if found is None:
                others.append(one)
            else:
                firsts.setdefault(found[0], one)
        return tuple(firsts.values()) or tuple(others[:1])

    def parse(self, text: str) -> int:
        return whole_number(self, text, least=-20, most=19)

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        if autogroup(host, int(subject.name)) is None:
            raise SettingError(
                f"{self.name}: {subject} is in no session's group: its cgroup says what it gets, or sched_autogroup is off",
                remedy="Set cgroup.cpu_weight, or cpu.nice among the threads of one group.",
            )

    def read(self, host: Host, subject: Subject) -> int:
        found = _autogroup_line(host, int(subject.name))
        if found is None:
            raise HostError(f"{subject} is in no session's group", subject=str(subject))
        return found[1]

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        hold_same(host, subject)
        host.write_text(f"/proc/{subject.name}/autogroup", str(value))

    def cost(self, old: Value, new: Value) -> str:
        return "it is on everything of that session"


def autogroup(host: Host, pid: int) -> tuple[int, int] | None:
    """Return number and nice value of the session's scheduling group that a process is in; None where none is in force for it.

    None is where sched_autogroup is off, and for what a cgroup with a weight of its own holds (sched(7), "The autogroup feature").
    """
    try:
        if _autogroup_mode(host) != "1" or _has_cpu_group(host, pid):
            return None
    except (HalError, ValueError):  # it has ended
        return None
    return _autogroup_line(host, pid)


def _autogroup_mode(host: Host) -> str:
    try:
        return host.read_text("/proc/sys/kernel/sched_autogroup_enabled").strip()
    except HalError:
        return ""


def _autogroup_line(host: Host, pid: int) -> tuple[int, int] | None:
    try:
        words = host.read_text(
            f"/proc/{pid}/autogroup"
        ).split()  # "/autogroup-67897 nice 0"; nothing for the kernel's first
        return (int(words[0].rpartition("-")[2]), int(words[2])) if len(words) == 3 else None
    except (HalError, ValueError):
        return None


def _has_cpu_group(host: Host, pid: int) -> bool:
    """Tell whether a process is in a cgroup that the CPU controller weighs: then its session counts for nothing."""
    home = cgroups.homes(host).get("cpu")
    if home is None:
        return False
    path = cgroups.membership(host, pid).get("cpu", "/")
    file = "cpu.shares" if home.version == 1 else "cpu.weight"
    while path not in ("", "/"):
        if host.exists(f"{home.mount}{path}/{file}"):
            return True
        path = path.rpartition("/")[0]
    return False


def scheduling_of(value: str, present: Scheduling) -> Scheduling:
    """Return the attributes of a policy in canonical form; nice and utilisation bounds stay what they are.

    Raises:
        SettingError: it is no such value.
    """
    bare, _, reset = value.partition("+")
    name, _, rest = bare.partition(":")
    numbers = tuple(int(part) for part in rest.split("/")) if rest else ()
    flags = present.flags & _KEPT_FLAGS & ~_RESET_ON_FORK | (_RESET_ON_FORK if reset else 0)
    policy = _BY_NAME[name] if name in _BY_NAME else int(name)
    runtime, deadline, period = numbers if name == "deadline" else (0, 0, 0)
    return Scheduling(
        policy=policy,
        nice=present.nice,
        priority=numbers[0] if name in _REALTIME else 0,
        flags=flags,
        runtime_ns=runtime,
        deadline_ns=deadline,
        period_ns=period,
    )


def cpu_list(knob: Knob, text: str) -> str:
    """Return a list of CPUs or nodes in canonical form.

    Raises:
        SettingError: it is malformed or empty.
    """
    try:
        numbers = parse_cpu_list(text)
    except ValueError:
        raise knob.malformed(text) from None
    if not numbers:
        raise knob.malformed(text)
    return format_cpu_list(numbers)


def online_cpus(host: Host) -> tuple[int, ...]:
    """Return the CPUs that are online."""
    return parse_cpu_list(host.read_text("/sys/devices/system/cpu/online"))


def possible_cpus(host: Host) -> int:
    """Return how many CPUs the kernel is prepared for."""
    return 1 + max(parse_cpu_list(host.read_text("/sys/devices/system/cpu/possible")))


def cpuset_of(host: Host, tid: int) -> tuple[int, ...]:
    """Return the CPUs that a thread's cpuset allows; all that are online where there is no cpuset."""
    for line in host.read_text(f"/proc/{tid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpuset" not in controllers.split(","):
            continue
        for hierarchy in cgroups.hierarchies(host):
            if hierarchy.controllers and "cpuset" not in hierarchy.controllers:
                continue
            name = "cpuset.effective_cpus" if hierarchy.controllers else "cpuset.cpus.effective"
            cpus = _nearest(host, hierarchy.mount, path, name)
            if cpus:
                return cpus
    return online_cpus(host)


def _nearest(host: Host, mount: str, path: str, name: str) -> tuple[int, ...]:
    """Return the list in a cgroup's file, or in that of the nearest ancestor that has it (v2 enables it by level)."""
    while True:
        try:
            return parse_cpu_list(host.read_text(f"{mount}{path.rstrip('/')}/{name}"))
        except HalError:
            if path in ("", "/"):
                return ()
            path = path.rpartition("/")[0]


KNOBS: tuple[Knob, ...] = (Affinity(), Policy(), Nice(), AutogroupNice())
