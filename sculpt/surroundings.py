"""What a choice depends on besides the DNA: the machine's shape, and how loaded it is. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dna.vector import Interval
from rules.situation import Machine

NAMES = (
    "CPUs",
    "NUMA nodes",
    "share of the CPUs used by the workload",
    "share of the memory",
    "idle share of the CPUs",
)
_MOST_DOUBLINGS = (8.0, 3.0)
"""Of CPUs and nodes: 256 and 8 are 1, and more is no more."""


def surroundings(machine: Machine | None, interval: Interval) -> NDArray[np.float64]:
    """Return ``NAMES`` as numbers, shape (5,), each from -1 to 1; 0 for what is not known."""
    if machine is None:
        return np.zeros(len(NAMES))
    shape = machine.topology
    cores, resident = interval.demand.get("cores"), interval.demand.get("resident")
    memory = shape.memory_bytes
    return np.array(
        [
            _doublings(shape.cpu_count, _MOST_DOUBLINGS[0]),
            _doublings(len(shape.nodes), _MOST_DOUBLINGS[1]),
            _share(None if cores is None else cores / max(shape.cpu_count, 1)),
            _share(resident / memory if resident is not None and memory else None),
            _share(machine.number("idle_share")),
        ]
    )


def _doublings(count: int, most: float) -> float:
    return min(math.log2(max(count, 1)) / most, 1.0)


def _share(value: float | None) -> float:
    """Return a share as a number from -1 to 1."""
    if value is None or not math.isfinite(value):
        return 0.0
    return 2 * min(max(value, 0.0), 1.0) - 1
