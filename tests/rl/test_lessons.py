"""What trials come to together: limits that hold, selections that take what was named and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl.learned import Learned
from rl.lessons import lessons, pooled, select
from rl.policy import TRIAL_DEVIATION
from tests.rl.lessons import HERE, MACHINE, NOW, proof, sentence, trial

DB = replace(HERE, workload="db")


def test_the_limits_of_several_trials_hold_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    held, times, truth = 0, 400, 0.07
    for _ in range(times):
        weights = draw.uniform(0.5, 20, 6)
        gains = truth + draw.normal(0, TRIAL_DEVIATION, 6) / np.sqrt(weights)
        trials = [trial(gain=float(gain), weight=float(weight)) for gain, weight in zip(gains, weights, strict=True)]
        low, high = pooled(trials)[1]
        held += low <= truth <= high
    assert 0.92 <= held / times <= 1.0


def test_trials_that_contradict_one_another_widen_the_limits() -> None:
    alike = pooled([trial(gain=0.1), trial(gain=0.1)])[1]
    apart = pooled([trial(gain=-0.4), trial(gain=0.6)])[1]
    assert apart[1] - apart[0] > 4 * (alike[1] - alike[0])


def test_doubted_trials_count_less() -> None:
    mean, _ = pooled([trial(gain=0.5, share=0.02), trial(gain=-0.1)])
    assert mean < 0


def test_a_single_trial_has_its_own_limits() -> None:
    assert pooled([trial(interval=(0.01, 0.3))])[1] == (0.01, 0.3)


def test_a_lesson_is_of_one_arm_of_one_workload() -> None:
    there = replace(HERE, machine=replace(MACHINE, identity="there"))
    learned = Learned(
        (
            trial(at=1.0, run="r1"),
            trial(at=2.0, run="r2", origin=there),
            trial(at=3.0, name="b"),
            trial(at=4.0, origin=DB),
        ),
        (proof(),),
        (sentence(), sentence(arm="b")),
    )
    found = {(one.workload, one.arm): one for one in lessons(learned)}
    assert set(found) == {("web", "pin"), ("web", "b"), ("web", "bad"), ("db", "pin")}
    pin = found["web", "pin"]
    assert (pin.trials, pin.runs, pin.machines, pin.is_proven, pin.until) == (2, 2, 2, True, None)
    assert found["web", "b"].until == sentence().until
    assert found["web", "bad"].trials == 0
    assert found["web", "bad"].gain is None
    assert not found["db", "pin"].is_proven


def test_what_is_selected_is_what_was_named() -> None:
    learned = Learned((trial(), trial(name="other"), trial(origin=DB, run="r2")), (proof(),), (sentence(),))
    assert select(learned) == learned
    assert select(learned, workload="w*") == Learned(learned.trials[:2], learned.proofs, learned.sentences)
    assert select(learned, arm="pin") == Learned((learned.trials[0], learned.trials[2]), learned.proofs)
    assert select(learned, arm="other") == Learned((learned.trials[1],))
    assert select(learned, arm="bad") == Learned(sentences=learned.sentences)
    assert select(learned, run="r2").trials == (learned.trials[2],)
    assert not select(learned, workload="none")


@pytest.mark.parametrize(("age_s", "count"), [(30.0, 1), (90.0, 0)])
def test_what_is_old_is_selected_by_its_age(age_s: float, count: int) -> None:
    found = select(Learned((trial(at=NOW - 60.0),)), before=NOW - age_s)
    assert len(found.trials) == count
