"""Logic of the memory knobs on a machine in memory."""

from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hal.apply import apply
from hal.collapse import blocks_of, collapse
from hal.errors import HostError, NotFoundError, SettingError, UnsupportedError
from hal.fake import FakeHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.knobs.advice import advise_all
from hal.knobs.files import may_write
from hal.knobs.memory_placement import format_shares, shares_of
from hal.knobs.memory_reclaim import cut, free_in_huge, pieces
from hal.knobs.parts import parts_of
from hal.mappings import PAGE, parse_smaps
from hal.migration import Dealer, apart, flows, move, nodes_of, shares
from hal.planning import make_plan
from hal.settings import SYSTEM, Change, Setting, Subject, cgroup, process
from hal.sizes import format_size, parse_size
from tests.hal.knobs.fake_memory import DATA, GROUP, HEAP, HEAP_PAGES, HUGE, LIBRARY, NODE, PID, mapping
from tests.hal.knobs.machine import furnished

MIB = 1 << 20
WEIGHTS = st.dictionaries(st.integers(0, 1023), st.floats(0.001, 1e6), min_size=1, max_size=12)


def database(host: FakeHost) -> Subject:
    return process(PID, host.tasks[PID].start)


# --- placement: values


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1", "1=1"),
        ("0,1", "0=0.5,1=0.5"),
        ("0-3", "0=0.25,1=0.25,2=0.25,3=0.25"),
        ("3,1", "1=0.5,3=0.5"),
        ("0=1,1=3", "0=0.25,1=0.75"),
        ("0-2", "0=0.334,1=0.333,2=0.333"),
        ("0=0.0001,1=1", "1=1"),
        ("1@256M", "1=1@256M"),
        ("0-1 @ 1GiB", "0=0.5,1=0.5@1G"),
    ],
)
def test_placements_have_one_form(text: str, canonical: str) -> None:
    assert knob_of("memory.placement").parse(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "0=0",
        "0=0,1=0",
        "0,0",
        "0-1,1",
        "0=1,0=2",
        "3-1",
        "1024",
        "0=-1",
        "0=1e3",
        "0=nan",
        "1@",
        "1@0",
        "@1M",
        "0=1@1M@1M",
    ],
)
def test_placements_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(SettingError):
        knob_of("memory.placement").parse(text)


@settings(deadline=None)
@given(weights=WEIGHTS)
def test_shares_add_up_to_one_and_read_back_as_themselves(weights: dict[int, float]) -> None:
    text = format_shares(weights)
    total = sum(weights.values())
    assert math.isclose(sum(shares_of(text).values()), 1.0)
    assert format_shares(shares_of(text)) == text == knob_of("memory.placement").parse(text)
    assert all(abs(shares_of(text).get(node, 0) - weight / total) <= 0.001 for node, weight in weights.items())


def test_the_limit_is_no_part_of_what_is_the_same() -> None:
    assert knob_of("memory.placement").same("1=1@256M", "1=1")
    assert not knob_of("memory.placement").same("1=1", "0=0.06,1=0.94")
    assert knob_of("memory.placement").same("1=1", "0=0.05,1=0.95")


# --- placement: which page goes where


@settings(deadline=None)
@given(present=st.dictionaries(st.integers(0, 7), st.integers(1, 10**9), min_size=1), weights=WEIGHTS)
def test_flows_bring_the_shares_about_with_the_least_moved(present: dict[int, int], weights: dict[int, float]) -> None:
    total = sum(present.values())
    wanted = {node: weight / sum(weights.values()) for node, weight in weights.items()}
    after = {node: float(size) for node, size in present.items()}
    moved = 0.0
    for node, to in flows(present, wanted).items():
        assert sum(to.values()) <= 1 + 1e-9
        for other, share in to.items():
            after[node] -= share * present[node]
            after[other] = after.get(other, 0.0) + share * present[node]
            moved += share * present[node]
    assert apart({n: size / total for n, size in after.items()}, wanted) < 1e-6
    least = sum(max(size - wanted.get(node, 0.0) * total, 0.0) for node, size in present.items())
    assert moved == pytest.approx(least, rel=1e-6, abs=1e-3)


