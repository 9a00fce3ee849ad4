"""How another policy would have chosen, told from what was recorded of one that did: off-policy evaluation, twice.

What is asked is the mean gain, over the baseline, of what a policy would have picked to try in decisions like those recorded. What becomes
of it once it is kept is not asked.

**By matching** (Li, Chu, Langford and Wang, WSDM 2011, arXiv 1003.5956): the policy begins knowing nothing and goes through the recorded
decisions; where it picks what was picked then, what was measured then is its reward, and it learns from it; elsewhere it is as though the
decision had never been. This is without bias where picks were uniformly at random, which a run's are not: so a match counts with
probability c/p, p being the probability of the recorded pick and c the least of them that is not below LEAST_PROBABILITY, and to try
nothing, whose gain is 0 by definition, counts with probability c. Decisions are taken to be alike and independent, and are gone through in
several random orders: what differs between orders is the luck of a policy that learns. Few decisions match, and where too few do no number is
given.

**By model**: the linear model of ``rl.bandit`` is fitted to all that was recorded, gains are drawn from what it leaves open, and the policy
is run on them. That needs no matches, and is right only where gains are as the model has it and alike in all the contexts recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from rl.bandit import LinearBandit, LinearModel, Settings, Tried, drawn
from rl.errors import ReplayError
from rl.learned import LearnedTrial
from rl.policy import BASELINE, Arm, Context

LEAST_MATCHED = 10
"""Below this many matches, in the mean of the orders, no number is given."""
LEAST_PROBABILITY = 0.2
"""A recorded pick less probable than this counts as if it had been as probable: else nothing would be left of the others. Where decisions are
alike that is no bias, since what a pick brings does not depend on how probable it was."""
LEAST_RECORDED = 3
"""Decisions for a model."""
MOST = 400
"""Decisions that are gone through, the latest."""
NOTHING = Arm(BASELINE, trust=0.0)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision as it was, and what came of it."""

    context: Context
    offered: tuple[Arm, ...]
    """What could be tried; without the baseline."""
    chosen: str
    probability: float | None
    """With which it was chosen among them; None where chance had no part in it, or it is not known."""
    gain: float
    """Measured over the baseline, difference of logarithms."""
    weight: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's mean gain for each decision, as far as it can be told."""

    gain: float | None
    """Difference of logarithms; None where it cannot be told."""
    interval: tuple[float, float] | None
    """Limits at about 95 %."""
    decisions: float
    """It rests on so many: matches, in the mean of the orders, or all that were recorded."""
    why_not: str = ""
    """Why it cannot be told."""


def recorded(trials: Iterable[LearnedTrial]) -> tuple[Recorded, ...]:
    """Return the decisions that trials tell of, oldest first; checks of what is kept are none."""
    return tuple(
        Recorded(
            Context(np.array(one.vector), one.cluster, one.at),
            tuple(arm for arm in one.offered if arm.parts),
            one.arm.name,
            one.probability,
            one.gain,
            one.weight,
        )
        for one in sorted(trials, key=lambda one: one.at)
        if one.arm.name in {arm.name for arm in one.offered}
    )[-MOST:]


def as_it_was(choices: Sequence[Recorded]) -> Estimate:
    """Return the mean gain of what was tried, as measured."""
    if not choices:
        return Estimate(None, None, 0, "nothing was recorded")
    gains = [one.gain for one in choices]
    mean = math.fsum(gains) / len(gains)
    return Estimate(mean, _limits(mean, _variance(gains) / len(gains), len(gains)), len(gains))


def by_matching(choices: Sequence[Recorded], way: str, *, seeds: int, settings: Settings | None = None) -> Estimate:
    """Return what a policy would have gained, by the recorded decisions that it would have made as well.

    Args:
        way: of ``rl.bandit.WAYS``.
        seeds: how many random orders the decisions are gone through in.

    Raises:
        ReplayError: there is no order to go through.
    """
    _check(seeds)
    usable = [one for one in choices if one.probability is not None]
    if not usable:
        words = "chance had no part in what was tried: it says nothing of other policies"
        return Estimate(None, None, 0, words if choices else "nothing was recorded")
    least = max(min(one.probability or 0.0 for one in usable), LEAST_PROBABILITY)
    paths = [_path(usable, way, seed, least, settings or Settings()) for seed in range(seeds)]
    matched = sum(len(path) for path in paths) / seeds
    if matched < LEAST_MATCHED or not all(paths):
        words = f"{matched:.1f} of {len(usable)} decisions match, and {LEAST_MATCHED} are needed"
        return Estimate(None, None, matched, words)
    means = [math.fsum(path) / len(path) for path in paths]
    mean = math.fsum(means) / seeds
    within = math.fsum(_variance(path) / len(path) for path in paths) / seeds
    return Estimate(mean, _limits(mean, within + _variance(means), matched), matched)


