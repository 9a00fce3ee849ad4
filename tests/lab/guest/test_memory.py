"""Memory on a machine with four nodes: pages really go where they are wanted, no faster than allowed, and come back."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.apply import apply
from hal.errors import ChangeFailedError, HostError, SettingError
from hal.journal import Journal
from hal.knobs import knob_of
from hal.migration import Moved, move
from hal.planning import make_plan
from hal.settings import SYSTEM, Setting, Subject, cgroup
from hal.undo import Undone, undo
from tests.real.holder import HOST, MIB, Held, holder

pytestmark = pytest.mark.usefixtures("kernel_moves_nothing")

BIND, INTERLEAVE = 2, 3  # linux/mempolicy.h


@pytest.fixture
def kernel_moves_nothing(tmp_path: Path) -> Iterator[None]:
    """Switch the kernel's own balancing off, which brings pages to the node where a test looks at them."""
    name = "memory.numa_balancing"
    before = knob_of(name).read(HOST, SYSTEM)
    if before != 0:
        make(tmp_path / "balancing", name, SYSTEM, "0")
    yield
    knob_of(name).write(HOST, SYSTEM, before)


def shares(one: Held) -> dict[int, float]:
    """Return the share of each node in a process's anonymous memory, as numa_maps has it."""
    found = one.bytes_by_node()
    return {node: found.get(node, 0) / sum(found.values()) for node in range(4)}


def near(wanted: dict[int, float]) -> object:
    return pytest.approx({node: wanted.get(node, 0.0) for node in range(4)}, abs=0.05)


def spread(one: Held, mib: int) -> int:
    """Have a process hold memory that was interleaved over all nodes, as a program asks for with numactl."""
    one.do(f"policy({INTERLEAVE}, 15)")
    address = one.hold("area", mib)
    one.do("policy(0, 0)")
    return address


def make(folder: Path, name: str, subject: Subject, text: str) -> tuple[Journal, str]:
    plan = make_plan(HOST, [Setting(name, subject, knob_of(name).parse(text))])
    assert len(plan.changes) == 1, plan.left_out
    journal = Journal(folder)
    return journal, apply(plan, HOST, journal).identity


def taken_back(made: tuple[Journal, str]) -> Undone:
    journal, identity = made
    result = undo(HOST, journal, identity)
    assert not result.failed
    assert not result.kept
    return result


def test_interleaved_memory_comes_to_one_node_and_is_interleaved_again(tmp_path: Path) -> None:
    with holder() as one:
        spread(one, 32)
        one.do("import zlib; data = zlib.crc32(area)")
        before = shares(one)
        assert all(0.15 < share < 0.4 for share in before.values())  # the interpreter's own memory is on one node
        made = make(tmp_path, "memory.placement", one.subject, "2")
        assert shares(one)[2] > 0.95
        assert knob_of("memory.placement").read(HOST, one.subject) == "2=1"
        taken_back(made)
        assert shares(one) == near(before)
        assert one.do("answer = zlib.crc32(area) == data") == "True"
        for part in page_nodes(one, 32):  # evenly, not one end of it on one node and the other on another
            assert all(0.15 < part.count(node) / len(part) < 0.35 for node in range(4))


def page_nodes(one: Held, mib: int) -> Iterator[list[int]]:
    """Yield the nodes of the pages of its area in order, a MiB at a time: the kernel's own answer."""
    import numpy as np

    start = int(one.do("answer = address(area)"))
    for at in range(start, start + mib * MIB, MIB):
        yield HOST.page_nodes(one.pid, np.arange(at, at + MIB, 4096, dtype=np.uint64)).tolist()


def test_weights_are_met_with_the_fewest_pages() -> None:
    with holder() as one:
        spread(one, 32)
        wanted = {0: 0.5, 1: 0.25, 2: 0.25}
        before = one.bytes_by_node()
        total = sum(before.values())
        least = sum(max(size - wanted.get(node, 0.0) * total, 0.0) for node, size in before.items())
        done = move(HOST, one.pid, one.start, wanted)
        assert shares(one) == near(wanted)
        assert done.bytes == pytest.approx(least, rel=0.1)
        assert done.failed == 0


