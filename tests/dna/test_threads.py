"""What counters and the table of threads say together, for any schedule cut into any intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dna.probes.bpf import layouts
from dna.probes.bpf.threads import Snapshot, correction, snapshot
from hal.fake import FakeHost

CPUS, CLASSES = 4, 8
RUNNING, READY, BLOCKED, GONE = "running", "ready", "blocked", "gone"


@dataclass(frozen=True)
class Stay:
    """A thread was in one state for a while."""

    state: str
    begin: int
    end: int
    cpu: int = 0
    group: int = 0


@dataclass
class Row:
    """One thread's entry as the programs in the kernel write it (dna/probes/bpf/sched.c)."""

    tid: int = 0
    on: int = 0
    off: int = 0
    ready: int = 0
    cpu: int = 0
    group: int = 0
    ran: int = 0


@dataclass
class Kernel:
    """The table and the counters, moved from state to state."""

    rows: list[Row]
    oncpu: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CPUS, dtype=np.int64))
    blocked: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CLASSES, dtype=np.int64))
    runq: int = 0

    def begin(self, row: int, tid: int, stay: Stay) -> None:
        entry = self.rows[row]
        if stay.state == RUNNING:
            if entry.ready:
                self.runq += stay.begin - entry.ready
            if entry.off:
                self.blocked[entry.group] += (entry.ready or stay.begin) - entry.off
            entry.tid, entry.on, entry.off, entry.ready, entry.cpu = tid, stay.begin, 0, 0, stay.cpu
            return
        if entry.on:
            self.oncpu[entry.cpu] += stay.begin - entry.on
            entry.ran += stay.begin - entry.on
            entry.on = 0
        if stay.state == GONE:
            self.rows[row] = Row()
        elif stay.state == READY:
            entry.tid, entry.ready = tid, stay.begin
        else:
            entry.tid, entry.off, entry.ready, entry.group = tid, stay.begin, 0, stay.group

    def seen(self, now: int) -> Snapshot:
        used = [index for index, row in enumerate(self.rows) if row.tid]

        def of(values: Sequence[int]) -> NDArray[np.int64]:
            return np.array(values, dtype=np.int64)

        rows = [self.rows[index] for index in used]
        return Snapshot(
            now=now,
            row=of(used),
            tid=of([row.tid for row in rows]),
            running_since=of([row.on for row in rows]),
            ready_since=of([0 if row.on else row.ready for row in rows]),
            blocked_since=of([0 if row.on else row.off for row in rows]),
            blocked_class=of([row.group for row in rows]),
            cpu=of([row.cpu for row in rows]),
            oncpu_ns=of([row.ran for row in rows]),
        )


@st.composite
def lives(draw: st.DrawFn, *, begin: int, cpu: int) -> list[Stay]:
    """A thread from its fork (it waits for a CPU) on; each thread has a CPU of its own. It may end before the others do."""
    stays = [Stay(READY, begin, begin + draw(st.integers(1, 50)))]
    for _ in range(draw(st.integers(0, 12))):
        state = {READY: [RUNNING], BLOCKED: [READY], RUNNING: [READY, BLOCKED]}[stays[-1].state]
        length = draw(st.integers(1, 120))
        group = draw(st.integers(0, CLASSES - 1))
        stays.append(Stay(draw(st.sampled_from(state)), stays[-1].end, stays[-1].end + length, cpu, group))
    if stays[-1].state == RUNNING and draw(st.booleans()):
        stays.append(Stay(GONE, stays[-1].end, stays[-1].end + 1))
    return stays


@st.composite
def schedules(draw: st.DrawFn) -> list[list[list[Stay]]]:
    """Rows of the table, each with one life or, when the first one ended, two."""
    rows = []
    for cpu in range(draw(st.integers(1, CPUS))):
        row = [draw(lives(begin=draw(st.integers(1, 60)), cpu=cpu))]
        if row[0][-1].state == GONE:
            row.append(draw(lives(begin=row[0][-1].end, cpu=cpu)))
        rows.append(row)
    return rows


def overlap(stay: Stay, begin: int, end: int) -> int:
    return max(min(stay.end, end) - max(stay.begin, begin), 0)


