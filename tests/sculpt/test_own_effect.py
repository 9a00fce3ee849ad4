"""What the loop's own settings do to a workload's DNA is told from what the workload does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rl.policy import BASELINE
from sculpt.own_effect import MOST, OVER, OwnEffect

HOME = np.full(16, 0.2)
directions = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(0, 1, 16))


def moved(direction: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    shift: NDArray[np.float64] = direction / np.linalg.norm(direction) * distance
    return shift


def after(effect: OwnEffect, vector: NDArray[np.float64], in_force: str, times: int = OVER) -> NDArray[np.float64]:
    for _ in range(times):
        found = effect.without(vector, in_force)
    return found


def test_with_nothing_in_force_it_is_the_mean_of_the_latest() -> None:
    effect = OwnEffect()
    seen = [np.full(16, float(number)) for number in range(10)]
    found = [effect.without(vector, BASELINE) for vector in seen]
    np.testing.assert_allclose(found[-1], np.mean(seen[-OVER:], axis=0))


@given(directions, st.floats(0, MOST), st.integers(1, 4))
def test_a_setting_that_moves_the_dna_moves_nothing(
    direction: NDArray[np.float64], distance: float, flips: int
) -> None:
    effect, shift = OwnEffect(), moved(direction, distance)
    for _ in range(flips):
        np.testing.assert_allclose(after(effect, HOME, BASELINE), HOME, atol=1e-9)
        np.testing.assert_allclose(after(effect, HOME + shift, "pin"), HOME, atol=1e-9)
    np.testing.assert_allclose(after(effect, HOME + shift, "pin", 50), HOME, atol=1e-9)


@given(directions, directions)
def test_what_the_workload_does_later_shows_in_full(one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    effect, shift, phase = OwnEffect(), moved(one, 1.0), moved(other, 1.5)
    after(effect, HOME, BASELINE)
    after(effect, HOME + shift, "pin")
    np.testing.assert_allclose(after(effect, HOME + shift + phase, "pin"), HOME + phase, atol=1e-9)


@given(directions)
def test_more_than_a_setting_can_do_is_the_workloads(direction: NDArray[np.float64]) -> None:
    effect, jump = OwnEffect(), moved(direction, 3 * MOST)
    after(effect, HOME, BASELINE)
    assert np.linalg.norm(after(effect, HOME + jump, "pin") - HOME) > MOST


def test_what_is_made_for_good_stays_laid_to_it() -> None:
    effect, shift = OwnEffect(), np.full(16, 0.3)
    after(effect, HOME, BASELINE)
    after(effect, HOME + shift, "huge pages")
    effect.made("huge pages")
    np.testing.assert_allclose(after(effect, HOME + shift, BASELINE), HOME, atol=1e-9)


def test_what_was_laid_to_settings_is_forgotten_in_another_phase() -> None:
    effect, shift = OwnEffect(), np.full(16, 0.3)
    after(effect, HOME, BASELINE)
    after(effect, HOME + shift, "pin")
    effect.forget()
    np.testing.assert_allclose(after(effect, HOME + shift, "pin", 1), HOME + shift)


def test_measuring_otherwise_is_nobodys_doing() -> None:
    effect, shift, change = OwnEffect(), np.full(16, 0.3), np.full(16, -0.2)
    after(effect, HOME, BASELINE)
    after(effect, HOME + shift, "pin")
    effect.measured_otherwise()
    for in_force, own in (("pin", shift), (BASELINE, np.zeros(16)), ("pin", shift)):
        np.testing.assert_allclose(after(effect, HOME + own + change, in_force), HOME, atol=1e-9)
    phase = moved(np.ones(16), 1.5)
    np.testing.assert_allclose(after(effect, HOME + change + phase, BASELINE), HOME + phase, atol=1e-9)


def test_measuring_otherwise_before_anything_was_seen_is_the_beginning() -> None:
    effect = OwnEffect()
    effect.measured_otherwise()
    np.testing.assert_allclose(after(effect, HOME, BASELINE), HOME)