def test_moving_keeps_below_its_limit() -> None:
    with holder() as one:
        spread(one, 32)
        limit = 12 * MIB
        told: list[tuple[int, int]] = []
        slow = move(HOST, one.pid, one.start, {1: 1.0}, bandwidth=limit, progress=lambda *at: told.append(at))
        assert slow.bytes >= 23 * MIB
        assert slow.bytes / slow.seconds <= limit
        assert len(told) >= 64  # evenly, not at the end
        assert [moved for moved, _ in told] == sorted(moved for moved, _ in told)
        fast: Moved = move(HOST, one.pid, one.start, {3: 1.0}, bandwidth=1 << 40)
        assert fast.bytes >= 31 * MIB
        assert fast.bytes / fast.seconds > slow.bytes / slow.seconds


def test_huge_pages_go_whole() -> None:
    with holder() as one:
        one.do("huge_pages(True); area = mmap.mmap(-1, 18 * MIB, flags=PRIVATE)")
        one.do("area.madvise(mmap.MADV_HUGEPAGE); touch(area)")
        huge = one.rollup("AnonHugePages")
        assert huge >= 12 * MIB
        for wanted in ({3: 1.0}, {1: 0.5, 2: 0.5}):
            move(HOST, one.pid, one.start, wanted)
            assert shares(one) == near(wanted)
            assert one.rollup("AnonHugePages") == huge


def test_pages_of_hugetlbfs_go_too(tmp_path: Path) -> None:
    made = make(tmp_path, "memory.hugetlb_pages", SYSTEM, "2M=32")  # eight on each node
    try:
        with holder() as one:
            one.do(f"policy({BIND}, 1); area = mmap.mmap(-1, 8 * MIB, flags=PRIVATE | 0x40000); touch(area)")
            assert hugetlb_nodes(one) == {0: 4}
            move(HOST, one.pid, one.start, {2: 1.0})
            assert hugetlb_nodes(one) == {2: 4}
            move(HOST, one.pid, one.start, {2: 0.5, 3: 0.5})
            assert hugetlb_nodes(one) == {2: 2, 3: 2}
    finally:
        taken_back(made)
    assert knob_of("memory.hugetlb_pages").read(HOST, SYSTEM) == "2M=0,1G=0"


def hugetlb_nodes(one: Held) -> dict[int, int]:
    lines = [line for line in Path(f"/proc/{one.pid}/numa_maps").read_text().splitlines() if " huge " in line]
    return {int(node): int(pages) for line in lines for node, pages in re.findall(r" N(\d+)=(\d+)", line)}


def test_what_is_shared_since_a_fork_stays_where_it_is() -> None:
    with holder() as one:
        spread(one, 16)
        one.do("child = fork()")
        before = shares(one)
        assert move(HOST, one.pid, one.start, {0: 1.0}).bytes < 4 * MIB
        assert shares(one)[0] < before[0] + 0.3
        one.do("join(*child)")
        move(HOST, one.pid, one.start, {0: 1.0})
        assert shares(one)[0] > 0.95


def test_a_process_with_a_policy_is_left_alone_unless_it_is_named() -> None:
    with holder() as one:
        one.do(f"policy({BIND}, 2)")
        one.hold("area", 8)
        knob = knob_of("memory.placement")
        assert "bind:1" in knob.pin(HOST, one.subject, knob.read(HOST, one.subject))


def test_where_pages_cannot_go_is_said_before_anything_is_written() -> None:
    with holder() as one:
        one.hold("area", 8)
        with pytest.raises(SettingError, match="node 4 is not there"):
            make_plan(HOST, [Setting("memory.placement", one.subject, "4=1")])
        group = Path("/sys/fs/cgroup/dna-mems")
        Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+cpuset +memory")
        group.mkdir()
        try:
            (group / "cpuset.mems").write_text("0-1")
            (group / "cgroup.procs").write_text(str(one.pid))
            with pytest.raises(SettingError, match="does not allow node 2-3"):
                make_plan(HOST, [Setting("memory.placement", one.subject, "1=0.5,2=0.25,3=0.25")])
        finally:
            Path("/sys/fs/cgroup/cgroup.procs").write_text(str(one.pid))
            group.rmdir()


