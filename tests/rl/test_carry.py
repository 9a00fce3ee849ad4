"""What carries over, and to where: never to what cannot be compared, less the further away, without a trial only on the same machine."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.bandit import Settings
from rl.carry import LIKE, NEAR, OLDEST_PROOF_S, Carried, carried, likeness, nearness
from rl.learned import Learned, MachineFacts, Numbers, Origin
from tests.rl.lessons import HERE, MACHINE, NOW, VECTOR, proof, sentence, trial

FAR: Numbers = tuple(number + NEAR / 4 for number in VECTOR)  # so much in each of 16 dimensions
TWIN = replace(MACHINE, identity="there")
UPDATED = replace(MACHINE, kernel="6.19.0")
OTHER = MachineFacts("there", "Small Board", "6.18.0", 1, 4)


def at(origin: Origin = HERE, vector: Numbers = VECTOR, now: float = NOW) -> Carried:
    learned = Learned((trial(),), (proof(),), (sentence(),))
    return carried(learned, origin, vector, now=now, half_life_s=86_400.0)


def on(machine: MachineFacts) -> Carried:
    return at(replace(HERE, machine=machine))


def weights(found: Carried) -> list[float]:
    return [weight for _, weight in found.trials]


def test_on_the_same_machine_all_of_it_counts() -> None:
    found = at()
    assert weights(found) == [trial().weight]
    assert (found.proofs, [one for one, _ in found.sentences]) == ((proof(),), [sentence()])


def test_far_away_nothing_counts() -> None:
    assert math.dist(VECTOR, FAR) >= NEAR
    assert at(vector=FAR) == Carried()


@pytest.mark.parametrize("origin", [replace(HERE, model="another"), replace(HERE, objective="another")])
def test_what_cannot_be_compared_does_not_count(origin: Origin) -> None:
    found = at(origin)
    assert (found.trials, found.proofs) == ((), ())


def test_a_new_model_does_not_make_it_forget_what_hurt_the_workload() -> None:
    assert at(replace(HERE, model="another")).sentences
    assert not at(replace(HERE, model="another", workload="another")).sentences
    assert not at(replace(HERE, objective="another")).sentences


def test_under_another_kernel_nothing_is_recalled_untried_and_what_hurt_is_remembered() -> None:
    found = on(UPDATED)
    assert weights(found) == [pytest.approx(LIKE * trial().weight)]
    assert found.proofs == ()
    assert found.sentences


def test_another_machine_of_the_same_model_learns_less_of_it() -> None:
    found = on(TWIN)
    assert weights(found) == [pytest.approx(LIKE * trial().weight)]
    assert (found.proofs, found.sentences) == ((), ())


def test_any_other_machine_learns_nothing() -> None:
    assert on(OTHER) == Carried()
    assert on(replace(MACHINE, cpus=8)).trials == ()
    assert on(replace(MACHINE, nodes=4)).proofs == ()


def test_machines_of_no_known_model_are_not_alike() -> None:
    nameless = replace(MACHINE, hardware="")
    assert likeness(nameless, replace(nameless, identity="there")) == 0.0
    assert likeness(nameless, nameless) == 1.0
    assert likeness(replace(MACHINE, identity=""), replace(MACHINE, identity="")) == LIKE


def test_what_was_imported_is_never_recalled_untried() -> None:
    learned = Learned((trial(imported=True),), (proof(imported=True),), (replace(sentence(), imported=True),))
    found = carried(learned, HERE, VECTOR, now=NOW, half_life_s=86_400.0)
    assert weights(found) == [pytest.approx(LIKE * trial().weight)]
    assert (found.proofs, found.sentences) == ((), ())


def test_what_is_old_is_not_recalled_untried() -> None:
    assert at(now=NOW + OLDEST_PROOF_S - 3600).proofs
    assert not at(now=NOW + OLDEST_PROOF_S).proofs


def test_what_the_future_has_proven_is_not_recalled() -> None:
    assert not at(now=NOW - 86_400).proofs


def test_a_sentence_that_is_over_is_remembered_for_a_time() -> None:
    over = NOW + 700.0
    ((one, until),) = at(now=over).sentences
    assert until < over
    assert one.length_s == 600.0
    assert not at(now=NOW + 5 * 600.0).sentences


def test_a_clock_that_is_set_back_does_not_make_sentences_longer() -> None:
    ((one, until),) = at(now=NOW - 365 * 86_400.0).sentences
    assert until == pytest.approx(NOW - 365 * 86_400.0 + one.length_s)


def test_the_heaviest_are_carried_oldest_first() -> None:
    many = tuple(trial(at=NOW - age, weight=1.0) for age in range(0, 100_000, 100))
    found = carried(Learned(many), HERE, VECTOR, now=NOW, half_life_s=86_400.0)
    times = [one.at for one, _ in found.trials]
    assert times == sorted(times)
    assert times[-1] == NOW
    assert len(times) < len(many)


def test_rules_that_were_wrong_before_are_believed_less() -> None:
    settings = Settings()
    right = Carried(((trial(gain=0.05), 1.0),)).calibration(settings)
    wrong = Carried(((trial(gain=-0.4), 1.0), (trial(gain=-0.4, name="b"), 1.0), (trial(gain=-0.4, name="c"), 1.0)))
    assert wrong.calibration(settings).excess > 2 * right.excess


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0, 1))
def test_the_further_the_less(direction: list[float], share: float) -> None:
    here = (0.0, 0.0, 0.0)
    there = tuple(direction)
    between = tuple(share * number for number in direction)
    assert 0.0 <= nearness(here, there) <= nearness(here, between) + 1e-12 <= 1.0 + 1e-12
    assert nearness(here, (0.0, 0.0)) == 0.0
