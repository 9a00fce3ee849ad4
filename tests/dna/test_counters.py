"""What the counters probe decides: which events, on which threads, and what a count means."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dna.errors import ProbeUnavailableError
from dna.members import Members
from dna.probes.base import ProbeContext
from dna.probes.counters import CountersProbe
from dna.probes.counting.estimate import PARTS, estimate
from dna.probes.counting.plan import HARDWARE, NO_PMU, SOFTWARE, make_plan
from dna.probes.counting.threads import ThreadCounters
from dna.sample import CounterReading
from hal.fake import FakeHost
from hal.perf import EVENTS, Counts
from hal.topology import Topology
from tests.hal.perf_kernel import Opened, PerfKernel
from tests.hal.test_pmu import DEVICES, HYBRID

PMU = {f"{DEVICES}/cpu/type": "4\n"}
BIG = 100_000_000


class Host(FakeHost):
    """A machine on which open counters are open files."""

    kernel: PerfKernel

    def list_dir(self, path: str) -> list[str]:
        """As FakeHost."""
        found = super().list_dir(path)
        return found + [str(fd) for fd in self.kernel.open] if path == "/proc/self/fd" else found


class Machine:
    """A FakeHost with processes and a kernel that counts."""

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        *,
        limit: tuple[int, int] = (100_000, 100_000),
        by_fork: bool = False,
    ) -> None:
        self.kernel = PerfKernel(limit=limit)
        self.host = Host(
            {"/proc/self/fd/0": "", "/sys/devices/system/cpu/online": "0-1", **(PMU if files is None else files)},
            syscalls=self.kernel.syscalls,
        )
        self.host.kernel = self.kernel
        self.clock(1000)
        self.here: dict[int, frozenset[int]] = {}
        self.members = Members(self.host, "processes", list, by_fork=by_fork)

    def clock(self, ticks: int) -> None:
        """Set the time since boot."""
        self.host.files["/proc/uptime"] = f"{ticks / 100:.2f} 0.0\n"

    def process(self, pid: int, *, threads: int = 1, parent: int = 1, start: int = 10) -> None:
        """Make a process exist and be a member."""
        stat = f"{pid} (a) b) S {parent} " + "0 " * 17 + f"{start} 0 0\n"
        self.host.files[f"/proc/{pid}/stat"] = stat
        tids = range(pid, pid + threads)
        for tid in tids:
            self.host.files[f"/proc/{pid}/task/{tid}/stat"] = ""
        self.here[pid] = frozenset(tids)
        self.members.adopt(dict(self.here))

    def end(self, pid: int) -> None:
        """Make a process be gone."""
        for path in [path for path in self.host.files if path.startswith(f"/proc/{pid}/")]:
            del self.host.files[path]
        del self.here[pid]
        self.members.adopt(dict(self.here))

    def adopted_by_init(self, parent: int) -> None:
        """Give the children of a gone process to init."""
        for path, text in self.host.files.items():
            if path.count("/") == 3:
                self.host.files[path] = text.replace(f") S {parent} ", ") S 1 ")

    def context(self, members: Members | None = None) -> ProbeContext:
        topology = Topology.__new__(Topology)
        return ProbeContext(self.host, members or self.members, topology, None)

    def counters(self) -> ThreadCounters:
        plan = make_plan(self.host, hardware=[("instructions", "cycles")], software=["page-faults"])
        counters = ThreadCounters(self.host, self.members, plan)
        counters.refresh()
        return counters

    def opened(self) -> set[int]:
        return {one.pid for one in self.kernel.open.values()}


@pytest.fixture
def machine() -> Machine:
    return Machine()


def instructions(counters: ThreadCounters) -> int:
    return counters.read()[1].values[0]


# --- the plan


def test_every_wanted_event_exists() -> None:
    assert {name.partition(":")[0] for group in [*HARDWARE, SOFTWARE] for name in group} <= EVENTS.keys()


def test_both_events_of_every_ratio_share_a_group(machine: Machine) -> None:
    groups = [set(group.names) for group in make_plan(machine.host).groups]
    for part, whole in PARTS.items():
        assert any({part, whole} <= group for group in groups), part
    for event in ("cycles", "L1-dcache-load-misses", "dTLB-load-misses", "iTLB-load-misses", "cache-misses"):
        assert any({event, "instructions"} <= group for group in groups), event


def test_no_pmu_costs_the_hardware_events_only() -> None:
    plan = make_plan(Machine({}).host)
    assert [group.names for group in plan.groups] == [SOFTWARE]
    assert set(plan.unavailable.values()) == {NO_PMU}


def test_an_event_that_the_pmu_lacks_costs_itself(machine: Machine) -> None:
    machine.kernel.refuse = lambda one: errno.ENOENT if one.name.startswith("stalled") else 0
    plan = make_plan(machine.host)
    assert set(plan.unavailable) == {"stalled-cycles-frontend", "stalled-cycles-backend"}
    assert ("instructions", "cycles") in [group.names for group in plan.groups]


def test_a_group_too_large_for_the_pmu_is_split_beside_its_anchor(machine: Machine) -> None:
    machine.kernel.refuse = lambda one: errno.EINVAL if one.leader >= 0 and len(machine.kernel.open) >= 2 else 0
    plan = make_plan(machine.host, software=())
    assert max(len(group.names) for group in plan.groups) == 2
    assert {group.names[0] for group in plan.groups} == {"instructions"}
    counted = {name for group in plan.groups for name in group.names}
    assert counted == {name for group in HARDWARE for name in group}


def test_a_hybrid_cpu_is_counted_on_both_kinds_of_core() -> None:
    machine = Machine(HYBRID)
    machine.kernel.refuse = lambda one: errno.ENOENT if one.pmu == 10 and one.name == "branch-misses" else 0
    plan = make_plan(machine.host)
    cycles = next(group for group in plan.groups if "cycles" in group.names)
    assert [[event.config >> 32 for event in variant] for variant in cycles.variants] == [[10] * 4, [4] * 4]
    assert cycles.cpus == ((4, 5, 6, 7), (0, 1, 2, 3))
    assert "cpu_atom" in plan.unavailable["branch-misses"]
    software = next(group for group in plan.groups if "minor-faults" in group.names)
    assert len(software.variants) == 1


def refuse_the_kernel(one: Opened) -> int:
    """Answer as perf_event_paranoid=2 does to a user."""
    return 0 if one.exclude_kernel else errno.EACCES


def test_without_privilege_user_space_is_counted_and_the_rest_is_unknown(machine: Machine) -> None:
    machine.kernel.refuse = refuse_the_kernel
    plan = make_plan(machine.host)
    assert plan.user_only
    assert {"instructions:k", "context-switches", "cpu-migrations"} <= plan.unavailable.keys()
    assert all(event.exclude_kernel for group in plan.groups for variant in group.variants for event in variant)


# --- estimates

ANCHORED = [("instructions", "cycles"), ("instructions", "branches", "branch-misses")]


def test_ratios_of_a_group_hold_whatever_share_it_ran() -> None:
    found = estimate(ANCHORED, [Counts(BIG, BIG, (1000, 2000)), Counts(BIG, BIG // 4, (400, 100, 10))])
    assert found.events == {"instructions": 1000, "cycles": 2000, "branches": 250, "branch-misses": 25}
    assert found.coverage == {"instructions": 1.0, "cycles": 1.0, "branches": 0.25, "branch-misses": 0.25}


def test_without_an_anchor_time_scales() -> None:
    found = estimate([("cycles",), ("branches",)], [Counts(BIG, BIG, (2000,)), Counts(BIG, BIG // 4, (100,))])
    assert found.events == {"cycles": 2000, "branches": 400}


@given(
    rate=st.floats(0.01, 0.5),
    shares=st.lists(st.floats(0.1, 1.0), min_size=2, max_size=2),
    total=st.integers(10**7, 10**12),
)
def test_a_steady_workload_is_recovered(rate: float, shares: list[float], total: int) -> None:
    counts = []
    for share, rates in zip(shares, [(1.0, 2.0), (1.0, rate, rate / 10)], strict=True):
        counts.append(Counts(BIG, round(BIG * share), tuple(round(total * share * r) for r in rates)))
    found = estimate(ANCHORED, counts)
    wanted = {"instructions": total, "cycles": 2 * total, "branches": total * rate, "branch-misses": total * rate / 10}
    assert found.events == pytest.approx(wanted, rel=1e-3)
    assert not found.unavailable


@given(st.lists(st.lists(st.integers(0, 1 << 50), min_size=6, max_size=6), min_size=2, max_size=2))
def test_every_event_is_known_or_has_a_reason_and_no_part_exceeds_its_whole(numbers: list[list[int]]) -> None:
    groups = [("instructions", "cycles", "stalled-cycles-backend"), ("instructions", "branches", "branch-misses")]
    counts = [Counts(max(n[0], n[1]), min(n[0], n[1]), (n[2], n[3], n[4])) for n in numbers]
    found = estimate(groups, counts)
    assert {name for group in groups for name in group} == found.events.keys() | found.unavailable.keys()
    assert not found.events.keys() & found.unavailable.keys()
    assert found.events.keys() == found.coverage.keys()
    assert all(value >= 0 for value in found.events.values())
    for part, whole in PARTS.items():
        if part in found.events and whole in found.events:
            assert found.events[part] <= found.events[whole]


def test_too_little_coverage_is_unknown_with_the_share() -> None:
    found = estimate(ANCHORED, [Counts(BIG, BIG, (1000, 2000)), Counts(BIG, BIG // 50, (400, 100, 10))])
    assert found.events == {"instructions": 1000, "cycles": 2000}
    assert "2.0%" in found.unavailable["branches"]


def test_a_target_that_did_not_run_counted_nothing() -> None:
    assert estimate([("page-faults",)], [Counts(0, 0, (0,))]).events == {"page-faults": 0}


def test_a_counter_that_stands_still_is_unknown() -> None:
    found = estimate([("instructions", "cycles")], [Counts(BIG, BIG, (1000, 0))])
    assert found.events == {"instructions": 1000}
    assert "stands still" in found.unavailable["cycles"]
    stalls = estimate([("cycles", "stalled-cycles-backend")], [Counts(BIG, BIG, (BIG, 0))])
    assert stalls.events == {"cycles": BIG}


def test_a_little_too_much_is_clamped_and_flagged_and_far_too_much_is_unknown() -> None:
    names = [("cache-references", "cache-misses")]
    little = estimate(names, [Counts(BIG, BIG, (1000, 1050))])
    assert little.events["cache-misses"] == 1000
    assert "105%" in little.flags["cache-misses"]
    far = estimate(names, [Counts(BIG, BIG, (1000, 1960))])
    assert far.events == {"cache-references": 1000}
    assert "196%" in far.unavailable["cache-misses"]


def test_impossible_instructions_a_cycle_make_cycles_unknown() -> None:
    found = estimate([("instructions", "cycles")], [Counts(BIG, BIG, (BIG, 100))])
    assert found.events == {"instructions": BIG}


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_parts_within_their_whole_are_left_alone(a: int, b: int) -> None:
    assume(a <= b)
    found = estimate([("branches", "branch-misses")], [Counts(BIG, BIG, (b, a))])
    assert found.events == {"branches": b, "branch-misses": a}
    assert not found.flags


# --- threads


def test_each_thread_present_is_opened_and_its_children_follow_by_inheritance(machine: Machine) -> None:
    machine.process(100, threads=3)
    counters = machine.counters()
    assert machine.opened() == {100, 101, 102}
    assert all(one.inherit for one in machine.kernel.open.values())
    machine.kernel.run(101, instructions=500, cycles=700, page_faults=3)
    machine.kernel.run(102, instructions=50)
    assert [counts.values for counts in counters.read()] == [(3,), (550, 700)]
    assert [counts.values for counts in counters.read()] == [(0,), (0, 0)]
    counters.close()
    assert machine.kernel.open == {}


def test_what_a_followed_process_starts_is_not_opened_again(machine: Machine) -> None:
    machine.process(100)
    counters = machine.counters()
    machine.process(100, threads=2)  # a new thread
    machine.process(200, parent=100, start=1005)  # a new child
    machine.process(300, parent=200, start=1006)  # and its child
    counters.refresh()
    assert machine.opened() == {100}
    assert counters.coverage == 1.0


def test_what_was_there_before_or_comes_from_elsewhere_is_opened(machine: Machine) -> None:
    machine.process(100)
    counters = machine.counters()
    machine.process(200, parent=100, start=900)  # forked before its parent was followed
    machine.process(300, parent=1, start=1005)  # started by init
    counters.refresh()
    assert machine.opened() == {100, 200, 300}


def test_a_parent_and_child_present_together_are_both_opened(machine: Machine) -> None:
    machine.process(100, start=10)
    machine.process(200, parent=100, start=20)
    machine.counters()
    assert machine.opened() == {100, 200}


def test_what_an_uncovered_process_starts_is_opened(machine: Machine) -> None:
    machine.process(100)
    machine.kernel.refuse = lambda one: errno.EACCES if one.pid == 100 else 0
    counters = machine.counters()
    machine.process(200, parent=100, start=1005)
    counters.refresh()
    assert machine.opened() == {200}
    assert counters.coverage == 0.5


def test_the_count_of_a_gone_process_is_kept_and_its_descriptors_are_not(machine: Machine) -> None:
    machine.process(100)
    machine.process(200)
    counters = machine.counters()
    machine.kernel.run(100, instructions=70)
    machine.end(100)
    counters.refresh()
    assert machine.opened() == {200}
    assert instructions(counters) == 70
    assert instructions(counters) == 0


def test_counters_stay_while_heirs_live(machine: Machine) -> None:
    machine.process(100)
    counters = machine.counters()
    machine.process(200, parent=100, start=1005)
    counters.refresh()
    machine.end(100)
    counters.refresh()
    machine.kernel.run(100, instructions=5)  # what the child counts arrives there
    assert instructions(counters) == 5
    machine.end(200)
    counters.refresh()
    assert machine.kernel.open == {}


def test_in_a_tree_an_orphan_is_inherited_and_so_is_what_it_starts() -> None:
    machine = Machine(by_fork=True)
    machine.process(100)
    counters = machine.counters()
    machine.process(300, parent=1, start=1010)  # its parent, a child of 100, came and went between two looks
    machine.process(400, parent=300, start=1020)
    machine.end(100)
    counters.refresh()
    assert machine.opened() == {100}
    machine.kernel.run(100, instructions=9)
    assert instructions(counters) == 9
    machine.end(300)
    machine.end(400)
    counters.refresh()
    assert instructions(counters) == 0
    counters.close()
    assert machine.kernel.open == {}


def test_in_a_tree_what_was_there_before_the_first_look_is_opened() -> None:
    machine = Machine(by_fork=True)
    machine.process(100)
    counters = machine.counters()
    machine.process(300, parent=1, start=990)
    counters.refresh()
    assert machine.opened() == {100, 300}


def test_a_thread_that_ends_while_being_opened_is_left_out(machine: Machine) -> None:
    machine.process(100, threads=2)
    machine.kernel.refuse = lambda one: errno.ESRCH if one.pid == 101 else 0
    counters = machine.counters()
    assert counters.open_threads == 1
    assert counters.coverage == 1.0
    assert counters.refusals == ()


@given(
    processes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    limit=st.integers(60, 140),
)
def test_descriptors_stay_within_the_limit_and_coverage_says_what_that_costs(processes: list[int], limit: int) -> None:
    machine = Machine(limit=(60, limit))
    for i, threads in enumerate(processes):
        machine.process(100 * (i + 1), threads=threads)
    counters = machine.counters()
    total = sum(processes)
    fit = min(total, max(limit - 1 - 64, 0) // 3)
    assert counters.open_threads == fit
    assert counters.coverage == pytest.approx(fit / total)
    assert bool(counters.refusals) == (fit < total)
    # Every process gets its main thread before any gets a second.
    assert len({tid // 100 for tid in machine.opened()}) == min(fit, len(processes))


def test_waiting_threads_are_opened_when_there_is_room_again() -> None:
    machine = Machine(limit=(68, 68))  # room for one thread
    machine.process(100)
    machine.process(200)
    counters = machine.counters()
    assert machine.opened() == {100}
    machine.end(100)
    counters.refresh()
    assert machine.opened() == {200}
    assert counters.coverage == 1.0


def test_the_kernel_running_out_of_files_ends_the_opening(machine: Machine) -> None:
    machine.process(100, threads=5)
    machine.kernel.refuse = lambda one: errno.ENFILE if one.pid == 103 else 0
    counters = machine.counters()
    assert counters.coverage == pytest.approx(3 / 5)
    assert "descriptors" in counters.refusals[0]


def test_a_read_that_fails_for_now_is_made_up_later(machine: Machine) -> None:
    machine.process(100)
    counters = machine.counters()
    machine.kernel.run(100, instructions=10)
    machine.kernel.read_error = errno.ECHILD
    assert instructions(counters) == 0
    machine.kernel.read_error = 0
    machine.kernel.run(100, instructions=10)
    assert instructions(counters) == 20


def test_a_thread_on_a_hybrid_cpu_is_the_sum_of_both_kinds_of_core() -> None:
    machine = Machine(HYBRID)
    machine.process(100)
    counters = machine.counters()
    for one in machine.kernel.open.values():
        if one.pmu:
            one.enabled = 1000
            one.running, one.value = (600, 6000) if one.pmu == 4 else (400, 1000)
    assert counters.read()[1] == Counts(1000, 1000, (7000, 7000))


@given(st.data())
def test_nothing_is_lost_or_counted_twice_whatever_comes_and_goes(data: st.DataObject) -> None:
    """Tasks under no counter of their own count where they inherit from, as in the kernel."""
    by_fork = data.draw(st.booleans())
    machine = Machine(by_fork=by_fork)
    machine.process(100)
    counters = machine.counters()
    root = {100: 100}  # process -> the one whose counters it is under
    now, done, seen, fresh = 1000, 0, 0, 101
    for _ in range(data.draw(st.integers(1, 25))):
        now += 2
        machine.clock(now)
        alive = sorted(root)
        what = data.draw(st.sampled_from(["fork", "run", "end", "read"] + ["come"] * (not by_fork)))
        if what == "fork" and alive:
            parent = data.draw(st.sampled_from(alive))
            machine.process(fresh, parent=parent, start=now)
            root[fresh] = root[parent]
            fresh += 1
        elif what == "come":
            machine.process(fresh, parent=1, start=now - 1)
            counters.refresh()
            root[fresh] = fresh
            fresh += 1
        elif what == "run" and alive:
            runner = data.draw(st.sampled_from(alive))
            machine.kernel.run(root[runner], instructions=7)
            done += 7
        elif what == "end" and len(alive) > 1:
            if not by_fork:
                counters.refresh()  # an orphan never seen beside its parent is the documented exception
            gone = data.draw(st.sampled_from(alive))
            machine.end(gone)
            machine.adopted_by_init(gone)
            del root[gone]
        else:
            counters.refresh()
            seen += instructions(counters)
    counters.refresh()
    assert seen + instructions(counters) == done


# --- the probe


def start(machine: Machine, members: Members | None = None) -> CountersProbe:
    probe = CountersProbe()
    probe.start(machine.context(members))
    return probe


def reading_of(probe: CountersProbe) -> CounterReading:
    return probe.read(1.0).value


def test_a_reading_has_each_event_or_its_reason(machine: Machine) -> None:
    machine.process(100)
    probe = start(machine)
    machine.kernel.run(100, ns=BIG, instructions=1000, cycles=2000, instructions__k=250, branches=100, branch_misses=5)
    value = reading_of(probe)
    assert value.events["instructions"] == 1000
    assert value.events["instructions:k"] == 250
    assert value.events["branch-misses"] == 5
    wanted = {*SOFTWARE, "page-faults", *(name for group in HARDWARE for name in group)}
    assert wanted == value.events.keys() | value.unavailable.keys()
    probe.stop()
    probe.stop()
    assert machine.kernel.open == {}


def test_without_a_pmu_hardware_is_unknown_not_zero() -> None:
    machine = Machine({})
    machine.process(100)
    probe = start(machine)
    machine.kernel.run(100, minor_faults=6, major_faults=1)
    reading = probe.read(1.0)
    assert reading.value.events["page-faults"] == 7
    assert "cycles" not in reading.value.events
    assert reading.value.unavailable["cycles"] == NO_PMU
    assert ("hardware events", NO_PMU) in reading.missing


def test_the_host_is_counted_on_each_cpu_less_what_makes_no_sense_there(machine: Machine) -> None:
    probe = start(machine, Members(machine.host, "host", list))
    assert {(one.pid, one.cpu) for one in machine.kernel.open.values()} == {(-1, 0), (-1, 1)}
    machine.kernel.run(-1, cpu=0, ns=BIG, instructions=10, cycles=20)
    machine.kernel.run(-1, cpu=1, ns=BIG, instructions=1, cycles=2)
    value = reading_of(probe)
    assert value.events["instructions"] == 11
    assert "idle" in value.unavailable["task-clock"]
    probe.stop()


def test_the_host_of_a_hybrid_cpu_counts_each_cpu_on_its_own_pmu() -> None:
    machine = Machine(HYBRID | {"/sys/devices/system/cpu/online": "3-4"})
    probe = start(machine, Members(machine.host, "host", list))
    assert {(one.cpu, one.pmu) for one in machine.kernel.open.values() if one.pmu} == {(3, 4), (4, 10)}
    probe.stop()


def cgroup(machine: Machine) -> Members:
    members = Members(machine.host, "cgroup", list, cgroups={"": "/sys/fs/cgroup/web"})
    members.adopt(dict(machine.here))
    return members


def test_a_cgroup_is_counted_by_the_kernel_itself(machine: Machine) -> None:
    machine.process(100)
    machine.kernel.directories["/sys/fs/cgroup/web"] = 55
    probe = start(machine, cgroup(machine))
    assert {(one.pid, one.cpu, one.flags & 4) for one in machine.kernel.open.values()} == {(55, 0, 4), (55, 1, 4)}
    assert not any(one.inherit for one in machine.kernel.open.values())
    probe.stop()


def test_a_cgroup_that_perf_refuses_is_counted_by_its_threads(machine: Machine) -> None:
    machine.process(100, threads=2)
    probe = start(machine, cgroup(machine))
    assert machine.opened() == {100, 101}
    probe.stop()


def test_without_privilege_the_reading_says_what_it_lacks(machine: Machine) -> None:
    machine.process(100)
    machine.kernel.refuse = refuse_the_kernel
    probe = start(machine)
    assert any("user space" in reason for _, reason in probe.read(1.0).missing)
    machine.kernel.refuse = lambda one: errno.EACCES if one.cpu >= 0 else refuse_the_kernel(one)
    with pytest.raises(ProbeUnavailableError) as raised:
        start(machine, Members(machine.host, "host", list))
    assert "paranoid" in raised.value.remedy
    probe.stop()
    assert machine.kernel.open == {}


def test_a_target_of_which_nothing_may_be_counted_is_no_zero(machine: Machine) -> None:
    machine.process(100)
    machine.kernel.refuse = lambda one: errno.EACCES if one.pid == 100 else 0
    with pytest.raises(ProbeUnavailableError):
        start(machine)
    assert machine.kernel.open == {}


def test_a_kernel_without_perf_events_says_so() -> None:
    host = FakeHost({"/proc/uptime": "10.0 1.0"})
    members = Members(host, "processes", list)
    with pytest.raises(ProbeUnavailableError) as raised:
        CountersProbe().start(ProbeContext(host, members, Topology.__new__(Topology), None))
    assert "perf_event_open" in str(raised.value)


def test_coverage_of_the_reading_is_the_share_of_threads() -> None:
    machine = Machine({}, limit=(64 + 1 + 5, 64 + 1 + 5))  # room for the five software events of one thread
    machine.process(100, threads=4)
    probe = start(machine)
    reading = probe.read(1.0)
    assert reading.coverage == 0.25
    assert any(part == "threads" for part, _ in reading.missing)
    probe.stop()
