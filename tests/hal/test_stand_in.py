"""Stand-ins: processes that do not run, on a machine that is otherwise as it is."""

from __future__ import annotations

import os

import pytest

from hal.described import described
from hal.errors import NotFoundError
from hal.fake import FakeHost
from hal.host import LinuxHost
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.processes import all_pids, read_process, threads_of
from hal.settings import Setting, process
from hal.stand_in import FIRST_PID, MOST_THREADS, StandIns
from hal.topology import from_synthetic

TWO_NODES = "pack:2 numa:1(memory=64GB) core:4 pu:2"


def on_two_nodes() -> StandIns:
    return StandIns(described(from_synthetic(TWO_NODES)))


def test_a_stand_in_is_a_process_like_others() -> None:
    stand_ins = on_two_nodes()
    subject = stand_ins.start("redis-server", threads=5)
    pid = int(subject.name)
    assert pid in all_pids(stand_ins.host)
    assert len(threads_of(stand_ins.host, pid)) == 5
    found = read_process(stand_ins.host, pid)
    assert found is not None
    assert (found.comm, found.start) == ("redis-server", subject.start)


def test_settings_can_be_planned_for_it() -> None:
    stand_ins = on_two_nodes()
    subject = stand_ins.start("db", threads=3)
    wanted = [
        Setting("cpu.affinity", subject, "0-7"),
        Setting("memory.placement", subject, "0=1"),
        Setting("memory.hugepages", subject, "collapse:0.5"),
    ]
    plan = make_plan(stand_ins.host, wanted)
    assert plan.left_out == ()
    assert {change.old for change in plan.changes if change.knob == "cpu.affinity"} == {"0-15"}
    assert [change.old for change in plan.changes if change.knob == "memory.placement"] == ["0=0.5,1=0.5"]


def test_no_process_of_the_running_machine_can_have_its_pid() -> None:
    stand_ins = StandIns(LinuxHost())
    subject = stand_ins.start("gone", threads=2)
    assert int(subject.name) >= FIRST_PID
    assert int(subject.name) > int(LinuxHost().read_text("/proc/sys/kernel/pid_max"))
    plan = make_plan(stand_ins.host, [Setting("cpu.nice", subject, 3)])
    assert {change.new for change in plan.changes} == {3}


def test_everything_else_is_the_machine_s() -> None:
    here = LinuxHost()
    stand_ins = StandIns(here)
    stand_ins.start("gone")
    assert stand_ins.host.read_text("/proc/sys/kernel/hostname") == here.read_text("/proc/sys/kernel/hostname")
    assert stand_ins.host.affinity(os.getpid()) == here.affinity(os.getpid())
    assert os.getpid() in all_pids(stand_ins.host)
    with pytest.raises(NotFoundError):
        stand_ins.host.read_text(f"/proc/{FIRST_PID + 5 * MOST_THREADS}/stat")


def test_threads_are_as_many_as_are_asked_for_within_reason() -> None:
    stand_ins = on_two_nodes()
    many, few = stand_ins.start("many", threads=100_000), stand_ins.start("few", threads=0)
    assert len(threads_of(stand_ins.host, int(many.name))) == MOST_THREADS
    assert len(threads_of(stand_ins.host, int(few.name))) == 1


def test_where_cgroups_are_of_version_1_it_is_in_the_root_of_each() -> None:
    mounts = "cpuset /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\nmem /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    base = FakeHost(
        {
            "/proc/self/mounts": mounts,
            "/sys/devices/system/cpu/online": "0-3\n",
            "/sys/fs/cgroup/cpuset/cpuset.effective_cpus": "0-3\n",
        }
    )
    base.start(1, "init", parent=0)
    stand_ins = StandIns(base)
    subject = stand_ins.start("x")
    knob = knob_of("cpu.affinity")
    (member,) = knob.members(stand_ins.host, process(int(subject.name), subject.start))
    assert knob.pin(stand_ins.host, member, knob.read(stand_ins.host, member)) == ""
