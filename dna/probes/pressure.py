"""Pressure stall information (PSI) of the target's cgroup, else of the host."""

from __future__ import annotations

import re

from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.sample import PressureReading
from hal.errors import HalError
from hal.host import Host

_RESOURCES = ("cpu", "memory", "io")
_TOTAL = re.compile(r"^(some|full) .*?total=(\d+)", re.MULTILINE)


def parse_pressure(text: str) -> dict[str, int]:
    """Return total stall time in microseconds by ``"some"`` and ``"full"`` (Documentation/accounting/psi.rst)."""
    return {kind: int(total) for kind, total in _TOTAL.findall(text)}


def stall_share(before: int | None, after: int | None, interval_s: float) -> float | None:
    """Return the share of an interval that was stalled, from totals in microseconds; None where either is unknown."""
    if before is None or after is None or interval_s <= 0:
        return None
    return min(max((after - before) * 1e-6 / interval_s, 0.0), 1.0)


class PressureProbe:
    """Fills ``Sample.pressure`` from the totals, so nothing is lost between two reads."""

    name = "pressure"
    field = "pressure"

    def __init__(self) -> None:
        self._scope = "host"
        self._paths: dict[str, str] = {}
        self._before: dict[tuple[str, str], int] = {}
        self._since_ns = 0

    def start(self, context: ProbeContext) -> None:
        self._host = context.host
        cgroup = context.members.cgroup_dir("") if context.members.kind == "cgroup" else None
        self._scope, self._paths = _files(context.host, cgroup)
        self._before = self._totals()
        self._since_ns = context.host.monotonic_ns()
        if not self._before:
            raise ProbeUnavailableError(
                "this kernel gives no pressure stall information",
                remedy="Boot with psi=1 (the kernel needs CONFIG_PSI).",
            )

    def _totals(self) -> dict[tuple[str, str], int]:
        totals: dict[tuple[str, str], int] = {}
        for resource, path in self._paths.items():
            try:
                text = self._host.read_text(path)
            except HalError:  # EOPNOTSUPP where PSI is compiled in but off; ENOENT when the cgroup ended
                continue
            totals.update({(resource, kind): total for kind, total in parse_pressure(text).items()})
        return totals

    def read(self, interval_s: float) -> Reading[PressureReading]:
        now_ns = self._host.monotonic_ns()
        after = self._totals()
        # The reads' own distance: totals go on while other probes are read.
        elapsed_s = (now_ns - self._since_ns) * 1e-9 or interval_s

        def share(resource: str, kind: str) -> float | None:
            key = (resource, kind)
            return stall_share(self._before.get(key), after.get(key), elapsed_s)

        value = PressureReading(
            scope=self._scope,
            cpu_some=share("cpu", "some"),
            memory_some=share("memory", "some"),
            memory_full=share("memory", "full"),
            io_some=share("io", "some"),
            io_full=share("io", "full"),
        )
        self._before, self._since_ns = after, now_ns
        return Reading(value)

    def stop(self) -> None:
        self._before = {}


def _files(host: Host, cgroup: str | None) -> tuple[str, dict[str, str]]:
    """Return (scope, path by resource): only cgroup v2 has pressure of its own."""
    if cgroup is not None:
        paths = {resource: f"{cgroup}/{resource}.pressure" for resource in _RESOURCES}
        if any(host.exists(path) for path in paths.values()):
            return "cgroup", paths
    return "host", {resource: f"/proc/pressure/{resource}" for resource in _RESOURCES}
