"""The table of threads that the programs keep, read through shared memory: what is under way and not yet counted.

Counters are brought up to date when something ends (a slice, a wait). A thread that runs or sleeps through a whole
interval ends nothing, so what is under way is added from here; otherwise long runners would look idle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna.probes.bpf.programs import Programs
from hal.host import Host


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Nanoseconds under way at one moment."""

    oncpu_by_cpu: NDArray[np.int64]
    """Shape (CPUs,)."""
    runq: int
    blocked_by_class: NDArray[np.int64]
    """Shape (8,)."""
    oncpu_by_thread: dict[int, int]
    """Thread id to its whole time on CPU since it was first seen."""


def under_way(programs: Programs, host: Host, cpus: int) -> UnderWay:
    """Read the table. Entries may change while they are read; what that can misplace is less than the read's own time."""
    table = programs.threads
    used = np.flatnonzero(table["tid"])
    rows = table[used]
    now = host.monotonic_ns()
    on, off, ready = (rows[name].astype(np.int64) for name in ("on_ts", "off_ts", "ready_ts"))
    running = on > 0
    waiting = (ready > 0) & ~running
    blocked = (off > 0) & (ready == 0) & ~running
    run_ns = np.where(running, np.maximum(now - on, 0), 0)
    cpu = np.clip(rows["cpu"].astype(np.int64) - 1, 0, cpus - 1)
    return UnderWay(
        oncpu_by_cpu=np.bincount(cpu[running], weights=run_ns[running], minlength=cpus).astype(np.int64),
        runq=int(np.maximum(now - ready[waiting], 0).sum()),
        blocked_by_class=np.bincount(
            rows["blocked_class"][blocked] & 7, weights=np.maximum(now - off[blocked], 0), minlength=8
        ).astype(np.int64),
        oncpu_by_thread=dict(
            zip(rows["tid"].tolist(), (rows["oncpu_ns"].astype(np.int64) + run_ns).tolist(), strict=True)
        ),
    )


def threads_of(programs: Programs) -> dict[int, int]:
    """Return process id by thread id of all threads in the table."""
    table = programs.threads
    rows = table[np.flatnonzero(table["tid"])]
    return dict(zip(rows["tid"].tolist(), rows["tgid"].tolist(), strict=True))