@settings(deadline=None)
@given(
    pattern=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    leaving=st.lists(st.floats(0.0, 0.5), min_size=2, max_size=2),
    start=st.integers(0, 1 << 35),
)
def test_pages_that_go_are_spread_evenly_whatever_the_layout(
    pattern: list[int], leaving: list[float], start: int
) -> None:
    """Interleaved memory too: each node's pages, in any quarter of the range, go where they should in proportion."""
    addresses = (np.arange(8192, dtype=np.uint64) + np.uint64(start)) * np.uint64(PAGE)
    nodes = np.resize(np.array(pattern, dtype=np.int32), 8192)
    flow = {0: {8: leaving[0], 9: leaving[1]}}
    targets = Dealer(flow).targets(addresses, nodes, unit=PAGE)
    assert (targets[nodes != 0] == -1).all()
    for quarter in range(4):
        part = slice(quarter * 2048, (quarter + 1) * 2048)
        here = targets[part][nodes[part] == 0]
        for node, share in flow[0].items():
            assert abs((here == node).sum() - share * len(here)) <= 0.001 * len(here) + 4


def test_what_may_be_one_huge_page_goes_to_one_node() -> None:
    addresses = (np.arange(8 * 512, dtype=np.uint64)) * np.uint64(PAGE)
    targets = Dealer({0: {1: 0.5}}).targets(addresses, np.zeros(8 * 512, dtype=np.int32), unit=HUGE)
    by_block = targets.reshape(8, 512)
    assert (by_block == by_block[:, :1]).all()
    assert (by_block[:, 0] == 1).sum() == 4


# --- placement: moving


