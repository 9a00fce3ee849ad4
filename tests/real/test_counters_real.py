"""Counters against this kernel's own books: getrusage, /proc, and what programs are known to do."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dna.errors import ProbeUnavailableError
from dna.members import Members, in_cgroup, tree, whole_host
from dna.probes.base import ProbeContext, Reading
from dna.probes.counters import CountersProbe
from dna.probes.counting.plan import NO_PMU
from dna.sample import CounterReading
from hal.errors import HostError
from hal.host import LinuxHost
from hal.perf import Group, event, try_events, why_not
from hal.pmu import core_pmus
from hal.topology import Topology

HOST = LinuxHost()
PAGE = resource.getpagesize()
_refusal = try_events(HOST, [event("page-faults"), event("context-switches")])

pytestmark = pytest.mark.skipif(
    _refusal is not None,
    reason=f"perf_event_open: {why_not(_refusal).reason}; {why_not(_refusal).remedy}" if _refusal else "",
)

PROGRAM = """
    import mmap, os, sys, threading, time
    PAGE = mmap.PAGESIZE
    held = []

    def touch(pages):
        memory = mmap.mmap(-1, pages * PAGE)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for i in range(pages):
            memory[i * PAGE] = 1
        held.append(memory)

    def in_thread(pages):
        thread = threading.Thread(target=touch, args=(pages,))
        thread.start()
        thread.join()

    def in_child(pages):
        if (pid := os.fork()) == 0:
            touch(pages)
            os._exit(0)
        os.waitpid(pid, 0)

    def in_lasting_child(pages):
        here, there = os.pipe()
        if os.fork() == 0:
            touch(pages)
            os.write(there, b".")
            time.sleep(60)
            os._exit(0)
        os.read(here, 1)

    def sleep(times):
        for _ in range(times):
            time.sleep(0.0005)

    def spin(turns):
        while turns:
            turns -= 1

    for line in sys.stdin:
        name, number = line.split()
        globals()[name](int(number))
        print("done", flush=True)
"""


def faults_of(pid: int) -> int:
    """Return the faults of a process and of its ended children by /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[7:11])


class Told:
    """A program that does what it is told, and waits."""

    def __init__(self) -> None:
        code = textwrap.dedent(PROGRAM)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.tell("spin", 1)

    def tell(self, what: str, number: int) -> None:
        """Return when it is done and asleep, waiting for the next word: until then the kernel's books are not closed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, number, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            os.sched_yield()

    def switches(self) -> int:
        """Return the context switches of its main thread by /proc."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

    def faults(self) -> int:
        """Return the faults of the process and of its ended children by /proc."""
        return faults_of(self.process.pid)


@pytest.fixture
def told() -> Iterator[Told]:
    program = Told()
    yield program
    os.killpg(program.process.pid, 9)
    program.process.communicate()


@pytest.fixture
def probing() -> Iterator[Callable[[Members], CountersProbe]]:
    probes: list[CountersProbe] = []

    def start(members: Members) -> CountersProbe:
        members.refresh()
        probe = CountersProbe()
        probes.append(probe)
        probe.start(ProbeContext(HOST, members, Topology.__new__(Topology), None))
        return probe

    yield start
    for probe in probes:
        probe.stop()


Probing = Callable[[Members], CountersProbe]


def read(probe: CountersProbe, members: Members) -> Reading[CounterReading]:
    members.refresh()
    return probe.read(1.0)


def test_own_faults_are_those_of_getrusage() -> None:
    """The interpreter faults too, between asking the one and the other: so the counts lie between two spans."""
    outer = [resource.getrusage(resource.RUSAGE_SELF)]
    with Group(HOST, [event("page-faults"), event("minor-faults"), event("major-faults")]) as group:
        held = mmap.mmap(-1, 300 * PAGE)  # fresh pages, where the heap may hand out used ones
        inner = [resource.getrusage(resource.RUSAGE_SELF)]
        for offset in range(0, len(held), PAGE):
            held[offset] = 1
        inner.append(resource.getrusage(resource.RUSAGE_SELF))
        counts = group.read()
        outer.append(resource.getrusage(resource.RUSAGE_SELF))
    assert counts is not None
    assert counts.coverage == 1.0
    total, minor, major = counts.values
    assert total == minor + major
    assert 300 <= inner[1].ru_minflt - inner[0].ru_minflt <= minor <= outer[1].ru_minflt - outer[0].ru_minflt
    assert inner[1].ru_majflt - inner[0].ru_majflt <= major <= outer[1].ru_majflt - outer[0].ru_majflt
    held.close()


