"""Which events are counted together on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal.errors import HostError, NotPermittedError
from hal.perf import Event, event, try_events, why_not
from hal.pmu import CorePmu, core_pmus

if TYPE_CHECKING:
    from hal.host import Host

ANCHOR = "instructions"
"""In every hardware group: ratios to it hold within the group, and it carries them over to the whole interval."""

HARDWARE: tuple[tuple[str, ...], ...] = (
    (ANCHOR, "cycles", "stalled-cycles-frontend", "stalled-cycles-backend"),
    (ANCHOR, "instructions:k"),
    (ANCHOR, "branches", "branch-misses"),
    (ANCHOR, "cache-references", "cache-misses"),
    (ANCHOR, "L1-dcache-load-misses", "dTLB-load-misses", "iTLB-load-misses"),
)
"""At most four a group: what the smallest PMUs of servers hold at once (Intel with hyper-threading: 4 and 3 fixed)."""

SOFTWARE = ("task-clock", "minor-faults", "major-faults", "context-switches", "cpu-migrations")
"""Each one costs about 0.2 µs a context switch of the target; ``page-faults`` is the sum of the two kinds."""

NO_PMU = "this machine has no performance monitoring unit, or its hypervisor hides it"
_KERNEL_ONLY = "the kernel counts it in kernel mode only, and does not let this user count there"
_RAISED_BY_KERNEL = ("context-switches", "cpu-migrations")


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """Events of one group, by name, and how to open it: once for each core PMU (once, for software events)."""

    names: tuple[str, ...]
    variants: tuple[tuple[Event, ...], ...]
    cpus: tuple[tuple[int, ...] | None, ...]
    """The CPUs that each variant counts on; None is all."""

    @property
    def descriptors(self) -> int:
        """File descriptors needed on one thread."""
        return len(self.names) * len(self.variants)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is counted, and what is not with the reason."""

    groups: tuple[GroupPlan, ...]
    unavailable: Mapping[str, str]
    user_only: bool = False
    """The kernel's share is not counted, for lack of privilege."""

    @property
    def descriptors(self) -> int:
        """File descriptors needed on one thread."""
        return sum(group.descriptors for group in self.groups)

    def without(self, names: Sequence[str], reason: str) -> Plan:
        """Return the plan less some events."""
        kept = []
        for group in self.groups:
            keep = [i for i, name in enumerate(group.names) if name not in names]
            if keep:
                variants = tuple(tuple(variant[i] for i in keep) for variant in group.variants)
                kept.append(GroupPlan(tuple(group.names[i] for i in keep), variants, group.cpus))
        return Plan(tuple(kept), {**self.unavailable, **dict.fromkeys(names, reason)}, self.user_only)


class _Trial:
    """Tries events on the caller itself and remembers what the kernel said."""

    def __init__(self, host: Host, pmus: Sequence[CorePmu]) -> None:
        self._host = host
        self._pmus = pmus
        self.unavailable: dict[str, str] = {}
        self.user_only = False

    def pmus_for(self, one: Event) -> Sequence[CorePmu | None]:
        """Return the PMUs an event must be opened on; None is "the kernel knows"."""
        return self._pmus if len(self._pmus) > 1 and not one.is_software else (None,)

    def bound(self, one: Event, pmu: CorePmu | None) -> Event:
        if self.user_only and not one.exclude_user:
            one = one.user_only()
        return one if pmu is None else one.on(pmu.type)

    def works(self, name: str) -> bool:
        """Tell whether an event counts on every core PMU (one that misses some cores would be a wrong sum)."""
        one = event(name)
        if not one.is_software and not self._pmus:
            self.unavailable[name] = NO_PMU
            return False
        for pmu in self.pmus_for(one):
            error = self._refusal(one, pmu)
            if error is not None:
                self.unavailable[name] = why_not(error).reason + (f" ({pmu.name})" if pmu else "")
                return False
        if self.user_only and name in _RAISED_BY_KERNEL:
            self.unavailable[name] = _KERNEL_ONLY
            return False
        return True

    def _refusal(self, one: Event, pmu: CorePmu | None) -> HostError | None:
        error = try_events(self._host, [self.bound(one, pmu)])
        if not isinstance(error, NotPermittedError) or self.user_only or one.exclude_user:
            return error
        # perf_event_paranoid 2, the default: an unprivileged user may count in user space.
        lesser = one.user_only() if pmu is None else one.user_only().on(pmu.type)
        if try_events(self._host, [lesser]) is not None:
            return error
        self.user_only = True
        return None

    def group(self, names: Sequence[str]) -> GroupPlan:
        events = [event(name) for name in names]
        pmus = self.pmus_for(events[0])
        variants = tuple(tuple(self.bound(one, pmu) for one in events) for pmu in pmus)
        return GroupPlan(tuple(names), variants, tuple(pmu.cpus if pmu else None for pmu in pmus))

    def fits(self, group: GroupPlan) -> bool:
        return all(try_events(self._host, variant) is None for variant in group.variants)


def make_plan(host: Host, *, hardware: Sequence[Sequence[str]] = HARDWARE, software: Sequence[str] = SOFTWARE) -> Plan:
    """Return what can be counted here, found by trying each event, then each group, on the caller itself."""
    trial = _Trial(host, core_pmus(host))
    wanted = [*software, *dict.fromkeys(name for names in hardware for name in names)]
    working = {name for name in wanted if trial.works(name)}
    groups = [trial.group([name for name in software if name in working])] if working & set(software) else []
    done: set[str] = set()
    for names in hardware:
        usable = [name for name in names if name in working]
        if set(usable) - done:
            groups += _fitting(trial, usable)
            done.update(usable)
    return Plan(tuple(groups), trial.unavailable, trial.user_only)


def _fitting(trial: _Trial, names: Sequence[str]) -> list[GroupPlan]:
    """Return the group, or where the PMU cannot hold it at once, its events each beside the first."""
    whole = trial.group(names)
    if len(names) <= 2 or trial.fits(whole):
        return [whole]
    return [trial.group([names[0], name]) for name in names[1:]]
