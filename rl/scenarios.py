"""Simulated machines to be judged on, each drawn from a seed: what gains, what rules expect of it, and what goes wrong besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from types import MappingProxyType
from typing import Protocol

import numpy as np

from dna.vector import DIMENSIONS
from rl.policy import BASELINE, Arm
from rl.simulated import Effect, Machine, Noise, Phase

HARSH = Noise(deviation=0.08, related=0.6, freedom=3.0, bursts=0.01, missing=0.05, late=0.1, wander=0.006)
"""A shared machine on a bad day."""
TAIL = Noise(deviation=0.1, related=0.0, bursts=0.05, depth=0.7, length=1)
"""A 99th percentile of few requests: one interval in twenty it is twice as long, whatever is in force."""
QUIET = Noise(bursts=0.0, freedom=30.0, wander=0.0, missing=0.0, related=0.0)
"""A benchmark on a machine of its own."""
PHASE_STEPS = 120


class Scenario(Protocol):
    """Draws a machine from a seed, for a run of so many steps."""

    def __call__(self, seed: int, *, steps: int = ...) -> Machine:
        """Return the machine; the same for the same seed and steps."""


def steady(seed: int, *, noise: Noise | None = None, steps: int = 1440) -> Machine:
    """One workload that stays as it is; two parts in five do nothing, one in three gains, the rest hurts; rules are half right."""
    del steps
    draw = np.random.default_rng([seed, 2])
    effects = _effects(draw)
    vector = draw.uniform(-0.7, 0.7, DIMENSIONS)
    return _machine(draw, effects, (Phase(0, "web", vector, effects),), noise=noise)


def phases(seed: int, *, steps: int = 1440) -> Machine:
    """Three kinds of workload in turn; what is good for one may be bad for another."""
    draw = np.random.default_rng([seed, 3])
    effects = {
        part: replace(effect, slopes=draw.normal(0, 0.06, DIMENSIONS)) for part, effect in _effects(draw).items()
    }
    vectors = {kind: draw.uniform(-0.7, 0.7, DIMENSIONS) for kind in ("web", "batch", "scan")}
    levels = {kind: float(draw.uniform(-1, 1)) for kind in vectors}
    turns = [
        Phase(begins, kind, vectors[kind], effects, levels[kind])
        for begins, kind in zip(range(0, steps, PHASE_STEPS), list(vectors) * steps, strict=False)
    ]
    return _machine(draw, effects, tuple(turns))


def drift(seed: int, *, steps: int = 1440) -> Machine:
    """At half time what was best begins to hurt, something else to gain, and no vector shows it."""
    draw = np.random.default_rng([seed, 4])
    effects = _effects(draw)
    vector = draw.uniform(-0.7, 0.7, DIMENSIONS)
    first = Phase(0, "web", vector, effects)
    best = max(effects, key=lambda part: effects[part].of(vector))
    next_best = str(draw.choice([part for part in effects if part != best]))
    other = dict(effects) | {best: _level(-0.15), next_best: _level(0.2)}
    return _machine(draw, effects, (first, Phase(steps // 2, "web", vector, other)))


def harsh(seed: int, *, steps: int = 1440) -> Machine:
    """As ``steady``, where measurements are bad."""
    return steady(seed, noise=HARSH, steps=steps)


def tail(seed: int, *, steps: int = 1440) -> Machine:
    """As ``steady``, judged by a 99th percentile."""
    return steady(seed, noise=TAIL, steps=steps)


def null(seed: int, *, steps: int = 1440, noise: Noise | None = None) -> Machine:
    """Nothing does anything, and a change costs nothing: whatever is promoted is promoted by mistake."""
    machine = steady(seed, noise=noise, steps=steps)
    return replace(machine, phases=_flat(machine, lambda: 0.0), pairs={}, stall=0.0)


def harsh_null(seed: int, *, steps: int = 1440) -> Machine:
    """The same where measurements are bad."""
    return null(seed, steps=steps, noise=HARSH)


def adverse(seed: int, *, steps: int = 1440) -> Machine:
    """Everything hurts, by 2 to 40 %."""
    draw = np.random.default_rng([seed, 5])
    machine = steady(seed, steps=steps)
    return replace(machine, phases=_flat(machine, lambda: -float(draw.uniform(0.02, 0.4))), pairs={})


def unsafe(seed: int, *, steps: int = 1440) -> Machine:
    """A pack made to hurt: much is expected with much trust, and all of it hurts much."""
    draw = np.random.default_rng([seed, 6])
    machine = adverse(seed, steps=steps)
    arms = tuple(
        arm if not arm.parts else replace(arm, expected=float(draw.uniform(0.1, 0.3)), trust=3.0)
        for arm in machine.arms
    )
    return replace(machine, arms=arms, phases=_flat(machine, lambda: -float(draw.uniform(0.1, 0.6))))


def one_way(seed: int, *, steps: int = 1440) -> Machine:
    """As ``steady``, and a third of what can be done cannot be flipped back."""
    machine = steady(seed, steps=steps)
    singles = [arm.name for arm in machine.arms if len(arm.parts) == 1]
    made = frozenset(singles[::3])
    arms = tuple(arm for arm in machine.arms if arm.name in made or not made & set(arm.parts))
    return replace(machine, arms=arms, one_way=made)


def moved(seed: int, *, steps: int = 1440) -> Machine:
    """As ``one_way``, and what was judged to hurt can be taken back: pages that were moved are moved again."""
    machine = one_way(seed, steps=steps)
    return replace(machine, way_back=machine.one_way)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "steady": steady,
        "phases": phases,
        "drift": drift,
        "harsh": harsh,
        "tail": tail,
        "one-way": one_way,
        "moved": moved,
        "null": null,
        "harsh null": harsh_null,
        "adverse": adverse,
        "unsafe": unsafe,
    }
)
"""By name."""


def _level(base: float) -> Effect:
    return Effect(base, np.zeros(DIMENSIONS))


def _effects(draw: np.random.Generator) -> dict[str, Effect]:
    found = {}
    for number in range(int(draw.integers(4, 9))):
        luck = draw.random()
        base = 0.0 if luck < 0.4 else draw.uniform(0.03, 0.25) if luck < 0.73 else -draw.uniform(0.03, 0.35)
        slopes = draw.normal(0, 0.0 if base == 0 else 0.02, DIMENSIONS)
        found[f"part-{number}"] = Effect(float(base), slopes)
    return found


def _machine(
    draw: np.random.Generator, effects: Mapping[str, Effect], turns: tuple[Phase, ...], noise: Noise | None = None
) -> Machine:
    """Put parts together to arms: each alone, some pairs, all that rules believe in; expected as by rules that are often wrong."""
    parts = list(effects)
    pairs = [frozenset(pair) for pair in combinations(parts, 2)]
    some = [pairs[number] for number in draw.permutation(len(pairs))[: int(draw.integers(2, 6))]]
    believed = {part: _believed(draw, effects[part].of(turns[0].vector)) for part in parts}
    sets = [frozenset({part}) for part in parts] + some
    arms = [Arm(BASELINE, trust=0.0)]
    for one in sets:
        names = tuple(sorted(one))
        arms.append(Arm("+".join(names), names, sum(believed[part] for part in names), 1.0))
    clashes = {pair: float(draw.normal(0, 0.04)) for pair in some if draw.random() < 0.5}
    return Machine(tuple(arms), turns, noise or Noise(), clashes)


def _believed(draw: np.random.Generator, true: float) -> float:
    """Rules propose what they hope of: seven in ten times near the truth, else without regard to it."""
    hoped = true + draw.normal(0, 0.05) if draw.random() < 0.7 else draw.normal(0.08, 0.05)
    return float(max(hoped, 0.02))


def _flat(machine: Machine, base: Callable[[], float]) -> tuple[Phase, ...]:
    drawn = {part: _level(base()) for part in machine.phases[0].effects}
    return tuple(replace(phase, effects=drawn) for phase in machine.phases)
