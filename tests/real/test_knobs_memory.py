"""The memory knobs on the running kernel: real processes and files, and every setting as it was afterwards."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from hal import page_cache
from hal.apply import apply
from hal.collapse import blocks_of
from hal.errors import ChangeFailedError, HalError, NotFoundError, SettingError
from hal.journal import Journal
from hal.knobs import knob_of
from hal.mappings import own_pages, read_mappings
from hal.migration import move, nodes_of, shares
from hal.planning import make_plan
from hal.settings import SYSTEM, Setting, Subject, Value
from hal.undo import Undone, undo
from tests.real.holder import HOST, MIB, Held, holder

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="changes other processes and the system: run `sudo make test`"),
]
HAS_SWAP = len(Path("/proc/swaps").read_text().splitlines()) > 1


def works(name: str) -> None:
    support = knob_of(name).support(HOST)
    if not support.works:
        pytest.skip(f"{name}: {support.reason}; {support.remedy}")


def make(folder: Path, name: str, subject: Subject, text: str) -> tuple[Journal, str]:
    """Plan and apply one setting, as a person would give it."""
    knob = knob_of(name)
    plan = make_plan(HOST, [Setting(name, subject, knob.parse(text))])
    assert len(plan.changes) == 1, plan.left_out
    journal = Journal(folder)
    return journal, apply(plan, HOST, journal).identity


def taken_back(made: tuple[Journal, str]) -> Undone:
    journal, identity = made
    result = undo(HOST, journal, identity)
    assert not result.failed
    return result


# --- huge pages for a running process


def collapse(folder: Path, one: Held, text: str = "collapse") -> tuple[Journal, str]:
    works("memory.hugepages")
    one.do("huge_pages(True)")
    try:
        return make(folder, "memory.hugepages", one.subject, text)
    except ChangeFailedError as error:
        if "fragmented" in str(error):
            pytest.skip("the kernel has no free huge page: echo 1 > /proc/sys/vm/compact_memory")
        raise


def test_a_running_programs_memory_becomes_huge_pages_and_keeps_what_it_holds(tmp_path: Path) -> None:
    with holder() as one:
        one.do("import random, zlib; data = random.Random(1).randbytes(64 * MIB)")
        before = one.do("answer = zlib.crc32(data)")
        huge, resident = one.rollup("AnonHugePages"), one.rollup("Rss")
        made = collapse(tmp_path, one)
        assert one.rollup("AnonHugePages") >= huge + 48 * MIB
        assert one.rollup("Rss") <= resident + 8 * MIB
        assert one.do("answer = zlib.crc32(data)") == before
        outcome = knob_of("memory.hugepages").outcome(HOST, one.subject, "collapse:0.5")
        assert outcome.endswith("are in huge pages")
        (step,) = taken_back(made).kept
        assert "cannot be undone" in step.left


def test_sparse_memory_and_what_refuses_huge_pages_stay_small(tmp_path: Path) -> None:
    with holder() as one:
        one.hold("dense", 16)
        one.hold("sparse", 64, step=16384)
        one.do(
            "refused = mmap.mmap(-1, 16 * MIB, flags=PRIVATE); refused.madvise(mmap.MADV_NOHUGEPAGE); touch(refused)"
        )
        resident = one.rollup("Rss")
        collapse(tmp_path, one)
        assert 12 * MIB <= one.rollup("AnonHugePages") <= 24 * MIB
        assert one.rollup("Rss") <= resident + 4 * MIB
        collapse(tmp_path / "all", one, "collapse:0.2")
        assert one.rollup("AnonHugePages") >= 64 * MIB
        assert one.rollup("Rss") >= resident + 40 * MIB  # the kernel filled the holes, as the documentation says


def test_what_a_process_shares_since_a_fork_is_left_alone(tmp_path: Path) -> None:
    with holder() as one:
        one.hold("area", 16)
        one.do("huge_pages(True)")
        assert len(blocks_of(HOST, one.pid, least=0.5)) >= 7
        one.do("child = fork()")
        assert blocks_of(HOST, one.pid, least=0.5) == []
        assert sum(nodes_of(HOST, one.pid).values()) < 8 * MIB
        one.do("join(*child)")
        assert len(blocks_of(HOST, one.pid, least=0.5)) >= 7


def test_a_process_that_switched_huge_pages_off_keeps_its_pages(tmp_path: Path) -> None:
    with holder() as one:
        one.hold("area", 16)
        make(tmp_path, "memory.hugepages", one.subject, "collapse")
        assert one.rollup("AnonHugePages") == 0
        assert "PR_SET_THP_DISABLE" in knob_of("memory.hugepages").outcome(HOST, one.subject, "collapse:0.5")


def test_a_process_that_is_gone_is_told_and_no_error(tmp_path: Path) -> None:
    with holder() as one:
        plan = make_plan(HOST, [Setting("memory.cold", one.subject, "all")])
        assert plan.changes, plan.left_out
        one.kill()
        done = apply(plan, HOST, Journal(tmp_path))
        assert done.gone == plan.changes
        with pytest.raises(NotFoundError):
            knob_of("memory.cold").write(HOST, one.subject, "all")


# --- reclaim


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of 32 MiB that is on disk and not in the page cache."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True
    ).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        pytest.skip(f"{tmp_path} is on {kind}, whose files never leave memory: TMPDIR=/var/tmp")
    path = tmp_path / "data"
    path.write_bytes(os.urandom(MIB) * 32)
    evict(path)
    return path


def evict(path: Path) -> None:
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if page_cache.cached_bytes(opened.fileno(), 0, 32 * MIB) > 4 * MIB:
            pytest.skip("the file system keeps its files in memory: TMPDIR=/var/tmp")


def map_file(one: Held, path: Path) -> None:
    one.do(f"f = open({str(path)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)")


def test_mapped_files_are_dropped_by_as_much_as_asked_for(tmp_path: Path, file: Path) -> None:
    works("memory.pageout")
    with holder() as one:
        map_file(one, file)
        one.do("look(m)")
        assert one.mapped(file, "Rss") == 32 * MIB
        before = one.rollup("Rss")
        make(tmp_path / "journal", "memory.pageout", one.subject, "16M")
        gone = before - one.rollup("Rss")
        assert 14 * MIB <= gone <= 28 * MIB
        make(tmp_path / "journal2", "memory.pageout", one.subject, "all")
        # The kernel passes over what somebody holds at that moment (what checks or compacts memory), a folio of up to 2 MiB at a time.
        assert one.mapped(file, "Rss") <= 4 * MIB


def test_more_than_there_is_cannot_be_reclaimed_and_is_said(tmp_path: Path) -> None:
    works("memory.pageout")
    with holder() as one, pytest.raises(ChangeFailedError, match="of 1 TiB could be reclaimed"):
        make(tmp_path, "memory.pageout", one.subject, "1T")


@pytest.mark.skipif(HAS_SWAP, reason="there is swap, so that anonymous memory does go: swapoff -a to see that it stays")
def test_without_swap_huge_pages_are_not_split_in_vain(tmp_path: Path) -> None:
    """The kernel would: it splits them to swap them out, and then finds nowhere to put them."""
    with holder() as one:
        one.hold("area", 16)
        collapse(tmp_path, one)
        huge = one.rollup("AnonHugePages")
        make(tmp_path / "journal", "memory.pageout", one.subject, "all")
        assert one.rollup("AnonHugePages") == huge > 0


def test_cold_memory_is_no_longer_counted_as_used(tmp_path: Path) -> None:
    works("memory.cold")
    with holder() as one:
        one.hold("area", 64)
        assert one.rollup("Referenced") >= 64 * MIB
        make(tmp_path, "memory.cold", one.subject, "all")
        assert one.rollup("Referenced") <= 32 * MIB
        assert one.rollup("Anonymous") >= 64 * MIB


# --- warm-up


def test_an_evicted_file_is_warm_afterwards(tmp_path: Path, file: Path) -> None:
    with file.open("rb") as opened:
        make(tmp_path / "journal", "memory.warm", Subject("file", str(file)), "8M")
        part = page_cache._mincore(opened.fileno(), 0, 32 * MIB) * 4096
        assert 8 * MIB <= part <= 24 * MIB  # and what the kernel read ahead
        make(tmp_path / "journal2", "memory.warm", Subject("file", str(file)), "all")
        assert page_cache._mincore(opened.fileno(), 0, 32 * MIB) * 4096 == 32 * MIB


def test_both_ways_to_ask_for_cached_pages_agree(file: Path) -> None:
    with file.open("rb") as opened:
        os.pread(opened.fileno(), 5 * MIB, 7 * MIB)
        found = page_cache._cachestat(opened.fileno(), MIB, 9 * MIB)
        if found is None:
            pytest.skip("cachestat(2) needs Linux 6.5")
        # cachestat counts pages that are still being read ahead as well
        assert 3 * MIB <= page_cache._mincore(opened.fileno(), MIB, 9 * MIB) * 4096 <= found * 4096 <= 9 * MIB


@pytest.mark.parametrize("path", ["/dev/null", "/tmp", "/nowhere/at/all"])
def test_only_files_can_be_warmed(path: str) -> None:
    with pytest.raises(SettingError) as caught:
        make_plan(HOST, [Setting("memory.warm", Subject("file", path), "all")])
    assert caught.value.remedy


def test_mapped_files_are_faulted_in_from_outside(tmp_path: Path, file: Path) -> None:
    with holder() as one:
        map_file(one, file)
        assert one.mapped(file, "Rss") <= MIB
        make(tmp_path / "journal", "memory.prefault", one.subject, "all")
        assert one.mapped(file, "Rss") == 32 * MIB
        before = int(one.do("answer = faults()"))
        one.do("look(m)")
        assert int(one.do("answer = faults()")) - before < 1000  # of 8192 pages


def test_a_file_that_became_shorter_than_its_mapping_stops_nothing(tmp_path: Path, file: Path) -> None:
    with holder() as one:
        map_file(one, file)
        os.truncate(file, 8 * MIB)
        knob_of("memory.prefault").write(HOST, one.subject, "all")
        assert one.mapped(file, "Rss") == 8 * MIB


# --- placement


def test_own_pages_are_the_anonymous_memory_that_the_kernel_counts() -> None:
    with holder() as one:
        one.hold("area", 48)
        own = nodes_of(HOST, one.pid)
        assert sum(own.values()) == pytest.approx(one.rollup("Anonymous"), rel=0.02)
        if Path(f"/proc/{one.pid}/numa_maps").exists():
            assert own.keys() <= one.bytes_by_node().keys()
        done = move(HOST, one.pid, one.start, shares(own))
        assert done.bytes <= 0.02 * sum(own.values())  # it is all where it is wanted
        assert not done.ended


def test_reserved_address_space_is_not_walked_to_its_end() -> None:
    """4 TiB of which two pages are there: at eight bytes a page, pagemap has 8 GiB to tell of it."""
    with holder() as one:
        one.do("huge = mmap.mmap(-1, 1 << 42, flags=PRIVATE | mmap.MAP_NORESERVE); huge[0] = 1; huge[5 << 20] = 1")
        start = int(one.do("answer = address(huge)"))
        (mapping,) = (m for m in read_mappings(HOST, one.pid) if m.start <= start < m.end)
        windows = list(own_pages(HOST, one.pid, [mapping]))
        found = {int(address) for window in windows for address in window.addresses}
        assert {start, start + (5 << 20)} <= found
        assert len(windows) <= 2


# --- the system


def other(name: str, present: Value) -> Value:
    """Return a harmless value that a knob does not have now."""
    choices: dict[str, tuple[Value, ...]] = {
        "memory.swappiness": (59, 61),
        "memory.zone_reclaim": (0, 1),
        "memory.numa_balancing": (0, 1),
        "memory.compaction_proactiveness": (19, 21),
        "memory.ksm": ("off", "on"),
        "memory.ksm_scan": (101, 102),
        "memory.ksm_sleep": (21, 22),
        "memory.demotion": (False, True),
        "memory.dirty": ("21%", "640M"),
        "memory.dirty_background": ("320M", "9%"),
        "memory.thp": ("madvise", "always"),
        "memory.thp_defrag": ("madvise", "defer+madvise"),
        "memory.thp_shmem": ("never", "advise"),
        "memory.thp_sizes": ("64K=madvise", "64K=never"),
        "memory.khugepaged_scan": (4096, 4097),
        "memory.khugepaged_sleep": (10000, 10001),
        "memory.khugepaged_holes": (511, 510),
        "memory.hugetlb_pages": ("2M=1", "2M=2"),
    }
    knob = knob_of(name)
    return next(value for value in choices[name] if not knob.same(value, present))


SYSTEM_KNOBS = [
    "memory.swappiness",
    "memory.zone_reclaim",
    "memory.numa_balancing",
    "memory.compaction_proactiveness",
    "memory.ksm",
    "memory.ksm_scan",
    "memory.ksm_sleep",
    "memory.demotion",
    "memory.dirty",
    "memory.dirty_background",
    "memory.thp",
    "memory.thp_defrag",
    "memory.thp_shmem",
    "memory.thp_sizes",
    "memory.khugepaged_scan",
    "memory.khugepaged_sleep",
    "memory.khugepaged_holes",
    "memory.hugetlb_pages",
]
"""All but memory.interleave_weights: where the kernel knows no bandwidths, its own choice cannot be had back."""


@pytest.mark.parametrize("name", SYSTEM_KNOBS)
def test_the_systems_settings_are_written_read_and_restored(tmp_path: Path, name: str) -> None:
    works(name)
    knob = knob_of(name)
    before = knob.read(HOST, SYSTEM)
    made = make(tmp_path, name, SYSTEM, str(other(name, before)))
    try:
        assert not knob.same(before, knob.read(HOST, SYSTEM))
    finally:
        taken_back(made)
    assert knob.read(HOST, SYSTEM) == before


def test_what_the_kernel_refuses_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    works("memory.thp_sizes")
    before = knob_of("memory.thp_sizes").read(HOST, SYSTEM)
    for name, value in (("memory.thp_sizes", "3M=always"), ("memory.hugetlb_pages", "2M=4000000000")):
        with pytest.raises(SettingError):
            make_plan(HOST, [Setting(name, SYSTEM, knob_of(name).parse(value))])
    with pytest.raises(HalError):
        knob_of("memory.swappiness").write(HOST, SYSTEM, 201)
    assert knob_of("memory.thp_sizes").read(HOST, SYSTEM) == before


def scanned() -> int:
    text = Path("/proc/vmstat").read_text()
    return sum(int(n) for n in re.findall(r"^compact_(?:migrate|free)_scanned (\d+)$", text, re.MULTILINE))


def test_compaction_scans_memory(tmp_path: Path) -> None:
    works("memory.compact")
    before = scanned()
    plan = make_plan(HOST, [Setting("memory.compact", SYSTEM, "now")])
    done = apply(plan, HOST, Journal(tmp_path)).done
    assert {change.subject.kind for change in done} <= {"node", "system"}
    assert scanned() > before
    assert "are free in blocks of 2 MiB or more" in knob_of("memory.compact").outcome(HOST, done[0].subject, "now")
    with pytest.raises(SettingError):
        make_plan(HOST, [Setting("memory.compact", Subject("node", "999"), "now")])
