"""The loop on a real process, with a reward that depends on what is really in force: it finds what pays, and leaves what does not."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dna.vector import Dna, Interval, Profile
from hal.host import LinuxHost
from hal.journal import Journal
from hal.machine import read
from hal.processes import start_of
from hal.settings import tree
from rl.bandit import LinearBandit
from rl.learner import Learner
from rules import rule, s, w, when
from rules.advice import Advisor
from rules.engine import Engine
from rules.reload import Rules
from rules.rule import Rule, Yielded
from rules.situation import Machine, Workload
from rules.sources import Sources
from sculpt.actuator import Actuator
from sculpt.guard import Guard, Window, window_of
from sculpt.loop import Loop
from sculpt.step import ADVISE, APPLY, OBSERVE, Judged, Record
from sculpt.turns import Turn, Turns

HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))
HARDWARE = read(HOST)
pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


def pin_to(cpu: int) -> Rule:
    @rule(expect="throughput +5..15 %")
    @when(w.demand.cores > 0.5)
    def pin(workload: Workload) -> Iterator[Yielded]:
        """Why."""
        yield s.cpu.affinity(workload, str(cpu))

    return pin


class World:
    """One workload whose reward is higher by ``gain`` (in logarithms) while it is pinned to a single CPU."""

    def __init__(
        self, pid: int, folder: Path, *, gain: float, mode: str = APPLY, guard: Guard | None = None, seed: int = 1
    ) -> None:
        self.pid, self.gain, self.time = pid, gain, 0.0
        self.draw = np.random.default_rng(seed)
        self.missing = False
        self.vector = np.zeros(16)
        self.moved = np.zeros(16)
        """What being pinned does to the DNA."""
        start = start_of(HOST, pid)
        assert start is not None
        workload = Workload("sleeper", tree(pid, start), {"demand.cores": 1.0})
        guard = guard or Guard(kill_switch=str(folder / "stop"))
        self.loop = Loop(
            "sleeper",
            mode,
            HOST,
            lambda: Machine(HARDWARE),
            lambda *_: workload,
            self.judge,
            Advisor(Engine([pin_to(CPUS[0])])),
            Learner(LinearBandit(seed=seed), seed=seed),
            Actuator(HOST, Journal(folder / "journal"), "test"),
            guard,
            own_limit=1e9,
        )
        self.intervals: list[Interval] = []

    def judge(self, _interval: Interval, _stall_s: float) -> Judged:
        if self.missing:
            return Judged(None, "gone")
        gain = self.gain if len(os.sched_getaffinity(self.pid)) == 1 else 0.0
        return Judged(math.exp(gain + self.draw.normal(0, 0.02)))

    def step(self) -> Record:
        self.time += 5.0
        own = self.moved if self.pinned else 0.0
        dna = Dna(self.vector + own + self.draw.normal(0, 0.05, 16), 0.5, "m")
        self.intervals.append(Interval(self.time, {}, {"cores": 1.0}, {}, dna, {}))
        return self.loop.step(Profile("p", "", {}, {}, 0.0, 5.0, tuple(self.intervals[-6:])))

    def run(self, steps: int, until: Callable[[Record], bool] = lambda _: False) -> list[Record]:
        records = []
        for _ in range(steps):
            records.append(self.step())
            if until(records[-1]):
                break
        return records

    @property
    def pinned(self) -> bool:
        return os.sched_getaffinity(self.pid) == {CPUS[0]}


def promoted(record: Record) -> bool:
    return record.decision.event == "promoted"


def test_what_pays_is_found_kept_and_taken_back_at_the_end(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    records = world.run(300, promoted)
    assert promoted(records[-1])
    assert world.pinned
    world.run(20)
    assert world.pinned
    assert world.loop.end(keep=False).error == ""
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_what_pays_is_kept_at_the_end_if_so_declared(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.run(300, promoted)
    assert world.loop.end(keep=True).error == ""
    assert world.pinned


def test_what_hurts_is_tried_and_left(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=-0.2)
    records = world.run(300, lambda record: record.decision.event == "rolled back")
    assert records[-1].decision.event == "rolled back"
    assert any("rolled back" in alert for alert in records[-1].alerts)
    assert os.sched_getaffinity(sleeper) == set(CPUS)


@pytest.mark.parametrize("mode", [OBSERVE, ADVISE])
def test_other_modes_change_nothing(sleeper: int, tmp_path: Path, mode: str) -> None:
    world = World(sleeper, tmp_path, gain=0.2, mode=mode)
    records = world.run(50)
    assert os.sched_getaffinity(sleeper) == set(CPUS)
    assert not (tmp_path / "journal").exists()
    assert all(record.done is None for record in records)
    assert bool(records[-1].proposed) is (mode == ADVISE)


def test_the_kill_switch_takes_everything_back(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.run(300, promoted)
    assert world.pinned
    (tmp_path / "stop").touch()
    (record,) = world.run(1)
    assert any("stop" in alert for alert in record.alerts)
    assert os.sched_getaffinity(sleeper) == set(CPUS)
    world.run(30)
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_what_the_guard_forbids_is_no_candidate(sleeper: int, tmp_path: Path) -> None:
    guard = Guard(never=("cpu.*",), kill_switch=str(tmp_path / "stop"))
    records = World(sleeper, tmp_path, gain=0.2, guard=guard).run(50)
    assert not any(record.proposed for record in records)
    assert "never" in records[-1].held[0].because
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_nothing_is_begun_outside_the_windows(sleeper: int, tmp_path: Path) -> None:
    guard = Guard(windows=(closed_window(),), kill_switch=str(tmp_path / "stop"))
    records = World(sleeper, tmp_path, gain=0.2, guard=guard).run(30)
    assert os.sched_getaffinity(sleeper) == set(CPUS)
    assert any("windows" in alert for record in records for alert in record.alerts)


def closed_window() -> Window:
    """Return a window that is never open."""
    return replace(window_of("00:00-00:01"), days=frozenset())


def test_without_measurements_it_goes_back(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.run(300, promoted)
    world.missing = True
    world.run(5)
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_another_phase_goes_back(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.run(300, promoted)
    world.vector = np.full(16, 3.0)
    records = world.run(4)
    assert "phase" in {record.decision.event for record in records}
    assert os.sched_getaffinity(sleeper) == set(CPUS)


@pytest.mark.parametrize("distance", [0.8, 1.5])
def test_what_a_setting_does_to_the_dna_is_no_other_phase(sleeper: int, tmp_path: Path, distance: float) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.moved = np.full(16, distance / 4)
    records = world.run(300, promoted) + world.run(60)
    assert "phase" not in {record.decision.event for record in records}
    assert world.pinned or world.loop.learner.is_trying


def test_another_phase_is_known_also_while_what_is_kept_moves_the_dna(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.moved = np.full(16, 0.3)
    world.run(300, promoted)
    world.run(12)
    world.vector = np.full(16, 0.4)
    records = world.run(12, lambda record: record.decision.event == "phase")
    assert records[-1].decision.event == "phase"
    assert not world.pinned


def test_what_somebody_else_takes_over_is_theirs(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.run(300, promoted)
    os.sched_setaffinity(sleeper, {CPUS[1]})
    (record,) = world.run(1)
    assert any("somebody else" in alert for alert in record.alerts)
    world.run(20)
    assert os.sched_getaffinity(sleeper) == {CPUS[1]}


def test_a_rule_that_fails_is_an_alert(sleeper: int, tmp_path: Path) -> None:
    @rule()
    def broken(workload: Workload) -> None:
        """Why."""
        raise ZeroDivisionError("no")

    world = World(sleeper, tmp_path, gain=0.2)
    world.loop.advisor = Advisor(Engine([broken]))
    (record,) = world.run(1)
    assert any("ZeroDivisionError" in alert for alert in record.alerts)


RULE = """
from rules import rule, s, w, when