class MovingHost(FakeHost):
    """Moving takes time; some pages are busy at first, some are pinned for ever, and nodes may be full."""

    def __init__(self, pages: int, nodes: Sequence[int], *, rate: float = 4e9) -> None:
        super().__init__({"/proc/self/mounts": "", "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size": f"{HUGE}"})
        self.start(PID, "database")
        self.files[f"/proc/{PID}/smaps"] = mapping(HEAP, pages * PAGE, "", {"Anonymous": pages * 4, "Rss": pages * 4})
        self.pages[PID] = {HEAP + n * PAGE: nodes[n % len(nodes)] for n in range(pages)}
        self.rate = rate
        self.busy: dict[int, int] = {}
        self.room: dict[int, int] = {}
        self.times: list[tuple[int, int]] = []
        self.ends_after = math.inf

    def move_pages(self, pid: int, addresses: NDArray[np.uint64], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
        stopped, moved = len(addresses), 0
        for number, (address, node) in enumerate(zip(map(int, addresses), map(int, nodes), strict=True)):
            if self.busy.get(address, 0) > 0 or self.room.get(node, 1) <= 0:
                self.busy[address] = self.busy.get(address, 0) - 1
                stopped = number
                if self.room.get(node, 1) <= 0:
                    raise HostError("cannot call move_pages", number=errno.ENOMEM)
                break  # as the kernel does
            self.room[node] = self.room.get(node, 1 << 40) - 1
            moved += self.pages[pid][address] != node
            self.pages[pid][address] = node
        self.advance(moved * PAGE / self.rate + 1e-6)
        self.times.append((self.monotonic_ns(), moved * PAGE))
        if sum(size for _, size in self.times) >= self.ends_after:
            self.end(pid)
        found = self.page_nodes(pid, addresses)
        found[stopped:] = -errno.EAGAIN
        return found


@settings(deadline=None)
@given(
    layout=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    weights=st.dictionaries(st.integers(0, 3), st.floats(0.05, 10.0), min_size=1),
    bandwidth=st.sampled_from([8 * MIB, 50 * MIB, 1 << 30, math.inf]),
    busy=st.dictionaries(st.integers(0, 1023), st.integers(1, 3), max_size=5),
)
def test_any_memory_comes_to_any_shares_within_its_limit(
    layout: list[int], weights: dict[int, float], bandwidth: float, busy: dict[int, int]
) -> None:
    host = MovingHost(1024, layout)
    host.busy = {HEAP + page * PAGE: times for page, times in busy.items()}
    wanted = {node: weight / sum(weights.values()) for node, weight in weights.items()}
    before = dict(host.pages[PID])
    began = host.monotonic_ns()
    told: list[tuple[int, int]] = []
    done = move(host, PID, host.tasks[PID].start, wanted, bandwidth=bandwidth, progress=lambda *at: told.append(at))
    assert apart(shares(nodes_of(host, PID)), wanted) <= 0.02
    assert host.pages[PID].keys() == before.keys()
    assert done.failed <= len(busy) * PAGE  # tried again a few times, not for ever
    assert not done.ended
    assert done.bytes == sum(size for _, size in host.times)
    assert all(0 <= moved <= expected for moved, expected in told)
    for first in range(len(host.times)):
        since = host.times[first - 1][0] if first else began
        for last in (first, len(host.times) - 1):
            moved = sum(size for _, size in host.times[first : last + 1])
            batch = max(bandwidth / 64, PAGE) if bandwidth != math.inf else math.inf
            assert moved <= bandwidth * (host.times[last][0] - since) / 1e9 + 2 * batch


def test_pages_that_never_move_are_counted_and_no_error() -> None:
    host = MovingHost(1024, [0])
    pinned = {HEAP + 100 * PAGE, HEAP + 500 * PAGE}
    host.busy = dict.fromkeys(pinned, 1 << 30)
    done = move(host, PID, host.tasks[PID].start, {1: 1.0}, bandwidth=math.inf)
    assert {a for a, node in host.pages[PID].items() if node == 0} == pinned
    assert done.failed == 2 * PAGE
    assert done.bytes == 1022 * PAGE


def test_a_full_node_is_an_error_that_says_so() -> None:
    host = MovingHost(1024, [0])
    host.room[1] = 100
    with pytest.raises(HostError, match="node 1 is full"):
        move(host, PID, host.tasks[PID].start, {1: 1.0}, bandwidth=math.inf)


def test_a_process_that_ends_while_its_pages_move_is_no_error() -> None:
    host = MovingHost(2048, [0])
    host.ends_after = MIB
    done = move(host, PID, host.tasks[PID].start, {1: 1.0}, bandwidth=64 * MIB)
    assert done.ended
    assert MIB <= done.bytes < 2048 * PAGE
    with pytest.raises(NotFoundError):
        knob_of("memory.placement").write(host, process(PID, 5), "1=1")


def test_a_process_that_has_the_pid_now_is_not_touched() -> None:
    host = MovingHost(256, [0])
    done = move(host, PID, host.tasks[PID].start + 1, {1: 1.0})
    assert done.ended
    assert done.bytes == 0
    assert host.times == []


def test_pages_of_others_and_of_files_stay() -> None:
    host = MovingHost(256, [0])
    shared = mapping(HEAP, 256 * PAGE, "/dev/shm/pool", {"Rss": 1024}).replace("rw-p", "rw-s")
    host.files[f"/proc/{PID}/smaps"] = shared
    assert nodes_of(host, PID) == {}
    assert move(host, PID, 0, {1: 1.0}).bytes == 0
    assert host.times == []


def test_a_sample_of_interleaved_memory_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal.migration._MOST_ASKED", 2048)
    host = MovingHost(16384, [0, 1, 2, 3])
    assert apart(shares(nodes_of(host, PID)), dict.fromkeys(range(4), 0.25)) < 0.03
    move(host, PID, 0, {0: 0.7, 3: 0.3}, bandwidth=math.inf)
    exact = np.unique(list(host.pages[PID].values()), return_counts=True)[1] / 16384
    assert exact == pytest.approx([0.7, 0.3], abs=0.03)


# --- placement: the knob


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5=1", "node 5 is not there"),
        ("0=0.5,5=0.5", "node 5 is not there"),
        ("3=1", "cpuset"),
        ("2=1", "does not fit"),
    ],
)
def test_where_pages_cannot_go_is_said_before(value: str, text: str) -> None:
    host = furnished()
    host.files[f"/proc/{PID}/status"] = "Mems_allowed_list:\t0-2\n"
    host.files[f"{NODE}/node2/meminfo"] = "Node 2 MemFree: 100 kB\n"
    with pytest.raises(SettingError, match=text):
        knob_of("memory.placement").check(host, database(host), value)


