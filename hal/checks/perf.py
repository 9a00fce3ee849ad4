"""Performance events: each one opened on this process, and the sysctls that decide who may."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hal.checks.capability import MEASURE, Area, Capability
from hal.checks.situation import Situation, names_in, text_of
from hal.errors import HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host
from hal.perf import Event, Group, event, try_events, why_not
from hal.pmu import CorePmu, core_pmus, pmu_cpumask, pmu_events

AREA = Area(MEASURE, "perf events")
ENERGY = Area(MEASURE, "energy")
_NEEDS = ("PERFMON",)

SOFTWARE = (
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
    "alignment-faults",
    "emulation-faults",
    "cgroup-switches",
)
HARDWARE = (
    "cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branches",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "ref-cycles",
    "L1-dcache-loads",
    "L1-dcache-load-misses",
    "L1-icache-load-misses",
    "LLC-loads",
    "LLC-load-misses",
    "dTLB-loads",
    "dTLB-load-misses",
    "iTLB-load-misses",
    "node-loads",
    "node-load-misses",
)


def check(host: Host, who: Situation) -> Iterator[Capability]:
    """Look at the sysctls, then open every event."""
    yield _paranoid(host, who)
    yield _kernel_addresses(host, who)
    pmus = core_pmus(host)
    for name in (*SOFTWARE, *HARDWARE):
        yield _event(host, who, event(name), pmus)


def energy(host: Host, who: Situation) -> Iterator[Capability]:
    """Look for RAPL energy meters: the powercap files, and the power PMU."""
    yield _powercap(host, who)
    yield _power_pmu(host, who)


def _event(host: Host, who: Situation, wanted: Event, pmus: Sequence[CorePmu]) -> Capability:
    """Open one event on this process, on a hybrid CPU on each kind of core."""
    name = f"perf {wanted.name}"
    if len(pmus) < 2 or wanted.is_software:
        return _single(host, who, name, wanted, pmus)
    tried = {pmu.name: _single(host, who, name, wanted.on(pmu.type), [pmu]) for pmu in pmus}
    counting = [pmu for pmu, one in tried.items() if one.available]
    best = tried[counting[0]] if counting else next(iter(tried.values()))
    return replace(best, detail=", ".join(part for part in (best.detail, *counting) if part))


def _single(host: Host, who: Situation, name: str, wanted: Event, pmus: Sequence[CorePmu]) -> Capability:
    error = try_events(host, [wanted])
    if error is None:
        return AREA.yes(name)
    if not isinstance(error, NotPermittedError):
        return _missing_event(name, wanted, error, pmus)
    # Again without kernel mode: it may be granted, or it turns out that permission was not the only obstacle.
    reason, remedy = who.refused(error, *_NEEDS)
    again = try_events(host, [wanted.user_only()])
    if again is None:
        return AREA.yes(name, "user mode only", caveat=f"kernel mode: {reason}", remedy=remedy)
    if isinstance(again, NotPermittedError):
        return AREA.no(name, reason, remedy)
    return _missing_event(name, wanted, again, pmus)


def _missing_event(name: str, wanted: Event, error: HostError, pmus: Sequence[CorePmu]) -> Capability:
    if not isinstance(error, NotFoundError | UnsupportedError) and error.number != errno.EINVAL:
        refusal = why_not(error)
        return AREA.no(name, refusal.reason, refusal.remedy or "see `dmesg`")
    if wanted.is_software or error.number == errno.ENOSYS:
        reason = f"the kernel does not count it ({error})"
        return AREA.no(name, reason, "boot a newer kernel, built with CONFIG_PERF_EVENTS=y")
    if pmus:
        units = ", ".join(pmu.name for pmu in pmus)
        reason = f"the performance monitoring unit ({units}) does not count it"
        return AREA.no(name, reason, "another CPU model has it; features made of it stay unknown")
    return AREA.no(
        name,
        "no performance monitoring unit is visible",
        "on a virtual machine let the hypervisor pass it through (QEMU: -cpu host,pmu=on; clouds: metal instances)",
    )


def _paranoid(host: Host, who: Situation) -> Capability:
    name, path = "perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid"
    text = text_of(host, path).strip()
    try:
        level = int(text)
    except ValueError:
        return AREA.no(name, "the kernel has no perf events", "boot a kernel built with CONFIG_PERF_EVENTS=y")
    if who.has("PERFMON"):
        return AREA.yes(name, f"{level}; does not bind this process")
    what = {2: "no kernel mode and no whole-CPU events", 1: "no whole-CPU events", 0: "no raw tracepoint data"}
    if level < 0:
        return AREA.yes(name, str(level))
    caveat = what.get(level, "no events at all for users")
    remedy = f"{who.sudo()}; or sudo sysctl kernel.perf_event_paranoid=-1"
    if level > 2:  # distributions' patch
        return AREA.no(name, f"{level}: {caveat}", remedy)
    return AREA.yes(name, str(level), caveat=caveat, remedy=remedy)


def _kernel_addresses(host: Host, who: Situation) -> Capability:
    name = "kernel symbols"
    level = text_of(host, "/proc/sys/kernel/kptr_restrict").strip()
    symbols = text_of(host, "/proc/kallsyms")
    found = re.search(r"^([0-9a-f]+) [tT] ", symbols[:4096], flags=re.MULTILINE)
    addresses = re.findall(r"^([0-9a-f]+) ", symbols[:65536], flags=re.MULTILINE)
    if any(address.strip("0") for address in addresses):
        return AREA.yes(name, f"kptr_restrict {level or '?'}")
    if not found:
        return AREA.no(
            name, "no /proc/kallsyms", "a kernel with CONFIG_KALLSYMS; only names of kernel functions need it"
        )
    if who.uid == 0 and level == "2":
        return AREA.no(name, "kptr_restrict is 2", "sysctl kernel.kptr_restrict=1")
    reason, remedy = who.lacking("SYSLOG")
    return AREA.no(name, f"addresses are hidden: {reason}", remedy)


def _powercap(host: Host, who: Situation) -> Capability:
    name, base = "rapl powercap", "/sys/class/powercap"
    zones = [zone for zone in names_in(host, base) if host.exists(f"{base}/{zone}/energy_uj")]
    if not zones:
        return ENERGY.no(
            name, "no energy meter in /sys/class/powercap", "needs bare metal and its rapl driver; energy stays unknown"
        )
    try:
        host.read_text(f"{base}/{zones[0]}/energy_uj")
    except HostError as error:  # mode 0400 since 5.10 (949dd0104c49, the PLATYPUS attack)
        reason, remedy = who.refused(error, "DAC_READ_SEARCH")
        return ENERGY.no(name, reason, remedy)
    return ENERGY.yes(name, ", ".join(zones))


def _power_pmu(host: Host, who: Situation) -> Capability:
    name = "rapl perf"
    meters = [meter for meter in pmu_events(host, "power") if meter.name.startswith("energy-")]
    if not meters:
        return ENERGY.no(name, "no energy event in the power PMU", "needs bare metal; energy stays unknown")
    cpu = next(iter(pmu_cpumask(host, "power")), 0)
    try:
        Group(host, [Event(meters[0].name, meters[0].type, meters[0].config)], pid=-1, cpu=cpu).close()
    except HostError as error:
        reason, remedy = who.refused(error, *_NEEDS)
        return ENERGY.no(name, reason, remedy)
    return ENERGY.yes(name, ", ".join(meter.name for meter in meters))
