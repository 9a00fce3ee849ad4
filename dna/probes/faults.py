"""Where page faults fall, from the kernel's tracepoint: next to the thread's previous one, near it, or far away."""

from __future__ import annotations

from dataclasses import dataclass

from dna.probes.base import ProbeContext, Reading
from dna.probes.bpf import layouts
from dna.probes.syscalls import need_bpf


@dataclass(frozen=True, slots=True)
class FaultPattern:
    """Page faults in user mode by distance from the thread's previous one; see ``MemoryReading``."""

    sequential: int
    near: int
    random: int


class FaultProbe:
    """Completes the memory reading (x86 and RISC-V: other architectures have no such tracepoint)."""

    name = "faults"
    field = "faults"

    def start(self, context: ProbeContext) -> None:
        programs = need_bpf(context)
        programs.attach("on_fault")
        self._faults = programs.meter(layouts.FAULTS)

    def read(self, interval_s: float) -> Reading[FaultPattern]:
        step = self._faults.delta()
        return Reading(FaultPattern(int(step["sequential"]), int(step["near"]), int(step["random"])))

    def stop(self) -> None:
        """Detached with the programs."""