def test_faults_of_a_process_its_threads_and_children_are_those_of_proc(told: Told, probing: Probing) -> None:
    members = tree(HOST, told.process.pid)
    probe = probing(members)
    before = told.faults()
    told.tell("touch", 1000)
    told.tell("in_thread", 1000)
    told.tell("in_child", 1000)
    reading = read(probe, members)
    found = told.faults() - before
    assert found >= 3000
    assert reading.value.events["page-faults"] == pytest.approx(found, rel=0.02)
    assert reading.value.events["minor-faults"] == pytest.approx(found, rel=0.02)
    assert reading.coverage == 1.0


def test_nothing_done_is_nothing_counted(told: Told, probing: Probing) -> None:
    members = tree(HOST, told.process.pid)
    probe = probing(members)
    told.tell("touch", 500)
    read(probe, members)
    assert read(probe, members).value.events["page-faults"] == 0


def test_a_child_that_lives_on_is_counted_once(told: Told, probing: Probing) -> None:
    members = tree(HOST, told.process.pid)
    probe = probing(members)
    os.sched_yield()
    told.tell("spin", 2_000_000)  # the clock of process start times moves in steps of 10 ms
    told.tell("in_lasting_child", 2000)
    first = read(probe, members)  # the child is a member now
    told.tell("in_child", 2000)
    second = read(probe, members)
    assert len(members.pids()) == 2
    assert first.value.events["page-faults"] == pytest.approx(2000, rel=0.3)
    assert second.value.events["page-faults"] == pytest.approx(2000, rel=0.3)


FORKING = """
    import os, threading, warnings
    warnings.simplefilter("ignore")

    def work():
        while True:
            if (pid := os.fork()) == 0:
                os._exit(0)
            os.waitpid(pid, 0)

    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()
"""


