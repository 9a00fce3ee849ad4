"""The situation that a command line asks about: targets that run, stored profiles, on this machine or on one only described."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dna.errors import TargetGoneError
from dna.library import Library
from dna.profiler import Encode
from dna.target import Target
from dna.together import Watching, profile_together
from dna.vector import Profile
from hal.host import Host, LinuxHost
from hal.settings import Subject
from hal.stand_in import StandIns
from rules.errors import RuleError
from rules.gather import described_host
from rules.gather_machine import MachineReader
from rules.gather_running import Found, running, single_targets, still_running
from rules.gather_workload import NOTHING_OURS, Ours, elsewhere, live_workload, workload_of
from rules.situation import Machine, Situation, Workload

INTERVAL_S, DURATION_S = 2.0, 10.0
"""How targets are watched unless something else is asked for."""

type Known = Callable[[Profile], Library | None]
"""The known workloads that a profile is held against."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about."""

    targets: tuple[Target, ...] = ()
    profiles: tuple[Profile, ...] = ()
    topology: str | None = None
    """Another machine, as ``--topology`` takes it."""
    interval_s: float = INTERVAL_S
    duration_s: float = DURATION_S


@dataclass(frozen=True, slots=True)
class Gathered:
    """A situation, and what goes with it."""

    situation: Situation
    host: Host
    """The machine that plans for it are made on; what does not run there is on it as a stand-in."""
    is_here: bool
    """It is the running machine."""
    stand_ins: Mapping[Subject, str] = field(default_factory=dict)
    """Stand-ins, and the workload that each is for."""
    profiles: tuple[Profile, ...] = ()
    """Of each workload the profile that it is made of."""
    notes: tuple[str, ...] = ()
    """What should be known of how it was gathered."""


def _nothing_known(_profile: Profile) -> None:
    return None


def _unseen(_target: Target, _interval: object) -> None:
    pass


def gather_situation(
    asked: Asked,
    *,
    host: Host | None = None,
    known: Known = _nothing_known,
    ours: Ours = NOTHING_OURS,
    encoder: Encode | None = None,
    tool: str = "",
    watching: Watching = _unseen,
) -> Gathered:
    """Watch the targets, read the profiles and the machine, and return the situation.

    Args:
        host: the running machine.
        known: the known workloads that a profile is held against.
        ours: what dna itself set on this machine (``Journal.standing``).
        watching: told of each interval of a target that is over.

    Raises:
        DnaError: a target cannot be profiled.
        TopologyError: the machine cannot be told, or is misnamed.
        RuleError: nothing is asked about.
    """
    here = host or LinuxHost()
    reader = MachineReader(here) if asked.topology is None else None
    targets = tuple(one for target in asked.targets for one in single_targets(here, target))
    if not targets and not asked.profiles:
        raise RuleError("nothing is asked about", remedy="Give a target such as --pid N, or a stored profile.")
    taken = profile_together(
        targets,
        interval_s=asked.interval_s,
        duration_s=asked.duration_s,
        host=here,
        encoder=encoder,
        tool=tool,
        watching=watching,
    )
    for one in taken:
        if not one.profile.intervals:
            raise TargetGoneError(f"{one.target} ended before anything was measured")
    subjects = [(one.profile, running(here, one.target)) for one in taken]
    subjects += [(profile, still_running(here, profile)) for profile in asked.profiles]
    if reader is not None:
        return _Gathering(here, reader.read(), known, ours).of(subjects)
    base, hardware = described_host(asked.topology or "")
    absent = [(profile, None) for profile, _ in subjects]
    return _Gathering(base, MachineReader(base, hardware).read(), known, NOTHING_OURS, is_here=False).of(absent)


class _Gathering:
    def __init__(self, host: Host, machine: Machine, known: Known, ours: Ours, *, is_here: bool = True) -> None:
        self._host = StandIns(host)
        self._machine = machine
        self._known = known
        self._ours = ours
        self._is_here = is_here
        self._stand_ins: dict[Subject, str] = {}
        self._notes: list[str] = []

    def of(self, subjects: Sequence[tuple[Profile, Found | None]]) -> Gathered:
        workloads = tuple(self._workload(profile, found) for profile, found in subjects)
        acquainted = _acquainted(workloads, [profile for profile, _ in subjects], self._stand_ins)
        return Gathered(
            Situation(self._machine, tuple(_told_apart(acquainted))),
            self._host.host,
            self._is_here,
            self._stand_ins,
            tuple(profile for profile, _ in subjects),
            tuple(self._notes),
        )

    def _workload(self, profile: Profile, found: Found | None) -> Workload:
        library = self._known(profile)
        if found is not None:
            if profile.target.get("kind") == "command":
                self._notes.append(f"{profile.target.get('comm')} goes on, as process {found.subject.name}")
            return live_workload(self._host.host, profile, found, self._machine, library, ours=self._ours)
        recorded = workload_of(profile, library)
        threads = recorded.number("demand.threads")
        subject = self._host.start(recorded.name, threads=round(threads or 1))
        self._stand_ins[subject] = recorded.name
        why = " does not run any more:" if self._is_here else ":"
        self._notes.append(f"{recorded.name}{why} process {subject.name} stands for it")
        is_foreign = not self._is_here or not is_of(profile, self._machine)
        return replace(elsewhere(recorded) if is_foreign else replace(recorded, node_bytes={}), subject=subject)


def is_of(profile: Profile, machine: Machine) -> bool:
    """Tell whether a profile was taken on this machine, shaped as it is now."""
    shape = machine.topology
    return (
        profile.machine.get("hostname") == platform.node()
        and profile.machine.get("numa_nodes") == shape.node_count
        and profile.machine.get("cpus") == shape.cpu_count
    )


def _acquainted(
    workloads: Sequence[Workload], profiles: Sequence[Profile], stand_ins: Mapping[Subject, str]
) -> Iterator[Workload]:
    """Give stand-ins their own pids, and as peers the stand-ins of those that were their peers when they were recorded."""
    recorded = list(zip(workloads, profiles, strict=True))
    for workload, profile in recorded:
        if workload.subject not in stand_ins:
            yield workload
            continue
        peers: Counter[int] = Counter()
        for pid, count in workload.peers.items():
            for other, its in recorded:
                if other.subject in stand_ins and pid in other.pids and _are_contemporary(profile, its):
                    peers[int(other.subject.name)] += count
        yield replace(workload, pids=frozenset({int(workload.subject.name)}), peers=dict(peers))


def _are_contemporary(one: Profile, other: Profile) -> bool:
    """Tell whether two profiles are of one machine at one time, so that a pid means the same process in both."""
    if one.machine.get("hostname") != other.machine.get("hostname") or not (one.intervals and other.intervals):
        return False
    return one.started <= other.intervals[-1].t and other.started <= one.intervals[-1].t


def _told_apart(workloads: Iterable[Workload]) -> Iterator[Workload]:
    """Give workloads of one name a number each."""
    seen: Counter[str] = Counter()
    for workload in workloads:
        seen[workload.name] += 1
        number = seen[workload.name]
        yield workload if number == 1 else replace(workload, name=f"{workload.name} #{number}")