def test_one_node_is_nothing_to_set_and_read_without_looking() -> None:
    host = furnished()
    host.files[f"{NODE}/has_memory"] = "0\n"
    knob = knob_of("memory.placement")
    assert knob.support(host).reason == "there is one NUMA node"
    del host.files[f"/proc/{PID}/smaps"]
    assert knob.read(host, database(host)) == "0=1"
    host.end(PID)
    with pytest.raises(NotFoundError):
        knob.read(host, process(PID, 300))


def test_memory_with_a_policy_is_somebodys_choice() -> None:
    host = furnished()
    knob = knob_of("memory.placement")
    assert knob.pin(host, database(host), "0=1") == ""
    host.files[f"/proc/{PID}/numa_maps"] = "1000 default\n2000 bind:0-1 anon=3 N0=3\n"
    assert "bind:0-1" in knob.pin(host, database(host), "0=1")


def test_a_process_without_memory_of_its_own_has_no_placement() -> None:
    host = furnished()
    host.files[f"/proc/{PID}/smaps"] = ""
    with pytest.raises(UnsupportedError):
        knob_of("memory.placement").read(host, database(host))


# --- what is mapped


def test_smaps_as_the_kernel_writes_it() -> None:
    text = (
        "7f00-8f00 rw-p 00001000 fe:00 123                      /srv/a file (deleted)\n"
        "Size:                  4 kB\nKernelPageSize:        4 kB\nRss:        8 kB\nAnonymous: 4 kB\n"
        "Private_Hugetlb: 2 kB\nSwap:   1 kB\nTHPeligible:    0\nVmFlags: rd wr mr \n"
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\nVmFlags: ex \n"
    )
    first, second = parse_smaps(text)
    assert (first.start, first.end, first.offset, first.path) == (0x7F00, 0x8F00, 0x1000, "/srv/a file (deleted)")
    assert (first.resident, first.anonymous, first.own_hugetlb, first.swapped) == (8192, 4096, 2048, 1024)
    assert first.flags == {"rd", "wr", "mr"}
    assert not first.is_file
    assert second.path == "[vsyscall]"
    assert parse_smaps("") == ()


# --- huge pages


def sparse(host: FakeHost) -> None:
    """Of four blocks: full, half, one page less than half, empty."""
    base = 0x40000000
    pages = [range(512), range(256), range(255), range(0)]
    host.pages[PID] = {base + block * HUGE + n * PAGE: 0 for block, some in enumerate(pages) for n in some}
    host.files[f"/proc/{PID}/smaps"] = mapping(base, 4 * HUGE, "", {"Anonymous": 4 * 2048, "Rss": 4 * 2048})


def test_blocks_of_which_little_is_there_are_left_out() -> None:
    host = furnished()
    sparse(host)
    base = 0x40000000
    assert blocks_of(host, PID, least=1.0) == [base]
    assert blocks_of(host, PID, least=0.5) == [base, base + HUGE]
    assert blocks_of(host, PID, least=0.1) == [base, base + HUGE, base + 2 * HUGE]


@pytest.mark.parametrize("flags", ["rd wr nh", "rd wr io pf", "rd wr ht", "rd wr mm"])
def test_memory_that_refuses_huge_pages_is_left_out(flags: str) -> None:
    host = furnished()
    host.files[f"/proc/{PID}/smaps"] = mapping(HEAP, HEAP_PAGES * PAGE, "", {"Anonymous": 4096}, flags=flags)
    assert blocks_of(host, PID, least=0.5) == []