def test_what_does_not_fit_is_refused_before_and_an_error_on_the_way() -> None:
    reserve = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
    with holder() as one:
        fill(reserve)
        try:
            # What is left depends on the tests before and how scattered free memory is: so more is held than fits.
            too_much = free(0) * 3 // 2 // MIB + 32
            assert too_much < 600, "node 0 was to be filled"
            one.do(f"policy({INTERLEAVE}, 14)")
            one.hold("area", too_much)
            one.do("policy(0, 0)")
            with pytest.raises(SettingError, match="does not fit"):
                make_plan(HOST, [Setting("memory.placement", one.subject, "0=1")])
            with pytest.raises(HostError, match="node 0 is full"):
                move(HOST, one.pid, one.start, {0: 1.0})
        finally:
            reserve.write_text("0")
        move(HOST, one.pid, one.start, {0: 1.0})
        assert shares(one)[0] > 0.95


def fill(reserve: Path) -> None:
    """Reserve what node 0 has as huge pages: memory that nothing has to clear."""
    Path("/sys/devices/system/node/node0/compact").write_text("1")
    reserve.write_text(str(free(0) // (2 * MIB)))


def free(node: int) -> int:
    text = Path(f"/sys/devices/system/node/node{node}/meminfo").read_text()
    names = r"(?:MemFree|Active\(file\)|Inactive\(file\)|SReclaimable)"
    return sum(int(kb) for kb in re.findall(rf"{names}:\s+(\d+) kB", text)) * 1024


# --- reclaim on cgroup v2, with swap


@pytest.fixture
def swap() -> Iterator[None]:
    subprocess.run(["mkswap", "/dev/nvme0n1"], check=True, capture_output=True)
    subprocess.run(["swapon", "/dev/nvme0n1"], check=True)
    yield
    subprocess.run(["swapoff", "/dev/nvme0n1"], check=True)


@pytest.fixture
def group() -> Iterator[Path]:
    path = Path("/sys/fs/cgroup/dna-memory")
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")
    path.mkdir()
    yield path
    path.rmdir()


@pytest.mark.usefixtures("swap")
def test_a_group_gives_back_what_is_asked_for(tmp_path: Path, group: Path) -> None:
    with holder() as one:
        (group / "cgroup.procs").write_text(str(one.pid))
        one.hold("area", 64)
        before = int((group / "memory.current").read_text())
        make(tmp_path, "memory.reclaim", cgroup("/dna-memory"), "24M")
        assert before - int((group / "memory.current").read_text()) >= 20 * MIB
        assert int((group / "memory.swap.current").read_text()) >= 16 * MIB
        (group / "memory.swap.max").write_text("16M")
        with pytest.raises(ChangeFailedError, match="could be reclaimed"):
            make(tmp_path / "more", "memory.reclaim", cgroup("/dna-memory"), "60M")
        one.kill()


@pytest.mark.usefixtures("swap")
def test_what_was_paged_out_is_brought_back_by_prefaulting(tmp_path: Path) -> None:
    with holder() as one:
        one.hold("area", 32)
        make(tmp_path, "memory.pageout", one.subject, "24M")
        swapped = one.rollup("Swap")
        assert swapped >= 20 * MIB
        knob_of("memory.prefault").write(HOST, one.subject, "all")
        for _ in range(100):
            if reads_in_flight() == 0:
                break
            HOST.sleep(0.05)
        before = int(one.do("answer = resource.getrusage(resource.RUSAGE_SELF).ru_majflt"))
        one.do("look(area)")
        assert (
            int(one.do("answer = resource.getrusage(resource.RUSAGE_SELF).ru_majflt")) - before < 1000
        )  # of 6000 and more


def reads_in_flight() -> int:
    return int(Path("/sys/block/nvme0n1/inflight").read_text().split()[0])


# --- the system


def test_weights_of_interleaving_are_set_by_node_and_restored(tmp_path: Path) -> None:
    knob = knob_of("memory.interleave_weights")
    before = knob.read(HOST, SYSTEM)
    made = make(tmp_path, "memory.interleave_weights", SYSTEM, "0=3,2=2")
    folder = "/sys/kernel/mm/mempolicy/weighted_interleave"
    assert [HOST.read_text(f"{folder}/node{node}").strip() for node in range(4)] == ["3", "1", "2", "1"]
    taken_back(made)
    assert knob.read(HOST, SYSTEM) == before


def test_one_node_is_compacted(tmp_path: Path) -> None:
    make(tmp_path, "memory.compact", Subject("node", "3"), "now")
    assert knob_of("memory.compact").outcome(HOST, Subject("node", "3"), "now").endswith("2 MiB or more")
    assert os.access("/sys/devices/system/node/node3/compact", os.W_OK)
