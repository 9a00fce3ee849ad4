"""What this machine can measure and change, each thing tried for real; what is missing comes with reason and remedy."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from hal import topology
from hal.checks import bpf, change, environment, perf, system
from hal.checks.capability import CHANGE, MEASURE, Area, Capability
from hal.checks.situation import Situation, situation
from hal.errors import HalError
from hal.host import Host
from hal.topology import Topology

__all__ = ["CHANGE", "MEASURE", "SCHEMA", "Capability", "Report", "examine", "probe"]

SCHEMA = "workload-dna/doctor/1"

_CHECKS: tuple[tuple[Area, str, Callable[[Host, Situation], Iterable[Capability]]], ...] = (
    (system.PRIVILEGES, "privileges", system.privileges),
    (bpf.AREA, "bpf", bpf.check),
    (bpf.AREA, "bpf toolchain", bpf.toolchain),
    (perf.AREA, "perf", perf.check),
    (perf.ENERGY, "energy", perf.energy),
    (system.MEMORY, "memory", system.memory),
    (system.SYSTEM, "system", system.system),
    (environment.AREA, "installation", lambda _host, _who: environment.check()),
    (change.AREA, "change", change.check),
)


@dataclass(frozen=True, slots=True)
class Report:
    """One examination: the machine, who asked, and what is possible."""

    situation: Situation
    model: str
    architecture: str
    topology: Topology | None
    """None when not even the CPUs could be told; then ``topology_error`` says why."""
    topology_error: str
    capabilities: tuple[Capability, ...]

    def get(self, name: str) -> Capability | None:
        """Return the capability of that name."""
        return next((one for one in self.capabilities if one.name == name), None)

    def verdict(self) -> tuple[str, ...]:
        """Return in a few sentences what a profile taken here will know, and what stays unknown."""
        return (*_verdict_on_bpf(self), *_verdict_on_counters(self))

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON data; the schema is described in docs/doctor.md."""
        who = self.situation
        return {
            "schema": SCHEMA,
            "machine": {
                "kernel": who.release,
                "arch": self.architecture,
                "model": self.model,
                "container": who.container or None,
                "topology": _topology_data(self.topology) if self.topology else None,
                "topology_error": self.topology_error or None,
            },
            "user": {"uid": who.uid, "capabilities": None if who.capabilities is None else sorted(who.capabilities)},
            "capabilities": [asdict(one) for one in self.capabilities],
            "verdict": list(self.verdict()),
        }


def examine(host: Host, *, command: str = "") -> Report:
    """Try everything on a host and return the report; never raises for what a machine lacks.

    ``command`` is what remedies repeat with sudo, by default the present command line.
    """
    who = situation(host, command)
    shape, error = None, ""
    try:
        shape = topology.live(host)
    except HalError as problem:
        error = str(problem)
    return Report(who, system.machine_line(host), platform.machine(), shape, error, _run(host, who))


def probe(host: Host) -> tuple[Capability, ...]:
    """Return what a host allows, as ``examine`` finds it."""
    return _run(host, situation(host))


def _run(host: Host, who: Situation) -> tuple[Capability, ...]:
    found: list[Capability] = []
    for area, name, check in _CHECKS:
        try:
            found.extend(check(host, who))
        except Exception as error:  # a strange machine must not cost the rest of the report
            words = str(error) if isinstance(error, HalError) else f"{type(error).__name__}: {error}"
            found.append(
                area.unknown(
                    name, f"the check failed: {words}", "please report it with the output of `dna doctor --json`"
                )
            )
    return tuple(found)


_BPF_NEEDS = ("bpf map", "bpf raw tracepoint", "btf", "bcc", "kernel headers", "bpf compile")
_BPF_GIVES = "system calls, scheduling, I/O, network and who wakes whom"


def _verdict_on_bpf(report: Report) -> tuple[str, ...]:
    found = [report.get(name) for name in _BPF_NEEDS]
    missing = next((one for one in found if one is not None and one.available is not True), None)
    if missing is None and found[0] is not None:
        pids = report.get("host process ids")
        if pids is not None and pids.available is False:
            return (f"eBPF works, but only for the whole host: {pids.reason}",)
        return (f"eBPF works: {_BPF_GIVES}",)
    why = f" ({missing.name}: {missing.reason})" if missing else ""
    return (f"no eBPF{why}: {_BPF_GIVES} only as far as /proc tells",)


def _verdict_on_counters(report: Report) -> tuple[str, ...]:
    events = [one for name in perf.HARDWARE if (one := report.get(f"perf {name}")) is not None]
    counted = sum(one.available is True for one in events)
    if counted:
        return (f"hardware counters work: {counted} of {len(events)} events",)
    reason = f": {events[0].reason}" if events else ""
    mix = "the instruction mix is sampled by software clock instead" if _software_clock(report) else ""
    return (f"no hardware counters{reason}", *((mix,) if mix else ()))


def _software_clock(report: Report) -> bool:
    clock = report.get("perf cpu-clock")
    return clock is not None and clock.available is True


def _topology_data(shape: Topology) -> dict[str, object]:
    return {
        "source": shape.source,
        "cpus": shape.cpu_count,
        "cores": shape.core_count,
        "packages": shape.packages,
        "llc_domains": shape.llc_count,
        "cpu_kinds": list(shape.cpu_kinds),
        "memory_bytes": shape.memory_bytes,
        "nodes": [{"node": n.os_index, "cpus": list(n.cpus), "memory_bytes": n.memory_bytes} for n in shape.nodes],
        "distances": [list(row) for row in shape.distances],
        "devices": [asdict(device) for device in shape.devices],
    }
