"""Another phase is believed when it lasts, and a fall of the reward is noticed, remembered and not seen where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rl.policy import Arm, Context
from rl.proofs import Proof, Proofs
from rl.watch import FallWatch, PhaseWatch, distance

HERE = Context(np.zeros(4), "web")
THERE = Context(np.full(4, 2.0), "web")


def test_a_phase_is_believed_when_it_lasts() -> None:
    watch = PhaseWatch(1.0, 2)
    seen = [HERE, THERE, HERE, THERE, THERE, THERE, HERE]
    assert [watch.is_another(context) for context in seen] == [False] * 4 + [True] + [False] * 2
    assert watch.is_in_doubt


def test_a_beginning_is_no_other_phase() -> None:
    watch = PhaseWatch(1.0, 2, young=3)
    assert not any(watch.is_another(context) for context in [HERE, THERE, THERE, THERE, THERE])
    assert [watch.is_another(HERE) for _ in range(2)] == [False, True]


def phases(runs: list[tuple[Context, int]]) -> int:
    watch = PhaseWatch(1.0, 2)
    return sum(watch.is_another(context) for context, count in runs for _ in range(count))


def test_going_to_and_fro_is_one_phase() -> None:
    assert phases([(HERE, 60), *[(THERE, 3), (HERE, 5)] * 50]) == 1
    other = Context(np.full(4, -2.0), "web")
    assert phases([(HERE, 60), *[(THERE, 3), (HERE, 5), (other, 4)] * 50]) <= 3


def test_phases_that_last_are_each_told() -> None:
    assert phases([(HERE, 60), (THERE, 60)] * 3) == 5


def test_what_is_judged_anew_keeps_the_other_places_of_its_phase() -> None:
    watch = PhaseWatch(1.0, 2)
    for context in [HERE] * 9 + [THERE] * 3 + [HERE] * 3:
        watch.is_another(context)
    moved = Context(np.full(4, 0.4), "web")
    watch.judged(moved)
    assert not any(watch.is_another(context) for context in [moved, THERE, THERE, THERE, moved])
    assert [watch.is_another(Context(np.full(4, -0.2), "web")) for _ in range(2)] == [False, True]


def test_another_cluster_is_another_phase_and_vectors_of_two_models_are() -> None:
    watch = PhaseWatch(1.0, 1)
    assert not watch.is_another(HERE)
    assert watch.is_another(Context(HERE.vector, "db"))
    assert watch.is_another(Context(np.zeros(3), "db"))
    assert distance(HERE, Context(np.zeros(3))) == math.inf


def falls(levels: list[float], *, least: float = 0.0, seed: int = 1, noise: float = 0.03) -> list[bool]:
    draw, watch, found = np.random.default_rng(seed), FallWatch(), []
    for level in levels:
        watch.take(math.exp(level + draw.normal(0, noise)), least)
        found.append(watch.has_fallen)
    return found


def test_a_fall_is_noticed_and_remembered() -> None:
    found = falls([0.2] * 40 + [0.0] * 200)
    assert not any(found[:41])
    assert all(found[52:])  # by then the low reward is what is usual


def test_a_burst_is_no_fall() -> None:
    assert not any(falls(([0.0] * 20 + [-0.4] * 4) * 10, least=0.1))


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_seldom_a_fall(seed: int) -> None:
    assert not any(falls([0.0] * 300, seed=seed, least=0.07))


def test_after_it_was_looked_into_it_must_fall_again() -> None:
    watch = FallWatch()
    for value in [1.0] * 30 + [0.8] * 60:
        watch.take(value, 0.1)
    assert watch.has_fallen
    watch.looked_into()
    for _ in range(60):
        watch.take(0.8, 0.1)
    assert not watch.has_fallen
    watch.take(0.5, 0.1)
    watch.restart()
    assert not watch.has_fallen


PAGES, PIN = Arm("pages", ("hugepages",)), Arm("pin", ("affinity",))


def test_a_proof_counts_nearby_only() -> None:
    proofs = Proofs(1.0, [Proof(HERE, frozenset(PAGES.parts), 0.1), Proof(THERE, frozenset(PIN.parts), 0.3)])
    near = Context(np.full(4, 0.1))
    assert proofs.best(near, [PAGES, PIN]) == (PAGES, 0.1)
    assert proofs.best(near, [PIN]) is None
    assert proofs.best(THERE, [PAGES, PIN]) == (PIN, 0.3)


def test_the_latest_proof_of_the_same_counts_and_a_refuted_context_has_none() -> None:
    proofs = Proofs(1.0)
    proofs.add(Proof(HERE, frozenset(PAGES.parts), 0.3))
    proofs.add(Proof(HERE, frozenset(PAGES.parts), 0.1))
    proofs.add(Proof(HERE, frozenset(PIN.parts), 0.05))
    proofs.add(Proof(THERE, frozenset(PIN.parts), 0.2))
    assert proofs.best(HERE, [PIN, PAGES]) == (PAGES, 0.1)
    proofs.drop(HERE)
    assert proofs.best(HERE, [PIN, PAGES]) is None
    assert proofs.best(THERE, [PIN, PAGES]) == (PIN, 0.2)
