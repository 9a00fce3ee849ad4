"""One number of several: units cancel, better is greater, and a missing part makes it unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.measured import ENERGY, KINDS, LATENCY, THROUGHPUT, Measured, Metric, Problem
from sculpt.objective import Objective

values = st.floats(1e-9, 1e12)
scales = st.floats(1e-6, 1e6)
metrics = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.floats(0.1, 10.0)), min_size=1, max_size=4).map(
    lambda pairs: tuple(metric(kind, weight) for kind, weight in pairs)
)
cases = metrics.flatmap(
    lambda some: st.tuples(st.just(Objective(some)), st.lists(values, min_size=len(some), max_size=len(some)))
)


def metric(kind: str, weight: float = 1.0) -> Metric:
    return Metric(kind, "test", weight, *KINDS[kind])


def log_reward(objective: Objective, numbers: Sequence[float], **keywords: float) -> float:
    keywords.setdefault("interval_s", 5.0)
    value = objective.reward([Measured(number, 0.0) for number in numbers], **keywords).value
    assert value is not None
    assert value > 0
    return math.log(value)


@given(cases, st.data())
def test_units_do_not_matter(case: tuple[Objective, list[float]], data: st.DataObject) -> None:
    """In other units the reward is another number, but the difference of two intervals is the same."""
    objective, before = case
    after = data.draw(st.lists(values, min_size=len(before), max_size=len(before)))
    units = data.draw(st.lists(scales, min_size=len(before), max_size=len(before)))
    plain = log_reward(objective, after) - log_reward(objective, before)
    scaled = log_reward(objective, [a * u for a, u in zip(after, units, strict=True)]) - log_reward(
        objective, [b * u for b, u in zip(before, units, strict=True)]
    )
    assert scaled == pytest.approx(plain, abs=1e-6)


@given(cases, st.data())
def test_better_in_one_and_the_same_in_all_others_is_better(
    case: tuple[Objective, list[float]], data: st.DataObject
) -> None:
    objective, numbers = case
    which = data.draw(st.integers(0, len(numbers) - 1))
    factor = data.draw(st.floats(1.01, 100.0))
    better = list(numbers)
    better[which] *= factor ** objective.metrics[which].direction
    assert log_reward(objective, better) > log_reward(objective, numbers)


@given(cases, st.data())
def test_a_missing_part_leaves_nothing_to_judge_by(case: tuple[Objective, list[float]], data: st.DataObject) -> None:
    objective, numbers = case
    gone = data.draw(st.sets(st.integers(0, len(numbers) - 1), min_size=1))
    problem = data.draw(st.sampled_from(Problem))
    measured = [
        Measured(None, 0.0, problem, "so it is") if number in gone else Measured(value, 0.0)
        for number, value in enumerate(numbers)
    ]
    reward = objective.reward(measured, interval_s=5.0)
    assert reward.value is None
    assert reward.because.count(f"{problem} (so it is)") == len(gone)
    assert len(reward.parts) == len(numbers)


@given(cases, st.floats(0.1, 100.0))
def test_only_proportions_of_weights_matter(case: tuple[Objective, list[float]], factor: float) -> None:
    objective, numbers = case
    heavier = Objective(tuple(metric(one.kind, one.weight * factor) for one in objective.metrics))
    assert log_reward(heavier, numbers) == pytest.approx(log_reward(objective, numbers), abs=1e-6)


@given(st.floats(0.2, 60.0), st.lists(st.floats(0.0, 100.0), min_size=2, max_size=2))
def test_a_longer_stall_costs_more_where_nothing_shows_it(interval_s: float, stalls: list[float]) -> None:
    objective = Objective((metric(LATENCY), metric(ENERGY)))
    short, long = sorted(stalls)
    free = log_reward(objective, [0.01, 50.0], interval_s=interval_s)
    less, more = (log_reward(objective, [0.01, 50.0], interval_s=interval_s, stall_s=stall) for stall in (short, long))
    assert more <= less <= free
    if long < interval_s * 0.9:
        assert more == pytest.approx(free + math.log(1 - long / interval_s))


def test_a_stall_that_throughput_shows_is_not_charged_twice() -> None:
    for objective in (Objective((metric(THROUGHPUT),)), Objective((metric(THROUGHPUT), metric(LATENCY, 2.0)))):
        numbers = [10.0] * len(objective.metrics)
        assert log_reward(objective, numbers, stall_s=2.0) == log_reward(objective, numbers)


def test_one_metric_is_its_own_reward_and_throughput_with_energy_is_work_per_joule() -> None:
    assert log_reward(Objective((metric(THROUGHPUT, 3.0),)), [250.0]) == pytest.approx(math.log(250.0))
    assert log_reward(Objective((metric(LATENCY),)), [0.004]) == pytest.approx(math.log(250.0))
    assert log_reward(Objective((metric(THROUGHPUT), metric(ENERGY))), [1000.0, 50.0]) == pytest.approx(math.log(20.0))
    halved = log_reward(Objective((metric(THROUGHPUT, 2.0), metric(LATENCY))), [100.0, 0.01])
    assert halved == pytest.approx(math.log(100.0) + 0.5 * math.log(100.0))


def test_enormous_values_stay_numbers() -> None:
    objective = Objective((metric(THROUGHPUT),) * 4)
    assert math.isfinite(log_reward(objective, [1e300] * 4))
    assert math.isfinite(log_reward(objective, [1e-300] * 4))
    assert objective.reward([Measured(math.inf, 0.0)] * 4, interval_s=5.0).value is None
    assert objective.reward([Measured(math.nan, 0.0)] * 4, interval_s=5.0).value is None


def test_noise_is_known_where_that_of_all_parts_is() -> None:
    objective = Objective((metric(THROUGHPUT, 2.0), metric(LATENCY)))
    known = [Measured(10.0, 0.0, noise=0.03), Measured(10.0, 0.0, noise=0.08)]
    assert objective.reward(known, interval_s=5.0).noise == pytest.approx(0.05)
    assert objective.reward([known[0], Measured(10.0, 0.0)], interval_s=5.0).noise is None


def test_an_objective_is_about_something() -> None:
    with pytest.raises(ValueError, match="needs a metric"):
        Objective(())
    with pytest.raises(ValueError, match="zip"):
        Objective((metric(LATENCY),)).reward([], interval_s=5.0)
