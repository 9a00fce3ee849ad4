"""Performance events: each one opened on this process, and the sysctls that decide who may."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hal.checks import trial
from hal.checks.capability import MEASURE, Area, Capability
from hal.checks.situation import Situation, names_in, text_of
from hal.checks.trial import descriptor
from hal.errors import HostError, NotFoundError, NotPermittedError, UnsupportedError
from hal.host import Host

AREA = Area(MEASURE, "perf events")
ENERGY = Area(MEASURE, "energy")
_PMUS = "/sys/bus/event_source/devices"
_NEEDS = ("PERFMON",)


def _cache(level: int, operation: int, result: int) -> int:
    return level | operation << 8 | result << 16


# Names as perf list prints them; numbers of include/uapi/linux/perf_event.h. L1d 0, L1i 1, LLC 2, dTLB 3, iTLB 4, node 6.
HARDWARE = {
    "cycles": (trial.TYPE_HARDWARE, 0),
    "instructions": (trial.TYPE_HARDWARE, 1),
    "cache-references": (trial.TYPE_HARDWARE, 2),
    "cache-misses": (trial.TYPE_HARDWARE, 3),
    "branch-instructions": (trial.TYPE_HARDWARE, 4),
    "branch-misses": (trial.TYPE_HARDWARE, 5),
    "bus-cycles": (trial.TYPE_HARDWARE, 6),
    "stalled-cycles-frontend": (trial.TYPE_HARDWARE, 7),
    "stalled-cycles-backend": (trial.TYPE_HARDWARE, 8),
    "ref-cycles": (trial.TYPE_HARDWARE, 9),
    "L1-dcache-loads": (trial.TYPE_CACHE, _cache(0, 0, 0)),
    "L1-dcache-load-misses": (trial.TYPE_CACHE, _cache(0, 0, 1)),
    "L1-icache-load-misses": (trial.TYPE_CACHE, _cache(1, 0, 1)),
    "LLC-loads": (trial.TYPE_CACHE, _cache(2, 0, 0)),
    "LLC-load-misses": (trial.TYPE_CACHE, _cache(2, 0, 1)),
    "dTLB-loads": (trial.TYPE_CACHE, _cache(3, 0, 0)),
    "dTLB-load-misses": (trial.TYPE_CACHE, _cache(3, 0, 1)),
    "iTLB-load-misses": (trial.TYPE_CACHE, _cache(4, 0, 1)),
    "node-loads": (trial.TYPE_CACHE, _cache(6, 0, 0)),
    "node-load-misses": (trial.TYPE_CACHE, _cache(6, 0, 1)),
}
SOFTWARE = {
    "cpu-clock": (trial.TYPE_SOFTWARE, 0),
    "task-clock": (trial.TYPE_SOFTWARE, 1),
    "page-faults": (trial.TYPE_SOFTWARE, 2),
    "context-switches": (trial.TYPE_SOFTWARE, 3),
    "cpu-migrations": (trial.TYPE_SOFTWARE, 4),
    "minor-faults": (trial.TYPE_SOFTWARE, 5),
    "major-faults": (trial.TYPE_SOFTWARE, 6),
    "alignment-faults": (trial.TYPE_SOFTWARE, 7),
    "emulation-faults": (trial.TYPE_SOFTWARE, 8),
}


def check(host: Host, who: Situation) -> Iterator[Capability]:
    """Look at the sysctls, then open every event."""
    yield _paranoid(host, who)
    yield _kernel_addresses(host, who)
    counting_pmus = _core_pmus(host)
    for name, (kind, config) in SOFTWARE.items():
        yield _event(host, who, name, kind, config, counting_pmus)
    for name, (kind, config) in HARDWARE.items():
        yield _event(host, who, name, kind, config, counting_pmus)


def energy(host: Host, who: Situation) -> Iterator[Capability]:
    """Look for RAPL energy meters: the powercap files, and the power PMU."""
    yield _powercap(host, who)
    yield _power_pmu(host, who)


def _event(host: Host, who: Situation, event: str, kind: int, config: int, pmus: list[str]) -> Capability:
    name = f"perf {event}"
    try:
        with descriptor(host, trial.open_event(host, kind, config)):
            return AREA.yes(name)
    except NotPermittedError as error:
        return _user_only(host, who, name, kind, config, error, pmus)
    except HostError as error:
        return _missing_event(name, kind, error, pmus)


def _user_only(
    host: Host, who: Situation, name: str, kind: int, config: int, refusal: NotPermittedError, pmus: list[str]
) -> Capability:
    """Try again without kernel mode: it may be granted, or it turns out that permission was not the only obstacle."""
    reason, remedy = who.refused(refusal, *_NEEDS)
    try:
        with descriptor(host, trial.open_event(host, kind, config, user_only=True)):
            return AREA.yes(name, "user mode only", caveat=f"kernel mode {reason}", remedy=remedy)
    except NotPermittedError:
        return AREA.no(name, reason, remedy)
    except HostError as error:
        return _missing_event(name, kind, error, pmus)


def _missing_event(name: str, kind: int, error: HostError, pmus: list[str]) -> Capability:
    if kind == trial.TYPE_SOFTWARE:
        return AREA.no(name, f"the kernel has no such event ({error})", "boot a kernel built with CONFIG_PERF_EVENTS=y")
    if pmus:
        reason = f"the performance monitoring unit ({', '.join(pmus)}) does not count it"
        return AREA.no(name, reason, "another CPU model has it; features made of it stay unknown")
    if not isinstance(error, NotFoundError | UnsupportedError):
        return AREA.no(name, str(error), "see `dmesg`")
    return AREA.no(
        name,
        "no performance monitoring unit is visible",
        "on a virtual machine let the hypervisor pass it through (QEMU: -cpu host,pmu=on; clouds: metal instances)",
    )


def _core_pmus(host: Host) -> list[str]:
    """Return the PMUs that count core events: ``cpu``, one per kind of core on hybrids, ``armv8_...`` on Arm."""
    return [name for name in names_in(host, _PMUS) if re.match(r"cpu(_\w+)?$|arm(v\d|\w*pmu)|cpum_cf$", name)]


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
    name, base = "rapl perf", f"{_PMUS}/power"
    events = [event for event in names_in(host, f"{base}/events") if re.fullmatch(r"energy-\w+", event)]
    if not events:
        return ENERGY.no(name, "no energy event in the power PMU", "needs bare metal; energy stays unknown")
    try:
        kind = int(text_of(host, f"{base}/type"))
        config = int(text_of(host, f"{base}/events/{events[0]}").partition("=")[2], 16)
    except ValueError:
        return ENERGY.unknown(
            name, "the power PMU describes its events in an unknown form", "report it with `ls -R` of it"
        )
    try:
        with descriptor(host, trial.open_event(host, kind, config, cpu=0)):
            return ENERGY.yes(name, ", ".join(events))
    except HostError as error:
        reason, remedy = who.refused(error, *_NEEDS)
        return ENERGY.no(name, reason, remedy)
