"""Words for numbers: what kind of workload a set of features is, which of them say so, and what could not be seen.

Two tables of rules, with their thresholds in the open: ``KINDS`` (the first that holds names the workload) and ``TRAITS``
(one a slot). A rule holds only where all its features are known; the unknown never claims anything. The thresholds are
round numbers, meant to be generous to the obvious case and silent in the doubtful one; nothing decides on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dna.features import BY_NAME, DEMAND, SHARE
from dna.vector import Demand, Features, Match

_DEMAND_UNITS = {row.name: row.unit for row in DEMAND}
_DEMAND = "demand."
_MOST_TRAITS = 5
_IDLE = "idle program"

TYPICAL_SHARE = 0.25
"""What a share is compared with where no library says what is usual: most shares are of several things and small."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A feature (or ``demand.NAME``) within limits, both included."""

    name: str
    low: float = float("-inf")
    high: float = float("inf")

    def holds(self, values: Mapping[str, float | None]) -> bool:
        """Tell whether the value is known and within the limits."""
        value = values.get(self.name)
        return value is not None and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Rule:
    """Words that hold where all conditions do; of the rules of one ``slot`` the first that holds speaks."""

    words: str
    conditions: tuple[Condition, ...]
    slot: str = "kind"


def at_least(name: str, low: float) -> Condition:
    """Return the condition that a value is known and not below ``low``."""
    return Condition(name, low=low)


def at_most(name: str, high: float) -> Condition:
    """Return the condition that a value is known and not above ``high``."""
    return Condition(name, high=high)


def _kind(words: str, *conditions: Condition) -> Rule:
    return Rule(words, conditions)


def _trait(slot: str, words: str, *conditions: Condition) -> Rule:
    return Rule(words, conditions, slot)


KINDS: tuple[Rule, ...] = (
    _kind(_IDLE, at_most("demand.cores", 0.005), at_most("demand.syscalls", 100)),
    _kind(_IDLE, at_most("demand.cores", 0.002)),
    _kind(
        "network program that waits for readiness",
        at_least("syscall.poll_share", 0.08),
        at_least("net.bytes_per_cpu_second", 1e5),
        at_least("demand.messages", 20),
    ),
    _kind(
        "network program that waits in its socket calls",
        at_least("syscall.network_blocked_share", 0.4),
        at_least("demand.messages", 20),
    ),
    _kind(
        "pipeline of processes",
        at_least("comm.pipe_share", 0.5),
        at_least("comm.wakeups_per_cpu_second", 100),
        at_least("demand.processes", 2),
    ),
    _kind(
        "writer that forces its data to disk",
        at_least("io.sync_per_write", 0.01),
        at_least("demand.io_calls", 5),
    ),
    _kind(
        "starter of short processes",
        at_least("syscall.process_share", 0.02),
        at_least("memory.faults_per_cpu_second", 1e4),
        at_least("demand.processes", 2),
    ),
    _kind("network program", at_least("net.bytes_per_cpu_second", 1e6), at_least("demand.messages", 20)),
    _kind(
        "file streamer",
        at_least("io.bytes_per_cpu_second", 1e8),
        at_least("io.sequential_share", 0.7),
    ),
    _kind(
        "program of random file access",
        at_most("io.sequential_share", 0.3),
        at_least("syscall.file_share", 0.5),
        at_least("demand.io_calls", 100),
    ),
    _kind("file streamer", at_least("io.bytes_per_cpu_second", 5e8)),
    _kind(
        "group of threads that hand work to one another",
        at_least("comm.futex_share", 0.5),
        at_least("comm.wakeups_per_cpu_second", 500),
        at_least("demand.threads", 2),
    ),
    _kind("vector computation", at_least("insn.vector_share", 0.2), at_least("demand.cores", 0.2)),
    _kind("floating-point computation", at_least("insn.scalar_fp_share", 0.15), at_least("demand.cores", 0.2)),
    _kind(
        "program of random memory access",
        at_least("memory.random_share", 0.3),
        at_least("demand.cores", 0.2),
    ),
    _kind("computation", at_most("syscall.per_cpu_second", 2000), at_least("demand.cores", 0.2)),
    _kind("computation", at_least("sched.oncpu_share", 0.9), at_most("sched.system_share", 0.1)),
    _kind("user of the file system", at_least("syscall.file_share", 0.6), at_least("syscall.per_cpu_second", 2e4)),
    _kind("kernel-bound program", at_least("sched.system_share", 0.8)),
    _kind("program that mostly waits", at_most("demand.cores", 0.1)),
)

