"""Power: frequency and sleep of CPUs, for answers in time and for machines with nothing to do.

In virtual machines these knobs are the host's, and the facts unknown: then nothing here is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from hal.settings import SYSTEM, Subject
from rules import Never, Wish, m, never, none_of, rule, s, w, when
from rules.situation import Machine, Workload
from rules.traits import latency_critical

_IDLE_LATENCY_US = 10
"""Wake-up latency that is let be: C1 (1 to 2 us) and mostly C1E (some 10 us), not C6 (50 to 200 us)."""
_DYNAMIC = ("schedutil", "ondemand", "conservative")
_SAVING = ("balance_performance", "balance_power", "power", "default")


@rule(
    priority=20,
    expect="latency-p99 -30..-5 %; energy +0..20 %",
    source="Documentation/admin-guide/pm/cpufreq.rst; Li et al., Tales of the Tail: Hardware, OS, and Application-level "
    "Sources of Tail Latency, SoCC 2014 (CPU power saving)",
    limits="Energy, and heat that may lower the turbo frequency of CPUs that do compute. Bursts of milliseconds gain "
    "nothing: the governor has noticed by then.",
)
@when(m.governor.is_in(*_DYNAMIC), ~m.virtual, latency_critical(w))
def performance_governor() -> Iterator[Wish]:
    """Bursts of microseconds are over before a governor has raised the frequency: keep it high."""
    yield s.power.governor(SYSTEM, "performance")


@rule(
    priority=20,
    expect="latency-p99 -20..-3 %; energy +0..15 %",
    source="Documentation/admin-guide/pm/intel_pstate.rst, energy_performance_preference; "
    "Documentation/admin-guide/pm/amd-pstate.rst",
    limits="As of the governor. Has no effect under the performance governor, which implies it.",
)
@when(
    m.governor == "powersave",
    m.energy_preference.is_in(*_SAVING),
    ~m.virtual,
    latency_critical(w),
)
def prefer_performance() -> Iterator[Wish]:
    """Where the processor chooses its frequency itself, tell it that short bursts are to be fast: energy preference "performance"."""
    yield s.power.energy_preference(SYSTEM, "performance")


@rule(
    priority=18,
    expect="latency-p99 -30..-5 %; energy +2..25 %",
    source="Documentation/admin-guide/pm/cpuidle.rst, power management quality of service for CPUs; Sharafzadeh et al., "
    "Yawn: A CPU Idle-state Governor for Datacenter Applications, APSys 2019",
    limits="CPUs that do not sleep deeply leave others less turbo. Of no use where the service keeps its CPUs busy: they "
    "do not sleep then.",
)
@when(
    m.deepest_idle > "30 us",
    ~m.virtual,
    latency_critical(w),
    # Idle between requests, and often woken: that is when waking up counts.
    w.demand.wakeups > "2000/s",
    w.demand.cores < m.cores * 0.5,
)
def sleep_lightly(workload: Workload, machine: Machine) -> Iterator[Wish]:
    """A service that is woken thousands of times a second waits each time for a CPU to leave deep sleep: 100 µs and more from C6.

    Where it is kept on a part of the machine only those CPUs are set, and the others sleep on.
    """
    known = {cpu.os_index for cpu in machine.topology.cpus}
    own = sorted(workload.cpus & known)
    if own and len(own) <= len(known) / 2:
        yield from (s.power.idle_latency_us(Subject("cpu", str(cpu)), _IDLE_LATENCY_US) for cpu in own)
    else:
        yield s.power.idle_latency_us(SYSTEM, _IDLE_LATENCY_US)


@rule(
    priority=4,
    expect="energy -30..-5 %; latency-p99 +0..10 %",
    source="Documentation/admin-guide/pm/intel_pstate.rst, Documentation/admin-guide/pm/cpufreq.rst",
    limits="Not beside a service whose latency counts: a rule of this pack forbids it then.",
)
@when(
    m.governor == "performance",
    m.energy_preference == "performance",
    ~m.virtual,
    m.idle_share > 0.95,
    w.intervals >= 3,
    w.demand.cores < m.cpus * 0.05,
    none_of(latency_critical(w)),
)
def save_power_when_idle() -> Iterator[Wish]:
    """A machine that is idle nearly all the time under the performance governor pays for frequency that nobody uses.

    Where the processor chooses its frequency itself (it has an energy preference), powersave is the governor that follows the load.
    """
    yield s.power.governor(SYSTEM, "powersave")
    yield s.power.energy_preference(SYSTEM, "balance_performance")


@rule(
    priority=20,
    expect="latency-p99 -30..-5 %",
    source="Documentation/admin-guide/pm/cpufreq.rst",
    limits="As long as such a workload is there.",
)
@when(m.governor == "performance", ~m.virtual, latency_critical(w))
def no_saving_beside_services() -> Iterator[Never]:
    """With a service whose latency counts the performance governor stays, however idle the machine is between its requests."""
    yield never(SYSTEM, "power.governor", "a service whose latency counts runs under the performance governor")
