"""The memory and pressure probes on an in-memory machine: what is counted, bounded and left unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dna.errors import ProbeUnavailableError
from dna.faults import FaultLedger, ProcessFaults, parse_stat
from dna.members import Members
from dna.placement import PAGE, count_nodes, draw_pages, sample_nodes
from dna.probes.base import ProbeContext
from dna.probes.memory import SAMPLED_PAGES, MemoryProbe, with_accesses
from dna.probes.pressure import PressureProbe, parse_pressure, stall_share
from dna.residency import Mapping, Residency, parse_smaps, parse_status
from dna.sample import InstructionReading
from hal.fake import FakeHost
from hal.topology import Cpu, NumaNode, Topology

MIB = 1 << 20


@dataclass
class FakeMembers:
    """A target whose processes the test names."""

    alive: set[int] = field(default_factory=set)
    kind: str = "processes"
    cgroup: str | None = None

    def pids(self) -> frozenset[int]:
        return frozenset(self.alive)

    def tids(self) -> frozenset[int]:
        return self.pids()

    def cgroup_dir(self, controller: str) -> str | None:
        return self.cgroup


def topology(nodes: Iterable[int] = (0,)) -> Topology:
    indexes = tuple(nodes)
    cpus = tuple(Cpu(os_index=i, core=i, package=0, node=node, llc=0) for i, node in enumerate(indexes))
    return Topology(cpus, tuple(NumaNode(node, (i,), 1 << 30) for i, node in enumerate(indexes)), "test")


def context(host: FakeHost, members: FakeMembers, nodes: Iterable[int] = (0,)) -> ProbeContext:
    return ProbeContext(host, cast(Members, members), topology(nodes), None, interval_s=5.0)


def stat(
    pid: int,
    *,
    parent: int = 1,
    minor: int = 0,
    major: int = 0,
    child_minor: int = 0,
    child_major: int = 0,
    start: int = 100,
) -> str:
    faults = f"{minor} {child_minor} {major} {child_major}"
    return f"{pid} (a) name) S {parent} 1 1 0 -1 4194304 {faults} 10 5 0 0 20 0 1 0 {start} 1000 200 0"


def status(*, anonymous: int = 0, file: int = 0, shared: int = 0, swap: int = 0, hugetlb: int = 0) -> str:
    return (
        f"Name:\tx\nVmRSS:\t{anonymous + file + shared} kB\nRssAnon:\t{anonymous} kB\nRssFile:\t{file} kB\n"
        f"RssShmem:\t{shared} kB\nVmSwap:\t{swap} kB\nHugetlbPages:\t{hugetlb} kB\n"
    )


def smaps(*mappings: tuple[int, int, str, int, int], name: str = "") -> str:
    """Each mapping: start, end, rights, resident KiB, huge KiB."""
    return "".join(
        f"{start:x}-{end:x} {rights} 00000000 00:00 0 {name}\nSize: {(end - start) >> 10} kB\nKernelPageSize: 4 kB\n"
        f"MMUPageSize: 4 kB\nRss: {resident} kB\nAnonHugePages: {huge} kB\nShmemPmdMapped: 0 kB\nVmFlags: rd wr \n"
        for start, end, rights, resident, huge in mappings
    )


def add_process(host: FakeHost, pid: int, *, anonymous: int = 4096, huge: int = 0, **counters: int) -> None:
    start = 0x10000000 * pid
    host.files[f"/proc/{pid}/stat"] = stat(pid, **counters)
    host.files[f"/proc/{pid}/status"] = status(anonymous=anonymous)
    host.files[f"/proc/{pid}/smaps"] = smaps((start, start + anonymous * 1024, "rw-p", anonymous, huge))
    host.pages[pid] = {start + i * PAGE: 0 for i in range(anonymous // 4)}


def machine(*pids: int, **options: int) -> FakeHost:
    host = FakeHost({"/proc/uptime": "1000.00 0.00\n"})
    for pid in pids:
        add_process(host, pid, **options)
    return host


# --- faults


def faults(minor: int, *, parent: int = 1, children: int = 0, start: int = 100) -> ProcessFaults:
    return ProcessFaults(start, parent, minor, 0, children, 0)


def test_stat_is_read_past_a_command_name_with_brackets_and_spaces() -> None:
    parsed = parse_stat(stat(7, parent=3, minor=11, major=22, child_minor=33, child_major=44, start=555))
    assert parsed == ProcessFaults(start=555, parent=3, minor=11, major=22, child_minor=33, child_major=44)
    with pytest.raises(ValueError, match="not a /proc/PID/stat line"):
        parse_stat("7 (x) S 1")


def test_faults_before_the_first_update_do_not_count() -> None:
    ledger = FaultLedger()
    assert ledger.update({1: faults(500, children=100)}, {1}, 10.0) == (0, 0)
    assert ledger.update({1: faults(507, children=102)}, {1}, 15.0) == (9, 0)


def test_a_child_that_lives_and_ends_is_counted_once() -> None:
    ledger = FaultLedger()
    ledger.update({1: faults(0)}, {1}, 10.0)
    born = {1: faults(5), 2: faults(30, parent=1, start=1100)}
    assert ledger.update(born, {1, 2}, 15.0) == (35, 0)
    # It made ten more and ended: its 40 arrive in its parent's child counter.
    assert ledger.update({1: faults(5, children=40)}, {1}, 20.0) == (10, 0)


def test_a_child_that_is_born_and_ends_between_two_updates_is_counted_through_its_parent() -> None:
    ledger = FaultLedger()
    ledger.update({1: faults(0)}, {1}, 10.0)
    assert ledger.update({1: faults(0, children=77)}, {1}, 15.0) == (77, 0)


def test_a_child_whose_parent_does_not_wait_for_it_takes_nothing_away() -> None:
    ledger = FaultLedger()
    ledger.update({1: faults(0), 2: faults(1000, parent=1)}, {1, 2}, 10.0)
    assert ledger.update({1: faults(3)}, {1}, 15.0) == (3, 0)


def test_a_process_that_joins_late_brings_only_what_it_adds() -> None:
    ledger = FaultLedger()
    ledger.update({1: faults(0)}, {1}, 1000.0)
    old = faults(9000, start=100)  # ran for long outside the target (moved into the cgroup, say)
    assert ledger.update({1: faults(0), 9: old}, {1, 9}, 1005.0) == (0, 0)


def test_a_reused_pid_is_another_process() -> None:
    ledger = FaultLedger()
    ledger.update({2: faults(5000)}, {2}, 10.0)
    assert ledger.update({2: faults(3, start=1200)}, {2}, 15.0) == (3, 0)


@settings(deadline=None)
@given(st.data())
def test_faults_of_any_family_are_counted_exactly(data: st.DataObject) -> None:
    """Simulates processes that fault, fork and are waited for; every fault of the simulation is found, none twice."""
    ledger, made = FaultLedger(), 0
    own = {1: 0}
    children: dict[int, int] = {1: 0}
    parents = {1: 0}
    starts = {1: 100}
    found = 0
    ledger.update({1: faults(0)}, {1}, 10.0)
    for step in range(1, 8):
        now_s = 10.0 + step
        for _ in range(data.draw(st.integers(0, 6))):
            pid = data.draw(st.sampled_from(sorted(own)))
            action = data.draw(st.sampled_from(["fault", "fork", "end"]))
            if action == "fault":
                count = data.draw(st.integers(1, 50))
                own[pid] += count
                made += count
            elif action == "fork":
                child = max(starts) + 1
                own[child], children[child], parents[child], starts[child] = 0, 0, pid, round(now_s * 100)
            elif pid != 1 and pid not in parents.values():
                parent = parents.pop(pid)
                children[parent] += own.pop(pid) + children.pop(pid)
        seen = {p: ProcessFaults(starts[p], parents[p], own[p], 0, children[p], 0) for p in own}
        found += ledger.update(seen, set(own), now_s)[0]
    assert found == made


# --- residency


def test_status_gives_bytes_by_kind() -> None:
    found = parse_status(status(anonymous=10, file=20, shared=30, swap=40, hugetlb=2048))
    assert found == Residency(10 << 10, 20 << 10, 30 << 10, 40 << 10, 2 << 20)
    assert found.resident == (60 << 10) + (2 << 20)


def test_memory_that_may_become_huge_pages_is_told_from_what_may_not() -> None:
    def mapping(span: tuple[int, int], kib: int, *, rights: str = "rw-p", name: str = "", flags: str = "rd wr") -> str:
        start, end = (edge * MIB for edge in span)
        return (
            f"{start:x}-{end:x} {rights} 00000000 00:00 0 {name}\nSize: {(end - start) >> 10} kB\nRss: {kib} kB\n"
            f"Anonymous: {kib} kB\nAnonHugePages: 0 kB\nVmFlags: {flags} \n"
        )

    heap, sparse = mapping((3, 21), 16 << 10, name="[heap]"), mapping((40, 50), 1 << 10)
    others = (
        mapping((60, 61), 1 << 10),  # no whole stretch of 2 MiB
        mapping((70, 80), 4 << 10, name="/usr/lib/libc.so.6"),
        mapping((90, 100), 4 << 10, rights="rw-s"),
        mapping((110, 120), 4 << 10, flags="rd wr nh"),
        mapping((130, 140), 0),
    )
    walk = parse_smaps("".join((heap, sparse, *others)))
    assert (walk.eligible, walk.present) == ((16 + 10) * MIB, (16 + 1) * MIB)
    assert (
        parse_smaps(smaps((0x200000, 0x600000, "rw-p", 4096, 2048))).eligible is None
    )  # no such line: unknown, not none


def test_a_process_that_switched_huge_pages_off_has_none_that_could_become_such() -> None:
    host, members = machine(11), FakeMembers({11})
    text = "Anonymous: 4096 kB\nAnonHugePages"
    host.files["/proc/11/smaps"] = host.files["/proc/11/smaps"].replace("AnonHugePages", text)
    probe = MemoryProbe()
    probe.start(context(host, members))
    first = probe.read(1.0).value
    assert (first.eligible, first.eligible_present) == (4 * MIB, 4 * MIB)
    host.files["/proc/11/status"] += "THP_enabled:\t0\n"
    assert probe.read(1.0).value.eligible == 0


def test_a_kernel_thread_has_no_memory() -> None:
    assert parse_status("Name:\tkworker\nState:\tI\n") == Residency()


def test_smaps_gives_readable_resident_mappings_and_huge_pages() -> None:
    text = smaps(
        (0x1000, 0x5000, "rw-p", 8, 0),
        (0x6000, 0x7000, "---p", 4, 0),
        (0x8000, 0x9000, "r--p", 0, 0),
        (0x200000, 0x600000, "rw-p", 4096, 2048),
    )
    walk = parse_smaps(text + smaps((0x700000, 0x701000, "r-xp", 4, 0), name="[vdso]"))
    assert walk.mappings == (Mapping(0x1000, 0x5000, 8 << 10), Mapping(0x200000, 0x600000, 4 << 20))
    assert walk.huge == 2 << 20


# --- placement


def host_with(pages: dict[int, int], pid: int = 1) -> FakeHost:
    host = FakeHost()
    host.pages[pid] = pages
    return host


def test_sampled_pages_are_on_the_nodes_in_the_proportion_of_all() -> None:
    start, count = 0x10000000, 20_000
    pages = {start + i * PAGE: int(i >= count // 4) for i in range(count)}
    mapping = Mapping(start, start + count * PAGE, count * PAGE)
    found = count_nodes(sample_nodes(host_with(pages), 1, [mapping], 1000, np.random.default_rng(0)), (0, 1))
    assert found.sum() >= 750
    assert found[1] / found.sum() == pytest.approx(0.75, abs=0.05)


def test_reserved_address_space_does_not_swallow_the_draws() -> None:
    dense = Mapping(0x10000000, 0x10000000 + 4000 * PAGE, 4000 * PAGE)
    reserved = Mapping(1 << 40, (1 << 40) + (1 << 38), 4000 * PAGE)  # 256 GiB, of which 16 MiB are there
    pages = {dense.start + i * PAGE: 0 for i in range(4000)}
    found = sample_nodes(host_with(pages), 1, [dense, reserved], 1000, np.random.default_rng(0))
    assert len(found) >= 100


def test_a_mapping_with_one_resident_page_in_ten_gives_as_many_as_wanted() -> None:
    start, count = 0x10000000, 40_000
    pages = {start + i * 10 * PAGE: 0 for i in range(count // 10)}
    mapping = Mapping(start, start + count * PAGE, count // 10 * PAGE)
    assert len(sample_nodes(host_with(pages), 1, [mapping], 500, np.random.default_rng(0))) >= 375


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5000), st.floats(0.001, 1.0)), min_size=1, max_size=20),
    wanted=st.integers(0, 2000),
)
def test_drawn_addresses_are_pages_of_the_mappings(sizes: list[tuple[int, float]], wanted: int) -> None:
    mappings, at = [], 0x10000
    for pages, density in sizes:
        mappings.append(Mapping(at, at + pages * PAGE, max(int(pages * density), 1) * PAGE))
        at += (pages + 7) * PAGE
    drawn = draw_pages(mappings, wanted, np.random.default_rng(0))
    assert len(drawn) <= 8192
    assert not (drawn % PAGE).any()
    assert all(any(m.start <= int(address) < m.end for m in mappings) for address in drawn[:50])


# --- the probe


def test_the_memory_reading_sums_the_processes() -> None:
    host, members = machine(11, 12, anonymous=8192, huge=2048), FakeMembers({11, 12})
    probe = MemoryProbe()
    probe.start(context(host, members))
    host.files["/proc/11/stat"] = stat(11, minor=40, major=2)
    reading = probe.read(5.0)
    value = reading.value
    assert (value.minor_faults, value.major_faults) == (40, 2)
    assert (value.resident, value.anonymous, value.file, value.swap) == (16 * MIB, 16 * MIB, 0, 0)
    assert value.hugepages == 4 * MIB
    assert value.pages_by_node is not None
    assert 512 <= value.pages_by_node.sum() <= SAMPLED_PAGES
    assert reading.coverage == 1.0
    assert value.fault_sequential is None
    assert value.working_set is None


def test_the_same_seed_samples_the_same_pages() -> None:
    counts: list[Any] = []
    for _ in range(2):
        host = machine(11, anonymous=8192)
        host.pages[11] = {address: i % 2 for i, address in enumerate(host.pages[11])}
        probe = MemoryProbe(seed=7)
        probe.start(context(host, FakeMembers({11}), nodes=(0, 1)))
        counts.append(probe.read(5.0).value.pages_by_node)
    assert (counts[0] == counts[1]).all()


def test_many_processes_are_read_in_turn_and_the_reading_says_so() -> None:
    pids = range(1000, 3000)
    host, members = machine(*pids, anonymous=4), FakeMembers(set(pids))
    probe = MemoryProbe()
    probe.start(context(host, members))
    for pid in pids:
        host.files[f"/proc/{pid}/stat"] = stat(pid, minor=1)
    readings = [probe.read(5.0) for _ in range(3)]
    assert readings[0].coverage == pytest.approx(750 / 2000)
    assert sum(reading.value.minor_faults or 0 for reading in readings) == 2000  # each process's turn came
    assert readings[-1].value.resident == 2000 * 4096


def test_huge_pages_are_unknown_while_most_memory_was_not_walked() -> None:
    host, members = machine(11), FakeMembers({11})
    host.denied.add("/proc/11/smaps")
    probe = MemoryProbe()
    probe.start(context(host, members))
    reading = probe.read(5.0)
    assert reading.value.hugepages is None
    assert reading.value.pages_by_node is None
    assert dict(reading.missing).keys() == {"hugepages", "placement"}
    assert "smaps" in dict(reading.missing)["hugepages"]


class RecordingHost(FakeHost):
    """Remembers which files were read."""

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__(files)
        self.reads: list[str] = []

    def read_text(self, path: str) -> str:
        self.reads.append(path)
        return super().read_text(path)


def test_walks_are_paid_for_by_waiting() -> None:
    host, members = RecordingHost(machine(11, 12).files), FakeMembers({11, 12})
    host.files["/proc/11/status"] = status(anonymous=64 << 20)  # 64 GiB: half a second of walking, 33 allowances
    probe = MemoryProbe()
    probe.start(context(host, members))
    probe.read(5.0)
    assert "/proc/11/smaps" in host.reads
    for _ in range(25):
        probe.read(5.0)
    assert "/proc/12/smaps" not in host.reads
    for _ in range(10):
        probe.read(5.0)
    assert "/proc/12/smaps" in host.reads


def test_a_process_too_large_for_a_walk_is_left_alone() -> None:
    host, members = RecordingHost(machine(11).files), FakeMembers({11})
    host.files["/proc/11/status"] = status(anonymous=1 << 30)  # 1 TiB
    probe = MemoryProbe()
    probe.start(context(host, members))
    reading = probe.read(5.0)
    assert "/proc/11/smaps" not in host.reads
    assert "too large" in dict(reading.missing)["hugepages"]


def test_a_process_that_ends_takes_its_memory_with_it() -> None:
    host, members = machine(11, 12, anonymous=8192), FakeMembers({11, 12})
    probe = MemoryProbe()
    probe.start(context(host, members))
    members.alive.remove(12)
    for name in ("stat", "status", "smaps"):
        del host.files[f"/proc/12/{name}"]
    assert probe.read(5.0).value.resident == 8 * MIB


def test_a_target_that_is_gone_gives_unknowns_not_zeros() -> None:
    host, members = machine(11), FakeMembers({11})
    probe = MemoryProbe()
    probe.start(context(host, members))
    members.alive.clear()
    value = probe.read(5.0).value
    assert value.resident is None
    assert value.minor_faults is None
    assert value.hugepages is None


def test_an_unreadable_target_is_refused_with_a_remedy() -> None:
    with pytest.raises(ProbeUnavailableError) as caught:
        MemoryProbe().start(context(FakeHost({"/proc/uptime": "1 1"}), FakeMembers({11})))
    assert caught.value.remedy


# --- accesses


def accesses(addresses: NDArray[np.uint64], pid: int) -> InstructionReading:
    count = len(addresses)
    return InstructionReading(
        user_samples=count,
        kernel_samples=0,
        by_class=np.zeros(7, dtype=np.int64),
        undecoded=0,
        hot_line_share=None,
        data_accesses=count,
        data_pages=count,
        data_pages_once=count,
        data_pages_twice=0,
        data_addresses=addresses,
        data_pids=np.full(count, pid, dtype=np.int32),
    )


def test_accessed_pages_are_counted_on_their_nodes() -> None:
    host = machine(11, anonymous=8192)
    memory = MemoryProbe()
    memory.start(context(host, FakeMembers({11}), nodes=(0, 1)))
    value = memory.read(5.0).value
    addresses = np.array(sorted(host.pages[11]), dtype=np.uint64)[:300]
    host.pages[11].update({int(address): 1 for address in addresses[:100]})
    reading = with_accesses(value, accesses(addresses, 11), host=host, topology=topology((0, 1)))
    assert reading.accesses_by_node is not None
    assert reading.accesses_by_node.tolist() == [200, 100]
    assert reading.working_set == value.resident  # every page was new: at least as much as there is


def test_no_accesses_leave_their_parts_unknown() -> None:
    host = machine(11)
    probe = MemoryProbe()
    probe.start(context(host, FakeMembers({11})))
    none = accesses(np.zeros(0, dtype=np.uint64), 11)
    reading = with_accesses(probe.read(5.0).value, none, host=host, topology=topology())
    assert reading.accesses_by_node is None
    assert reading.working_set is None


# --- pressure

PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"


def pressure_files(directory: str, suffix: str, *, some: int, full: int) -> dict[str, str]:
    text = PSI.format(some=some, full=full)
    return {f"{directory}/{resource}{suffix}": text for resource in ("cpu", "memory", "io")}


def test_pressure_is_the_share_of_the_interval_stalled() -> None:
    host = FakeHost(pressure_files("/proc/pressure", "", some=1_000_000, full=0))
    probe = PressureProbe()
    probe.start(context(host, FakeMembers({1})))
    host.advance(5.0)
    host.files.update(pressure_files("/proc/pressure", "", some=3_500_000, full=500_000))
    value = probe.read(5.0).value
    assert value.scope == "host"
    assert (value.cpu_some, value.memory_some, value.io_full) == pytest.approx((0.5, 0.5, 0.1))


def test_pressure_of_a_cgroup_that_has_its_own() -> None:
    host = FakeHost(pressure_files("/proc/pressure", "", some=0, full=0))
    host.files.update(pressure_files("/cg/web", ".pressure", some=0, full=0))
    probe = PressureProbe()
    probe.start(context(host, FakeMembers({1}, kind="cgroup", cgroup="/cg/web")))
    host.advance(2.0)
    host.files.update(pressure_files("/cg/web", ".pressure", some=1_000_000, full=0))
    value = probe.read(2.0).value
    assert value.scope == "cgroup"
    assert value.memory_some == pytest.approx(0.5)


def test_pressure_of_a_v1_cgroup_is_the_host_s() -> None:
    host = FakeHost(pressure_files("/proc/pressure", "", some=0, full=0))
    probe = PressureProbe()
    probe.start(context(host, FakeMembers({1}, kind="cgroup", cgroup="/v1/web")))
    assert probe.read(1.0).value.scope == "host"


def test_a_resource_without_pressure_is_unknown() -> None:
    host = FakeHost({"/proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"})
    probe = PressureProbe()
    probe.start(context(host, FakeMembers({1})))
    host.advance(1.0)
    value = probe.read(1.0).value
    assert value.cpu_some == 0.0
    assert value.io_some is None


def test_a_kernel_without_pressure_is_refused_with_a_remedy() -> None:
    with pytest.raises(ProbeUnavailableError) as caught:
        PressureProbe().start(context(FakeHost({"/proc/uptime": "1 1"}), FakeMembers({1})))
    assert "psi=1" in caught.value.remedy


@settings(deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 2**63), st.floats(0.001, 1e6))
def test_a_stall_share_is_a_share(before: int, after: int, interval_s: float) -> None:
    share = stall_share(before, after, interval_s)
    assert share is not None
    assert 0.0 <= share <= 1.0


def test_pressure_text_is_parsed() -> None:
    assert parse_pressure(PSI.format(some=12, full=3)) == {"some": 12, "full": 3}