def test_a_process_that_switched_huge_pages_off_is_left_as_it_is() -> None:
    host = furnished()
    host.files[f"/proc/{PID}/status"] = "THP_enabled:\t0\n"
    knob = knob_of("memory.hugepages")
    knob.write(host, database(host), "collapse:0.5")
    assert knob.verify(host, database(host), "collapse:0.5") == ""
    assert "PR_SET_THP_DISABLE" in knob.outcome(host, database(host), "collapse:0.5")
    assert host.advised == []


class Failing:
    """The kernel's answer to advice: it stops at the first range that fails, and says why only where that comes first."""

    def __init__(self, failures: dict[int, list[int]]) -> None:
        self.failures = failures
        self.asked: list[int] = []

    def __call__(self, _pid: int, ranges: Sequence[tuple[int, int]], _advice: int) -> int:
        taken = 0
        for number, (start, length) in enumerate(ranges):
            if self.failures.get(start):
                if number == 0:
                    self.asked.append(start)
                    raise HostError("cannot advise", number=self.failures[start].pop(0))
                break
            self.asked.append(start)
            taken += length
        return taken


def large(host: FakeHost, blocks: int) -> list[int]:
    base = 0x40000000
    host.pages[PID] = {base + n * PAGE: 0 for n in range(blocks * 512)}
    host.files[f"/proc/{PID}/smaps"] = mapping(base, blocks * HUGE, "", {"Anonymous": blocks * 2048})
    return [base + n * HUGE for n in range(blocks)]


def test_blocks_that_fail_are_passed_over_and_those_in_use_tried_again() -> None:
    host = furnished()
    blocks = large(host, 20)
    host.on_advice = Failing({blocks[3]: [errno.EINVAL], blocks[5]: [errno.EAGAIN], blocks[9]: [errno.ENOMEM] * 2})
    done = collapse(host, PID, host.tasks[PID].start, least=0.5)
    assert done.bytes == 18 * HUGE
    assert done.failed == 2 * HUGE


def test_without_free_huge_pages_it_gives_up_soon_and_says_why() -> None:
    host = furnished()
    blocks = large(host, 100)
    kernel = host.on_advice = Failing({block: [errno.ENOMEM] for block in blocks})
    with pytest.raises(HostError, match="fragmented"):
        knob_of("memory.hugepages").write(host, database(host), "collapse:0.5")
    assert len(kernel.asked) == 16


def test_lacking_privilege_is_an_error_at_once() -> None:
    host = furnished()
    host.on_advice = Failing({HEAP: [errno.EPERM]})
    with pytest.raises(HostError):
        collapse(host, PID, host.tasks[PID].start, least=0.5)


@pytest.mark.parametrize(
    ("text", "value"), [("collapse", "collapse:0.5"), ("collapse:1", "collapse:1"), ("collapse:.25", "collapse:0.25")]
)
def test_how_full_a_block_must_be_can_be_said(text: str, value: str) -> None:
    assert knob_of("memory.hugepages").parse(text) == value


@pytest.mark.parametrize(
    "text", ["collapse:", "collapse:0", "collapse:1.5", "collapse:-1", "split", "collapse:0.5:1", "collapse:.0"]
)
def test_how_full_must_make_sense(text: str) -> None:
    with pytest.raises(SettingError):
        knob_of("memory.hugepages").parse(text)


def test_what_an_action_came_to_is_told(tmp_path: Path) -> None:
    host = furnished()
    wanted = [Setting("memory.hugepages", database(host), "collapse:0.5"), Setting("memory.swappiness", SYSTEM, 10)]
    done = apply(make_plan(host, wanted), host, Journal(tmp_path))
    told = [(change.knob, text) for change, text in done.outcomes]
    assert told == [("memory.hugepages", "4 MiB of 4 MiB are in huge pages")]


# --- reclaim


