"""A linear bandit over context and configuration together: few, costly trials must teach about arms never tried.

The gain of an arm over the baseline, in logarithms, is modelled as linear in its parts, each alone and with the context: arms with
a part in common, and one arm in similar contexts, learn from each other. The rules' expectation enters as trials already made, and old
trials lose weight, as workloads change (as in discounted LinUCB: Russac, Vernade and Cappé, NeurIPS 2019). It is Bayesian linear
regression in its dual form: with few trials and many parts the matrix is that of the trials, and no part need share a slot.
Arms are taken by Thompson sampling or by upper confidence bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rl.policy import BASELINE, Arm, Chosen, Context

type Vector = NDArray[np.float64]
type Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model learns."""

    noise: float = 0.05
    """Standard deviation of one measured gain."""
    prior: float = 0.1
    """Standard deviation of a part's gain before anything is known."""
    interaction: float = 0.05
    """The same of how a part's gain depends on one number of the context."""
    discount: float = 0.99
    """Weight that a trial keeps with each later one."""
    remembered: int = 300
    """Trials that are kept; the discount has made the oldest of them all but weightless."""
    width: float = 1.0
    """Of the upper confidence bound, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial that taught something."""

    vector: Vector
    """The context's."""
    parts: frozenset[str]
    gain: float
    weight: float


@dataclass(slots=True)
class LinearModel:
    """What is known of gains."""

    settings: Settings
    tried: list[Tried] = field(default_factory=list)
    """Oldest first."""

    def learn(self, context: Context, arm: Arm, gain: float, weight: float) -> None:
        """Take in one gain."""
        self.tried.append(Tried(context.vector, frozenset(arm.parts), gain, weight))
        del self.tried[: -self.settings.remembered]

    def posterior(self, context: Context, arms: Sequence[Arm]) -> tuple[Vector, Matrix]:
        """Return mean, shape (a,), and covariance, shape (a, a), of the arms' gains.

        What each arm is expected to bring counts as ``trust`` trials of it, in this context.
        """
        asked = [Tried(context.vector, frozenset(arm.parts), arm.expected, arm.trust) for arm in arms]
        known = [*self._faded(), *(one for one in asked if one.parts and one.weight > 0)]
        prior = self._covariance(asked, asked)
        if not known:
            return np.zeros(len(arms)), prior
        noise = np.array([self.settings.noise**2 / one.weight for one in known])
        gram = self._covariance(known, known) + np.diag(noise)
        across = self._covariance(asked, known)
        solved = np.linalg.solve(gram, np.column_stack((np.array([one.gain for one in known]), across.T)))
        covariance = prior - across @ solved[:, 1:]
        return across @ solved[:, 0], (covariance + covariance.T) / 2

    def _faded(self) -> list[Tried]:
        count = len(self.tried)
        return [
            Tried(one.vector, one.parts, one.gain, one.weight * self.settings.discount ** (count - 1 - number))
            for number, one in enumerate(self.tried)
        ]

    def _covariance(self, some: Sequence[Tried], others: Sequence[Tried]) -> Matrix:
        """Return the prior covariance of gains: parts in common, each with a share of its own and one by the contexts' likeness."""
        shared = np.array([[len(one.parts & other.parts) for other in others] for one in some], dtype=np.float64)
        likeness = np.stack([one.vector for one in some]) @ np.stack([other.vector for other in others]).T
        result: Matrix = shared * (self.settings.prior**2 + self.settings.interaction**2 * likeness)
        return result


class LinearBandit:
    """Chooses by the linear model: by Thompson sampling, by upper confidence bound, or greedily.

    Args:
        way: "sampled", "bound" or "greedy".
    """

    def __init__(self, settings: Settings | None = None, *, seed: int, way: str = "sampled") -> None:
        if way not in ("sampled", "bound", "greedy"):
            raise ValueError(f"{way!r} is no way to choose")
        self.model = LinearModel(settings or Settings())
        self._draw = np.random.default_rng(seed)
        self._way = way

    def choose(self, context: Context, arms: Sequence[Arm]) -> Chosen:
        """See ``Policy``."""
        mean, covariance = self.model.posterior(context, arms)
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        scores = self._scores(mean, covariance, deviations)
        best = int(np.argmax(scores))  # the first of equals: the baseline comes first
        estimates = {arm.name: (float(m), float(d)) for arm, m, d in zip(arms, mean, deviations, strict=True)}
        return Chosen(arms[best], f"expected {mean[best]:+.3f} ± {deviations[best]:.3f}", estimates)

    def learn(self, context: Context, arm: Arm, gain: float, *, weight: float = 1.0) -> None:
        """See ``Policy``."""
        if arm.name != BASELINE:
            self.model.learn(context, arm, gain, weight)

    def _scores(self, mean: Vector, covariance: Matrix, deviations: Vector) -> Vector:
        match self._way:
            case "greedy":
                return mean
            case "bound":
                return mean + self.model.settings.width * deviations
        return self._draw.multivariate_normal(mean, covariance, method="eigh", check_valid="ignore")
