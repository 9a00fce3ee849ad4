"""Simulated machines: a stated performance model, seeds and the truth, to hold whoever decides against.

In interval t the logarithm of the reward is the level of the phase, plus what wanders, plus the gain of what is in force, plus noise:

- A part of a configuration gains ``base + slopes . vector`` in a phase whose workload has that vector; an arm gains the sum over its
  parts, and what pairs of them gain or lose beyond that (a linear model cannot know of it).
- A change is there in part in its first interval (``ramp``), which also has a stall, and whole from the next one on; it may come late.
- An arm that cannot be flipped back stays in force, under whatever else is chosen.
- Noise is autocorrelated and heavy-tailed, with bursts in which the reward falls whoever decides; measurements may be missing; the vector
  that is seen is the phase's with noise. A phase may change the vector, the effects, or both: effects alone are a drift that nobody sees.

All that is random is drawn before the first decision, so that everyone who decides meets the same machine and the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rl.learner import Decision, Seen
from rl.policy import Arm, Context

type Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """What one part does to the reward's logarithm."""

    base: float
    slopes: Vector
    """By number of the context; shape (d,)."""

    def of(self, vector: Vector) -> float:
        """Return the gain in a context."""
        return self.base + float(self.slopes @ vector)


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """A stretch of time in which nothing but noise changes."""

    begins: int
    """Number of its first interval."""
    kind: str
    """Of workload: the cluster that is seen."""
    vector: Vector
    effects: Mapping[str, Effect]
    """By part; a part that is not here does nothing."""
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class Noise:
    """How what is measured differs from what is."""

    deviation: float = 0.04
    """Standard deviation of a reward's logarithm."""
    related: float = 0.3
    """Correlation of one interval's noise with the next one's."""
    freedom: float = 4.0
    """Degrees of freedom of Student's t, above 2: the fewer, the heavier the tails."""
    bursts: float = 0.003
    """Chance that one begins in an interval."""
    depth: float = 0.25
    """What a burst takes from the reward's logarithm."""
    length: int = 4
    """Intervals that it lasts."""
    wander: float = 0.003
    """Standard deviation of a step of the level's random walk."""
    missing: float = 0.01
    """Chance that an interval has no measurement."""
    late: float = 0.0
    """Chance that a change is not yet in force in the next interval."""
    vector: float = 0.04
    """Standard deviation of each number of the vector that is seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """A machine with one workload on it."""

    arms: tuple[Arm, ...]
    """The baseline first."""
    phases: tuple[Phase, ...]
    """The first begins at 0."""
    noise: Noise = field(default_factory=Noise)
    pairs: Mapping[frozenset[str], float] = field(default_factory=dict)
    """What two parts gain together beyond what each gains."""
    ramp: float = 0.5
    """Share of a change that is there in its first interval."""
    stall: float = 0.03
    """What a change takes from the reward's logarithm in its first interval."""
    one_way: frozenset[str] = frozenset()
    """Names of arms that cannot be flipped back."""
    way_back: frozenset[str] = frozenset()
    """Of these, what can be taken back once it was judged."""
    interval_s: float = 5.0

    def phase(self, step: int) -> Phase:
        """Return the phase of an interval."""
        return next(phase for phase in reversed(self.phases) if phase.begins <= step)

    def gain(self, parts: frozenset[str], phase: Phase) -> float:
        """Return what a set of parts gains over the default, once it is in force whole."""
        alone = sum(effect.of(phase.vector) for part, effect in phase.effects.items() if part in parts)
        return alone + sum(extra for pair, extra in self.pairs.items() if pair <= parts)

    def gains(self, steps: int) -> Vector:
        """Return the gain of each arm in each interval, in force alone and whole; shape (steps, arms)."""
        rows = {id(phase): [self.gain(frozenset(arm.parts), phase) for arm in self.arms] for phase in self.phases}
        return np.array([rows[id(self.phase(step))] for step in range(steps)])


class Agent(Protocol):
    """Whoever decides, such as ``rl.learner.Learner``."""

    def decide(self, seen: Seen) -> Decision:
        """Take in an interval that has ended, and say what is to be in force in the next."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What came of it, with the truth that the agent was not told."""

    machine: Machine
    in_force: tuple[str, ...]
    """Name of the arm in each interval."""
    gains: Vector
    """True gain over the default in each interval, ramps and stalls included; shape (steps,)."""
    possible: Vector
    """True gain of each arm in each interval; shape (steps, arms)."""
    decisions: tuple[Decision, ...]

    @property
    def worth(self) -> float:
        """Mean performance as a multiple of the default's."""
        return float(np.exp(self.gains).mean())

    @property
    def best_static(self) -> float:
        """The same of the one arm that would have been best throughout."""
        return float(np.exp(self.possible).mean(axis=0).max())

    @property
    def best(self) -> float:
        """The same of whoever knows the best arm of each phase."""
        return float(np.exp(self.possible).max(axis=1).mean())

    def lost_s(self) -> float:
        """Return what was lost against the default over all, in seconds of its worth; negative when it was won."""
        return float((1 - np.exp(self.gains)).sum()) * self.machine.interval_s

    def share_below(self, share: float) -> float:
        """Return the share of time in which performance was below this share of the default's."""
        return float((self.gains < math.log(share)).mean())

    def longest_below(self, share: float) -> int:
        """Return the most intervals on end of which that is so."""
        stretches = groupby((self.gains < math.log(share)).tolist())
        return max((len(list(members)) for is_below, members in stretches if is_below), default=0)

    def steps_to(self, share: float, *, since: int = 0, over: int = 40) -> int | None:
        """Return after how many intervals from ``since`` this share of the best arm's gain is had, as the mean of ``over`` intervals.

        0 where nothing can be gained; None where it is never reached.
        """
        wanted = share * self.possible[since:].max(axis=1)
        if not wanted.any():
            return 0
        short = np.concatenate(([0.0], np.cumsum(self.gains[since:] - wanted)))
        reached = np.flatnonzero(short[over:] - short[:-over] >= 0)
        return int(reached[0]) if len(reached) else None

    def count(self, event: str) -> int:
        """Return how many decisions had an event."""
        return sum(decision.event == event for decision in self.decisions)