@settings(deadline=None, max_examples=300)
@pytest.mark.slow
@given(schedules(), st.sets(st.integers(0, 900), max_size=12))
def test_any_cut_of_any_schedule_adds_up(rows: list[list[list[Stay]]], cuts: set[int]) -> None:
    last = max(stay.end for row in rows for life in row for stay in life)
    stays = [
        (stay, row, 100 * row + number + 1)
        for row, two in enumerate(rows)
        for number, life in enumerate(two)
        for stay in [*life[:-1], replace(life[-1], end=last + 1)]  # a thread stays in its last state
    ]
    events = sorted(stays, key=lambda one: (one[0].begin, one[1]))
    kernel = Kernel([Row() for _ in rows])
    before, counted = kernel.seen(0), (kernel.oncpu.copy(), kernel.blocked.copy(), kernel.runq)
    for begin, end in pairwise(sorted({0, last, *(cut for cut in cuts if cut < last)})):
        for stay, row, tid in events:
            if begin < stay.begin <= end:
                kernel.begin(row, tid, stay)
        after = kernel.seen(end)
        moved = correction(before, after, cpus=CPUS)
        oncpu = kernel.oncpu - counted[0] + moved.oncpu_by_cpu
        blocked = kernel.blocked - counted[1] + moved.blocked_by_class
        runq = kernel.runq - counted[2] + moved.runq
        before, counted = after, (kernel.oncpu.copy(), kernel.blocked.copy(), kernel.runq)

        expected_oncpu, expected_blocked = np.zeros(CPUS), np.zeros(CLASSES)
        for stay, _, _ in stays:
            if stay.state == RUNNING:
                expected_oncpu[stay.cpu] += overlap(stay, begin, end)
            # Who sleeps from end to end says nothing about the interval.
            slept = stay.begin <= begin and stay.end > end
            if stay.state == BLOCKED and not slept:
                expected_blocked[stay.group] += overlap(stay, begin, end)
        assert oncpu.tolist() == expected_oncpu.tolist()
        assert blocked.tolist() == expected_blocked.tolist()
        assert runq == sum(overlap(stay, begin, end) for stay, _, _ in stays if stay.state == READY)


def test_the_busiest_thread_is_found_across_intervals() -> None:
    kernel = Kernel([Row(), Row()])
    kernel.begin(0, 1, Stay(RUNNING, 100, 400, cpu=0))
    kernel.begin(1, 2, Stay(RUNNING, 200, 400, cpu=1))
    first = kernel.seen(300)
    kernel.begin(0, 1, Stay(BLOCKED, 320, 400))
    second = kernel.seen(400)
    assert correction(Kernel([]).seen(0), first, cpus=CPUS).busiest_ns == 200
    assert correction(first, second, cpus=CPUS).busiest_ns == 100
    assert correction(Kernel([]).seen(0), Kernel([]).seen(9), cpus=CPUS).busiest_ns == 0


class Table:
    """A table as ``Programs`` shares it."""

    def __init__(self, length: int) -> None:
        self.threads = np.zeros(length, dtype=layouts.THREAD.dtype)


@pytest.mark.parametrize(("on", "running"), [((100, 900), [0, 900]), ((900, 100), [900, 0]), ((0, 900), [0, 900])])
def test_a_cpu_runs_one_thread(on: tuple[int, int], running: list[int]) -> None:
    """A thread that left unseen must not count as running for ever."""
    table = Table(8)
    for index, since in zip((2, 5), on, strict=True):
        table.threads[index]["tid"] = 10 + index
        table.threads[index]["on_ts"] = since
        table.threads[index]["cpu"] = 1 + 3
    seen = snapshot(table, FakeHost())  # type: ignore[arg-type]
    assert seen.row.tolist() == [2, 5]
    assert seen.tid.tolist() == [12, 15]
    assert seen.running_since.tolist() == running
    assert seen.cpu.tolist() == [3, 3]


def test_an_empty_table() -> None:
    seen = snapshot(Table(8), FakeHost())  # type: ignore[arg-type]
    nothing = correction(seen, seen, cpus=CPUS)
    assert not nothing.oncpu_by_cpu.any()
    assert (nothing.runq, nothing.busiest_ns) == (0, 0)
