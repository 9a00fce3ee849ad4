"""A linear bandit over context and configuration together: few, costly trials must teach about arms never tried.

The gain of an arm over the baseline, in logarithms, is modelled as linear in its parts, each alone and with the context: arms with
a part in common, and one arm in similar contexts, learn from each other. The rules' expectation enters as trials already made, and old
trials lose weight, as workloads change (as in discounted LinUCB: Russac, Vernade and Cappé, NeurIPS 2019). It is Bayesian linear
regression in its dual form: with few trials and many parts the matrix is that of the trials, and no part need share a slot.
Arms are taken by Thompson sampling or by upper confidence bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rl.policy import TRIAL_DEVIATION, Arm, Chosen, Context

type Vector = NDArray[np.float64]
type Matrix = NDArray[np.float64]

WAYS = ("sampled", "bound", "greedy", "epsilon")
LEAST_WEIGHT = 1e-6
"""What is older than all memory weighs this."""
WORST_SQUARE = 9.0
"""Of one error of expectations, over its variance: a single rule that is far off does not discredit all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model learns."""

    noise: float = TRIAL_DEVIATION
    """Standard deviation of one measured gain."""
    prior: float = 0.15
    """Standard deviation of a part's gain before anything is known."""
    interaction: float = 0.05
    """The same of how a part's gain depends on one number of the context."""
    discount: float = 0.99
    """Weight that a trial keeps with each later one."""
    half_life_s: float = 86_400.0
    """Time in which a trial loses half its weight."""
    remembered: int = 300
    """Trials that are kept; the discount has made the oldest of them all but weightless."""
    width: float = 1.0
    """Of the upper confidence bound, in standard deviations."""
    doubted: float = 0.02
    """Share of its weight that a trial keeps when what is known is found to hold no longer."""
    chance: float = 0.1
    """How often "epsilon" takes any arm instead of the best."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial that taught something."""

    vector: Vector
    """The context's numbers; of those that are missing at the end nothing is known, which counts as 0."""
    parts: frozenset[str]
    gain: float
    weight: float
    when: float = 0.0
    """The context's, in seconds."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far off expectations have been: whoever was wrong is believed less of what was not tried yet."""

    squares: float = 0.0
    """Sum of squared errors, each over the variance that it should have had."""
    count: int = 0

    @property
    def excess(self) -> float:
        """By how much the variance of expectations is greater than they say; two that were right are assumed, and it is never below 1."""
        return max((2.0 + self.squares) / (2.0 + self.count), 1.0)

    def after(self, error: float, variance: float) -> Calibration:
        """Return it with one more expectation held against what was measured."""
        return Calibration(self.squares + min(error**2 / variance, WORST_SQUARE), self.count + 1)


class LinearModel:
    """What is known of gains."""

    def __init__(self, settings: Settings, tried: Iterable[Tried] = ()) -> None:
        self.settings = settings
        self.tried = list(tried)
        """Oldest first."""
        self.rules = Calibration()
        self._known: tuple[int, _Known] | None = None

    def learn(self, context: Context, arm: Arm, gain: float, weight: float) -> None:
        """Take in one gain."""
        if arm.trust > 0:
            noise = self.settings.noise**2
            self.rules = self.rules.after(arm.expected - gain, noise / arm.trust + noise / weight)
        self.tried.append(Tried(context.numbers, frozenset(arm.parts), gain, weight, context.when))
        del self.tried[: -self.settings.remembered]
        self._known = None

    def fade(self, share: float) -> None:
        """Leave every trial this share of its weight."""
        self.tried = [replace(one, weight=one.weight * share) for one in self.tried]
        self._known = None

    def posterior(self, context: Context, arms: Sequence[Arm]) -> tuple[Vector, Matrix]:
        """Return mean, shape (a,), and covariance, shape (a, a), of the arms' gains.

        What each arm is expected to bring counts as ``trust`` trials of it, in this context; as fewer where that was far off before.
        """
        mean, covariance = self._after_trials(context, [frozenset(arm.parts) for arm in arms])
        believed = [number for number, arm in enumerate(arms) if arm.parts and arm.trust > 0]
        if believed:
            expected = np.array([arms[number].expected for number in believed])
            noise = np.array([self.rules.excess * self.settings.noise**2 / arms[number].trust for number in believed])
            gain = np.linalg.solve(covariance[np.ix_(believed, believed)] + np.diag(noise), covariance[believed])
            mean = mean + gain.T @ (expected - mean[believed])
            covariance = covariance - covariance[:, believed] @ gain
        return mean, (covariance + covariance.T) / 2

    def _after_trials(self, context: Context, asked: Sequence[frozenset[str]]) -> tuple[Vector, Matrix]:
        """Return mean and covariance by the trials alone."""
        here = context.numbers[None, :]
        prior = self._covariance(_shared(asked, asked), here @ here.T)
        if not self.tried:
            return np.zeros(len(asked)), prior
        known = self._trials(context.when)
        own = np.array([[part in parts for part in known.parts] for parts in asked], dtype=np.float64)
        across = self._covariance(own @ known.has.T, _likeness(here, known.vectors))
        back = across @ known.inverse
        return back @ known.gains, prior - back @ across.T

    def _trials(self, now: float) -> _Known:
        """Return the trials made ready, afresh only where their weights have changed by more than half a per cent."""
        age = int(now / self.settings.half_life_s * 200)
        if self._known is None or self._known[0] != age:
            self._known = age, self._prepared(now)
        return self._known[1]

    def _prepared(self, now: float) -> _Known:
        count = len(self.tried)
        parts = sorted(frozenset().union(*(one.parts for one in self.tried)))
        has = np.array([[part in one.parts for part in parts] for one in self.tried], dtype=np.float64)
        vectors = _stacked([one.vector for one in self.tried])
        age = np.array([max(now - one.when, 0.0) for one in self.tried]) / self.settings.half_life_s
        fading = self.settings.discount ** np.arange(count - 1, -1, -1) * 0.5**age
        weights = np.maximum(np.array([one.weight for one in self.tried]) * fading, LEAST_WEIGHT)
        gram = self._covariance(has @ has.T, vectors @ vectors.T) + np.diag(self.settings.noise**2 / weights)
        return _Known(parts, has, vectors, np.array([one.gain for one in self.tried]), np.linalg.inv(gram))

    def _covariance(self, shared: Matrix, likeness: Matrix) -> Matrix:
        """Return the prior covariance of gains: parts in common, each with a share of its own and one by the contexts' likeness."""
        result: Matrix = shared * (self.settings.prior**2 + self.settings.interaction**2 * likeness)
        return result