def test_forks_while_the_counters_are_opened_are_counted_once(probing: Probing) -> None:
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(FORKING)], start_new_session=True) as process:
        try:
            while faults_of(process.pid) < 10_000:
                os.sched_yield()
            members = tree(HOST, process.pid)
            probe = probing(members)
            read(probe, members)
            before = faults_of(process.pid)
            while faults_of(process.pid) < before + 20_000:
                os.sched_yield()
            os.killpg(process.pid, signal.SIGSTOP)
            assert read(probe, members).value.events["page-faults"] == pytest.approx(
                faults_of(process.pid) - before, rel=0.1
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_switches_are_those_of_proc(told: Told, probing: Probing) -> None:
    members = tree(HOST, told.process.pid)
    probe = probing(members)
    before = told.switches()
    told.tell("sleep", 200)
    found = told.switches() - before
    assert found >= 200
    value = read(probe, members).value
    if "context-switches" not in value.events:
        pytest.skip(f"context-switches: {value.unavailable['context-switches']}; run as root")
    assert value.events["context-switches"] == pytest.approx(found, rel=0.02, abs=3)


def test_task_clock_is_cpu_time(told: Told, probing: Probing) -> None:
    members = tree(HOST, told.process.pid)
    probe = probing(members)

    def cpu_ns() -> int:
        return int(Path(f"/proc/{told.process.pid}/schedstat").read_text().split()[0])

    before = cpu_ns()
    told.tell("spin", 3_000_000)
    found = cpu_ns() - before
    assert read(probe, members).value.events["task-clock"] == pytest.approx(found, rel=0.05)


def test_an_end_keeps_the_counts(probing: Probing) -> None:
    program = Told()
    members = tree(HOST, program.process.pid)
    probe = probing(members)
    program.tell("touch", 1000)
    program.process.communicate()
    first, second = read(probe, members), read(probe, members)
    assert first.value.events["page-faults"] >= 1000
    assert second.value.events["page-faults"] == 0


def test_hardware_is_counted_or_unknown(told: Told, probing: Probing) -> None:
    members = tree(HOST, told.process.pid)
    probe = probing(members)
    told.tell("spin", 3_000_000)
    value = read(probe, members).value
    if core_pmus(HOST):
        assert "instructions" not in value.events or value.events["instructions"] > 3_000_000
    else:
        assert value.unavailable["instructions"] == NO_PMU
        assert not {"instructions", "cycles", "cache-misses"} & value.events.keys()


def test_all_descriptors_are_given_back(told: Told, probing: Probing) -> None:
    before = set(os.listdir("/proc/self/fd"))
    members = tree(HOST, told.process.pid)
    probe = probing(members)
    assert len(os.listdir("/proc/self/fd")) > len(before)
    read(probe, members)
    probe.stop()
    assert set(os.listdir("/proc/self/fd")) == before


LIMITED = """
    import os, resource, subprocess, sys, threading
    from dna.members import tree
    from dna.probes.base import ProbeContext
    from dna.probes.counters import CountersProbe
    from hal.host import LinuxHost

    used = len(os.listdir("/proc/self/fd")) - 1
    soft, hard = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    members = tree(LinuxHost(), int(sys.argv[3]))
    members.refresh()
    probe = CountersProbe()
    probe.start(ProbeContext(LinuxHost(), members, None, None))
    members.refresh()
    reading = probe.read(1.0)
    print(len(members.tids()), reading.coverage, resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(os.listdir("/proc/self/fd")))
"""
MANY = """
    import threading
    stop = threading.Event()
    for _ in range(99):
        threading.Thread(target=stop.wait, daemon=True).start()
    print("ready", flush=True)
    stop.wait()
"""


@pytest.fixture
def hundred_threads() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(MANY)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.kill()


def limited(pid: int, *, soft: int, hard: int) -> tuple[int, float, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(soft), str(hard), str(pid)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    threads, coverage, limit, files = done.stdout.split()
    return int(threads), float(coverage), int(limit), int(files)


def test_the_soft_limit_is_raised_for_many_threads(hundred_threads: int) -> None:
    threads, coverage, limit, files = limited(hundred_threads, soft=128, hard=10_000)
    assert (threads, coverage) == (100, 1.0)
    assert 128 < files <= limit < 10_000


def test_with_too_few_descriptors_some_threads_are_counted_and_coverage_says_how_many(hundred_threads: int) -> None:
    threads, coverage, limit, files = limited(hundred_threads, soft=256, hard=256)
    assert threads == 100
    assert 0 < coverage < 1
    assert files <= limit == 256


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    if not roots or os.geteuid() != 0:
        pytest.skip("needs root and a cgroup v2 hierarchy; run as root where cgroup2 is mounted")
    path = roots[0] / f"dna-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a cgroup: {error}; run where {roots[0]} is writable")
    yield path
    path.rmdir()


@pytest.mark.root
def test_of_a_cgroup_only_its_own_is_counted(cgroup: Path, probing: Probing) -> None:
    inside, outside = Told(), Told()
    try:
        (cgroup / "cgroup.procs").write_text(str(inside.process.pid))
        members = in_cgroup(HOST, str(cgroup))
        probe = probing(members)
        inside.tell("touch", 1000)
        inside.tell("in_child", 1000)
        outside.tell("touch", 3000)
        reading = read(probe, members)
        assert reading.value.events["page-faults"] == pytest.approx(2000, rel=0.2)
        assert reading.coverage == 1.0
    finally:
        for program in (inside, outside):
            os.killpg(program.process.pid, 9)
            program.process.communicate()


@pytest.mark.root
def test_the_host_has_what_any_process_does(told: Told, probing: Probing) -> None:
    try:
        members = whole_host(HOST)
        probe = probing(members)
    except ProbeUnavailableError as error:
        pytest.skip(f"{error}; {error.remedy}")
    told.tell("touch", 1000)
    told.tell("sleep", 100)
    value = read(probe, members).value
    assert value.events["page-faults"] >= 1000
    assert value.events["context-switches"] >= 100
    assert "task-clock" in value.unavailable


@pytest.mark.root
def test_without_privilege_user_space_is_counted() -> None:
    if os.geteuid() != 0:
        pytest.skip("starts as root to become nobody; run as root")
    level = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    if level != 2:
        pytest.skip(f"perf_event_paranoid is {level}; sysctl kernel.perf_event_paranoid=2")
    code = """
        import ctypes, os
        from dna.members import tree
        from dna.probes.base import ProbeContext
        from dna.probes.counters import CountersProbe
        from hal.host import LinuxHost
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as if started by that user
        members = tree(LinuxHost(), os.getpid())
        members.refresh()
        probe = CountersProbe()
        probe.start(ProbeContext(LinuxHost(), members, None, None))
        held = bytearray(4096 * 500)
        reading = probe.read(1.0)
        assert reading.value.events["page-faults"] >= 500, reading
        assert "context-switches" in reading.value.unavailable, reading
        assert any(part == "kernel" for part, _ in reading.missing), reading
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_pid_that_is_gone_is_an_error_with_its_number() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(HostError) as raised:
        Group(HOST, [event("page-faults")], pid=process.pid)
    assert raised.value.number == 3
