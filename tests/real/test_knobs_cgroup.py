"""Cgroups of the running kernel: limits that bite, processes given back, and nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hal import cgroups
from hal.apply import apply
from hal.errors import ChangeFailedError, NotFoundError, SettingError
from hal.journal import Journal
from hal.knobs import all_knobs, knob_of
from hal.planning import make_plan
from hal.settings import Setting, cgroup, process
from hal.undo import undo
from tests.real.grouped import (
    HOST,
    MIB,
    allowed,
    children,
    counted,
    cpu_ns,
    directory,
    eventually,
    everywhere,
    free_swap,
    make,
    membership,
    program,
    settings,
    threads,
)

SUPPORT = knob_of("cgroup.member").support(HOST)
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not SUPPORT.works, reason=f"{SUPPORT.reason}: {SUPPORT.remedy}"),
]
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def group() -> Iterator[str]:
    """Return the path of a group that is not there, and see to it that it is not there afterwards either."""
    path = f"/dna-test-{os.getpid()}"
    assert not everywhere(path)
    yield path
    left = everywhere(path)
    for place in sorted((p for one in left for p in [one, *map(str, Path(one).rglob("*/"))]), key=len, reverse=True):
        os.rmdir(place)
    assert not left, "the group was left behind"


def needs(name: str) -> None:
    support = knob_of(name).support(HOST)
    if not support.works:
        pytest.skip(f"{support.reason}: {support.remedy}")


def test_a_quota_bites_and_is_gone_again(group: str, tmp_path: Path) -> None:
    needs("cgroup.cpu_quota")
    journal = Journal(tmp_path)
    with program() as busy:
        busy.tell("spin")
        home = membership(busy.pid)
        done = make(journal, settings(group, busy.subject, {"cgroup.cpu_quota": "20%"}))
        stat = directory("cpu", group) / "cpu.stat"
        assert eventually(lambda: counted(stat, "nr_throttled") > 3), "it was never held back"
        before, began = cpu_ns(busy.pid), time.monotonic()
        time.sleep(2)
        # Never more than the quota, however the machine is loaded: one period's worth is left over at either end.
        elapsed = time.monotonic() - began
        used = (cpu_ns(busy.pid) - before) / 1e9
        assert used <= 0.2 * (elapsed + 0.2) + 0.05
        assert not undo(HOST, journal, done.identity).failed
        assert membership(busy.pid) == home
        assert not everywhere(group)
        limited = used / elapsed
        assert eventually(lambda: _rate(busy.pid) > limited * 1.5), "it is still held back"


def _rate(pid: int) -> float:
    before, began = cpu_ns(pid), time.monotonic()
    time.sleep(0.5)
    return (cpu_ns(pid) - before) / 1e9 / (time.monotonic() - began)


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU: nothing to choose; give the machine two")
def test_a_cpuset_moves_threads_and_gives_them_back(group: str, tmp_path: Path) -> None:
    needs("cgroup.cpus")
    journal = Journal(tmp_path)
    first, last = str(CPUS[0]), str(CPUS[-1])
    with program() as target:
        target.tell("sleep")
        target.tell("sleep")
        own = threads(target.pid)
        before = {tid: allowed(tid) for tid in own}
        done = make(journal, settings(group, target.subject, {"cgroup.cpus": first}))
        assert {allowed(tid) for tid in own} == {first}
        make_change = make(journal, [Setting("cgroup.cpus", cgroup(group), last)])
        assert {allowed(tid) for tid in own} == {last}
        assert not undo(HOST, journal, make_change.identity).failed
        assert {allowed(tid) for tid in own} == {first}
        assert not undo(HOST, journal, done.identity).failed
        assert {tid: allowed(tid) for tid in own} == before


def test_a_memory_limit_bites(group: str, tmp_path: Path) -> None:
    needs("cgroup.memory_max")
    journal = Journal(tmp_path)
    with program() as hog:
        done = make(journal, settings(group, hog.subject, {"cgroup.memory_max": "64M"}))
        assert hog.tell("fill 16") == "done"
        hog.tell("fill 200")
        place = directory("memory", group)
        if (place / "memory.events").exists():
            assert counted(place / "memory.events", "max") > 0
        else:
            assert int((place / "memory.failcnt").read_text()) > 0
            assert int((place / "memory.max_usage_in_bytes").read_text()) <= 64 * MIB
        if not free_swap():
            assert hog.end() == -signal.SIGKILL
        undone = undo(HOST, journal, done.identity)
        assert not undone.failed


def test_a_limit_that_would_kill_is_refused(group: str, tmp_path: Path) -> None:
    needs("cgroup.memory_max")
    if free_swap():
        pytest.skip("there is swap, which would take it: swapoff -a")
    journal = Journal(tmp_path)
    with program() as target:
        done = make(journal, settings(group, target.subject, {"cgroup.memory_max": "256M"}))
        target.tell("fill 64")
        with pytest.raises(SettingError, match="cannot be dropped"):
            make_plan(HOST, [Setting("cgroup.memory_max", cgroup(group), 32 * MIB)])
        assert target.tell("nothing") == "done"
        undo(HOST, journal, done.identity)


def test_no_more_processes_than_allowed(group: str, tmp_path: Path) -> None:
    needs("cgroup.pids_max")
    journal = Journal(tmp_path)
    with program() as target:
        done = make(journal, settings(group, target.subject, {"cgroup.pids_max": "5"}))
        assert target.tell("forks 10") == "4"
        assert not undo(HOST, journal, done.identity).failed


def test_children_are_given_back_with_their_parent(group: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with program() as target:
        target.tell("fork")
        home = membership(target.pid)
        limits = {"cgroup.cpu_weight": "50", "cgroup.memory_max": "1G", "cgroup.pids_max": "100"}
        done = make(journal, settings(f"{group}/inner", target.subject, limits))
        target.tell("fork")
        born = children(target.pid)
        assert len(born) == 2
        assert {membership(pid) for pid in born} == {membership(target.pid)}
        assert f"{group}/inner" in membership(target.pid)
        undone = undo(HOST, journal, done.identity)
        assert not undone.failed
        assert {membership(pid) for pid in (target.pid, *born)} == {home}
        assert not everywhere(group)


def test_a_process_whose_group_went_is_given_to_the_one_above(group: str, tmp_path: Path) -> None:
    journal, exists = Journal(tmp_path), knob_of("cgroup.exists")
    with program() as target:
        first = make(journal, settings(f"{group}/home/app", target.subject, {}))
        second = make(journal, settings(f"{group}/new", target.subject, {}))
        assert f":{group}/new" in membership(target.pid)
        exists.write(HOST, cgroup(f"{group}/home/app"), None)
        undone = undo(HOST, journal, second.identity)
        assert not undone.failed
        assert [step.left for step in undone.kept] == [f"its group {group}/home/app is gone: it is in {group}/home now"]
        lines = membership(target.pid).splitlines()
        assert any(line.endswith(f":{group}/home") for line in lines), lines
        assert not everywhere(f"{group}/new")
    assert not undo(HOST, journal, first.identity).failed
    assert not everywhere(group)


def test_only_the_hierarchies_that_are_needed_are_left(group: str, tmp_path: Path) -> None:
    if any(home.version == 2 for home in cgroups.homes(HOST).values()):
        pytest.skip("cgroup v2 has one hierarchy for all; nothing to do")
    journal = Journal(tmp_path)
    with program() as target:
        before = cgroups.membership(HOST, target.pid)
        done = make(journal, settings(group, target.subject, {"cgroup.cpu_weight": "50"}))
        assert cgroups.membership(HOST, target.pid) == {**before, "cpu": group}
        undo(HOST, journal, done.identity)


def test_direct_writes_are_throttled(group: str, tmp_path: Path) -> None:
    needs("cgroup.io_max")
    device = _disk_of(tmp_path)
    journal = Journal(tmp_path / "journal")
    with program() as target:
        target.tell(f"write {tmp_path}/warm {MIB}")  # allocates what the file system allocates first
        done = make(journal, settings(group, target.subject, {"cgroup.io_max": f"{device} wbps=1M"}))
        # At 1 MiB/s three take at least two seconds, were the first slice free; a slow disk only takes longer.
        assert float(target.tell(f"write {tmp_path}/data {3 * MIB}")) > 1.5
        assert not undo(HOST, journal, done.identity).failed


def _disk_of(folder: Path) -> str:
    number = os.stat(folder).st_dev
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not place.exists():
        pytest.skip(f"{folder} is on no block device: set TMPDIR to a folder on a disk")
    place = place.resolve()
    return (place.parent / "dev" if (place / "partition").exists() else place / "dev").read_text().strip()


VALUES = {
    "cgroup.cpu_weight": ("300", "10000", "1"),
    "cgroup.cpu_quota": ("50%", "20000/50000+5000", "3000/10000", "max"),
    "cgroup.memory_max": ("64M", "1G", "max"),
    "cgroup.memory_high": ("32M", "max"),
    "cgroup.memory_low": ("8M", "0"),
    "cgroup.memory_min": ("4M", "0"),
    "cgroup.memory_swap_max": ("0", "16M", "max"),
    "cgroup.io_weight": ("50", "1000"),
    "cgroup.cpus": (str(CPUS[0]),),
    "cgroup.mems": ("0",),
    "cgroup.cpuset_partition": ("member",),
    "cgroup.pids_max": ("100", "max"),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_value_is_read_back_and_taken_back(name: str, group: str, tmp_path: Path) -> None:
    needs(name)
    knob, journal = knob_of(name), Journal(tmp_path)
    controller = Setting(f"cgroup.controller_{knob.controller}", cgroup("/"), True)  # type: ignore[attr-defined]
    made = make(journal, [controller, Setting("cgroup.exists", cgroup(group), True)])
    old = knob.read(HOST, cgroup(group))
    identities = []
    for value in map(knob.parse, VALUES[name]):
        done = make(journal, [Setting(name, cgroup(group), value)])
        identities += [done.identity] if done.done else []
        assert knob.same(value, knob.read(HOST, cgroup(group)))
    for identity in reversed(identities):
        assert not undo(HOST, journal, identity).failed
    assert knob.read(HOST, cgroup(group)) == old
    assert not undo(HOST, journal, made.identity).failed


def test_nested_quotas_and_cpusets_change_in_the_kernels_order(group: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    inner = f"{group}/inner"
    with program() as target:
        limits = {"cgroup.cpu_quota": "50%", "cgroup.cpus": ",".join(map(str, CPUS))}
        made = make(journal, settings(inner, target.subject, limits))
        both = [cgroup(group), cgroup(inner)]
        for quotas, cpus in ((("100%", "80%"), str(CPUS[0])), (("30%", "20%"), str(CPUS[-1]))):
            wanted = [
                Setting("cgroup.cpu_quota", one, knob_of("cgroup.cpu_quota").parse(quota))
                for one, quota in zip(both, quotas, strict=True)
            ]
            narrow = [Setting("cgroup.cpus", one, cpus) for one in both]
            done = make(journal, [*wanted, *narrow])
            assert not undo(HOST, journal, done.identity).failed
        assert not undo(HOST, journal, made.identity).failed


def test_what_the_kernel_refuses_leaves_everything_as_it_was(group: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with program() as target:
        home = membership(target.pid)
        wanted = settings(group, target.subject, {"cgroup.cpu_weight": "50"})
        nowhere = Setting("cgroup.member", process(target.pid, target.subject.start), f"cpu={group}/nowhere")
        plan = make_plan(HOST, [*wanted, nowhere])
        with pytest.raises(ChangeFailedError, match="there is no cgroup"):
            apply(plan, HOST, journal)
        assert membership(target.pid) == home
        assert not everywhere(group)


def test_the_groups_of_this_machine_are_read() -> None:
    for name, knob in all_knobs().items():
        if not name.startswith("cgroup.") or not knob.support(HOST).works:
            continue
        for subject in list(knob.subjects(HOST))[:50]:
            with suppress(NotFoundError):  # groups come and go by themselves
                value = knob.read(HOST, subject)
                assert knob.same(value, value)
