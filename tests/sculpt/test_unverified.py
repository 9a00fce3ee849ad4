"""Where nothing can be judged, and where what judges comes to grief: what the loop then does to a real process."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.vector import Dna, Interval, Profile
from hal.host import LinuxHost
from hal.journal import Journal
from hal.machine import read
from hal.processes import start_of
from hal.settings import tree
from rl.bandit import LinearBandit
from rl.learner import Decision, Learner, Seen
from rules import rule, s, w, when
from rules.advice import Advisor
from rules.engine import Engine
from rules.rule import Rule, Yielded
from rules.situation import Machine, Workload
from sculpt.actuator import Actuator
from sculpt.candidates import Candidate, Found, Layer
from sculpt.guard import Guard
from sculpt.loop import Loop
from sculpt.plausible import BELIEVED, LEAST, Plausible
from sculpt.step import ADVISE, APPLY, Judged, Record
from sculpt.unverified import is_unverified, suggested

HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))
HARDWARE = read(HOST)
needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")
NOTHING = Judged(None, "nothing goes with its speed", has_objective=False)


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


@rule(expect="throughput +5..15 %")
@when(w.demand.cores > 0.5)
def pin(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.affinity(workload, str(CPUS[0]))


@rule(expect="throughput +5..15 %")
@when(w.demand.cores > 0.5)
def nicer(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.nice(workload, 5)


class World:
    """One process that nobody can judge, unless said otherwise."""

    def __init__(
        self, pid: int, folder: Path, *, unverified: bool, mode: str = APPLY, rules: Sequence[Rule] = (pin,)
    ) -> None:
        self.pid, self.time = pid, 0.0
        self.vector, self.novelty = np.zeros(16), 0.5
        self.judged: Judged = NOTHING
        start = start_of(HOST, pid)
        assert start is not None
        workload = Workload("sleeper", tree(pid, start), {"demand.cores": 1.0})
        self.journal = Journal(folder / "journal")
        self.loop = Loop(
            "sleeper",
            mode,
            HOST,
            lambda: Machine(HARDWARE),
            lambda *_: workload,
            lambda *_: self.judged,
            Advisor(Engine(rules)),
            Learner(LinearBandit(seed=1), seed=1),
            Actuator(HOST, self.journal, "test"),
            Guard(kill_switch=str(folder / "stop")),
            unverified=unverified,
            own_limit=1e9,
        )
        self.intervals: list[Interval] = []

    def step(self, *, ended: float | None = None) -> Record:
        self.time += 5.0
        dna = Dna(self.vector, self.novelty, "m")
        self.intervals.append(Interval(self.time, {}, {"cores": 1.0}, {}, dna, {}))
        return self.loop.step(Profile("p", "", {}, {}, 0.0, 5.0, tuple(self.intervals[-6:])), ended=ended)

    def run(self, steps: int) -> list[Record]:
        return [self.step() for _ in range(steps)]

    @property
    def pinned(self) -> bool:
        return os.sched_getaffinity(self.pid) == {CPUS[0]}

    @property
    def nice(self) -> int:
        return os.getpriority(os.PRIO_PROCESS, self.pid)


@needs_two
def test_where_nothing_can_be_judged_it_only_advises_and_says_so(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=False)
    records = world.run(30)
    assert not world.pinned
    assert all(record.in_force == "baseline" for record in records)
    assert "only advised" in records[-1].decision.because
    assert "nothing goes with its speed" in records[-1].decision.because
    assert [record.decision.event for record in records].count("blind") == 1
    assert not any(record.unverified for record in records)


@needs_two
def test_when_asked_for_it_applies_what_the_rules_suggest_and_names_it_so(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=True, rules=(pin, nicer))
    records = world.run(20)
    assert world.pinned
    assert world.nice == 5
    assert [record.decision.event for record in records].count("unverified") == 1
    assert records[-1].unverified
    assert records[-1].in_force.startswith("unverified ")
    assert all("unverified" in one.title for one in world.journal.transactions())
    world.loop.end(keep=True)  # what is kept is what was proven, and this never was
    assert not world.pinned
    assert world.nice == 0


@needs_two
def test_it_is_taken_back_when_there_is_something_to_judge_by(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=True)
    world.run(10)
    assert world.pinned
    world.judged = Judged(100.0)
    world.run(1)
    assert not world.pinned
    assert world.step().decision.state in ("hold", "trial")


@needs_two
@pytest.mark.parametrize("what", ["phase", "novel", "pause", "stop", "other"])
def test_what_stands_against_it_holds_for_it_too(sleeper: int, tmp_path: Path, what: str) -> None:
    world = World(sleeper, tmp_path, unverified=True)
    if what in ("phase", "stop", "other"):
        world.run(10)
        assert world.pinned
    if what == "phase":
        world.vector = np.full(16, 3.0)
        events = [record.decision.event for record in world.run(8)]
        assert "phase" in events
    elif what == "novel":
        world.novelty = 9.0
        assert "unlike anything known" in world.run(10)[-1].decision.because
    elif what == "pause":
        world.loop.is_paused = lambda: True
        world.run(10)
    elif what == "stop":
        (tmp_path / "stop").touch()
        world.run(2)
    else:
        os.sched_setaffinity(sleeper, {CPUS[1]})
        assert world.run(3)[0].lost
        assert os.sched_getaffinity(sleeper) == {CPUS[1]}
    assert not world.pinned


def layer(name: str, *, one_way: bool = False) -> Layer:
    return Layer(name, (), one_way)


def test_what_cannot_be_undone_exactly_is_never_applied_unverified() -> None:
    assert suggested(Found((Candidate(), Candidate((layer("move", one_way=True),))), ()), Candidate()) is None
    found = Found((Candidate(), Candidate((layer("move", one_way=True),)), Candidate((layer("pin"),))), ())
    chosen = suggested(found, Candidate())
    assert chosen is not None
    assert chosen.name == "unverified pin"
    assert is_unverified(chosen)
    assert not is_unverified(found.candidates[2])
    assert suggested(found, chosen) is None


# --- what judges comes to grief


def test_a_judge_that_raises_is_caught_and_counted(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=False)

    def broken(_interval: Interval, _stall_s: float) -> Judged:
        raise ZeroDivisionError("by nothing")

    world.loop.judge = broken
    records = world.run(5)
    assert "ZeroDivisionError" in records[-1].judged.why
    assert world.loop.counts["judging failed"] == 5


class Broken(Learner):
    """A learner that comes to grief while it is told to."""

    broken = False

    def decide(self, seen: Seen) -> Decision:
        if self.broken:
            raise FloatingPointError("overflow")
        return super().decide(seen)


@needs_two
def test_a_model_that_comes_to_grief_leads_to_the_baseline_and_is_asked_again(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=False)
    learner = world.loop.learner = Broken(LinearBandit(seed=1), seed=1)
    draw = np.random.default_rng(1)

    def judge(_interval: Interval, _stall_s: float) -> Judged:
        return Judged(math.exp((0.2 if world.pinned else 0.0) + draw.normal(0, 0.02)))

    world.loop.judge = judge
    while "promoted" not in {record.decision.event for record in world.run(1)}:
        assert world.time < 5 * 300
    assert world.pinned
    learner.broken = True
    failed = world.step()
    assert failed.decision.event == "failed"
    assert any("overflow" in one for one in failed.trouble)
    assert not world.pinned
    world.run(2)
    learner.broken = False
    world.run(2)
    assert world.pinned
    assert world.loop.counts["model failed"] == 3


@needs_two
def test_rules_that_cannot_be_asked_are_counted_and_change_nothing(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=True)

    def broken(*_: object) -> Workload:
        raise KeyError("vector")

    world.loop.look = broken
    records = world.run(6)
    assert any("KeyError" in one for record in records for one in record.trouble)
    assert world.loop.counts["rules not asked"] >= 1
    assert not world.pinned


@needs_two
def test_a_decision_that_comes_late_is_not_carried_out(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, unverified=True)
    records = [world.step(ended=-1e9) for _ in range(10)]
    assert not world.pinned
    assert world.loop.counts["decided late"] >= 1
    assert any("too late" in one for record in records for one in record.trouble)


@given(st.floats(1e-3, 1e6), st.floats(1e3, 1e9), st.booleans())
def test_one_measurement_that_cannot_be_is_not_believed_and_many_are(usual: float, factor: float, up: bool) -> None:
    plausible = Plausible()
    assert {plausible.refusal(usual) for _ in range(LEAST)} == {""}
    strange = usual * factor if up else usual / factor
    refused = [plausible.refusal(strange) for _ in range(BELIEVED)]
    assert all(refused[:-1])
    assert refused[-1] == ""
    assert plausible.refusal(strange) == ""


@given(st.lists(st.floats(0.2, 5.0), min_size=1, max_size=60))
def test_what_varies_as_workloads_do_is_believed(rewards: list[float]) -> None:
    plausible = Plausible()
    assert all(plausible.refusal(reward) == "" for reward in rewards)


# --- unlike anything known


@needs_two
@pytest.mark.parametrize("unverified", [False, True])
@pytest.mark.parametrize("mode", [ADVISE, APPLY])
def test_one_that_is_unlike_anything_known_is_only_watched(
    sleeper: int, tmp_path: Path, mode: str, unverified: bool
) -> None:
    world = World(sleeper, tmp_path, unverified=unverified, mode=mode)
    world.judged = NOTHING if unverified else Judged(100.0)
    world.novelty = 9.0
    records = world.run(40)
    assert "unlike anything known (novelty 9.0, most_novelty 2.0): only watched" in records[-1].decision.because
    assert {record.in_force for record in records} == {"baseline"}
    if mode == ADVISE:
        assert records[-1].proposed == ()
        assert "only watched" in {held.because.partition(": ")[2] for held in records[-1].held}
        world.novelty = 0.5
        assert world.step().proposed
