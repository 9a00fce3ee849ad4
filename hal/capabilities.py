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
