"""Counts of the performance monitoring unit and of the kernel's software events, and energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.probes.counting.cpus import CpuCounters
from dna.probes.counting.estimate import Estimate, estimate
from dna.probes.counting.plan import NO_PMU, Plan, make_plan
from dna.probes.counting.threads import ThreadCounters
from dna.sample import CounterReading
from hal.energy import EnergyMeter, open_energy_meter
from hal.errors import HostError, NotPermittedError
from hal.perf import Counts, why_not

_NEEDS_ROOT = "run as root or with CAP_PERFMON, or: sudo sysctl kernel.perf_event_paranoid=-1"
_USER_ONLY = "only user space is counted: the kernel's share needs root, CAP_PERFMON or kernel.perf_event_paranoid=1"
_IDLE_TOO = "for the whole host it would count idle time too"


class _Scope(Protocol):
    """Where the events are counted."""

    @property
    def refusals(self) -> tuple[str, ...]: ...
    @property
    def coverage(self) -> float: ...
    def refresh(self) -> None: ...
    def read(self) -> list[Counts]: ...
    def close(self) -> None: ...


class CountersProbe:
    """Counts events on the target's threads, or for a cgroup and the host on every CPU. See docs/counters.md."""

    name = "counters"
    field = "counters"

    def __init__(self) -> None:
        self._plan = Plan((), {})
        self._scope: _Scope | None = None
        self._energy: EnergyMeter | None = None

    def start(self, context: ProbeContext) -> None:
        """Find out what can be counted here, and begin.

        Raises:
            ProbeUnavailableError: nothing can be, not even the kernel's own events.
        """
        self._energy, no_energy = open_energy_meter(context.host)
        self._plan = make_plan(context.host)
        try:
            if self._plan.groups:
                self._scope = self._open_scope(context)
        except HostError as error:
            self.stop()
            why = why_not(error)
            raise ProbeUnavailableError(
                f"counters on {context.members.kind}: {why.reason}", remedy=_NEEDS_ROOT
            ) from error
        if self._scope is None and self._energy is None:
            reasons = dict.fromkeys([*self._plan.unavailable.values(), no_energy])
            raise ProbeUnavailableError(f"nothing can be counted: {'; '.join(reasons)}", remedy=_NEEDS_ROOT)

    def _open_scope(self, context: ProbeContext) -> _Scope:
        host, members = context.host, context.members
        if members.kind == "host":
            self._plan = self._plan.without(("task-clock",), _IDLE_TOO)
            return CpuCounters(host, self._plan)
        directory = members.cgroup_dir("perf_event") if members.kind == "cgroup" else None
        if directory is not None:
            try:
                return CpuCounters(host, self._plan, cgroup=directory)
            except HostError:
                pass  # not permitted, or a cgroup that perf does not know: its threads can be counted all the same
        threads = ThreadCounters(host, members, self._plan)
        self._scope = threads  # so that a failure below closes what was opened
        threads.refresh()
        if threads.open_threads == 0 and threads.refusals:
            raise NotPermittedError(threads.refusals[0])
        return threads

    def read(self, interval_s: float) -> Reading[CounterReading]:
        """Return the counts since the last read; events that were not really counted are in ``unavailable``."""
        energy = self._energy.read() if self._energy else {}
        if self._scope is None:
            reading = CounterReading({}, {}, dict(self._plan.unavailable), energy)
            return Reading(reading, missing=_missing(reading.unavailable))
        self._scope.refresh()
        found = estimate([group.names for group in self._plan.groups], self._scope.read())
        reading = CounterReading(found.events, found.coverage, {**self._plan.unavailable, **found.unavailable}, energy)
        return Reading(reading, coverage=self._scope.coverage, missing=tuple(self._remarks(found, reading)))

    def _remarks(self, found: Estimate, reading: CounterReading) -> Iterable[tuple[str, str]]:
        yield from _missing(reading.unavailable)
        yield from found.flags.items()
        if self._plan.user_only:
            yield "kernel", _USER_ONLY
        if self._scope is not None:
            yield from (("threads", reason) for reason in self._scope.refusals)

    def stop(self) -> None:
        """Close every counter."""
        if self._scope is not None:
            self._scope.close()
        if self._energy is not None:
            self._energy.close()
        self._scope = self._energy = None


def _missing(unavailable: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return a line a reason: a machine without a PMU misses thirteen events for one."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unavailable.items():
        by_reason.setdefault(reason, []).append(name)
    return tuple(
        ("hardware events" if reason == NO_PMU else ", ".join(names), reason) for reason, names in by_reason.items()
    )