@settings(deadline=None)
@given(
    queue=st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0.001, 1.0)), min_size=1, max_size=20),
    wanted=st.integers(1, 1 << 34),
)
def test_a_cut_takes_what_is_wanted_and_leaves_the_rest(queue: list[tuple[int, float]], wanted: int) -> None:
    whole, at = [], 0
    for pages, share in queue:
        whole.append((at, pages * PAGE, share))
        at += pages * PAGE + PAGE
    taken, left = cut(whole, wanted)
    assert sum(length for _, length in taken) + sum(length for _, length, _ in left) == sum(n for _, n, _ in whole)
    estimate = {start: share for start, _, share in whole}
    held = sum(length * estimate[start] for start, length in taken)
    assert held >= wanted - len(queue) or not left
    assert all(length % PAGE == 0 and length > 0 for _, length in taken)


def test_without_swap_nothing_anonymous_is_tried() -> None:
    host = furnished()
    host.files["/proc/meminfo"] = "SwapFree: 0 kB\n"
    with pytest.raises(HostError, match="of 1 MiB could be reclaimed"):
        knob_of("memory.pageout").write(host, database(host), "1M")
    assert {start for _, ranges, _ in host.advised for start, _ in ranges} == {LIBRARY}


def test_what_was_used_least_goes_first_and_locked_memory_never() -> None:
    text = "".join(
        mapping(start, MIB, "", {"Rss": 1024, "Referenced": used, "Anonymous": 1024}, flags=flags)
        for start, used, flags in ((MIB, 1024, "rd wr"), (4 * MIB, 10, "rd wr"), (8 * MIB, 0, "rd wr lo"))
    )
    assert [start for start, _, _ in pieces(parse_smaps(text), has_swap=True)] == [4 * MIB, MIB]


def test_a_group_that_gives_less_is_an_error_with_how_much() -> None:
    host = furnished()
    knob = knob_of("memory.reclaim")
    with pytest.raises(HostError, match="128 MiB of 200 MiB"):
        knob.write(host, cgroup("/batch"), "200M")
    knob.write(host, cgroup("/batch"), "all")
    assert knob.outcome(host, cgroup("/batch"), "all") == "it has 0 B now"
    with pytest.raises(SettingError, match=r"no memory\.reclaim"):
        knob.check(host, cgroup("/absent"), "1M")


def test_where_only_v1_is_there_is_no_reclaim() -> None:
    host = FakeHost({"/proc/self/mounts": "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"})
    assert "v1" in knob_of("memory.reclaim").support(host).reason
    assert not host.exists(GROUP)


def test_advice_on_much_goes_in_calls_that_the_kernel_takes_whole() -> None:
    host = furnished()
    taken = advise_all(host, database(host), [(1 << 40, 5 << 30), (3 << 40, 3)], 20)
    assert taken == (5 << 30) + 3
    for _, ranges, _ in host.advised:
        assert sum(length for _, length in ranges) < 2 << 30
        assert len(ranges) <= 1024


def test_all_nodes_are_compacted_when_the_system_is_named() -> None:
    host = furnished()
    knob = knob_of("memory.compact")
    assert [subject.name for subject in knob.members(host, SYSTEM)] == ["0", "1", "2", "3"]
    assert knob.members(host, Subject("node", "2")) == (Subject("node", "2"),)
    with pytest.raises(SettingError):
        knob.check(host, Subject("node", "9"), "now")
    bare = FakeHost({"/proc/self/mounts": "", "/proc/sys/vm/compact_memory": ""})
    knob.write(bare, knob.members(bare, SYSTEM)[0], "now")
    assert bare.writes == [("/proc/sys/vm/compact_memory", "1")]


def test_free_blocks_are_counted_by_node() -> None:
    text = "Node 0, zone   Normal  9 9 9 9 9 9 9 9 9 1 2\nNode 1, zone   Normal  0 0 0 0 0 0 0 0 0 4 0\n"
    assert free_in_huge(text, "0") == (512 + 2 * 1024) * PAGE
    assert free_in_huge(text, "1") == 4 * 512 * PAGE
    assert free_in_huge(text, "") == free_in_huge(text, "0") + free_in_huge(text, "1")


