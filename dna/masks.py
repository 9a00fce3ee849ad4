"""Which features a machine or a user goes without: the patterns of unknowns that training imitates and evaluation tries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_SCHED_BPF = ("sched.runq_p50", "sched.runq_p99", "sched.slice_p50", "sched.slice_p90", "sched.migrations_per_switch")
_MEMORY_BPF = ("memory.fault_sequential_share", "memory.fault_random_share")
_MEMORY_SAMPLED = ("memory.random_share", "memory.new_page_share", "memory.direction")
_IO_BPF = (
    "io.read_size_p50",
    "io.write_size_p50",
    "io.sequential_share",
    "io.sync_per_write",
    "io.block_latency_p50",
    "io.block_latency_p99",
)

PREFIXES: Mapping[str, tuple[str, ...]] = {
    "no-pmu": ("cpu.",),
    "no-bpf": ("syscall.", "comm.", "net.", "insn.kernel_share", *_SCHED_BPF, *_MEMORY_BPF, *_IO_BPF),
    "no-instructions": ("insn.", *_MEMORY_SAMPLED),
    "no-pressure": ("pressure.",),
    "no-syscalls": ("syscall.",),
    "no-graph": ("comm.",),
    "no-network": ("net.",),
    "no-io": ("io.",),
    "no-memory": ("memory.",),
}
"""Pattern to the names, or beginnings of names, that are unknown under it.

``no-pmu`` is most virtual machines; ``no-bpf`` is a user without root; the others are single probes that did not start.
"""


ENVIRONMENT = ("pressure.", "sched.runq_", "sched.oncpu_share", "sched.migrations_per_switch", "sched.core_spread")
"""Names, or their beginnings, of what the machine and its other work decide more than the workload does.

They are reported, and rules use them, but DNA is not made of them: a workload keeps its DNA when a neighbour moves in. Among
recordings of the same load under different contention these varied most between runs (see the model card).
"""


def is_environment(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which of ``names`` say more about the surroundings than about the workload, shape (len(names),)."""
    return np.array([name.startswith(ENVIRONMENT) for name in names], dtype=np.bool_)


def masked_columns(pattern: str, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which of ``names`` are unknown under ``pattern``, shape (len(names),)."""
    return np.array([name.startswith(PREFIXES[pattern]) for name in names], dtype=np.bool_)


def masks(names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return ``masked_columns`` of every pattern that hides at least one of ``names``."""
    every = {pattern: masked_columns(pattern, names) for pattern in PREFIXES}
    return {pattern: columns for pattern, columns in every.items() if columns.any()}
