"""Workloads as rules see them: out of profiles, and out of what runs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from dna.errors import TargetError
from dna.export import read_json
from dna.library import Entry, Library
from dna.target import Target
from dna.vector import DIMENSIONS, Interval, Profile
from hal.fake import FakeHost
from hal.host import LinuxHost
from hal.planning import make_plan
from hal.processes import start_of
from hal.settings import Setting, cgroup, thread, tree
from rules import gather
from rules.errors import RuleError
from rules.gather_running import Found, running, single_targets, still_running
from rules.gather_situation import Asked, gather_situation
from rules.gather_workload import ELSEWHERE, label_of, live_workload, workload_of
from rules.situation import Machine
from rules.tables import FACTS, NEIGHBOURS, WORKLOAD
from tests.dna.profiles import make_interval, make_profile, profiles

HERE = LinuxHost()
EXAMPLES = Path(__file__).parents[2] / "examples" / "profiles"
TWO_NODES = "pack:2 numa:1(memory=64GB) l3:1(size=32MB) core:4 pu:1"
NAMES = {fact.name for fact in WORKLOAD} | {NEIGHBOURS}
VECTOR = [0.5] * DIMENSIONS


def with_detail(profile: Profile, **detail: object) -> Profile:
    """Return a profile whose intervals have this in their detail."""
    return replace(profile, intervals=tuple(replace(i, detail=detail) for i in profile.intervals))


# --- what a profile says


def test_now_is_the_median_and_earlier_are_the_intervals_but_the_last() -> None:
    rows: list[dict[str, float | None]] = [{"memory.random_share": share} for share in (0.2, 0.9, 0.8)]
    workload = workload_of(make_profile(rows, name="mine", vector=VECTOR))
    assert workload.values["memory.random_share"] == 0.8
    assert [values["memory.random_share"] for values in workload.earlier] == [0.2, 0.9]
    assert len(workload.times) == 3
    assert workload.times == tuple(sorted(workload.times))
    assert (workload.values["name"], workload.values["intervals"], workload.values["novelty"]) == ("mine", 3, 0.5)


def test_the_nearest_known_workload_and_how_far_it_is() -> None:
    entries = (Entry("redis", "r1", np.array(VECTOR) + 0.25), Entry("nginx", "n1", np.array(VECTOR) + 1.0))
    workload = workload_of(make_profile(vector=VECTOR), Library("model-1", entries))
    assert workload.values["nearest.label"] == "redis"
    assert workload.values["nearest.distance"] == pytest.approx(1.0)
    neighbours = workload.values[NEIGHBOURS]
    assert isinstance(neighbours, tuple)
    assert [match.label for match in neighbours] == ["redis", "nginx"]
    foreign = workload_of(make_profile(vector=VECTOR), Library("another-model", entries))
    assert foreign.values["nearest.label"] is None
    assert foreign.values[NEIGHBOURS] is None


def test_detail_tells_of_peers_huge_pages_and_nodes() -> None:
    peers = [{"pid": 7, "name": "a", "connections": 2, "port": 1}, {"pid": 7, "name": "a", "connections": 1, "port": 2}]
    profile = make_profile()
    interval = make_interval(profile.started + 5, demand={"resident": 4000.0})
    profile = with_detail(
        replace(profile, intervals=(interval,)),
        peers=peers,
        pages_by_node={"0": 250, "2": 750},
        huge_pages={"eligible": 1000, "present": 250},
    )
    workload = workload_of(profile)
    assert workload.peers == {7: 3}
    assert workload.node_bytes == {0: 1000, 2: 3000}
    assert workload.home == 2
    facts = ("loopback_peers", "hugepages.eligible", "hugepages.dense_share")
    assert [workload.values[name] for name in facts] == [1, 1000.0, 0.25]


def test_what_was_not_measured_is_unknown_rather_than_none_at_all() -> None:
    workload = workload_of(make_profile())
    unknown = ("loopback_peers", "hugepages.eligible", "hugepages.dense_share", "nearest.label", "novelty")
    assert [workload.values[name] for name in unknown] == [None] * len(unknown)
    assert not any(name.startswith(("cpus.", "placement.")) or name in ("nice", "realtime") for name in workload.values)
    none_there = workload_of(with_detail(make_profile(), peers=[], huge_pages={"eligible": 0, "present": 0}))
    assert (none_there.values["loopback_peers"], none_there.values["hugepages.eligible"]) == (0, 0.0)
    assert none_there.values["hugepages.dense_share"] is None


@given(profiles)
@settings(deadline=None)
def test_any_profile_is_a_workload_of_facts_that_are_in_the_table(profile: Profile) -> None:
    workload = workload_of(profile)
    known = {f"{word}.{name}" for word in ("w",) for name in NAMES}
    assert {f"w.{name}" for name in workload.values} <= known
    assert len(workload.times) == len(profile.intervals)
    assert len(workload.earlier) == max(len(profile.intervals) - 1, 0)


def test_every_fact_of_the_examples_is_in_the_table() -> None:
    for path in EXAMPLES.glob("*.json"):
        for values in (workload_of(read_json(path)).values, *workload_of(read_json(path)).earlier):
            assert {f"w.{name}" for name in values if name != NEIGHBOURS} <= FACTS.keys()


@pytest.mark.parametrize(
    ("name", "target", "label"),
    [
        ("mine", {"comm": "redis"}, "mine"),
        ("", {"comm": "redis", "value": "42"}, "redis"),
        ("", {"kind": "cgroup", "comm": "", "value": "/web"}, "/web"),
        ("", {}, "workload"),
    ],
)
def test_a_workload_is_called_as_the_user_would(name: str, target: dict[str, object], label: str) -> None:
    assert label_of(replace(make_profile(name=name), target=target)) == label


# --- what runs


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def machine() -> Machine:
    return gather.read_machine(HERE)


def found(pid: int) -> Found:
    return Found(tree(pid, start_of(HERE, pid) or 0), (pid,))


def test_a_process_of_this_machine(sleeper: subprocess.Popen[bytes], machine: Machine) -> None:
    allowed = os.sched_getaffinity(sleeper.pid)
    workload = live_workload(HERE, make_profile(), found(sleeper.pid), machine)
    assert workload.cpus == allowed
    assert workload.values["cpus.allowed"] == len(allowed)
    assert workload.values["cpus.pinned"] is False
    assert (workload.values["nice"], workload.values["realtime"]) == (os.getpriority(os.PRIO_PROCESS, 0), False)
    assert workload.cgroup.startswith("/")
    assert str(sleeper.pid) in workload.name


def test_a_process_that_somebody_pinned(sleeper: subprocess.Popen[bytes], machine: Machine) -> None:
    allowed = sorted(os.sched_getaffinity(sleeper.pid))
    if len(allowed) < 2:
        pytest.skip("there is one CPU only: nothing to pin to")
    os.sched_setaffinity(sleeper.pid, allowed[:1])
    os.setpriority(os.PRIO_PROCESS, sleeper.pid, 7)
    values = live_workload(HERE, make_profile(), found(sleeper.pid), machine).values
    assert (values["cpus.pinned"], values["cpus.allowed"], values["nice"]) == (True, 1, 7)
    ours = {("cpu.affinity", thread(sleeper.pid, start_of(HERE, sleeper.pid) or 0)): str(allowed[0])}
    assert live_workload(HERE, make_profile(), found(sleeper.pid), machine, ours=ours).values["cpus.pinned"] is False


def test_memory_is_held_against_the_nodes_of_its_cpus() -> None:
    machine = gather.described_machine(TWO_NODES)
    host = FakeHost({"/sys/devices/system/cpu/online": "0-7\n", "/proc/self/mounts": ""})
    host.start(9, "db")
    host.tasks[9].affinity = (0, 1)
    resident = make_interval(10.0, demand={"resident": 1000.0})
    profile = replace(make_profile(), intervals=(replace(resident, detail={"pages_by_node": {"0": 100, "1": 900}}),))
    values = live_workload(host, profile, Found(tree(9, 0), (9,)), machine).values
    placed = {name: values[name] for name in values if name.startswith("placement.")}
    assert placed == {
        "placement.nodes": 1,
        "placement.home_share": 0.9,
        "placement.home_free_share": None,
        "placement.here_share": 0.1,
    }
    assert (values["cpus.nodes"], values["cpus.pinned"]) == (1, True)


def test_a_target_and_its_children(sleeper: subprocess.Popen[bytes]) -> None:
    target = running(HERE, Target.pid(sleeper.pid))
    assert target == found(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert running(HERE, Target.pid(sleeper.pid)) is None


def test_programs_of_one_name_are_targets_of_their_own() -> None:
    host = FakeHost({"/proc/self/mounts": ""})
    host.start(1, "init", parent=0)
    host.start(10, "postgres")
    host.start(11, "postgres", parent=10)
    host.start(20, "postgres")
    assert single_targets(host, Target.comm("postgres")) == (Target.pid(10), Target.pid(20))
    with pytest.raises(TargetError, match="whole machine"):
        single_targets(host, Target.host())


def test_a_stored_profile_is_told_from_whoever_has_its_pid_now(sleeper: subprocess.Popen[bytes]) -> None:
    comm = Path(f"/proc/{sleeper.pid}/comm").read_text().strip()
    target = {"kind": "pid", "value": str(sleeper.pid), "comm": comm, "pids": [sleeper.pid]}
    machine = {"hostname": platform.node()}
    now = replace(make_profile(started=time.time()), target=target, machine=machine)
    assert still_running(HERE, now) == found(sleeper.pid)
    before = replace(now, started=time.time() - 3600)  # recorded before this process began
    assert still_running(HERE, before) is None
    assert still_running(HERE, replace(now, target={**target, "comm": "another"})) is None
    assert still_running(HERE, replace(now, machine={"hostname": "elsewhere"})) is None


# --- situations


def test_on_another_machine_what_was_of_its_own_is_unknown() -> None:
    (workload,) = gather_situation(
        Asked(profiles=(read_json(EXAMPLES / "pipeline.json"),), topology=TWO_NODES)
    ).situation.workloads
    assert [workload.values[name] for name in ELSEWHERE] == [None] * len(ELSEWHERE)
    assert all(values[name] is None for values in workload.earlier for name in ELSEWHERE)
    assert workload.node_bytes == {}
    assert workload.values["comm.pipe_share"] is not None


def test_those_recorded_together_still_know_each_other() -> None:
    names = ("redis-server", "redis-benchmark", "node-http")
    asked = Asked(profiles=tuple(read_json(EXAMPLES / f"{name}.json") for name in names), topology=TWO_NODES)
    server, client, other = gather_situation(asked).situation.workloads
    assert set(server.peers) == set(client.pids)
    assert set(client.peers) == set(server.pids)
    assert not other.peers
    assert len({workload.subject for workload in (server, client, other)}) == 3


def test_two_of_one_name_are_told_apart() -> None:
    profile = read_json(EXAMPLES / "node-http.json")
    gathered = gather_situation(Asked(profiles=(profile, profile), topology=TWO_NODES))
    assert [workload.name for workload in gathered.situation.workloads] == ["node-http", "node-http #2"]


def test_a_plan_can_be_made_for_what_does_not_run() -> None:
    gathered = gather_situation(Asked(profiles=(read_json(EXAMPLES / "gcc-make.json"),)))
    (workload,) = gathered.situation.workloads
    assert gathered.stand_ins == {workload.subject: "gcc-make"}
    assert "does not run any more" in gathered.notes[0]
    plan = make_plan(gathered.host, [Setting("cpu.nice", workload.subject, 5)])
    assert {(change.old, change.new) for change in plan.changes} == {(0, 5)}
    assert len(plan.changes) == round(workload.number("demand.threads") or 0)
    assert not any(start_of(HERE, int(change.subject.name)) for change in plan.changes)


def test_nothing_asked_about_is_said() -> None:
    with pytest.raises(RuleError, match="nothing is asked"):
        gather_situation(Asked())


@pytest.mark.long
def test_several_targets_are_watched_together(sleeper: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"])
    seen: list[Interval] = []
    try:
        gathered = gather_situation(
            Asked((Target.pid(sleeper.pid), Target.pid(other.pid)), interval_s=0.5, duration_s=1.0),
            watching=lambda _target, interval: seen.append(interval),
        )
    finally:
        other.kill()
        other.wait()
    idle, busy = gathered.situation.workloads
    assert (idle.subject.name, busy.subject.name) == (str(sleeper.pid), str(other.pid))
    assert (busy.number("demand.cores") or 0) > (idle.number("demand.cores") or 0)
    assert gathered.is_here
    assert not gathered.stand_ins
    assert len(seen) >= 2
    first, second = gathered.profiles
    assert first.started <= second.intervals[-1].t
    assert second.started <= first.intervals[-1].t


def test_a_cgroup_is_a_subject_of_its_own() -> None:
    mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
    host = FakeHost({"/proc/self/mounts": mounts, "/sys/fs/cgroup/web/cgroup.procs": "31\n30\n"})
    host.start(1, "init", parent=0)
    host.start(30, "nginx")
    host.start(31, "nginx", parent=30)
    assert running(host, Target.cgroup("/web")) == Found(cgroup("/web"), (30, 31))
    assert running(host, Target.cgroup("/gone")) is None
