"""Who else could decide: rules alone, bandits as they come, and one who knows everything. All are told what the loop is told, no more.

A bandit as it comes has what it chooses in force for a stretch of intervals, drops the first, and learns from the mean of the others
over what is usual for this kind of workload, which it follows as it drifts: rewards have no fixed level. What rules expect it is given
as one observation of each arm before it begins. It has no gate, no trials in blocks, no proof, no way back other than to choose
something else.
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from rl.bandit import LinearBandit, Settings
from rl.decision import HOLD, Decision, Seen
from rl.learner import Learner
from rl.policy import BASELINE, TRIAL_DEVIATION, Arm, Context
from rl.simulated import Agent, Machine, best_arm

SETTLE, MEASURE = 1, 3
"""Intervals of a stretch that do not count, and that do."""
FOLLOWED = 0.2
"""Share of what surprises that is taken for a change of what is usual."""
REMEMBERED = 100
"""Stretches that the project's own model keeps here: more only take time, as older ones have lost most of their weight."""


class Chooser(Protocol):
    """A bandit."""

    def choose(self, context: Context, arms: Sequence[Arm]) -> Arm:
        """Return one of the arms."""

    def learn(self, context: Context, arm: Arm, gain: float) -> None:
        """Take in what an arm brought over what is usual, a difference of logarithms."""


class Usual:
    """What rewards are usually like, by kind of workload, apart from what arms gain."""

    def __init__(self) -> None:
        self._levels: dict[str, float] = {}
        self._gains: dict[tuple[str, str], float] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def gain(self, cluster: str, arm: str, value: float) -> float:
        """Take in the mean logarithm of a stretch; return what it is over what is usual under the baseline."""
        level = self._levels.setdefault(cluster, value)
        key, gain = (cluster, arm), value - level
        surprise = gain - self._gains.get(key, 0.0 if arm == BASELINE else gain)
        self._levels[cluster] = level + FOLLOWED * surprise
        if arm != BASELINE:
            self._counts[key] += 1
            known = self._gains.get(key, 0.0)
            self._gains[key] = known + (value - self._levels[cluster] - known) / self._counts[key]
        return gain


class Direct:
    """Has in force whatever a bandit chooses, stretch by stretch."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._usual = Usual()
        self._arm = Arm(BASELINE)
        self._values: list[float] = []

    def decide(self, seen: Seen) -> Decision:
        """See ``rl.simulated.Agent``."""
        if seen.reward is not None and seen.in_force == self._arm.name:
            self._values.append(math.log(seen.reward))
        is_there = any(arm.name == self._arm.name for arm in seen.arms)
        if len(self._values) == SETTLE + MEASURE:
            gain = self._usual.gain(seen.context.cluster, self._arm.name, fmean(self._values[SETTLE:]))
            self._chooser.learn(seen.context, self._arm, gain)
        elif is_there:
            return Decision(self._arm, HOLD, "")
        self._values = []
        self._arm = self._chooser.choose(seen.context, seen.arms)
        return Decision(self._arm, HOLD, "")


class Fixed:
    """Has the same in force always: what ``pick`` names of the first arms that it is shown."""

    def __init__(self, pick: Callable[[Sequence[Arm]], Arm]) -> None:
        self._pick = pick
        self._arm: Arm | None = None

    def decide(self, seen: Seen) -> Decision:
        """See ``rl.simulated.Agent``."""
        self._arm = self._arm or self._pick(seen.arms)
        return Decision(self._arm, HOLD, "")


class Oracle:
    """Knows the machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def decide(self, seen: Seen) -> Decision:
        """See ``rl.simulated.Agent``."""
        return Decision(best_arm(self._machine, round(seen.t / seen.interval_s)), HOLD, "")


class Ours:
    """The project's own linear model without what the learner puts around it."""

    def __init__(self, way: str, seed: int) -> None:
        self._bandit = LinearBandit(Settings(remembered=REMEMBERED), seed=seed, way=way)

    def choose(self, context: Context, arms: Sequence[Arm]) -> Arm:
        """See ``Chooser``."""
        return self._bandit.choose(context, arms).arm

    def learn(self, context: Context, arm: Arm, gain: float) -> None:
        """See ``Chooser``."""
        self._bandit.learn(context, arm, gain)