TRAITS: tuple[Rule, ...] = (
    _trait("message", "small messages", at_most("net.sent_size_p50", 1024), at_least("demand.messages", 20)),
    _trait("message", "large messages", at_least("net.sent_size_p50", 65536), at_least("demand.messages", 20)),
    _trait("peer", "over loopback", at_least("net.loopback_share", 0.8), at_least("demand.messages", 20)),
    _trait("peer", "over Unix sockets", at_least("net.unix_share", 0.8), at_least("demand.messages", 20)),
    _trait("threads", "single-threaded", at_most("demand.threads", 1)),
    _trait("threads", "one thread does the work", at_least("sched.busiest_thread_share", 0.9)),
    _trait(
        "threads",
        "spread over the cores",
        at_most("sched.busiest_thread_share", 0.6),
        at_least("sched.core_spread", 0.8),
    ),
    _trait("mode", "kernel-heavy", at_least("sched.system_share", 0.5), at_least("demand.cores", 0.02)),
    _trait("mode", "almost all in user space", at_most("sched.system_share", 0.05), at_least("demand.cores", 0.02)),
    _trait("queue", "waits for a CPU", at_least("sched.runq_share", 0.2), at_least("demand.cores", 0.05)),
    _trait("queue", "often preempted", at_most("sched.voluntary_share", 0.3), at_least("demand.switches", 50)),
    _trait("queue", "short bursts on the CPU", at_most("sched.slice_p50", 50e-6)),
    _trait("swap", "waits for swapped or unread pages", at_least("memory.major_fault_share", 0.05)),
    _trait("faults", "always touching new memory", at_least("memory.faults_per_cpu_second", 2e4)),
    _trait("access", "random memory access", at_least("memory.random_share", 0.3)),
    _trait(
        "access", "streams through memory", at_least("memory.direction", 0.6), at_least("memory.new_page_share", 0.2)
    ),
    _trait("cache", "misses its caches", at_least("cpu.llc_mpki", 10)),
    _trait("cache", "fits its caches", at_most("cpu.llc_mpki", 0.1), at_least("cpu.ipc", 1.5)),
    _trait("numa", "memory on other NUMA nodes", at_most("memory.numa_locality", 0.6)),
    _trait("disk", "reaches the disk", at_least("io.device_share", 0.5), at_least("demand.device", 1 << 16)),
    _trait("errors", "many failing calls", at_least("syscall.error_share", 0.25)),
    _trait("pressure", "under memory pressure", at_least("pressure.memory_some", 0.05)),
    _trait("pressure", "under I/O pressure", at_least("pressure.io_some", 0.2)),
    _trait("pressure", "under CPU pressure", at_least("pressure.cpu_some", 0.3)),
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A value that a finding rests on; always known."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Words, and the values that say so."""

    words: str
    because: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Parts that could not be measured, for one reason."""

    reason: str
    remedy: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """What kind of workload this is, in words."""

    headline: str
    kind: Finding | None
    """None where no rule holds."""
    traits: tuple[Finding, ...]
    resembles: str
    """One sentence on the nearest known workloads, empty where there is no vector."""
    nearest: tuple[Match, ...]
    novelty: float | None
    gaps: tuple[Gap, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The kind, if any, and the traits."""
        return (self.kind, *self.traits) if self.kind else self.traits


def describe(
    features: Features,
    demand: Demand,
    *,
    nearest: Sequence[Match] = (),
    novelty: float | None = None,
    missing: Mapping[str, str] | None = None,
    remedies: Mapping[str, str] | None = None,
) -> Description:
    """Return a workload in words.

    Args:
        features: by name; None is unknown and says nothing.
        demand: likewise.
        nearest: labelled workloads, nearest first.
        novelty: see ``dna.vector.Dna.novelty``.
        missing: part to reason, as in ``Quality.missing``.
        remedies: part to remedy, where there is one.
    """
    values = {**features, **{_DEMAND + name: value for name, value in demand.items()}}
    kind = next((_finding(rule, values) for rule in KINDS if _holds(rule, values)), None)
    # What an idle program does in its few moments says nothing about it.
    traits = () if kind and kind.words == _IDLE else _traits(values)
    return Description(
        headline=_headline(kind, traits, values),
        kind=kind,
        traits=traits,
        resembles=resemblance(nearest, novelty),
        nearest=tuple(nearest),
        novelty=novelty,
        gaps=gaps_of(missing or {}, remedies),
    )


def resemblance(nearest: Sequence[Match], novelty: float | None) -> str:
    """Return one sentence on what a vector resembles; empty without a vector."""
    if novelty is None:
        return ""
    if not nearest:
        return "Nothing is known yet to compare it with."
    closest = ", ".join(f"{match.label} ({match.distance:.2f})" for match in nearest[:3])
    if novelty > 1:
        return f"Unlike anything known (novelty {novelty:.1f}); the nearest is {nearest[0].label}, {nearest[0].distance:.2f} away."
    return f"Most like {closest}."


def gaps_of(missing: Mapping[str, str], remedies: Mapping[str, str] | None = None) -> tuple[Gap, ...]:
    """Group what is missing by its reason, most parts first, with the first remedy known for it."""
    grouped: dict[str, list[str]] = {}
    for part, reason in missing.items():
        grouped.setdefault(reason.strip(), []).append(part)
    known = remedies or {}
    gaps = [
        Gap(reason, next((known[part] for part in parts if known.get(part)), ""), tuple(sorted(parts)))
        for reason, parts in grouped.items()
    ]
    return tuple(sorted(gaps, key=lambda gap: (-len(gap.parts), gap.parts)))


def distinctive(features: Features, n: int = 8) -> list[tuple[str, float, float]]:
    """Return the features furthest from the ordinary where no library is at hand: (name, value, deviation), furthest first.

    The deviation lies in [-1, 1], on the feature's scale: from its middle, and for shares from ``TYPICAL_SHARE``.
    """
    found = []
    for name, value in features.items():
        if value is None or name not in BY_NAME:
            continue
        scale = BY_NAME[name].scale
        usual = TYPICAL_SHARE if scale == SHARE else 0.5
        found.append((name, value, scale.encode(value) - usual))
    return sorted(found, key=lambda row: (-abs(row[2]), row[0]))[:n]


def _holds(rule: Rule, values: Mapping[str, float | None]) -> bool:
    return all(condition.holds(values) for condition in rule.conditions)


def _finding(rule: Rule, values: Mapping[str, float | None]) -> Finding:
    evidence = []
    for condition in rule.conditions:
        value = values[condition.name]
        assert value is not None  # the rule holds, so its values are known
        evidence.append(Evidence(condition.name, value, unit_of(condition.name)))
    return Finding(rule.words, tuple(evidence))


def unit_of(name: str) -> str:
    """Return the unit of a feature or of ``demand.NAME``."""
    if name.startswith(_DEMAND):
        return _DEMAND_UNITS[name.removeprefix(_DEMAND)]
    return BY_NAME[name].unit


def _traits(values: Mapping[str, float | None]) -> tuple[Finding, ...]:
    by_slot: dict[str, Finding] = {}
    for rule in TRAITS:
        if rule.slot not in by_slot and _holds(rule, values):
            by_slot[rule.slot] = _finding(rule, values)
    return tuple(by_slot.values())


def _headline(kind: Finding | None, traits: Sequence[Finding], values: Mapping[str, float | None]) -> str:
    if all(value is None for value in values.values()):
        return "too little could be measured to say anything"
    first = kind.words if kind else "workload of no one kind"
    return ", ".join([first, *(trait.words for trait in traits[:_MOST_TRAITS])])
