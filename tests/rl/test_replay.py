"""Replay against the truth, on worlds whose truth is known: what it says of a policy is what comes of running that policy."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from rl.bandit import WAYS, LinearBandit, Settings
from rl.errors import ReplayError
from rl.policy import BASELINE, TRIAL_DEVIATION, Arm, Context
from rl.remembering import Listening
from rl.replay import LEAST_MATCHED, NOTHING, Recorded, as_it_was, by_matching, by_model, recorded
from rl.scenarios import steady
from rl.simulated import Machine
from tests.rl.lessons import NOW, trial

LOGS, DECISIONS = 8, 120
LIVELY = Settings(discount=0.9, half_life_s=1e9)
"""Whoever records forgets fast, so that chance keeps its part in what it picks."""
LASTING = Settings(half_life_s=1e9)


def gain_of(machine: Machine, arm: Arm) -> float:
    return machine.gain(frozenset(arm.parts), machine.phases[0])


def candidates(machine: Machine) -> tuple[Arm, ...]:
    return tuple(arm for arm in machine.arms if arm.parts)[:5]


def record(machine: Machine, seed: int, count: int = DECISIONS, *, uniform: bool = False) -> list[Recorded]:
    """Let Thompson sampling, or a die, pick among the candidates of a simulated machine, as a learner would have it do."""
    draw = np.random.default_rng([seed, 11])
    policy = Listening(LinearBandit(LIVELY, seed=seed))
    arms, found = candidates(machine), []
    for step in range(count):
        context = Context(machine.phases[0].vector + draw.normal(0, 0.02, 16), when=step * 60.0)
        arm = arms[int(draw.integers(len(arms)))] if uniform else policy.choose(context, arms).arm
        probability = 1 / len(arms) if uniform else policy.choice(arm.name, BASELINE).probability
        weight = float(draw.uniform(1, 4))
        gain = gain_of(machine, arm) + float(draw.normal(0, TRIAL_DEVIATION / math.sqrt(weight)))
        policy.learn(context, arm, gain, weight=weight)
        found.append(Recorded(context, arms, arm.name, probability, gain, weight))
    return found


def truth(machine: Machine, way: str, count: int, *, seeds: int = 60) -> float:
    """Run a policy for real, many times; return its mean true gain over so many decisions."""
    arms, total = candidates(machine), 0.0
    for seed in range(seeds):
        draw = np.random.default_rng([seed, 12])
        policy = LinearBandit(LASTING, seed=seed + 1000, way=way)
        for step in range(count):
            context = Context(machine.phases[0].vector + draw.normal(0, 0.02, 16), when=step * 60.0)
            picked = policy.choose(context, (NOTHING, *arms)).arm
            total += gain_of(machine, picked)
            weight = float(draw.uniform(1, 4))
            gain = gain_of(machine, picked) + float(draw.normal(0, TRIAL_DEVIATION / math.sqrt(weight)))
            policy.learn(context, picked, gain, weight=weight)
    return total / count / seeds


@cache
def held(way: str, uniform: bool) -> tuple[list[float], list[bool]]:
    """Return the errors of replay on many machines, and whether its limits held."""
    errors, within = [], []
    for seed in range(LOGS):
        machine = steady(seed)
        choices = record(machine, seed, uniform=uniform)
        found = by_matching(choices, way, seeds=6, settings=LASTING)
        if found.gain is None or found.interval is None:
            continue
        true = truth(machine, way, round(found.decisions), seeds=12)
        errors.append(found.gain - true)
        within.append(found.interval[0] <= true <= found.interval[1])
    return errors, within


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "uniform"),
    [("greedy", True), ("greedy", False), ("bound", False)],
    ids=["die", "Thompson", "bound by Thompson"],
)
def test_what_matching_says_is_what_running_the_policy_brings(way: str, uniform: bool) -> None:
    errors, within = held(way, uniform)
    assert len(errors) >= 5
    deviation = np.std(errors, ddof=1) / math.sqrt(len(errors))
    assert abs(np.mean(errors)) < 3.5 * deviation + 0.005
    assert np.mean(within) >= 0.8


def test_two_policies_that_differ_are_told_apart() -> None:
    """Whoever learns picks better than a die."""
    machine = steady(3)
    choices = record(machine, 3, 80, uniform=True)
    was = as_it_was(choices)
    found = by_matching(choices, "greedy", seeds=4, settings=LASTING)
    assert was.gain is not None
    assert found.gain is not None
    assert found.gain > was.gain


def test_where_too_few_match_no_number_is_given() -> None:
    choices = record(steady(1), 1, 12, uniform=True)
    found = by_matching(choices, "greedy", seeds=4)
    assert (found.gain, found.interval) == (None, None)
    assert found.decisions < LEAST_MATCHED
    assert "of 12 decisions match" in found.why_not


def test_where_chance_had_no_part_matching_says_nothing() -> None:
    choices = [
        Recorded(one.context, one.offered, one.chosen, None, one.gain, one.weight) for one in record(steady(1), 1, 40)
    ]
    assert "chance had no part" in by_matching(choices, "greedy", seeds=4).why_not
    assert by_matching([], "greedy", seeds=4).why_not == "nothing was recorded"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_model_tells_of_few_decisions_with_limits_that_hold(way: str) -> None:
    held, times = 0, 5
    for seed in range(times):
        machine = steady(seed)
        choices = record(machine, seed, 25)
        found = by_model(choices, way, seeds=8, settings=LASTING)
        assert found.interval is not None
        low, high = found.interval
        held += low - 0.01 <= truth(machine, way, 25, seeds=4) <= high + 0.01
    assert held >= times - 2


@pytest.mark.long
def test_a_seed_reproduces() -> None:
    choices = record(steady(2), 2, 60, uniform=True)
    for tell in (by_matching, by_model):
        assert tell(choices, "sampled", seeds=3) == tell(choices, "sampled", seeds=3)


def test_one_seed_cannot_tell_luck_from_more() -> None:
    with pytest.raises(ReplayError):
        by_matching([], "greedy", seeds=1)


def test_what_was_chosen_among_nothing_is_no_decision() -> None:
    check = replace(trial(at=NOW - 10), offered=())
    choices = recorded([trial(), check])
    assert [one.chosen for one in choices] == ["pin"]
    assert [arm.name for arm in choices[0].offered] == ["pin", "other"]


def test_a_recorded_probability_is_that_of_being_picked() -> None:
    """Held against how often it is picked when the same choice is made again and again."""
    machine = steady(5)
    arms, context = candidates(machine), Context(machine.phases[0].vector)
    told, picked = {}, []
    for seed in range(400):
        policy = Listening(LinearBandit(seed=seed))
        name = policy.choose(context, arms).arm.name
        told[name] = policy.choice(name, BASELINE).probability
        picked.append(name)
    for name, probability in told.items():
        assert probability is not None
        share = picked.count(name) / len(picked)
        assert abs(share - probability) < 4 * math.sqrt(0.25 / 400)
