"""The table of threads that the programs keep, read through shared memory: what is under way and not yet counted.

Counters are brought up to date when something ends (a slice, a wait). A thread that runs through a whole interval ends
nothing, so two snapshots of the table say what to add for what is under way at the end, and what to take off for what was
under way, and so belongs to earlier intervals, at the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna.probes.bpf.programs import Programs
from hal.host import Host

_CLASSES = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The used rows of the table at one moment: times in ns of CLOCK_MONOTONIC, 0 for "not so"; all of shape (rows,)."""

    now: int
    row: NDArray[np.int64]
    """Where in the table, ascending."""
    tid: NDArray[np.int64]
    running_since: NDArray[np.int64]
    ready_since: NDArray[np.int64]
    blocked_since: NDArray[np.int64]
    """Also of threads that have been woken since, but have not run yet."""
    blocked_class: NDArray[np.int64]
    cpu: NDArray[np.int64]
    oncpu_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to the counters' differences, in ns; entries may be negative."""

    oncpu_by_cpu: NDArray[np.int64]
    """Shape (CPUs,)."""
    runq: int
    blocked_by_class: NDArray[np.int64]
    """Shape (8,). Threads that were blocked all the time (idle members of a pool) are left out: they say what a program
    has, not what it does."""
    busiest_ns: int
    """Time on CPU of the busiest thread."""


def snapshot(programs: Programs, host: Host) -> Snapshot:
    """Copy the table. Entries may change meanwhile; what that can misplace is less than the copy's own time."""
    table = programs.threads
    used = np.flatnonzero(table["tid"].copy())
    rows = table[used]
    on, off, ready = (rows[name].astype(np.int64) for name in ("on_ts", "off_ts", "ready_ts"))
    on = _last_on_each_cpu(on, rows["cpu"].astype(np.int64))
    return Snapshot(
        now=host.monotonic_ns(),
        row=used.astype(np.int64),
        tid=rows["tid"].astype(np.int64),
        running_since=on,
        ready_since=np.where(on == 0, ready, 0),
        blocked_since=np.where(on == 0, off, 0),
        blocked_class=(rows["blocked_class"] & (_CLASSES - 1)).astype(np.int64),
        cpu=rows["cpu"].astype(np.int64) - 1,
        oncpu_ns=rows["oncpu_ns"].astype(np.int64),
    )


def _last_on_each_cpu(since: NDArray[np.int64], cpu: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep one running thread a CPU, the last that came: the others left in between, or unseen."""
    last = np.zeros(int(cpu.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(last, cpu, since)
    return np.where(since == last[cpu], since, 0)


def _spread(one: Snapshot, rows: NDArray[np.int64]) -> Snapshot:
    """Return the same over other rows, a superset of its own: what was not used is 0."""
    at = np.searchsorted(rows, one.row)

    def over(values: NDArray[np.int64]) -> NDArray[np.int64]:
        spread = np.zeros(len(rows), dtype=np.int64)
        spread[at] = values
        return spread

    return Snapshot(
        now=one.now,
        row=rows,
        tid=over(one.tid),
        running_since=over(one.running_since),
        ready_since=over(one.ready_since),
        blocked_since=over(one.blocked_since),
        blocked_class=over(one.blocked_class),
        cpu=over(one.cpu),
        oncpu_ns=over(one.oncpu_ns),
    )


def _elapsed(since: NDArray[np.int64], until: int | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(since > 0, np.maximum(until - since, 0), 0)


def _blocked(one: Snapshot) -> NDArray[np.int64]:
    return _elapsed(one.blocked_since, np.where(one.ready_since > 0, one.ready_since, one.now))


def _by(index: NDArray[np.int64], nanoseconds: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    sums = np.bincount(np.clip(index, 0, length - 1), weights=nanoseconds, minlength=length)
    return sums.astype(np.int64)


def correction(before: Snapshot, after: Snapshot, *, cpus: int) -> Correction:
    """Return what two snapshots say beyond the counters' differences between them."""
    rows = np.union1d(before.row, after.row)
    before, after = _spread(before, rows), _spread(after, rows)
    run_before = _elapsed(before.running_since, before.now)
    run_after = _elapsed(after.running_since, after.now)
    same = (after.blocked_since == before.blocked_since) & (after.tid == before.tid) & (after.ready_since == 0)
    blocked_before = np.where(same, 0, _blocked(before))
    blocked_after = np.where(same, 0, _blocked(after))
    on_before = np.where(before.tid == after.tid, before.oncpu_ns + run_before, 0)
    thread_ns = after.oncpu_ns + run_after - on_before
    return Correction(
        oncpu_by_cpu=_by(after.cpu, run_after, cpus) - _by(before.cpu, run_before, cpus),
        runq=int(_elapsed(after.ready_since, after.now).sum() - _elapsed(before.ready_since, before.now).sum()),
        blocked_by_class=_by(after.blocked_class, blocked_after, _CLASSES)
        - _by(before.blocked_class, blocked_before, _CLASSES),
        busiest_ns=int(max(np.where(after.tid > 0, thread_ns, 0).max(initial=0), 0)),
    )


def threads_of(programs: Programs) -> dict[int, int]:
    """Return process id by thread id of all threads in the table."""
    table = programs.threads
    rows = table[np.flatnonzero(table["tid"].copy())]
    return dict(zip(rows["tid"].tolist(), rows["tgid"].tolist(), strict=True))
