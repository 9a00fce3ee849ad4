"""What is chosen among, what it is chosen by, and what a choice says of itself; the same for every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BASELINE = "baseline"
"""The arm that changes nothing: the configuration that the workload was found in."""
TRIAL_DEVIATION = 0.05
"""Standard deviation of the gain that a trial of weight 1 measures."""


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
    """DNA, each number about from -1 to 1; shape (d,). By it phases are told apart."""
    cluster: str = ""
    """Name of the kind of workload, for what is remembered of it by name."""
    when: float = 0.0
    """Seconds, of the clock that the learner is told."""
    around: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Facts of the machine and its load, scaled likewise; shape (k,). A gain may depend on them; that they change is no other phase."""

    @property
    def numbers(self) -> NDArray[np.float64]:
        """All that a gain may depend on; shape (d + k,)."""
        return np.concatenate((self.vector, self.around))


@dataclass(frozen=True, slots=True)
class Chosen:
    """An arm, and why."""

    arm: Arm
    because: str
    estimates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Arm to (expected gain, its standard deviation), in the reward's logarithm."""
    covariance: NDArray[np.float64] | None = None
    """Of the gains in the order of ``estimates``, shape (a, a), where the policy knows it."""

    def ahead(self, name: str, other: str) -> tuple[float, float]:
        """Return by how much one arm is expected to be ahead of another, and the standard deviation of that; (0, 0) where unknown."""
        if name not in self.estimates or other not in self.estimates:
            return 0.0, 0.0
        (mean, deviation), (other_mean, other_deviation) = self.estimates[name], self.estimates[other]
        together = 0.0
        if self.covariance is not None:
            order = list(self.estimates)
            together = float(self.covariance[order.index(name), order.index(other)])
        variance = deviation**2 + other_deviation**2 - 2 * together
        return mean - other_mean, max(variance, 0.0) ** 0.5


class Policy(Protocol):
    """Chooses an arm, and learns from what it brought."""

    def choose(self, context: Context, arms: Sequence[Arm]) -> Chosen:
        """Return one of the arms; the first is the baseline."""

    def learn(self, context: Context, arm: Arm, gain: float, *, weight: float = 1.0) -> None:
        """Take in a measured gain over the baseline (difference of logarithms), worth ``weight`` trials."""

    def doubt(self) -> None:
        """What was learned no longer holds as it did: believe it less."""
