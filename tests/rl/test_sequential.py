"""The anytime-valid test keeps its promise while it is looked at after every pair, finds effects, and agrees with its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.sequential import clipped, evidence, interval

RUNS, PAIRS, ALPHA = 1000, 100, 0.05
# Of a share p over n runs the deviation is sqrt(p (1 - p) / n); four of them above the nominal level is one chance in thirty thousand.
MOST = ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)


def ever_proves(draws: np.ndarray, alpha: float = ALPHA) -> float:
    """Return the share of runs in which a gain is proven after any pair."""
    hits = 0
    for row in draws:
        hits += any(evidence(row[:n].tolist()).proves_gain(alpha) for n in range(2, len(row) + 1))
    return hits / len(draws)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
def test_no_effect_is_seldom_taken_for_one(noise: str) -> None:
    random = np.random.default_rng(7)
    draws = {
        "normal": random.normal(0, 0.1, (RUNS, PAIRS)),
        "heavy": random.standard_t(3, (RUNS, PAIRS)) * 0.1,
        "skewed": random.exponential(0.1, (RUNS, PAIRS)) - random.exponential(0.1, (RUNS, PAIRS)),
    }[noise]
    assert ever_proves(draws) <= MOST


@pytest.mark.slow
def test_a_loss_is_never_taken_for_a_gain_more_often() -> None:
    draws = np.random.default_rng(8).normal(-0.02, 0.1, (RUNS, 60))
    assert ever_proves(draws) <= MOST


def test_an_effect_is_found() -> None:
    draws = np.random.default_rng(9).normal(0.1, 0.1, (200, 40))
    assert ever_proves(draws) > 0.95


@given(
    st.lists(st.integers(-1000, 1000).map(lambda n: n / 1000), min_size=2, max_size=30).filter(
        lambda some: len(set(some)) > 1
    )
)
def test_the_interval_holds_what_the_test_does_not_reject(differences: list[float]) -> None:
    low, high = interval(differences, ALPHA)
    assert low <= evidence(differences).mean <= high
    if math.isfinite(low):
        inside = evidence([one - (low + 1e-6 * (high - low)) for one in differences])
        outside = evidence([one - (low - 1e-3 * (high - low)) for one in differences])
        assert not inside.proves_gain(ALPHA)
        assert outside.proves_gain(ALPHA)


@given(st.lists(st.floats(-10, 10), max_size=20), st.floats(0.01, 100))
def test_evidence_does_not_depend_on_the_unit(differences: list[float], factor: float) -> None:
    one, other = evidence(differences), evidence([factor * value for value in differences])
    if math.isfinite(one.log_e) and one.deviation > 1e-6:
        assert other.log_e == pytest.approx(one.log_e, rel=1e-6, abs=1e-6)


def test_too_little_says_nothing() -> None:
    assert not evidence([]).proves_gain(0.5)
    assert not evidence([5.0]).proves_gain(0.5)
    assert interval([1.0], 0.05) == (-math.inf, math.inf)
    assert interval([1.0, 1.1], 1e-9) == (-math.inf, math.inf)


def test_what_never_varies_is_what_it_is() -> None:
    assert evidence([0.1, 0.1]).proves_gain(0.01)
    assert evidence([-0.1, -0.1]).proves_loss(0.01)
    assert evidence([0.0, 0.0]).log_e == 0


SOME = st.lists(st.floats(-2, 2), max_size=30)


@given(SOME, st.data())
def test_clipping_goes_by_sizes_alone(differences: list[float], data: st.DataObject) -> None:
    """So turning signs around turns them around in what is judged, and nothing else: all that the test's error rests on."""
    signs = data.draw(st.lists(st.sampled_from((-1, 1)), min_size=len(differences), max_size=len(differences)))
    turned = clipped([sign * one for sign, one in zip(signs, differences, strict=True)])
    assert turned == tuple(sign * one for sign, one in zip(signs, clipped(differences), strict=True))


@given(SOME)
def test_half_of_all_that_are_not_nothing_stay_as_they_are(differences: list[float]) -> None:
    """Also where most are exactly alike, as by a counter of few steps."""
    some = [one for one in differences if one]
    assert sum(one in clipped(differences) for one in some) >= len(some) / 2


@pytest.mark.slow
@pytest.mark.parametrize("freedom", [1.5, 3.0, 300.0])
def test_no_effect_is_seldom_taken_for_one_when_clipped(freedom: float) -> None:
    draws = np.random.default_rng(11).standard_t(freedom, (RUNS // 2, 60)) * 0.1
    hits = 0
    for row in draws.tolist():
        hits += any(evidence(clipped(row[:n])).proves_gain(ALPHA) for n in range(2, len(row) + 1))
    assert hits / len(draws) <= ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / len(draws))


@pytest.mark.parametrize("when", range(7))
def test_one_spike_hides_no_gain(when: int) -> None:
    usual = [0.1, 0.12, 0.09, 0.11, 0.1, 0.12, 0.1]
    spiked = [*usual[:when], -0.7, *usual[when + 1 :]]
    assert not evidence(spiked).mean > 0
    assert clipped(usual) == tuple(usual)
    assert 0.05 < evidence(clipped(spiked)).mean < 0.11
