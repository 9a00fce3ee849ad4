"""What is chosen among, what it is chosen by, and what a choice says of itself; the same for every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BASELINE = "baseline"
"""The arm that changes nothing: the configuration that the workload was found in."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One configuration that may be chosen, by what it consists of."""

    name: str
    parts: tuple[str, ...] = ()
    """What makes it up, such as "memory.hugepages=collapse:0.5": arms with a part in common learn from each other."""
    expected: float = 0.0
    """What the rules expect of it: the change of the reward's logarithm, 0.05 for about +5 %."""
    trust: float = 1.0
    """How many trials that expectation is worth."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the choice is made in."""

    vector: NDArray[np.float64]
    """DNA and facts of the machine and load, scaled to about [-1, 1]; shape (d,)."""
    cluster: str = ""
    """Name of the kind of workload, for what is remembered of it by name."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An arm, and why."""

    arm: Arm
    because: str
    estimates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Arm to (expected gain, its standard deviation), in the reward's logarithm."""


class Policy(Protocol):
    """Chooses an arm, and learns from what it brought."""

    def choose(self, context: Context, arms: Sequence[Arm]) -> Chosen:
        """Return one of the arms; the first is the baseline."""

    def learn(self, context: Context, arm: Arm, gain: float, *, weight: float = 1.0) -> None:
        """Take in a measured gain over the baseline (difference of logarithms), worth ``weight`` trials."""
