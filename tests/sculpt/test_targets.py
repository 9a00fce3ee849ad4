"""How workloads of a run are named and told apart, and what of several is held back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.errors import TargetGoneError
from dna.target import Target
from hal.host import LinuxHost
from hal.settings import SYSTEM, Setting, Subject, thread
from sculpt.sharing import shared
from sculpt.targets import Asked, named, single
from sculpt.turns import Turn, Turns

HOST = LinuxHost()


@given(st.lists(st.sampled_from(["redis", "redis-2", "nginx"]), max_size=12))
def test_every_workload_has_a_name_of_its_own(programs: list[str]) -> None:
    names: list[str] = []
    for program in programs:
        names.append(named(program, names))
    assert len(set(names)) == len(names)
    assert all(name.startswith(program) for name, program in zip(names, programs, strict=True))


def test_one_that_comes_back_has_its_name_again() -> None:
    assert named("redis", ["redis", "redis-3"]) == "redis-2"
    assert named("redis", []) == "redis"


def test_one_that_is_not_there_is_waited_for_or_refused() -> None:
    nobody = Target.comm("^no-such-program-anywhere$")
    assert single(HOST, Asked(nobody, wait=True)) == ()
    with pytest.raises(TargetGoneError):
        single(HOST, Asked(nobody))


def test_only_one_of_several_has_a_trial() -> None:
    turns = Turns()
    one, other = Turn("one", turns), Turn("other", turns)
    assert one.hold() == other.hold() == ""
    one.note(trying=True)
    assert one.hold() == ""
    assert "one has a trial" in other.hold()
    other.note(trying=False)
    assert other.hold()
    one.note(trying=False)
    assert other.hold() == ""


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


def test_what_is_the_machines_is_held_back_where_several_are_served(sleeper: int) -> None:
    own = [Setting("cpu.affinity", thread(sleeper, 1), "0")]
    whole = [Setting("memory.swappiness", SYSTEM, 10)]
    assert shared(HOST, own, {1}, 2) == ""
    assert shared(HOST, whole, (), 1) == ""
    assert "whole machine" in shared(HOST, [*own, *whole], (), 2)


def test_a_cgroup_that_holds_two_of_them_is_held_back(sleeper: int) -> None:
    with open(f"/proc/{sleeper}/cgroup") as file:
        path = file.readline().strip().split(":", 2)[2]
    settings = [Setting("cgroup.cpu_weight", Subject("cgroup", path), 10)]
    assert "more than one" in shared(HOST, settings, {sleeper}, 2)
    assert shared(HOST, settings, {os.getpid() + 10**7}, 2) == ""
