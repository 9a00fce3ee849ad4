"""``rapl`` or ``rapl:DOMAIN``: power by the processor's energy meters, of the whole machine."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hal.energy import EnergyMeter, open_energy_meter
from hal.host import Host
from rl.errors import MetricDeniedError, MetricError, MetricUnavailableError
from rl.measured import ENERGY, Problem
from rl.sources.found import Count, Source, SourceError

PACKAGES = "pkg"


def check(rest: str) -> None:
    """Raise MetricError where the domain cannot be one."""
    if rest and not re.fullmatch(r"[a-z][a-z0-9-]*", rest):
        raise MetricError(f"rapl:{rest}: a domain is pkg, cores, ram, gpu or psys", remedy=f"as in {SOURCE.example}")


@dataclass(slots=True)
class RaplFetch:
    """Joules of one domain."""

    meter: EnergyMeter
    domain: str
    joules: float = 0.0
    _seen: bool = field(default=False)

    def fetch(self) -> Count:
        """Return joules since it was opened."""
        moved = self.meter.read()
        if self.domain in moved:
            self._seen = True
            self.joules += moved[self.domain]
        elif not self._seen and moved:
            raise SourceError(Problem.UNFIT, f"no domain {self.domain} here; there are {', '.join(sorted(moved))}")
        return Count(self.joules)

    def close(self) -> None:
        """Release the meter."""
        self.meter.close()


def _open(rest: str, kind: str, host: Host, timeout_s: float) -> RaplFetch:
    meter, reason = open_energy_meter(host)
    if meter is None:
        remedy = "run as root" if "root" in reason else "judge by throughput or latency instead"
        error = MetricDeniedError if "root" in reason else MetricUnavailableError
        raise error(f"energy=rapl: {reason}", remedy=remedy)
    return RaplFetch(meter, rest or PACKAGES)


SOURCE = Source("rapl", "or rapl:DOMAIN", "energy=rapl", (ENERGY,), check, _open)
