"""The memory and pressure probes on real processes, against what the kernel says elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dna import members as members_of
from dna.errors import ProbeUnavailableError
from dna.probes.base import ProbeContext, Reading
from dna.probes.memory import MemoryProbe
from dna.probes.pressure import PressureProbe
from dna.sample import MemoryReading
from hal import topology
from hal.host import LinuxHost

HOST = LinuxHost()
TOPOLOGY = topology.live(HOST, devices=False)
MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


class Child:
    """A Python process that executes the lines it is given and answers with ``answer``."""

    LOOP = """
import mmap, os, resource, subprocess, sys
def touch(area):
    for at in range(0, len(area), mmap.PAGESIZE):
        area[at] = 1
def faults(who=resource.RUSAGE_SELF):
    usage = resource.getrusage(who)
    return usage.ru_minflt + usage.ru_majflt
answer = None
for line in sys.stdin:
    exec(line)
    print(answer, flush=True)
"""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def do(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def child() -> Iterator[Child]:
    with subprocess.Popen(
        [sys.executable, "-c", Child.LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            child = Child(process)
            child.do("pass")
            yield child
        finally:
            process.kill()


class Watch:
    """A memory probe on one process tree."""

    def __init__(self, pid: int) -> None:
        self._members = members_of.tree(HOST, pid)
        self._members.refresh()
        self._probe = MemoryProbe()
        self._probe.start(ProbeContext(HOST, self._members, TOPOLOGY, None, interval_s=5.0))

    def reading(self) -> Reading[MemoryReading]:
        self._members.refresh()
        return self._probe.read(5.0)

    def read(self) -> MemoryReading:
        return self.reading().value


def rollup(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(value) << 10 for value in re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE))


def test_resident_memory_by_kind_is_that_of_the_page_tables() -> None:
    with child() as c:
        watch = Watch(c.pid)
        before = watch.read()
        c.do(f"a = mmap.mmap(-1, {96 * MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); touch(a)")
        c.do(f"s = mmap.mmap(-1, {48 * MIB}, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS); touch(s)")
        after = watch.read()
        assert after.anonymous is not None
        assert after.shared is not None
        assert after.resident is not None
        assert after.anonymous - (before.anonymous or 0) == pytest.approx(96 * MIB, rel=0.03)
        assert after.shared - (before.shared or 0) == pytest.approx(48 * MIB, rel=0.03)
        assert after.resident == pytest.approx(rollup(c.pid, "Rss"), rel=0.03)
        assert after.anonymous == pytest.approx(rollup(c.pid, "Anonymous"), rel=0.03)
        c.do("a.close()")
        assert watch.read().anonymous == pytest.approx(before.anonymous, abs=2 * MIB)


def test_faults_are_those_that_getrusage_counts() -> None:
    with child() as c:
        c.do("before = faults(); answer = before")
        watch = Watch(c.pid)
        began = int(c.do("answer = faults()"))
        c.do(f"a = mmap.mmap(-1, {40 * MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); touch(a)")
        made = int(c.do("answer = faults()")) - began
        value = watch.read()
        assert value.minor_faults is not None
        assert made >= 40 * MIB // PAGE // 16  # folios may be larger than a page
        assert value.minor_faults + (value.major_faults or 0) == pytest.approx(made, abs=20)
        assert watch.read().minor_faults == 0


def test_faults_of_children_count_once_while_they_live_and_after() -> None:
    with child() as c:
        watch = Watch(c.pid)
        own = int(c.do("answer = faults()"))
        # Ten that come and go unseen, and one that is seen alive and ends later.
        c.do("[subprocess.run(['true']) for _ in range(10)]")
        c.do("p = subprocess.Popen(['sleep', '100'])")
        first = watch.read()
        c.do("p.kill(); p.wait()")
        second = watch.read()
        made = int(c.do("answer = faults() + faults(resource.RUSAGE_CHILDREN)")) - own
        assert first.minor_faults is not None
        assert second.minor_faults is not None
        found = first.minor_faults + second.minor_faults + (first.major_faults or 0) + (second.major_faults or 0)
        assert made > 11 * 50
        assert found == pytest.approx(made, rel=0.02, abs=20)


def test_huge_pages_are_those_of_the_page_tables() -> None:
    mode = HOST.read_text("/sys/kernel/mm/transparent_hugepage/enabled")
    if "[never]" in mode:
        pytest.skip("transparent huge pages are off: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
    with child() as c:
        watch = Watch(c.pid)
        assert watch.read().hugepages == rollup(c.pid, "AnonHugePages")
        c.do(f"a = mmap.mmap(-1, {64 * MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)")
        c.do("a.madvise(mmap.MADV_HUGEPAGE); touch(a)")
        if rollup(c.pid, "AnonHugePages") < 16 * MIB:
            pytest.skip("the kernel gave no huge pages: memory is fragmented")
        found = [watch.read().hugepages for _ in range(8)][-1]  # a walk is repeated after six reads
        assert found == rollup(c.pid, "AnonHugePages")


def test_sampled_pages_are_on_the_nodes_of_numa_maps() -> None:
    if not HOST.exists("/proc/self/numa_maps"):
        pytest.skip("a kernel without CONFIG_NUMA has no numa_maps")
    with child() as c:
        c.do(f"a = mmap.mmap(-1, {64 * MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); touch(a)")
        reading = Watch(c.pid).reading()
        assert not reading.missing
        pages = reading.value.pages_by_node
        assert pages is not None
        text = Path(f"/proc/{c.pid}/numa_maps").read_text()
        expected = np.array(
            [sum(int(n) for n in re.findall(rf"\bN{node.os_index}=(\d+)", text)) for node in TOPOLOGY.nodes]
        )
        assert pages.sum() >= 700
        assert pages / pages.sum() == pytest.approx(expected / expected.sum(), abs=0.06)


def test_sparse_reservations_do_not_spoil_the_sample() -> None:
    with child() as c:
        c.do(f"r = mmap.mmap(-1, {1 << 38}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)")
        c.do("r[0] = 1")
        c.do(f"a = mmap.mmap(-1, {64 * MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); touch(a)")
        pages = Watch(c.pid).read().pages_by_node
        assert pages is not None
        assert pages.sum() >= 700


def test_a_target_that_ends_leaves_unknowns() -> None:
    with child() as c:
        watch = Watch(c.pid)
    assert watch.read().resident is None


def test_pressure_of_the_running_kernel_is_between_nothing_and_all() -> None:
    members = members_of.tree(HOST, os.getpid())
    probe = PressureProbe()
    try:
        probe.start(ProbeContext(HOST, members, TOPOLOGY, None, interval_s=0.1))
    except ProbeUnavailableError as error:
        pytest.skip(f"{error}: {error.remedy}")
    before = int(re.findall(r"some .*total=(\d+)", HOST.read_text("/proc/pressure/cpu"))[0])
    HOST.sleep(0.1)
    value = probe.read(0.1).value
    after = int(re.findall(r"some .*total=(\d+)", HOST.read_text("/proc/pressure/cpu"))[0])
    assert value.scope == "host"
    assert value.cpu_some is not None
    assert 0.0 <= value.cpu_some <= 1.0
    if after == before:
        assert value.cpu_some == pytest.approx(0.0, abs=0.05)