# --- warm-up


def test_only_what_is_not_cached_is_read() -> None:
    host = furnished()
    host.files[DATA] = "x" * (20 * MIB)
    host.preload(DATA, 0, 8 * MIB)
    host.writes.clear()
    knob = knob_of("memory.warm")
    knob.write(host, Subject("file", DATA), "10M")
    assert host.writes == [(DATA, f"preload {8 * MIB}-{10 * MIB}")]
    assert knob.verify(host, Subject("file", DATA), "10M") == ""
    assert "memory is short" in knob.verify(host, Subject("file", DATA), "all")


def test_more_than_there_is_memory_is_refused() -> None:
    host = furnished()
    host.files["/proc/meminfo"] = "MemAvailable: 8 kB\n"
    with pytest.raises(SettingError, match="are to come"):
        knob_of("memory.warm").check(host, Subject("file", DATA), "all")
    with pytest.raises(SettingError, match="cannot read"):
        knob_of("memory.warm").check(host, Subject("file", "/nowhere"), "all")
    with pytest.raises(SettingError):
        knob_of("memory.hugetlb_pages").check(host, SYSTEM, "2M=1")


def test_only_files_are_faulted_in() -> None:
    """Reading a device's memory may act on it, and what userfaultfd handles may never answer."""
    host = furnished()
    parts = [
        mapping(LIBRARY, 8 * PAGE, "/lib/libc.so", {"Rss": 0}, flags="rd mr"),
        mapping(LIBRARY + MIB, 8 * PAGE, "/dev/dri/card0", {"Rss": 0}, flags="rd io pf"),
        mapping(LIBRARY + 2 * MIB, 8 * PAGE, "/srv/bar", {"Rss": 0}, flags="rd io"),
        mapping(LIBRARY + 3 * MIB, 8 * PAGE, "/srv/slow", {"Rss": 0}, flags="rd um"),
        mapping(LIBRARY + 4 * MIB, 8 * PAGE, "", {"Rss": 0}, flags="rd wr"),
        mapping(LIBRARY + 5 * MIB, 8 * PAGE, "/srv/secret", {"Rss": 0}, flags="mr"),
        mapping(LIBRARY + 6 * MIB, 8 * PAGE, "/srv/gone (deleted)", {"Rss": 0}, flags="rd"),
    ]
    host.files[f"/proc/{PID}/smaps"] = "".join(parts)
    touched: list[int] = []

    def read(_pid: int, address: int, size: int) -> bytes:
        touched.append(address)
        return bytes(size)

    host.read_memory = read  # type: ignore[assignment,method-assign]
    knob_of("memory.prefault").write(host, database(host), "all")
    assert touched == [LIBRARY]


# --- the whole system


def test_no_share_of_dirty_memory_comes_back_from_bytes() -> None:
    """The kernel clears the bytes only when the share changes, and beside bytes it is 0 already."""
    host = furnished()
    knob = knob_of("memory.dirty")
    knob.write(host, SYSTEM, "0%")
    assert knob.read(host, SYSTEM) == "0%"
    knob.write(host, SYSTEM, "64M")
    assert knob.read(host, SYSTEM) == "64M"
    knob.write(host, SYSTEM, "0%")
    assert knob.read(host, SYSTEM) == "0%"


@pytest.mark.parametrize("text", ["%", "101%", "-1%", "4K", "20 %%", "64MM", "1.5"])
def test_limits_on_dirty_memory_make_sense(text: str) -> None:
    with pytest.raises(SettingError):
        knob_of("memory.dirty").parse(text)


@settings(deadline=None)
@given(
    order=st.permutations(["64K", "128K", "2M"]),
    at=st.integers(0, 3),
    taking_back=st.booleans(),
)
def test_a_kill_between_parts_is_recognised(order: list[str], at: int, taking_back: bool) -> None:
    knob: Any = knob_of("memory.thp_sizes")
    host = furnished()
    old = knob.read(host, SYSTEM)
    new = knob.parse(",".join(f"{size}=always" for size in order))
    first, second = (new, old) if taking_back else (old, new)
    knob.write(host, SYSTEM, first)
    for name, wanted in list(parts_of(second).items())[:at]:
        knob.write(host, SYSTEM, f"{name}={wanted}")
    found = knob.read(host, SYSTEM)
    assert any(knob.same(value, found) for value in (old, new, *knob.between(Change(knob.name, SYSTEM, old, new))))