@dataclass(frozen=True, slots=True)
class _Known:
    """Trials made ready to be asked; n trials of p parts in contexts of d numbers."""

    parts: Sequence[str]
    has: Matrix
    """Which parts each was of; shape (n, p)."""
    vectors: Matrix
    """Shape (n, d)."""
    gains: Vector
    inverse: Matrix
    """Of the covariance of what was measured; shape (n, n)."""


def _stacked(vectors: Sequence[Vector]) -> Matrix:
    """Return vectors as rows, the shorter ones with zeros behind."""
    rows = np.zeros((len(vectors), max(len(one) for one in vectors)))
    for row, one in zip(rows, vectors, strict=True):
        row[: len(one)] = one
    return rows


def _likeness(some: Matrix, others: Matrix) -> Matrix:
    """Return the products of contexts, as if the narrower had zeros behind; shape (n, m)."""
    width = min(some.shape[1], others.shape[1])
    found: Matrix = some[:, :width] @ others[:, :width].T
    return found


def _shared(some: Sequence[frozenset[str]], others: Sequence[frozenset[str]]) -> Matrix:
    return np.array([[len(one & other) for other in others] for one in some], dtype=np.float64)


class LinearBandit:
    """Chooses by the linear model: by Thompson sampling, by upper confidence bound, greedily, or greedily but for a chance of anything.

    Args:
        way: "sampled", "bound", "greedy" or "epsilon".
    """

    def __init__(
        self, settings: Settings | None = None, *, seed: int, way: str = "sampled", tried: Iterable[Tried] = ()
    ) -> None:
        if way not in WAYS:
            raise ValueError(f"{way!r} is no way to choose")
        self.model = LinearModel(settings or Settings(), tried)
        self._draw = np.random.default_rng(seed)
        self.way = way

    def choose(self, context: Context, arms: Sequence[Arm]) -> Chosen:
        """See ``Policy``."""
        mean, covariance = self.model.posterior(context, arms)
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        best = int(
            np.argmax(self._scores(mean, covariance, deviations))
        )  # the first of equals: the baseline comes first
        estimates = {arm.name: (float(m), float(d)) for arm, m, d in zip(arms, mean, deviations, strict=True)}
        because = f"expected {mean[best]:+.3f} ± {deviations[best]:.3f}"
        return Chosen(arms[best], because, estimates, covariance)

    def learn(self, context: Context, arm: Arm, gain: float, *, weight: float = 1.0) -> None:
        """See ``Policy``."""
        if arm.parts:
            self.model.learn(context, arm, gain, weight)

    def doubt(self) -> None:
        """See ``Policy``."""
        self.model.fade(self.model.settings.doubted)

    def _scores(self, mean: Vector, covariance: Matrix, deviations: Vector) -> Vector:
        match self.way:
            case "greedy":
                return mean
            case "bound":
                return mean + self.model.settings.width * deviations
            case "epsilon" if self._draw.random() < self.model.settings.chance:
                return self._draw.random(len(mean))
            case "epsilon":
                return mean
        sampled: Vector = drawn(self._draw, mean, covariance)[0]
        return sampled


def drawn(draw: np.random.Generator, mean: Vector, covariance: Matrix, count: int = 1) -> Matrix:
    """Return gains of all arms as they may be, drawn from the posterior; shape (count, a)."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    found: Matrix = mean + draw.standard_normal((count, len(mean))) @ root.T
    return found
