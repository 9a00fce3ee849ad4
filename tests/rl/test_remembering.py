"""Runs that follow one another on simulated machines: a later one begins with what an earlier one learned, and only with what fits."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rl.bandit import LinearBandit
from rl.decision import Decision, Seen
from rl.learned import Learned, Origin
from rl.memory import Memory
from rl.policy import BASELINE, Arm, Context
from rl.remembering import RememberingLearner, Session
from tests.rl.lessons import HERE, MACHINE

NOTHING = Arm(BASELINE, trust=0.0)
PAGES = Arm("pages", ("memory.hugepages=collapse",), expected=0.1)
PIN = Arm("pin", ("cpu.affinity=node",), expected=0.1)
FAST = Arm("fast", ("cpu.governor=performance",), expected=0.1)
ARMS = (NOTHING, PAGES, PIN, FAST)
PLACE = np.full(16, 0.1)
ELSEWHERE = np.full(16, 0.9)
GAINS = {"pages": -0.2, "pin": 0.15, "fast": 0.0}
DAY = 86_400.0
START = 1_800_000_000.0


class Workload:
    """One workload that a learner is run on, with its own clock; gains are by name of the arm."""

    def __init__(self, path: Path, *, origin: Origin = HERE, boot: str = "boot", vector: np.ndarray = PLACE) -> None:
        self.path = path
        self.origin = origin
        self.boot = boot
        self.vector = vector
        self.clock = START

    def run(
        self,
        name: str,
        steps: int = 400,
        *,
        seed: int = 1,
        gains: dict[str, float] = GAINS,
        until: Callable[[Decision], bool] = lambda _: False,
        close: bool = True,
    ) -> tuple[RememberingLearner, list[Decision]]:
        with Memory.open(self.path) as memory:
            session = Session(memory, name, self.boot, lambda: self.origin)
            return self.go(
                RememberingLearner(session, LinearBandit(seed=seed), seed=seed), steps, seed, gains, until, close
            )

    def go(
        self,
        learner: RememberingLearner,
        steps: int,
        seed: int,
        gains: dict[str, float],
        until: Callable[[Decision], bool],
        close: bool,
    ) -> tuple[RememberingLearner, list[Decision]]:
        draw = np.random.default_rng([seed, int(self.clock)])
        in_force, decisions = BASELINE, []
        for _ in range(steps):
            self.clock += 5.0
            value = math.exp(gains.get(in_force, 0.0) + draw.normal(0, 0.03))
            context = Context(self.vector + draw.normal(0, 0.005, 16))
            decisions.append(learner.decide(Seen(self.clock, 5.0, context, ARMS, value, in_force)))
            in_force = decisions[-1].arm.name
            if until(decisions[-1]):
                break
        if close:
            learner.notebook.close()
        return learner, decisions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learned.db"


def trials_until(decisions: list[Decision], name: str) -> int:
    """Return how many trials were begun until an arm was kept."""
    kept = next(
        (n for n, one in enumerate(decisions) if one.event in ("promoted", "recalled") and one.arm.name == name)
    )
    return sum(one.event == "trial" for one in decisions[:kept])


def stored(path: Path) -> Learned:
    with Memory.open(path) as memory:
        return memory.read()


@pytest.mark.slow
def test_a_second_run_begins_with_what_the_first_one_proved(path: Path) -> None:
    fewer = []
    for seed in range(5):
        workload = Workload(path.with_name(f"{seed}.db"))
        _, first = workload.run("first", seed=seed)
        workload.clock += 3600.0
        learner, second = workload.run("second", seed=seed)
        assert learner.kept.name == "pin"
        assert trials_until(second, "pin") == 0
        fewer.append(trials_until(first, "pin"))
    assert sum(fewer) >= 5


@pytest.mark.long
def test_what_is_known_is_told_once(path: Path) -> None:
    workload = Workload(path)
    _, first = workload.run("first")
    _, second = workload.run("second")
    assert "nothing is known yet" in first[0].because
    assert "known of workloads like this:" in second[0].because
    assert "1 proven" in second[0].because
    assert sum("known" in one.because for one in second) == 1


@pytest.mark.long
def test_a_proof_of_a_workload_that_is_far_away_is_not_recalled(path: Path) -> None:
    Workload(path).run("first")
    assert stored(path).proofs
    learner, decisions = Workload(path, vector=ELSEWHERE).run("second", gains={"pin": -0.2})
    assert "nothing is known yet" in decisions[0].because
    assert "recalled" not in [one.event for one in decisions]
    assert learner.counts["known"] == 0


@pytest.mark.long
@pytest.mark.parametrize(
    "origin",
    [
        replace(HERE, objective="energy"),
        replace(HERE, model="model-2"),
        replace(HERE, machine=replace(MACHINE, kernel="7.0")),
        replace(HERE, machine=replace(MACHINE, identity="there")),
    ],
    ids=["objective", "model", "kernel", "machine"],
)
def test_nothing_is_recalled_where_it_may_not_hold(path: Path, origin: Origin) -> None:
    Workload(path).run("first")
    _, decisions = Workload(path, origin=origin).run("second", 60)
    assert "recalled" not in [one.event for one in decisions]


@pytest.mark.slow
def test_another_machine_of_the_model_needs_fewer_trials(path: Path) -> None:
    """It tries for itself, and begins with what was good there."""
    alone, taught = 0, 0
    for seed in range(6):
        place = path.with_name(f"{seed}.db")
        first = Workload(place).run("first", 500, seed=seed)[1]
        twin = replace(HERE, machine=replace(MACHINE, identity="there"))
        second = Workload(place, origin=twin).run("second", 500, seed=seed + 100)[1]
        alone, taught = alone + trials_until(first, "pin"), taught + trials_until(second, "pin")
        assert trials_until(second, "pin") >= 1
    assert taught < alone


@pytest.mark.long
def test_what_was_proven_yesterday_and_hurts_today_is_given_up_soon_and_for_good(path: Path) -> None:
    workload = Workload(path)
    workload.run("first")
    workload.clock += DAY
    worse = {"pin": -0.15}
    _, decisions = workload.run("second", 200, gains=worse)
    recalled = next(n for n, one in enumerate(decisions) if one.event == "recalled")
    given_up = next(n for n, one in enumerate(decisions) if one.event == "rolled back")
    assert given_up - recalled < 100
    assert "pin" not in {one for proof in stored(path).proofs for one in proof.parts}
    assert [one.arm for one in stored(path).sentences].count("pin") == 1
    assert min(one.share for one in stored(path).trials) < 0.1
    workload.clock += 60.0
    _, third = workload.run("third", 60, gains=worse)
    assert not [one for one in third if one.event in ("recalled", "trial") and "pin" in (one.arm.name, one.candidate)]


def test_quarantine_goes_on_while_nothing_runs(path: Path) -> None:
    workload = Workload(path)
    _, decisions = workload.run("first", until=lambda one: one.event == "rolled back" and one.candidate == "pages")
    assert decisions[-1].candidate == "pages"
    sentence = next(one for one in stored(path).sentences if one.arm == "pages")
    assert sentence.until == pytest.approx(workload.clock + 600.0)
    workload.clock += 30.0
    learner, second = workload.run("second", 40)
    assert "pages" not in {one.candidate for one in second}
    workload.clock = sentence.until + 1.0
    learner, _ = workload.run("third", 1)
    assert not learner.quarantine.holds("", "pages", workload.clock)
    again = learner.quarantine.put("", "pages", workload.clock).sentences["", "pages"]
    assert again.length_s == 1200.0


def test_who_is_killed_loses_the_trial_in_progress_and_no_more(path: Path) -> None:
    workload = Workload(path)
    workload.run("first", until=lambda one: one.event == "rolled back", close=False)
    before = stored(path)
    assert before.trials
    workload.run("second", until=lambda one: one.event == "trial", close=False)
    assert set(before.trials) <= set(stored(path).trials)
    _, third = workload.run("third", 30)
    assert "went down" not in third[0].because


def test_what_was_tried_when_the_machine_went_down_is_left_alone(path: Path) -> None:
    workload = Workload(path)
    _, first = workload.run("first", until=lambda one: one.event == "trial", close=False)
    tried = first[-1].candidate
    workload.boot = "the next start"
    workload.clock += 120.0
    _, second = workload.run("second", 100)
    assert f"the machine went down while {tried} was tried" in second[0].because
    assert tried not in {one.candidate for one in second}
    _, third = workload.run("third", 20)
    assert "went down" not in third[0].because
    assert tried not in {one.candidate for one in third}


def test_who_ends_in_a_trial_of_its_own_accord_is_not_suspected(path: Path) -> None:
    workload = Workload(path)
    workload.run("first", until=lambda one: one.event == "trial")
    workload.boot = "the next start"
    _, second = workload.run("second", 1)
    assert "went down" not in second[0].because


@pytest.mark.long
def test_restarts_do_not_make_proof_easier(path: Path) -> None:
    workload = Workload(path)
    for number in range(3):
        workload.run(f"run {number}", 300, gains={})
        workload.clock += 3600.0
    learner, _ = workload.run("last", 1, gains={})
    assert sum(len(gains) for gains in learner.tries.values()) >= 3


def test_a_trial_says_what_it_was_chosen_among(path: Path) -> None:
    Workload(path).run("first")
    chosen = [one for one in stored(path).trials if one.offered]
    assert chosen
    for one in chosen:
        assert one.arm in one.offered
        assert one.probability is not None
        assert 0 < one.probability <= 1
        assert one.interval is None or one.interval[0] <= one.gain <= one.interval[1] or one.outcome != "promoted"


def test_a_run_goes_on_where_the_memory_cannot_be_written(path: Path) -> None:
    """As on a disk that is full, or gone: it is told once, and what is found is kept all the same."""
    workload = Workload(path)
    memory = Memory.open(path)
    session = Session(memory, "first", "boot", lambda: HERE)
    memory.close()
    learner = RememberingLearner(session, LinearBandit(seed=1), seed=1)
    learner, decisions = workload.go(learner, 400, 1, GAINS, lambda _: False, True)
    assert learner.kept.name == "pin"
    assert sum("the run goes on without" in one.because for one in decisions) == 1


def test_what_could_not_be_stored_is_stored_when_there_is_room(path: Path) -> None:
    Memory.open(path).close()
    workload = Workload(path)
    with Memory.open(path, timeout_s=0.01) as memory:
        session = Session(memory, "first", "boot", lambda: HERE)
        learner = RememberingLearner(session, LinearBandit(seed=1), seed=1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        workload.go(learner, 400, 1, GAINS, lambda one: one.event == "rolled back", False)
        assert memory.read() == Learned()
        other.execute("ROLLBACK")
        other.close()
        learner.notebook.close()
        assert memory.read().trials


@pytest.mark.long
def test_two_runs_at_once_learn_of_their_own_and_break_nothing(path: Path) -> None:
    """Interleaved, on one file: each stores what it found, and neither removes what is the other's."""
    one, other = Workload(path), Workload(path, vector=ELSEWHERE)
    with Memory.open(path) as first, Memory.open(path) as second:
        learners = [
            RememberingLearner(Session(memory, name, "boot", lambda: HERE), LinearBandit(seed=1), seed=1)
            for memory, name in ((first, "one"), (second, "other"))
        ]
        for _ in range(40):
            one.go(learners[0], 10, 1, GAINS, lambda _: False, False)
            other.go(learners[1], 10, 2, {"fast": 0.15, "pin": -0.2}, lambda _: False, False)
    found = stored(path)
    assert {proof.parts for proof in found.proofs} >= {PIN.parts}
    assert {trial.run for trial in found.trials} == {"one", "other"}
