"""The linear model is Bayesian linear regression, carries over what arms have in common, and forgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.bandit import LinearBandit, LinearModel, Settings
from rl.policy import BASELINE, Arm, Context

NOTHING = Arm(BASELINE)
HERE = Context(np.array([1.0, 0.0]))
THERE = Context(np.array([-1.0, 0.0]))
PAGES = Arm("pages", ("memory.hugepages=collapse",), trust=0)
PIN = Arm("pin", ("cpu.affinity=node",), trust=0)
BOTH = Arm("both", (*PAGES.parts, *PIN.parts), trust=0)


def dual_equals_primal(trials: list[tuple[int, int, float]], settings: Settings) -> None:
    """Compare with the textbook's formula over explicit features."""
    arms, contexts = [PAGES, PIN, BOTH], [HERE, THERE]
    names = sorted({part for arm in arms for part in arm.parts})

    def features(context: Context, arm: Arm) -> np.ndarray:
        row = np.concatenate(([settings.prior], settings.interaction * context.vector))
        return np.concatenate([row if name in arm.parts else 0 * row for name in names])

    model = LinearModel(settings)
    precision, answered = np.eye(3 * len(names)), np.zeros(3 * len(names))
    for position, (arm, context, gain) in enumerate(trials):
        model.learn(contexts[context], arms[arm], gain, 1.0)
        weight = settings.discount ** (len(trials) - 1 - position) / settings.noise**2
        x = features(contexts[context], arms[arm])
        precision += weight * np.outer(x, x)
        answered += weight * gain * x
    covariance = np.linalg.inv(precision)
    rows = np.stack([features(HERE, arm) for arm in arms])
    mean, spread = model.posterior(HERE, arms)
    np.testing.assert_allclose(mean, rows @ covariance @ answered, atol=1e-8)
    np.testing.assert_allclose(spread, rows @ covariance @ rows.T, atol=1e-8)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.floats(-0.5, 0.5)), max_size=12))
def test_it_is_bayesian_linear_regression(trials: list[tuple[int, int, float]]) -> None:
    dual_equals_primal(trials, Settings())


def mean_of(bandit: LinearBandit, arm: Arm, context: Context = HERE) -> float:
    return bandit.choose(context, [NOTHING, arm]).estimates[arm.name][0]


def test_parts_in_common_teach() -> None:
    bandit = LinearBandit(seed=1)
    for _ in range(10):
        bandit.learn(HERE, PAGES, 0.3)
    assert mean_of(bandit, PAGES) == pytest.approx(0.3, abs=0.03)
    assert mean_of(bandit, BOTH) == pytest.approx(0.3, abs=0.03)
    assert mean_of(bandit, PIN) == 0


def test_the_context_matters() -> None:
    bandit = LinearBandit(Settings(interaction=0.2), seed=1)
    for _ in range(10):
        bandit.learn(HERE, PAGES, 0.3)
        bandit.learn(THERE, PAGES, -0.3)
    assert mean_of(bandit, PAGES, HERE) > 0.2
    assert mean_of(bandit, PAGES, THERE) < -0.2


def test_what_is_expected_is_believed_until_it_is_measured() -> None:
    hoped = Arm("pages", PAGES.parts, expected=0.2, trust=2)
    bandit = LinearBandit(seed=1)
    before = mean_of(bandit, hoped)
    assert 0.1 < before < 0.2
    for _ in range(20):
        bandit.learn(HERE, hoped, -0.1)
    assert mean_of(bandit, hoped) < -0.05


def test_what_is_old_is_forgotten() -> None:
    bandit = LinearBandit(Settings(discount=0.8), seed=1)
    for _ in range(30):
        bandit.learn(HERE, PAGES, 0.3)
    for _ in range(10):
        bandit.learn(HERE, PAGES, -0.3)
    assert mean_of(bandit, PAGES) < -0.2


def test_the_baseline_gains_nothing_by_definition() -> None:
    bandit = LinearBandit(seed=1)
    bandit.learn(HERE, NOTHING, 5.0)
    assert bandit.choose(HERE, [NOTHING, PAGES]).estimates[BASELINE] == (0.0, 0.0)


@pytest.mark.parametrize("way", ["sampled", "bound"])  # greedy is there to be compared with: it may stay where it began
def test_a_seed_reproduces_and_the_best_is_found(way: str) -> None:
    def run(seed: int) -> list[str]:
        draw, bandit = np.random.default_rng(seed), LinearBandit(seed=seed, way=way)
        gains = {"baseline": 0.0, "pages": 0.2, "pin": -0.2, "both": 0.0}
        arms = [NOTHING, *(Arm(a.name, a.parts, expected=0.05, trust=1) for a in (PAGES, PIN, BOTH))]
        chosen = []
        for _ in range(60):
            arm = bandit.choose(HERE, arms).arm
            bandit.learn(HERE, arm, draw.normal(gains[arm.name], 0.05))
            chosen.append(arm.name)
        return chosen

    assert run(3) == run(3)
    assert run(3)[-20:].count("pages") >= 18


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="way"):
        LinearBandit(seed=1, way="best")
