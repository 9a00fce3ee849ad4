"""Energy meters (RAPL): the powercap files where they are, else the ``power`` PMU.

Both cover the whole machine. Domains: ``pkg`` (summed over packages), ``cores``, ``ram``, ``gpu``, ``psys``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from hal.errors import HostError, NotPermittedError
from hal.host import Host
from hal.perf import Event, Group
from hal.pmu import PmuEvent, pmu_cpumask, pmu_events

_POWERCAP = "/sys/class/powercap"
_DOMAINS = {"core": "cores", "uncore": "gpu", "dram": "ram", "psys": "psys"}


class EnergyMeter(Protocol):
    """Something that counts energy."""

    def read(self) -> Mapping[str, float]:
        """Return joules by domain since the last read (or since it was opened); only domains whose meter moves."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


@dataclass(frozen=True, slots=True)
class _Zone:
    """One meter of powercap: counts microjoules up to ``range_uj`` and begins again at 0."""

    path: str
    domain: str
    range_uj: int


def wrapped_difference(now: int, before: int, *, modulus: int) -> int:
    """Return how far a counter moved that begins again at 0 after ``modulus - 1``, at most one round."""
    return now - before if now >= before else now - before + modulus


def domain_of(name: str) -> str:
    """Return our name of a powercap zone's: ``package-0`` is ``pkg``, ``dram`` is ``ram``."""
    return "pkg" if name.startswith("package") else _DOMAINS.get(name, name)


class PowercapMeter:
    """Reads ``/sys/class/powercap/*/energy_uj``."""

    def __init__(self, host: Host, zones: Sequence[_Zone]) -> None:
        self._host = host
        self._zones = zones
        self._last = {zone.path: self._energy(zone) for zone in zones}

    def _energy(self, zone: _Zone) -> int:
        return int(self._host.read_text(f"{zone.path}/energy_uj"))

    def read(self) -> Mapping[str, float]:
        joules: dict[str, float] = {}
        for zone in self._zones:
            with suppress(HostError, ValueError):
                now = self._energy(zone)
                # energy_uj counts up to and including max_energy_range_uj.
                moved = wrapped_difference(now, self._last[zone.path], modulus=zone.range_uj + 1)
                self._last[zone.path] = now
                joules[zone.domain] = joules.get(zone.domain, 0.0) + moved * 1e-6
        return {domain: value for domain, value in joules.items() if value > 0}

    def close(self) -> None:
        """Nothing is held open."""


class PmuMeter:
    """Counts the events of the ``power`` PMU, which a package's first CPU reads for it."""

    def __init__(self, host: Host, events: Sequence[PmuEvent], cpus: Sequence[int]) -> None:
        self._groups: list[tuple[Group, PmuEvent]] = []
        self._last: list[int] = []
        try:
            for described in events:
                event = Event(described.name, described.type, described.config)
                for cpu in cpus:
                    self._groups.append((Group(host, [event], pid=-1, cpu=cpu), described))
            self._last = [0] * len(self._groups)
        except HostError:
            self.close()
            raise

    def read(self) -> Mapping[str, float]:
        joules: dict[str, float] = {}
        for i, (group, described) in enumerate(self._groups):
            counts = group.read()
            if counts is not None:
                moved = counts.values[0] - self._last[i]
                self._last[i] = counts.values[0]
                domain = described.name.removeprefix("energy-")
                joules[domain] = joules.get(domain, 0.0) + moved * described.scale
        return {domain: value for domain, value in joules.items() if value > 0}

    def close(self) -> None:
        for group, _ in self._groups:
            group.close()
        self._groups = []


def open_energy_meter(host: Host) -> tuple[EnergyMeter | None, str]:
    """Return (meter, "") or (None, why there is none)."""
    zones, reason = _powercap_zones(host)
    with suppress(HostError, ValueError):
        if zones:
            return PowercapMeter(host, zones), ""
    events = [event for event in pmu_events(host, "power") if event.unit in ("Joules", "")]
    try:
        if events:
            return PmuMeter(host, events, pmu_cpumask(host, "power") or (0,)), ""
    except HostError as error:
        reason = reason or str(error)
    return None, reason or "this machine shows no energy meter (RAPL)"


def _powercap_zones(host: Host) -> tuple[list[_Zone], str]:
    zones: list[_Zone] = []
    reason = ""
    for name in _rapl_names(host):
        path = f"{_POWERCAP}/{name}"
        try:
            host.read_text(f"{path}/energy_uj")  # root's alone since CVE-2020-8694
            limit = int(host.read_text(f"{path}/max_energy_range_uj"))
            zones.append(_Zone(path, domain_of(host.read_text(f"{path}/name").strip()), limit))
        except NotPermittedError:
            reason = "energy meters are readable by root only"
        except (HostError, ValueError):
            continue
    return zones, reason


def _rapl_names(host: Host) -> list[str]:
    """Return the zones of RAPL; the same package also appears as ``intel-rapl-mmio``, which would count it twice."""
    try:
        names = host.list_dir(_POWERCAP)
    except HostError:
        return []
    return [name for name in names if ":" in name and name.split(":")[0] in ("intel-rapl", "amd-rapl")]