def run(machine: Machine, agent: Agent, *, steps: int, seed: int) -> Run:
    """Let an agent decide on a machine for ``steps`` intervals."""
    chance = _chance(machine.noise, steps, len(machine.phases[0].vector), seed)
    arms = {arm.name: arm for arm in machine.arms}
    state = _State(machine, machine.arms[0])
    wanted, back = machine.arms[0], ""
    names, gains, decisions = [], [], []
    for step in range(steps):
        phase = machine.phase(step)
        if not chance.late[step]:
            state.put(wanted, back)
        gain = state.next(phase)
        log_reward = phase.level + gain + float(chance.reward[step])
        seen = Seen(
            t=(step + 1) * machine.interval_s,
            interval_s=machine.interval_s,
            context=Context(phase.vector + chance.vector[step], phase.kind),
            arms=tuple(arm for arm in machine.arms if arm.name not in state.made),
            reward=None if chance.missing[step] else math.exp(log_reward),
            in_force=state.arm.name,
            one_way=machine.one_way,
            way_back=machine.way_back,
        )
        decisions.append(agent.decide(seen))
        wanted = arms[decisions[-1].arm.name]
        back = decisions[-1].candidate if decisions[-1].event == "rolled back" else back
        names.append(state.arm.name)
        gains.append(gain)
    return Run(machine, tuple(names), np.array(gains), machine.gains(steps), tuple(decisions))


class _State:
    """What is in force, and since when."""

    def __init__(self, machine: Machine, arm: Arm) -> None:
        self.arm = arm
        self._machine = machine
        self.made: set[str] = set()
        """Names of arms that are part of the machine by now; what is in force is no longer proposed once something else is chosen."""
        self._made: frozenset[str] = frozenset()
        self._before = self._parts = frozenset(arm.parts)
        self._is_new = False

    def put(self, arm: Arm, back: str = "") -> None:
        """Have an arm in force; what is to be taken back, though it cannot be flipped back, is."""
        if arm.name == self.arm.name:
            return
        if self.arm.name == back and back in self._machine.way_back:
            self._made -= frozenset(self.arm.parts)
        elif self.arm.name in self._machine.one_way:
            self.made.add(self.arm.name)
        if arm.name in self._machine.one_way:
            self._made |= frozenset(arm.parts)
        self.arm = arm
        self._before, self._parts = self._parts, frozenset(arm.parts) | self._made
        self._is_new = True

    def next(self, phase: Phase) -> float:
        """Return the gain of the interval that begins."""
        gain = self._machine.gain(self._parts, phase)
        if self._is_new:
            before, ramp = self._machine.gain(self._before, phase), self._machine.ramp
            gain = ramp * gain + (1 - ramp) * before - self._machine.stall
            self._is_new = False
        return gain


@dataclass(frozen=True, slots=True, eq=False)
class _Chance:
    """What chance brings, interval by interval."""

    reward: Vector
    vector: NDArray[np.float64]
    missing: NDArray[np.bool_]
    late: NDArray[np.bool_]


@lru_cache(maxsize=4)
def _chance(noise: Noise, steps: int, dimensions: int, seed: int) -> _Chance:
    draw = np.random.default_rng([seed, 1])
    scale = noise.deviation * math.sqrt((noise.freedom - 2) / noise.freedom * (1 - noise.related**2))
    shocks = draw.standard_t(noise.freedom, steps) * scale
    related = np.empty(steps)
    last = 0.0
    for step, shock in enumerate(shocks):
        last = related[step] = noise.related * last + shock
    begun = np.convolve(draw.random(steps) < noise.bursts, np.ones(noise.length))[:steps] > 0
    reward = related + np.cumsum(draw.normal(0, noise.wander, steps)) - noise.depth * begun
    vector = draw.normal(0, noise.vector, (steps, dimensions))
    return _Chance(reward, vector, draw.random(steps) < noise.missing, draw.random(steps) < noise.late)


def best_arm(machine: Machine, step: int) -> Arm:
    """Return what whoever knows everything has in force."""
    phase = machine.phase(step)
    return max(machine.arms, key=lambda arm: machine.gain(frozenset(arm.parts), phase))


def by_name(arms: Sequence[Arm], name: str) -> Arm:
    """Return the arm of a name.

    Raises:
        LookupError: there is none.
    """
    for arm in arms:
        if arm.name == name:
            return arm
    raise LookupError(name)