@rule(source="x")
@when(w.demand.cores > 0.5)
def pin(workload):
    \"\"\"Why.\"\"\"
    yield s.cpu.affinity(workload, "{cpu}")
"""


def test_rule_files_are_followed_and_a_broken_one_changes_nothing(sleeper: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RULE.format(cpu=CPUS[0]))
    world = World(sleeper, tmp_path, gain=0.2, mode=ADVISE)
    world.loop.follow = Rules(Sources(given=(file,), packs=(), system=None), check=lambda *_: [])
    world.loop.advisor = Advisor(Engine(world.loop.follow.rules))
    assert world.run(1)[0].proposed == ("mine.pin",)
    file.write_text("this is no Python")
    told = [alert for record in world.run(8) for alert in record.alerts]
    assert len(told) == 1
    assert "not taken in" in told[0]
    assert world.run(1)[0].proposed == ("mine.pin",)
    file.write_text(RULE.format(cpu=CPUS[1]).replace("def pin", "def other"))
    records = world.run(5)
    assert any("taken in" in alert for record in records for alert in record.alerts)
    assert records[-1].proposed == ("mine.other",)


def test_a_target_that_ends_is_no_error(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    world.run(300, promoted)
    subprocess.run(["kill", "-9", str(sleeper)], check=True)
    os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)
    assert world.loop.end(keep=False).error == ""


def test_a_pause_ends_the_trial_and_leaves_what_is_kept(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    paused = False
    world.loop.is_paused = lambda: paused
    assert world.run(300, lambda record: record.decision.state == "trial")[-1].decision.state == "trial"
    paused = True
    held = world.step()
    assert held.decision.event == "held"
    assert "paused" in held.decision.because
    assert not world.pinned
    assert not any(record.decision.candidate for record in world.run(40))
    paused = False
    assert promoted(world.run(300, promoted)[-1])
    paused = True
    world.run(10)
    assert world.pinned


def test_while_another_workload_has_a_trial_none_is_begun(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.2)
    turns = Turns("other")
    world.loop.turn = Turn("sleeper", turns)
    records = world.run(60)
    assert {record.decision.state for record in records} == {"hold"}
    assert "other has a trial" in records[-1].decision.because
    turns.note("other", trying=False)
    assert promoted(world.run(300, promoted)[-1])
    assert turns.holder == ""