class MabWiser:
    """A linear bandit of MABWiser: a model for each arm over the context, no part shared."""

    def __init__(self, way: str, seed: int) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        policy: Any = {"LinUCB": LearningPolicy.LinUCB, "LinTS": LearningPolicy.LinTS}[way]
        self._make: Callable[[Sequence[str]], Any] = lambda arms: MAB(list(arms), policy(alpha=1.0), seed=seed)
        self._bandit: Any = None

    def choose(self, context: Context, arms: Sequence[Arm]) -> Arm:
        """See ``Chooser``."""
        row = _row(context)
        if self._bandit is None:
            self._bandit = self._make([arm.name for arm in arms])
            scaled = [arm.expected / TRIAL_DEVIATION for arm in arms]
            self._bandit.fit([arm.name for arm in arms], scaled, np.repeat(row, len(arms), axis=0))
        expected: dict[str, float] = self._bandit.predict_expectations(row)
        return max(arms, key=lambda arm: float(np.squeeze(expected[arm.name])))

    def learn(self, context: Context, arm: Arm, gain: float) -> None:
        """See ``Chooser``."""
        if self._bandit is not None:
            self._bandit.partial_fit([arm.name], [gain / TRIAL_DEVIATION], _row(context))


class VowpalWabbit:
    """Contextual bandit of Vowpal Wabbit with features of each action: parts of the arm, and those with the context."""

    OPTIONS = "--cb_explore_adf --epsilon 0.1 --cb_type mtr -q CA --quiet"

    def __init__(self, seed: int) -> None:
        from vowpalwabbit import Workspace

        self._workspace: Any = Workspace(f"{self.OPTIONS} --random_seed {seed}")
        self._draw = np.random.default_rng([seed, 7])
        self._asked: tuple[list[Arm], float] | None = None

    def choose(self, context: Context, arms: Sequence[Arm]) -> Arm:
        """See ``Chooser``."""
        if self._asked is None:
            for arm in arms:
                self._take(context, [arm], arm, arm.expected, 1.0)
        chances = np.array(self._workspace.predict(_actions(context, arms)))
        number = int(self._draw.choice(len(arms), p=chances / chances.sum()))
        self._asked = list(arms), float(chances[number])
        return arms[number]

    def learn(self, context: Context, arm: Arm, gain: float) -> None:
        """See ``Chooser``."""
        if self._asked is not None:
            self._take(context, self._asked[0], arm, gain, self._asked[1])

    def _take(self, context: Context, arms: Sequence[Arm], arm: Arm, gain: float, chance: float) -> None:
        number = next(number for number, one in enumerate(arms) if one.name == arm.name)
        lines = _actions(context, arms)
        lines[number + 1] = f"0:{-gain / TRIAL_DEVIATION:.6f}:{chance:.6f} {lines[number + 1]}"
        self._workspace.learn(lines)


def _row(context: Context) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate(([1.0], context.vector))[None, :]


def _actions(context: Context, arms: Sequence[Arm]) -> list[str]:
    numbers = " ".join(f"v{number}:{value:.4f}" for number, value in enumerate(context.vector))
    return [f"shared |C {numbers}", *(f"|A {' '.join(arm.parts) or BASELINE}" for arm in arms)]


type Factory = Callable[[Machine, int], Agent]

AGENTS: Mapping[str, Factory] = {
    "loop": lambda _, seed: Learner(LinearBandit(seed=seed), seed=seed),
    "loop, greedy": lambda _, seed: Learner(LinearBandit(seed=seed, way="greedy"), seed=seed),
    "rules only": lambda _, __: Fixed(lambda arms: max(arms, key=lambda arm: arm.expected)),
    "greedy": lambda _, seed: Direct(Ours("greedy", seed)),
    "epsilon-greedy": lambda _, seed: Direct(Ours("epsilon", seed)),
    "LinTS, no gate": lambda _, seed: Direct(Ours("sampled", seed)),
    "MABWiser LinUCB": lambda _, seed: Direct(MabWiser("LinUCB", seed)),
    "MABWiser LinTS": lambda _, seed: Direct(MabWiser("LinTS", seed)),
    "Vowpal Wabbit": lambda _, seed: Direct(VowpalWabbit(seed)),
    "static default": lambda _, __: Fixed(lambda arms: arms[0]),
    "oracle": lambda machine, _: Oracle(machine),
}
"""By name; the first is what is judged."""
NEEDS = {"MABWiser LinUCB": "mabwiser", "MABWiser LinTS": "mabwiser", "Vowpal Wabbit": "vowpalwabbit"}
"""What must be installed for whom; nothing of it is used by the project itself."""


def installed() -> tuple[dict[str, Factory], list[str]]:
    """Return who can be asked here, and the names of those whose package is not installed."""
    missing = [name for name, package in NEEDS.items() if importlib.util.find_spec(package) is None]
    return {name: make for name, make in AGENTS.items() if name not in missing}, missing
