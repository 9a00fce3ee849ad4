"""Cgroup v2 on a machine with four nodes: controllers handed on, limits that bite, pages that follow their group."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.apply import apply
from hal.errors import ChangeFailedError
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.settings import Setting, cgroup, process
from hal.undo import undo
from tests.real.grouped import (
    HOST,
    allowed,
    children,
    counted,
    eventually,
    everywhere,
    make,
    membership,
    program,
    settings,
    threads,
)

ROOT = Path("/sys/fs/cgroup")


@pytest.fixture
def group() -> Iterator[str]:
    """Return the path of a group; afterwards the hierarchy must be as it was."""
    before = (ROOT / "cgroup.subtree_control").read_text(), sorted(str(p) for p in ROOT.rglob("*/"))
    yield "/dna-test"
    assert ((ROOT / "cgroup.subtree_control").read_text(), sorted(str(p) for p in ROOT.rglob("*/"))) == before


def test_a_target_gets_a_group_with_every_limit_and_is_given_back(group: str, tmp_path: Path) -> None:
    inner, journal = f"{group}/inner", Journal(tmp_path)
    limits = {
        "cgroup.cpu_weight": "300",
        "cgroup.cpu_quota": "20000/50000+5000",
        "cgroup.memory_max": "256M",
        "cgroup.memory_high": "200M",
        "cgroup.memory_low": "16M",
        "cgroup.memory_min": "8M",
        "cgroup.memory_swap_max": "0",
        "cgroup.io_weight": "50",
        "cgroup.io_max": "259:0 rbps=10M wiops=100",
        "cgroup.cpus": "2-3",
        "cgroup.mems": "1",
        "cgroup.pids_max": "50",
    }
    with program() as target:
        target.tell("sleep")
        target.tell("fork")
        home = membership(target.pid)
        before = {tid: allowed(tid) for tid in threads(target.pid)}
        done = make(journal, settings(inner, target.subject, limits))
        for name, text in limits.items():
            knob = knob_of(name)
            assert knob.same(knob.parse(text), knob.read(HOST, cgroup(inner))), name
        assert membership(target.pid) == f"0::{inner}\n"
        assert {allowed(tid) for tid in threads(target.pid)} == {"2-3"}
        target.tell("fork")
        undone = undo(HOST, journal, done.identity)
        assert not undone.failed
        assert not undone.kept
        assert {membership(pid) for pid in (target.pid, *children(target.pid))} == {home}
        assert {tid: allowed(tid) for tid in threads(target.pid)} == before


def test_a_quota_bites(group: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with program() as busy:
        busy.tell("spin")
        done = make(journal, settings(group, busy.subject, {"cgroup.cpu_quota": "20%"}))
        stat = ROOT / group.strip("/") / "cpu.stat"
        assert eventually(lambda: counted(stat, "nr_throttled") > 3), "it was never held back"
        assert not undo(HOST, journal, done.identity).failed


def test_a_memory_limit_kills_and_a_high_one_does_not(group: str, tmp_path: Path) -> None:
    journal, place = Journal(tmp_path), ROOT / group.strip("/")
    with program() as hog:
        done = make(journal, settings(group, hog.subject, {"cgroup.memory_max": "48M", "cgroup.memory_swap_max": "0"}))
        assert hog.tell("fill 8") == "done"
        assert hog.tell("fill 80") == ""
        assert counted(place / "memory.events", "oom_kill") == 1
        assert hog.end() == -signal.SIGKILL
        assert not undo(HOST, journal, done.identity).failed
    with program() as hog:
        done = make(journal, settings(group, hog.subject, {"cgroup.memory_high": "24M"}))
        assert hog.tell("fill 28") == "done", "it is only slowed down"
        assert counted(place / "memory.events", "high") > 0
        assert counted(place / "memory.events", "oom_kill") == 0
        assert not undo(HOST, journal, done.identity).failed


def test_pages_follow_the_nodes_of_their_group(group: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with program() as target:
        done = make(journal, settings(group, target.subject, {"cgroup.mems": "1"}))
        target.tell("fill 16")
        assert _pages(target.pid).keys() == {1}
        moved = make(journal, [Setting("cgroup.mems", cgroup(group), "3")])
        assert eventually(lambda: _pages(target.pid).get(3, 0) > 0.9 * sum(_pages(target.pid).values()))
        assert not undo(HOST, journal, moved.identity).failed
        assert not undo(HOST, journal, done.identity).failed


def _pages(pid: int) -> dict[int, int]:
    """Return by node how many anonymous pages of the largest mapping there are."""
    lines = [line for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines() if "anon=" in line]
    found = [{int(n): int(c) for n, c in re.findall(r"\bN(\d+)=(\d+)", line)} for line in lines]
    return max(found, key=lambda pages: sum(pages.values()))


def test_cpus_of_its_own(group: str, tmp_path: Path) -> None:
    journal, place = Journal(tmp_path), ROOT / group.strip("/")
    with program() as target:
        limits = {"cgroup.cpus": "6-7", "cgroup.cpuset_partition": "isolated"}
        done = make(journal, settings(group, target.subject, limits))
        assert (place / "cpuset.cpus.partition").read_text() == "isolated\n"
        assert (ROOT / "cpuset.cpus.effective").read_text() == "0-5\n"
        assert not undo(HOST, journal, done.identity).failed
        assert (ROOT / "cpuset.cpus.effective").read_text() == "0-7\n"


def test_a_partition_that_cannot_be_one_says_the_kernels_reason(group: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    inner = cgroup(f"{group}/inner")
    made = make(
        journal,
        [
            Setting("cgroup.controller_cpuset", cgroup("/"), True),
            Setting("cgroup.exists", cgroup(group), True),
            Setting("cgroup.controller_cpuset", cgroup(group), True),
            Setting("cgroup.exists", inner, True),
            Setting("cgroup.cpus", inner, "2"),
        ],
    )
    with pytest.raises(ChangeFailedError, match="isolated invalid"):
        apply(make_plan(HOST, [Setting("cgroup.cpuset_partition", inner, "isolated")]), HOST, journal)
    assert knob_of("cgroup.cpuset_partition").read(HOST, inner) == "member"
    assert not undo(HOST, journal, made.identity).failed


def test_no_processes_beside_controllers(group: str, tmp_path: Path) -> None:
    """The kernel's rule, said before anything is lost: in both directions."""
    journal = Journal(tmp_path)
    with program() as target:
        made = make(journal, settings(group, target.subject, {"cgroup.memory_max": "1G"}))
        with pytest.raises(ChangeFailedError, match="a group with processes of its own"):
            apply(make_plan(HOST, [Setting("cgroup.controller_memory", cgroup(group), True)]), HOST, journal)
        assert not undo(HOST, journal, made.identity).failed
        made = make(
            journal,
            [
                Setting("cgroup.controller_cpu", cgroup("/"), True),
                Setting("cgroup.exists", cgroup(group), True),
                Setting("cgroup.controller_cpu", cgroup(group), True),
            ],
        )
        home = membership(target.pid)
        enter = Setting("cgroup.member", process(target.pid, target.subject.start), group)
        with pytest.raises(ChangeFailedError, match="takes no processes itself"):
            apply(make_plan(HOST, [enter]), HOST, journal)
        assert membership(target.pid) == home
        assert not undo(HOST, journal, made.identity).failed


