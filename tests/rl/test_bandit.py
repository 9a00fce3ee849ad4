"""The linear model is Bayesian linear regression, carries over what arms have in common, and forgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.bandit import LinearBandit, LinearModel, Settings, Tried
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


@pytest.mark.parametrize(
    "way", ["sampled", "bound", "epsilon"]
)  # greedy is there to be compared with: it may stay where it began
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
    assert run(3)[-20:].count("pages") >= (14 if way == "epsilon" else 18)


def test_time_takes_weight_away() -> None:
    bandit = LinearBandit(Settings(half_life_s=100), seed=1)
    bandit.learn(HERE, PAGES, 0.3, weight=10)
    fresh, old = (bandit.choose(Context(HERE.vector, when=when), [NOTHING, PAGES]) for when in (0.0, 1000.0))
    assert old.estimates["pages"][0] < 0.5 * fresh.estimates["pages"][0]
    assert old.estimates["pages"][1] > 2 * fresh.estimates["pages"][1]


def test_doubt_takes_nearly_all_of_it() -> None:
    bandit = LinearBandit(seed=1)
    bandit.learn(HERE, PAGES, 0.3)
    before = mean_of(bandit, PAGES)
    bandit.doubt()
    assert 0 < mean_of(bandit, PAGES) < 0.5 * before


def test_whoever_expected_wrongly_is_believed_less() -> None:
    hoped = [Arm(f"arm-{n}", (f"part-{n}",), expected=0.3, trust=2) for n in range(4)]
    wrong, right = LinearBandit(seed=1), LinearBandit(seed=1)
    for arm in hoped[:3]:
        wrong.learn(HERE, arm, -0.3)
        right.learn(HERE, arm, 0.3)
    assert mean_of(wrong, hoped[3]) < 0.9 * mean_of(right, hoped[3])


def test_by_how_much_one_arm_is_ahead_of_another_allows_for_what_they_share() -> None:
    bandit = LinearBandit(seed=1)
    for _ in range(5):
        bandit.learn(HERE, PIN, 0.1)
    chosen = bandit.choose(HERE, [NOTHING, PAGES, BOTH])
    mean, deviation = chosen.ahead("both", "pages")
    assert mean == pytest.approx(chosen.estimates["both"][0] - chosen.estimates["pages"][0])
    assert deviation < 0.7 * chosen.estimates["pages"][1]  # what is not known of pages is not known of both alike
    assert chosen.ahead("both", "nobody") == (0.0, 0.0)


def test_three_hundred_trials_and_thirty_arms_are_one_model() -> None:
    """The trials are made ready once, and the posterior is that of all of them at once."""
    draw = np.random.default_rng(5)
    parts = [f"part-{n}" for n in range(12)]
    arms = [NOTHING, *(Arm(f"arm-{n}", tuple(draw.choice(parts, 2, replace=False)), 0.05) for n in range(30))]
    bandit = LinearBandit(seed=1)
    for _ in range(350):
        bandit.learn(Context(draw.uniform(-0.5, 0.5, 16)), arms[draw.integers(1, 31)], float(draw.normal(0, 0.1)))
    assert len(bandit.model.tried) == bandit.model.settings.remembered
    mean, covariance = bandit.model.posterior(Context(np.zeros(16)), arms)
    assert np.isfinite(mean).all()
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="way"):
        LinearBandit(seed=1, way="best")


def test_a_gain_may_depend_on_what_is_around() -> None:
    model = LinearModel(Settings())
    arm = Arm("pin", ("pin",), trust=0.0)
    idle, busy = (Context(np.zeros(4), around=np.array([sign])) for sign in (-1.0, 1.0))
    for _ in range(20):
        model.learn(idle, arm, 0.2, 1.0)
        model.learn(busy, arm, -0.1, 1.0)
    assert model.posterior(idle, [arm])[0][0] > 0.1
    assert model.posterior(busy, [arm])[0][0] < 0.0


def test_trials_that_know_less_of_what_was_around_count_all_the_same() -> None:
    short = Tried(np.array([0.5, -0.5]), frozenset({"pin"}), 0.3, 4.0)
    arm = Arm("pin", ("pin",), trust=0.0)
    model = LinearModel(Settings(), [short])
    model.learn(Context(np.array([0.5, -0.5]), around=np.ones(3)), arm, 0.3, 1.0)
    for context in (Context(np.array([0.5, -0.5])), Context(np.array([0.5, -0.5]), around=np.ones(3))):
        assert model.posterior(context, [arm])[0][0] == pytest.approx(0.3, abs=0.05)