def by_model(choices: Sequence[Recorded], way: str, *, seeds: int, settings: Settings | None = None) -> Estimate:
    """Return what a policy would have gained if gains are as the linear model, fitted to all that was recorded, leaves them open.

    Raises:
        ReplayError: there is nothing to draw.
    """
    _check(seeds)
    if len(choices) < LEAST_RECORDED:
        return Estimate(
            None, None, len(choices), f"{len(choices)} decisions were recorded, and {LEAST_RECORDED} are needed"
        )
    settings = settings or Settings()
    arms = tuple({arm.name: arm for one in choices for arm in one.offered}.values())
    mean, covariance = _fitted(choices, arms, settings)
    draw = np.random.default_rng(seeds)
    weight = median(one.weight for one in choices)
    worlds = drawn(draw, mean, covariance, seeds)
    values = []
    for seed, gains in enumerate(worlds):
        truth = {arm.name: float(gain) for arm, gain in zip(arms, gains, strict=True)}
        values.append(_lived(choices, truth, way, seed, weight, settings))
    low, high = (float(limit) for limit in np.quantile(values, (0.025, 0.975)))
    return Estimate(math.fsum(values) / seeds, (low, high), len(choices))


def _path(choices: Sequence[Recorded], way: str, seed: int, least: float, settings: Settings) -> list[float]:
    """Return the rewards that a policy meets in one random order."""
    draw = np.random.default_rng([seed, 7])
    policy = LinearBandit(settings, seed=seed, way=way)
    times = sorted(one.context.when for one in choices)
    rewards = []
    for when, number in zip(times, draw.permutation(len(choices)), strict=True):
        one = choices[int(number)]
        context = replace(one.context, when=when)
        picked = policy.choose(context, (NOTHING, *one.offered)).arm
        if picked.name == BASELINE:
            if draw.random() < least:
                rewards.append(0.0)
        elif picked.name == one.chosen and draw.random() < least / max(one.probability or 0.0, least):
            rewards.append(one.gain)
            policy.learn(context, picked, one.gain, weight=one.weight)
    return rewards


def _fitted(choices: Sequence[Recorded], arms: Sequence[Arm], settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the arms' gains in the mean context, by what was measured alone: rules are not asked."""
    tried = []
    for one in choices:
        parts = next(frozenset(arm.parts) for arm in one.offered if arm.name == one.chosen)
        tried.append(Tried(one.context.vector, parts, one.gain, one.weight, 0.0))
    here = Context(np.mean(np.stack([one.context.vector for one in choices]), axis=0))
    lasting = replace(settings, discount=1.0, remembered=len(tried))
    return LinearModel(lasting, tried).posterior(here, [replace(arm, trust=0.0) for arm in arms])


def _lived(
    choices: Sequence[Recorded], truth: dict[str, float], way: str, seed: int, weight: float, settings: Settings
) -> float:
    """Return the mean true gain of what a policy picks in a world of these gains."""
    draw = np.random.default_rng([seed, 8])
    policy = LinearBandit(settings, seed=seed, way=way)
    gained = 0.0
    for one in choices:
        picked = policy.choose(one.context, (NOTHING, *one.offered)).arm
        if picked.name == BASELINE:
            continue
        gain = truth[picked.name]
        gained += gain
        policy.learn(one.context, picked, gain + draw.normal(0, settings.noise / math.sqrt(weight)), weight=weight)
    return gained / len(choices)


def _check(seeds: int) -> None:
    if seeds < 2:
        raise ReplayError(f"{seeds} seeds: two are needed to tell luck from more", remedy="20 will do.")


def _variance(values: Sequence[float]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def _limits(mean: float, variance: float, count: float) -> tuple[float, float]:
    # About the 97.5th percentile of Student's t.
    reach = (1.96 + 2.5 / max(count - 1, 1)) * math.sqrt(variance)
    return mean - reach, mean + reach