def test_a_controller_stays_where_others_rely_on_it(group: str, tmp_path: Path) -> None:
    journal, other = Journal(tmp_path), ROOT / "somebody"
    done = make(journal, [Setting("cgroup.controller_pids", cgroup("/"), True)])
    other.mkdir()
    (other / "pids.max").write_text("7")
    undone = undo(HOST, journal, done.identity)
    assert "/somebody has pids.max 7 by now" in undone.kept[0].left
    assert (other / "pids.max").read_text() == "7\n"
    other.rmdir()
    (ROOT / "cgroup.subtree_control").write_text("-pids")


def test_direct_writes_are_throttled(group: str, tmp_path: Path) -> None:
    journal, disk = Journal(tmp_path), "/dev/nvme0n1"
    number = os.stat(disk).st_rdev
    with program() as target:
        limit = f"{os.major(number)}:{os.minor(number)} wbps=1M"
        done = make(journal, settings(group, target.subject, {"cgroup.io_max": limit}))
        # At 1 MiB/s three take at least two seconds, were the first slice free; a slow machine only takes longer.
        assert float(target.tell(f"write {disk} {3 << 20}")) > 1.5
        assert not undo(HOST, journal, done.identity).failed


def test_nothing_is_left() -> None:
    assert everywhere("/dna-test") == set()
