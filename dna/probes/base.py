"""What a probe is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hal.host import Host
from hal.topology import Topology

if TYPE_CHECKING:
    from dna.members import Members
    from dna.probes.bpf.programs import Programs


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """What a probe is given to start."""

    host: Host
    members: Members
    """The target's processes and threads, refreshed before each read."""
    topology: Topology
    bpf: Programs | None
    """Programs loaded for this profile, or None when BPF cannot be used; then ``bpf_reason`` says why."""
    bpf_reason: str = ""
    interval_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Reading[R]:
    """What one probe measured since its last read."""

    value: R
    lost: int = 0
    coverage: float = 1.0
    missing: tuple[tuple[str, str], ...] = ()
    """Parts that could not be measured: (part, reason)."""


class Probe[R](Protocol):
    """One source of measurement on a target. Starts, reads and stops by itself.

    ``field`` is the attribute of ``Sample`` that it fills; several probes may fill the same one, the profiler takes the
    first that starts.
    """

    name: str
    field: str

    def start(self, context: ProbeContext) -> None:
        """Begin to measure; raises ProbeUnavailableError with reason and remedy."""
        ...

    def read(self, interval_s: float) -> Reading[R]:
        """Return what happened since the last read (or since start)."""
        ...

    def stop(self) -> None:
        """Release everything; may be called twice, and after a failed start."""
        ...
