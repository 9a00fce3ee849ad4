"""Layers go in force and come back on a real process of this machine, and others' changes are noticed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hal.host import LinuxHost
from hal.journal import Journal
from hal.processes import start_of
from hal.settings import Setting, tree
from sculpt.actuator import Actuator
from sculpt.candidates import Candidate, Layer

HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))
OWN_NICE = os.getpriority(os.PRIO_PROCESS, 0)
needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")
pytestmark = needs_two


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


def pinned(pid: int, cpu: int, name: str = "") -> Layer:
    start = start_of(HOST, pid)
    assert start is not None
    return Layer(name or f"cpu{cpu}", (Setting("cpu.affinity", tree(pid, start), str(cpu)),))


def nice(pid: int, value: int) -> Layer:
    start = start_of(HOST, pid)
    assert start is not None
    return Layer(f"nice{value}", (Setting("cpu.nice", tree(pid, start), value),))


def actuator(folder: Path) -> Actuator:
    return Actuator(HOST, Journal(folder), "test")


def test_a_layer_goes_in_force_and_comes_back(sleeper: int, tmp_path: Path) -> None:
    acting, before = actuator(tmp_path), os.sched_getaffinity(sleeper)
    done = acting.put(Candidate((pinned(sleeper, CPUS[0]),)))
    assert (done.error, done.changed) == ("", 1)
    assert os.sched_getaffinity(sleeper) == {CPUS[0]}
    assert acting.put(Candidate()).changed == 1
    assert os.sched_getaffinity(sleeper) == before


def test_layers_in_common_stay(sleeper: int, tmp_path: Path) -> None:
    acting = actuator(tmp_path)
    low, high = pinned(sleeper, CPUS[0]), nice(sleeper, 19)
    acting.put(Candidate((low,)))
    assert acting.put(Candidate((low, high))).changed == 1
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == 19
    assert acting.put(Candidate((low,))).changed == 1
    assert (os.getpriority(os.PRIO_PROCESS, sleeper), os.sched_getaffinity(sleeper)) == (OWN_NICE, {CPUS[0]})
    assert acting.restore().error == ""
    assert acting.in_force == Candidate()


def test_one_for_another(sleeper: int, tmp_path: Path) -> None:
    acting, before = actuator(tmp_path), os.sched_getaffinity(sleeper)
    acting.put(Candidate((pinned(sleeper, CPUS[0]),)))
    acting.put(Candidate((pinned(sleeper, CPUS[1]),)))
    assert os.sched_getaffinity(sleeper) == {CPUS[1]}
    acting.restore()
    assert os.sched_getaffinity(sleeper) == before


def test_what_somebody_else_sets_is_noticed_and_left(sleeper: int, tmp_path: Path) -> None:
    acting = actuator(tmp_path)
    acting.put(Candidate((pinned(sleeper, CPUS[0]),)))
    assert acting.lost() == ()
    os.sched_setaffinity(sleeper, {CPUS[1]})
    (found,) = acting.lost()
    assert "cpu.affinity" in found
    acting.restore()
    assert os.sched_getaffinity(sleeper) == {CPUS[1]}


def test_what_fails_leaves_the_layers_below(sleeper: int, tmp_path: Path) -> None:
    acting = actuator(tmp_path)
    low = pinned(sleeper, CPUS[0])
    start = start_of(HOST, sleeper)
    assert start is not None
    bad = Layer("bad", (Setting("cpu.affinity", tree(sleeper, start), "4096"),))
    done = acting.put(Candidate((low, bad)))
    assert "4096" in done.error
    assert done.in_force == Candidate((low,))
    assert os.sched_getaffinity(sleeper) == {CPUS[0]}
    acting.restore()


def test_a_plan_that_is_refused_changes_nothing(sleeper: int, tmp_path: Path) -> None:
    acting, before = actuator(tmp_path), os.sched_getaffinity(sleeper)
    acting.check = lambda plan: f"{len(plan.changes)} are too many"
    done = acting.put(Candidate((pinned(sleeper, CPUS[0]),)))
    assert done.error == "1 are too many"
    assert os.sched_getaffinity(sleeper) == before


def test_a_process_that_ended_is_no_error(sleeper: int, tmp_path: Path) -> None:
    acting = actuator(tmp_path)
    acting.put(Candidate((pinned(sleeper, CPUS[0]),)))
    os.kill(sleeper, 9)
    os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)
    acting.lost()
    assert acting.restore().error == ""


def test_what_cannot_be_flipped_back_stays_until_it_is_taken_back_by_name_or_all_is(
    sleeper: int, tmp_path: Path
) -> None:
    acting = actuator(tmp_path)
    first, second = (replace(one, one_way=True) for one in (pinned(sleeper, CPUS[0], "move"), nice(sleeper, 19)))
    acting.put(Candidate((first,)))
    assert acting.put(Candidate()).changed == 0
    acting.put(Candidate((second,)))
    acting.put(Candidate())
    assert (os.getpriority(os.PRIO_PROCESS, sleeper), os.sched_getaffinity(sleeper)) == (19, {CPUS[0]})
    assert acting.unmake("move").changed == 1
    assert (os.getpriority(os.PRIO_PROCESS, sleeper), os.sched_getaffinity(sleeper)) == (19, set(CPUS))
    assert acting.unmake("move").changed == 0
    assert acting.restore().changed == 1
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == OWN_NICE


def test_what_cannot_be_taken_back_yet_is_told_and_tried_again(sleeper: int, tmp_path: Path) -> None:
    acting, other = actuator(tmp_path), actuator(tmp_path)
    acting.put(Candidate((replace(pinned(sleeper, CPUS[0]), one_way=True),)))
    acting.put(Candidate())
    other.put(Candidate((pinned(sleeper, CPUS[1]),)))
    assert "changed again" in acting.restore().error
    other.restore()
    assert acting.restore().error == ""
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_what_an_upper_layer_sets_again_is_nobody_elses_doing(sleeper: int, tmp_path: Path) -> None:
    acting = actuator(tmp_path)
    low, high = pinned(sleeper, CPUS[0]), pinned(sleeper, CPUS[1])
    acting.put(Candidate((low, high)))
    assert acting.lost() == ()
    os.sched_setaffinity(sleeper, {CPUS[0]})
    assert len(acting.lost()) == 1
    os.sched_setaffinity(sleeper, {CPUS[1]})
    acting.put(Candidate((low,)))
    assert acting.lost() == ()
    assert os.sched_getaffinity(sleeper) == {CPUS[0]}
    acting.restore()
