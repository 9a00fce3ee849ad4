"""Trials: paired blocks meet drift alike, end in time, and promote what is no better no oftener than they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.decision import HOLD, Decision, Seen
from rl.policy import BASELINE, Arm
from rl.safety import Limits
from rl.simulated import Machine, Noise, Phase
from rl.simulated import run as simulate
from rl.trial import HARD_LIMIT, INFERIOR, PROMOTED, RUNNING, UNDECIDED, A, B, Design, Trial, before_after, begin


def run(measure: Callable[[str, int], float], design: Design, seed: int) -> Trial:
    """Run a trial to its end on a machine where ``measure`` tells the reward of a side at a time."""
    trial, time = begin(design, seed=seed), 0
    while trial.outcome == RUNNING:
        trial = trial.take(measure(trial.side, time))
        time += 1
    return trial


def machine(gain: float, *, noise: float = 0.05, drift: float = 0.0, seed: int = 0) -> Callable[[str, int], float]:
    draw = np.random.default_rng(seed)
    return lambda side, time: math.exp((gain if side == B else 0.0) + drift * time + draw.normal(0, noise))


class Watches:
    """Changes nothing."""

    def __init__(self) -> None:
        self.rewards: list[float] = []

    def decide(self, seen: Seen) -> Decision:
        self.rewards += [seen.reward] if seen.reward else []
        return Decision(seen.arms[0], HOLD, "")


def told(machine: Machine, *, seed: int) -> list[float]:
    """Return the rewards of a simulated machine on which nothing is changed: enough of them for the longest trial."""
    watches = Watches()
    simulate(machine, watches, steps=300, seed=seed)
    return watches.rewards


RUNS = 300
MOST = 0.05 + 4 * math.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.long
@pytest.mark.parametrize("drift", [0.0, 0.02, -0.02])
def test_no_gain_is_seldom_promoted_whatever_the_drift(drift: float) -> None:
    outcomes = [run(machine(0.0, drift=drift, seed=seed), Design(), seed).outcome for seed in range(RUNS)]
    assert outcomes.count(PROMOTED) / RUNS <= MOST


def test_gains_are_promoted_and_losses_ended() -> None:
    better = [run(machine(0.1, seed=seed), Design(), seed) for seed in range(50)]
    worse = [run(machine(-0.1, seed=seed), Design(), seed) for seed in range(50)]
    assert [trial.outcome for trial in better].count(PROMOTED) >= 48
    assert [trial.outcome for trial in worse].count(INFERIOR) >= 48
    assert np.median([len(trial.differences) for trial in better]) < 10
    assert np.mean([trial.evidence.mean for trial in better]) == pytest.approx(0.1, abs=0.03)


def test_a_linear_drift_meets_both_sides_alike() -> None:
    """It is for the candidate in one block and against it in another, by the coin, and by no more than it moves between stretches."""
    trial = run(machine(0.1, noise=0.0, drift=0.01), Design(settle=0, most_blocks=60, least_blocks=60), 1)
    assert set(np.round(trial.differences, 6)) == {0.09, 0.11}
    assert trial.evidence.mean == pytest.approx(0.1, abs=4 * 0.01 / math.sqrt(60))


@given(st.lists(st.floats(-1, 1), min_size=24, max_size=24), st.integers(0, 1000), st.integers(0, 1000))
def test_where_both_are_alike_only_the_coin_decides_for_whom_a_block_speaks(
    noise: list[float], coin: int, other: int
) -> None:
    """So the signs are fair and independent whatever the noise is like: what the test's error rests on."""
    design = Design(settle=0, least_blocks=12, most_blocks=12, limits=Limits(hard=-9.0))
    blocks = []
    for seed in (coin, other):
        blocks.append(np.array(run(lambda _, time: math.exp(noise[time]), design, seed).differences))
    assert np.abs(blocks[0]) == pytest.approx(np.abs(blocks[1]), abs=1e-12)


def test_a_disaster_ends_at_once() -> None:
    trial = begin(Design(settle=0), seed=2)
    taken = 0
    while trial.outcome == RUNNING:
        trial = trial.take(1.0 if trial.side == A else 0.3)
        taken += 1
    assert trial.outcome == HARD_LIMIT
    assert taken <= 2 * len(trial.order)
    assert trial.side == A


def test_a_disaster_ends_at_once_where_only_what_was_before_is_known() -> None:
    trial = next(trial for seed in range(9) if (trial := begin(Design(), seed=seed, before=0.0)).side == B)
    trial = trial.take(0.3).take(0.3)
    assert trial.outcome == HARD_LIMIT
    assert trial.so_far == pytest.approx(math.log(0.3))


def test_settling_excuses_no_disaster() -> None:
    trial = next(trial for seed in range(9) if (trial := begin(Design(), seed=seed, before=0.0)).side == B)
    assert trial.take(math.exp(-0.5)).take(math.exp(-0.4)).outcome == RUNNING
    assert trial.take(math.exp(-0.6)).take(math.exp(-0.4)).outcome == HARD_LIMIT
    assert trial.take(math.exp(-1.7)).outcome == HARD_LIMIT
    assert trial.take(math.exp(-1.7)).so_far == pytest.approx(-1.7)


