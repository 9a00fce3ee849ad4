"""The performance monitoring units of a machine, read from /sys/bus/event_source."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal.errors import HostError
from hal.lists import parse_cpu_list

if TYPE_CHECKING:
    from hal.host import Host

_DEVICES = "/sys/bus/event_source/devices"


@dataclass(frozen=True, slots=True)
class CorePmu:
    """The PMU of one kind of core; a hybrid CPU has one for each kind."""

    name: str
    type: int
    cpus: tuple[int, ...] | None
    """The CPUs it counts on; None is all."""


@dataclass(frozen=True, slots=True)
class PmuEvent:
    """An event that a PMU describes in sysfs, such as ``energy-pkg`` of ``power``."""

    name: str
    type: int
    config: int
    scale: float
    unit: str


def online_cpus(host: Host) -> tuple[int, ...]:
    """Return the CPUs that are online; (0,) where that cannot be read."""
    try:
        return parse_cpu_list(host.read_text("/sys/devices/system/cpu/online")) or (0,)
    except (HostError, ValueError):
        return (0,)


def core_pmus(host: Host) -> tuple[CorePmu, ...]:
    """Return the PMUs of the cores, none on a machine without one (most virtual machines).

    A core's PMU is named ``cpu`` or has a file ``cpus`` (perf's rule, tools/perf/util/pmu.c; uncore PMUs have ``cpumask``).
    """
    found = []
    with suppress(HostError):
        for name in host.list_dir(_DEVICES):
            with suppress(HostError, ValueError):
                found.append(_core_pmu(host, name))
    return tuple(pmu for pmu in found if pmu is not None)


def _core_pmu(host: Host, name: str) -> CorePmu | None:
    has_list = host.exists(f"{_DEVICES}/{name}/cpus")
    if not has_list and name not in ("cpu", "cpum_cf"):
        return None
    cpus = parse_cpu_list(host.read_text(f"{_DEVICES}/{name}/cpus")) if has_list else None
    return CorePmu(name, int(host.read_text(f"{_DEVICES}/{name}/type")), cpus)


def pmu_events(host: Host, name: str) -> tuple[PmuEvent, ...]:
    """Return the events that a PMU describes as ``event=0x..`` (and nothing more), with their scale and unit."""
    found = []
    with suppress(HostError):
        for entry in host.list_dir(f"{_DEVICES}/{name}/events"):
            if not entry.endswith((".scale", ".unit", ".per-pkg", ".snapshot")):
                with suppress(HostError, ValueError):
                    found.append(_pmu_event(host, name, entry))
    return tuple(found)


def _pmu_event(host: Host, pmu: str, name: str) -> PmuEvent:
    path = f"{_DEVICES}/{pmu}/events/{name}"
    key, _, number = host.read_text(path).strip().partition("=")
    if key != "event":
        raise ValueError(f"{path}: cannot read {key!r}")
    scale = float(host.read_text(f"{path}.scale")) if host.exists(f"{path}.scale") else 1.0
    unit = host.read_text(f"{path}.unit").strip() if host.exists(f"{path}.unit") else ""
    return PmuEvent(name, int(host.read_text(f"{_DEVICES}/{pmu}/type")), int(number, 0), scale, unit)


def pmu_cpumask(host: Host, name: str) -> tuple[int, ...]:
    """Return the CPUs on which an uncore PMU is to be opened, one a package."""
    with suppress(HostError, ValueError):
        return parse_cpu_list(host.read_text(f"{_DEVICES}/{name}/cpumask"))
    return ()