def test_sizes_that_are_not_there_are_named_with_those_that_are() -> None:
    host = furnished()
    with pytest.raises(SettingError, match="no 4M here") as caught:
        knob_of("memory.thp_sizes").check(host, SYSTEM, "64K=always,4M=never")
    assert "64K" in caught.value.remedy


def test_sizes_set_apart_are_one_setting_and_a_word_for_all_is_not() -> None:
    host = furnished()
    sizes, weights = knob_of("memory.thp_sizes"), knob_of("memory.interleave_weights")
    assert sizes.merged(host, "128K=always", "64K=madvise") == "64K=madvise,128K=always"
    assert sizes.merged(host, "64K=never,128K=always", "64K=madvise") == "64K=madvise,128K=always"
    assert weights.merged(host, "0=3", "auto") == "auto"
    assert weights.merged(host, "auto", "0=3") == "0=3"


def test_weights_go_back_to_the_kernel_or_to_what_it_would_choose() -> None:
    host = furnished()
    knob = knob_of("memory.interleave_weights")
    assert knob.read(host, SYSTEM) == "auto"
    knob.write(host, SYSTEM, "0=3")
    assert knob.read(host, SYSTEM) == "0=3,1=1,2=1,3=1"
    folder = "/sys/kernel/mm/mempolicy/weighted_interleave"

    def no_bandwidths(_old: str, _written: str) -> str:
        raise OSError(errno.ENODEV, "no table")

    host.handlers[f"{folder}/auto"] = no_bandwidths
    knob.write(host, SYSTEM, "auto")
    assert knob.read(host, SYSTEM) == "0=1,1=1,2=1,3=1"


def test_a_mode_that_this_kernel_lacks_is_said_before() -> None:
    host = furnished()
    host.files["/sys/kernel/mm/transparent_hugepage/defrag"] = "always [madvise] never\n"
    with pytest.raises(SettingError, match="defer"):
        knob_of("memory.thp_defrag").check(host, SYSTEM, "defer")
    host.files["/sys/kernel/mm/ksm/advisor_mode"] = "none [scan-time]\n"
    with pytest.raises(SettingError, match="advisor"):
        knob_of("memory.ksm_scan").check(host, SYSTEM, 1000)


def test_ksm_goes_by_words() -> None:
    knob = knob_of("memory.ksm")
    assert [knob.parse(text) for text in ("0", "1", "2", "Unmerge")] == ["off", "on", "unmerge", "unmerge"]


# --- who may


def test_files_of_root_and_read_only_mounts_are_known_before() -> None:
    path = "/proc/sys/vm/swappiness"
    mine = FakeHost({path: "60"}, uid=1000, owners={path: 1000})
    others = FakeHost({path: "60"}, uid=1000)
    mounted = "proc /proc proc rw 0 0\nproc /proc/sys proc ro,nosuid 0 0\n"
    container = FakeHost({path: "60", "/proc/self/mounts": mounted})
    remounted = FakeHost({path: "60", "/proc/self/mounts": mounted + "proc /proc/sys proc rw 0 0\n"})
    assert may_write(mine, path).works
    assert may_write(remounted, path).works
    assert "root" in may_write(others, path).reason
    assert "read-only" in may_write(container, path).reason
    assert "read-only" in knob_of("memory.swappiness").support(container).reason


@settings(deadline=None)
@given(size=st.integers(1, 1 << 52))
def test_sizes_read_back_as_themselves(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["0", "", "M", "1X", "-1M", "1e3", "1.5", "٣M", "8192T", "9" * 30, "1 M"])
def test_sizes_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)