@pytest.mark.parametrize("gain", [-0.4, -0.5])
def test_what_is_beyond_the_limit_ends_within_two_blocks_also_where_settling_excuses_it(gain: float) -> None:
    for seed in range(50):
        trial = begin(Design(least_blocks=9), seed=seed, before=0.0)
        while trial.outcome == RUNNING:
            trial = trial.take(math.exp(gain if trial.side == B else 0.0))
        assert trial.outcome == HARD_LIMIT
        assert len(trial.differences) < 2


@given(st.integers(0, 200), st.integers(0, 11))
def test_one_bad_measurement_ends_no_trial(seed: int, when: int) -> None:
    """A 99th percentile of few requests is twice the usual one now and then, whatever is in force."""
    trial = begin(Design(least_blocks=9), seed=seed, before=0.0)
    for time in range(12):
        trial = trial.take(math.exp(-0.7 if time == when else 0.0))
    assert trial.outcome == RUNNING


def test_what_gains_but_for_rare_disasters_is_not_promoted() -> None:
    trial = begin(Design(settle=0, most_blocks=60), seed=1)
    while trial.outcome == RUNNING:
        number = len(trial.differences)
        gain = -0.9 if number % 8 == 3 else 0.1 + 0.01 * (number % 3)
        trial = trial.take(math.exp(gain) if trial.side == B else 1.0)
    assert trial.evidence.proves_gain(0.05)
    assert trial.plain < 0
    assert trial.outcome == UNDECIDED
    assert trial.gain == trial.plain  # and that is what is learned of it


def test_what_is_not_worth_it_ends_early() -> None:
    """Of nothing at all most trials end long before the last block, and hardly any of a gain that is."""
    nothing = [run(machine(0.0, seed=seed), Design(), seed) for seed in range(100)]
    gains = [run(machine(0.08, seed=seed), Design(), seed) for seed in range(100)]
    assert np.median([len(trial.differences) for trial in nothing]) < Design().most_blocks / 2
    assert [trial.outcome for trial in gains].count(PROMOTED) >= 80


@given(st.integers(0, 200), st.floats(-0.2, 0.2))
def test_the_gain_so_far_is_the_gain(seed: int, gain: float) -> None:
    trial = begin(Design(settle=0, least_blocks=9), seed=seed, before=0.0)
    for _ in range(11):
        assert trial.so_far == pytest.approx(
            gain if B in [side for side, _ in trial.stretches] or trial.differences else 0.0
        )
        trial = trial.take(math.exp(gain if trial.side == B else 0.0))


def test_what_cannot_be_decided_ends() -> None:
    trial = run(machine(0.0, noise=0.1, seed=3), Design(most_blocks=4), 3)
    assert trial.outcome in (UNDECIDED, INFERIOR, PROMOTED)
    assert len(trial.differences) <= 4


@pytest.mark.parametrize("reward", [math.nan, math.inf, 0.0, -1.0])
def test_what_is_no_measurement_changes_nothing(reward: float) -> None:
    trial = begin(Design(), seed=1)
    assert trial.take(reward) == trial


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 3), st.integers(1, 3))
def test_each_side_gets_the_same_time_in_every_block(seed: int, settle: int, measure: int) -> None:
    trial, sides = begin(Design(settle=settle, measure=measure, most_blocks=5, least_blocks=5), seed=seed), []
    while trial.outcome == RUNNING:
        sides.append((len(trial.differences), trial.side))
        trial = trial.take(1.0)
    for block in range(5):
        assert abs(sides.count((block, A)) - sides.count((block, B))) <= settle
    flips = sum(one[1] != other[1] for one, other in pairwise(sides))
    assert flips >= 5


def series(level: float, count: int, seed: int, *, slope: float = 0.0, start: int = 0) -> list[float]:
    draw = np.random.default_rng(seed)
    return [math.exp(level + slope * (start + i) + draw.normal(0, 0.05)) for i in range(count)]


def test_before_after_finds_a_step_but_not_a_slope() -> None:
    steps = [before_after(series(0, 12, s), series(0.3, 12, s + 999)).outcome for s in range(50)]
    slopes = [
        before_after(series(0, 12, s, slope=0.03), series(0, 12, s + 999, slope=0.03, start=12)).outcome
        for s in range(200)
    ]
    assert steps.count(PROMOTED) >= 45
    assert 200 - slopes.count(UNDECIDED) <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)


def test_before_after_needs_enough() -> None:
    with pytest.raises(ValueError, match="needed"):
        before_after([1.0] * 3, [1.0] * 4)


@pytest.mark.slow
@pytest.mark.parametrize(("related", "freedom"), [(0.0, 30.0), (0.6, 3.0), (0.9, 3.0), (0.95, 30.0)])
def test_noise_that_hangs_together_or_has_heavy_tails_promotes_no_oftener(related: float, freedom: float) -> None:
    """Intervals of a second of a real server are like that; with bursts and a wandering level besides."""
    noise = Noise(deviation=0.05, related=related, freedom=freedom, bursts=0.01, wander=0.005)
    single = Machine((Arm(BASELINE),), (Phase(0, "web", np.zeros(1), {}),), noise)
    promoted = 0
    for seed in range(RUNS):
        rewards = iter(told(single, seed=seed))
        promoted += run(lambda *_, rewards=rewards: next(rewards), Design(), seed).outcome == PROMOTED
    assert promoted / RUNS <= MOST
