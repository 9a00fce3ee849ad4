"""What rules are evaluated on: workloads and the machine that they run on, as values.

``rules.gather`` reads them from a machine or a stored profile; here is only what they are, and how they become facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from hal.machine import Machine as Hardware
from hal.settings import Subject
from hal.topology_values import Topology
from rules.language import Facts

type Values = Mapping[str, object]
"""Facts behind one word: name in ``rules.tables`` to number, flag or word; what is missing or None is unknown."""

MOST_PAIRS = 4096
"""Pairs of workloads that are looked at in one decision; those that talk to each other first."""


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """One workload: how it behaves, and where it is."""

    name: str
    subject: Subject
    """A tree, process or cgroup."""
    values: Values = field(default_factory=dict)
    earlier: tuple[Values, ...] = ()
    """Features and demand of the intervals before, oldest first."""
    times: tuple[float, ...] = ()
    """When each of ``earlier`` and ``values`` was seen, in seconds."""
    pids: frozenset[int] = frozenset()
    peers: Mapping[int, int] = field(default_factory=dict)
    """Process of this machine to the number of TCP connections with it."""
    cpus: frozenset[int] = frozenset()
    """CPUs that its threads may run on; empty where that is not known."""
    cgroup: str = ""
    node_bytes: Mapping[int, int] = field(default_factory=dict)
    """Its memory by NUMA node (OS index), in bytes; empty where that is not known."""

    def number(self, name: str) -> float | None:
        """Return a fact that is a number, such as ``"demand.cores"``; None when unknown."""
        return Facts(self.values).number(name)

    @property
    def home(self) -> int | None:
        """The node that holds most of its memory."""
        return max(self.node_bytes, key=lambda node: (self.node_bytes[node], -node)) if self.node_bytes else None


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A network card, disk or PCI device."""

    name: str
    subject: Subject
    values: Values = field(default_factory=dict)
    node: int | None = None
    irqs: tuple[int, ...] = ()
    """Its interrupts, of queues in their order."""

    def number(self, name: str) -> float | None:
        """Return a fact that is a number; None when unknown."""
        return Facts(self.values).number(name)


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """The machine as rules see it."""

    hardware: Hardware
    values: Values = field(default_factory=dict)
    nics: tuple[Thing, ...] = ()
    disks: tuple[Thing, ...] = ()
    pcis: tuple[Thing, ...] = ()

    @property
    def topology(self) -> Topology:
        """Its topology."""
        return self.hardware.topology

    def number(self, name: str) -> float | None:
        """Return a fact that is a number; None when unknown."""
        return Facts(self.values).number(name)


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """Workloads on a machine at one moment."""

    machine: Machine
    workloads: tuple[Workload, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """What the words of one evaluation stand for, and the facts that follow."""

    machine: Machine
    facts: Facts
    workload: Workload | None = None
    other: Workload | None = None
    nic: Thing | None = None
    disk: Thing | None = None
    pci: Thing | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all but the machine, for people."""
        things = (self.workload, self.other, self.nic, self.disk, self.pci)
        return tuple(thing.name for thing in things if thing is not None)


class _Joined(Mapping[str, object]):
    """Facts of several words under their whole names, without copying any of them: pairs of workloads are many."""

    __slots__ = ("_by_word",)

    def __init__(self, by_word: Mapping[str, Values]) -> None:
        self._by_word = by_word

    def __getitem__(self, name: str) -> object:
        word, _, rest = name.partition(".")
        return self._by_word[word][rest]

    def get(self, name: str, default: object = None) -> object:
        word, _, rest = name.partition(".")
        values = self._by_word.get(word)
        return default if values is None else values.get(rest, default)

    def __iter__(self) -> Iterator[str]:
        return (f"{word}.{name}" for word, values in self._by_word.items() for name in values)

    def __len__(self) -> int:
        return sum(map(len, self._by_word.values()))


def bindings(situation: Situation, variables: Sequence[str], *, focus: Workload | None = None) -> Iterator[Binding]:
    """Yield every way to bind these variables.

    Args:
        focus: only ways in which this is the workload.
    """
    things = {"nic": situation.machine.nics, "disk": situation.machine.disks, "pci": situation.machine.pcis}
    words = [word for word in things if word in variables]
    for workload, other in _workloads(situation, variables, focus):
        for chosen in product(*(things[word] for word in words)):
            by_word = dict(zip(words, chosen, strict=True))
            yield Binding(situation.machine, _facts(situation, workload, other, by_word), workload, other, **by_word)


def _workloads(
    situation: Situation, variables: Sequence[str], focus: Workload | None
) -> Iterator[tuple[Workload | None, Workload | None]]:
    if "w" not in variables and "o" not in variables:
        yield None, None
        return
    firsts = situation.workloads if focus is None else (focus,)
    if "o" not in variables:
        yield from ((workload, None) for workload in firsts)
        return
    yield from islice(_pairs(situation, firsts), MOST_PAIRS)


def _pairs(situation: Situation, firsts: Sequence[Workload]) -> Iterator[tuple[Workload, Workload]]:
    """Yield pairs: those that are known to talk first, since of very many not all are looked at."""
    by_pid = {pid: workload for workload in situation.workloads for pid in workload.pids}
    talking = {
        (id(one), id(by_pid[pid])): (one, by_pid[pid])
        for workload in situation.workloads
        for peer in workload.peers
        if peer in by_pid
        for one, pid in ((workload, peer), (by_pid[peer], next(iter(workload.pids), -1)))
        if pid in by_pid and by_pid[pid] is not one
    }
    wanted = {id(one) for one in firsts}
    yield from (pair for (one, _), pair in talking.items() if one in wanted)
    for one in firsts:
        for other in situation.workloads:
            if other is not one and (id(one), id(other)) not in talking:
                yield one, other


def _facts(
    situation: Situation, workload: Workload | None, other: Workload | None, things: Mapping[str, Thing]
) -> Facts:
    """Return the facts of a binding. The machine and its things have no history: their present counts for earlier too."""
    still = {"m": situation.machine.values, **{word: thing.values for word, thing in things.items()}}
    by_word = {word: one for word, one in (("w", workload), ("o", other)) if one is not None}
    now = still | {word: one.values for word, one in by_word.items()}
    if workload is not None and other is not None:
        now["pair"] = pair_values(workload, other)
    count = min((len(one.earlier) for one in by_word.values()), default=0)
    earlier = tuple(
        _Joined(still | {word: one.earlier[number - count] for word, one in by_word.items()}) for number in range(count)
    )
    times = next(iter(by_word.values())).times if by_word else ()
    return Facts(_Joined(now), earlier, times[-count - 1 :])


def pair_values(workload: Workload, other: Workload) -> dict[str, object]:
    """Return the facts of two workloads together."""
    connections = sum(count for pid, count in workload.peers.items() if pid in other.pids)
    back = sum(count for pid, count in other.peers.items() if pid in workload.pids)
    known = bool(workload.cpus and other.cpus)
    return {
        "connections": max(connections, back) if workload.pids and other.pids else None,
        "shared_cpus": len(workload.cpus & other.cpus) / min(len(workload.cpus), len(other.cpus)) if known else None,
        "same_cgroup": workload.cgroup == other.cgroup if workload.cgroup and other.cgroup else None,
    }
