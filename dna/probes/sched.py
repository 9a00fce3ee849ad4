"""Scheduling: time on CPU, in the run queue and blocked; slices, switches, migrations, spread over CPUs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dna.members import Members
from dna.probes.base import ProbeContext, Reading
from dna.probes.bpf import layouts
from dna.probes.bpf.threads import correction, snapshot
from dna.probes.syscalls import need_bpf
from dna.sample import SchedReading
from hal.errors import HalError
from hal.host import Host

_TICKS_PER_S = 100.0  # USER_HZ, the unit of /proc/PID/stat, is 100 on every architecture Linux still runs on


class CpuTimes:
    """User and system time of processes by difference of /proc/PID/stat, in seconds. Ticks are 10 ms."""

    MOST = 500
    """Processes read at most, so that a huge target costs no more than this."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._last: dict[int, tuple[int, int]] = {}

    def step(self, pids: Iterable[int]) -> tuple[float, float] | None:
        """Return (user, system) since the last call; None when nothing could be read."""
        now = {pid: times for pid in sorted(pids)[: self.MOST] if (times := self._read(pid))}
        # A process that was not there last time started in between: all its time is new.
        steps = [(u - self._last.get(p, (0, 0))[0], s - self._last.get(p, (0, 0))[1]) for p, (u, s) in now.items()]
        self._last = now
        if not now:
            return None
        return sum(max(u, 0) for u, _ in steps) / _TICKS_PER_S, sum(max(s, 0) for _, s in steps) / _TICKS_PER_S

    def _read(self, pid: int) -> tuple[int, int] | None:
        try:
            fields = self._host.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            return int(fields[11]), int(fields[12])
        except (HalError, IndexError, ValueError):
            return None


def _count_members(members: Members) -> tuple[int, int]:
    return len(members.pids()), len(members.tids())


class SchedProbe:
    """In the kernel, at every context switch of the target."""

    name = "sched"
    field = "sched"

    def start(self, context: ProbeContext) -> None:
        self._programs = need_bpf(context)
        self._host, self._members = context.host, context.members
        self._cpus = context.topology.cpu_slots
        self._programs.attach("on_switch", "on_waking")
        self._times = CpuTimes(self._host)
        self._times.step(self._members.pids())
        self._sched = self._programs.meter(layouts.SCHED)
        self._follow = self._programs.meter(layouts.FOLLOW)
        self._before = snapshot(self._programs, self._host)

    def read(self, interval_s: float) -> Reading[SchedReading]:
        after = snapshot(self._programs, self._host)
        sched, follow = self._sched.delta_by_cpu(), self._follow.delta_by_cpu()
        under_way = correction(self._before, after, cpus=self._cpus)
        self._before = after
        oncpu_ns = sched["oncpu_ns"][: self._cpus]
        by_cpu = np.maximum(oncpu_ns + under_way.oncpu_by_cpu, 0) * 1e-9
        runq_s = max(int(sched["runq_ns"].sum()) + under_way.runq, 0) * 1e-9
        blocked_ns = sched["blocked_ns"].sum(axis=0) + under_way.blocked_by_class
        times = self._times.step(self._members.pids())
        processes, threads = _count_members(self._members)
        reading = SchedReading(
            oncpu_s=float(by_cpu.sum()),
            runq_s=runq_s,
            offcpu_s=float(np.maximum(blocked_ns, 0).sum()) * 1e-9,
            runq=sched["runq"].sum(axis=0),
            slices=sched["slices"].sum(axis=0),
            voluntary=int(sched["voluntary"].sum()),
            involuntary=int(sched["involuntary"].sum()),
            migrations=int(sched["migrations"].sum()),
            oncpu_by_cpu=by_cpu,
            busiest_thread_s=under_way.busiest_ns * 1e-9,
            user_s=times[0] if times else None,
            system_s=times[1] if times else None,
            processes=processes,
            threads=threads,
        )
        return Reading(reading, lost=int(follow["unplaced"].sum()))

    def stop(self) -> None:
        """Detached with the programs."""


@dataclass(frozen=True, slots=True)
class _Task:
    run_ns: int
    wait_ns: int
    voluntary: int
    involuntary: int


class ProcSchedProbe:
    """From /proc, without privilege: sums only, no histograms; what threads did before they ended is lost."""

    name = "sched (from /proc)"
    field = "sched"
    MOST = 1000
    """Threads read at most in one interval; the coverage says so."""

    def start(self, context: ProbeContext) -> None:
        self._host, self._members = context.host, context.members
        self._cpus = context.topology.cpu_slots
        self._times = CpuTimes(self._host)
        self._times.step(self._members.pids())
        self._last = self._read_all()

    def read(self, interval_s: float) -> Reading[SchedReading]:
        now = self._read_all()
        zero = _Task(0, 0, 0, 0)
        pairs = [(task, self._last.get(tid, zero)) for tid, task in now.items()]
        active = sum(task != old for task, old in pairs)  # idle members of a pool say nothing of what a program does
        runs = [max(task.run_ns - old.run_ns, 0) * 1e-9 for task, old in pairs]
        waits = sum(max(task.wait_ns - old.wait_ns, 0) for task, old in pairs) * 1e-9
        times = self._times.step(self._members.pids())
        self._last = now
        processes, threads = _count_members(self._members)
        reading = SchedReading(
            oncpu_s=sum(runs),
            runq_s=waits,
            offcpu_s=max(active * interval_s - sum(runs) - waits, 0.0),
            runq=None,
            slices=None,
            voluntary=sum(max(task.voluntary - old.voluntary, 0) for task, old in pairs),
            involuntary=sum(max(task.involuntary - old.involuntary, 0) for task, old in pairs),
            migrations=None,
            oncpu_by_cpu=None,
            busiest_thread_s=max(runs, default=0.0),
            user_s=times[0] if times else None,
            system_s=times[1] if times else None,
            processes=processes,
            threads=threads,
        )
        return Reading(reading, coverage=min(len(now) / threads, 1.0) if threads else 1.0)

    def _read_all(self) -> dict[int, _Task]:
        pairs = [(pid, tid) for pid, tids in self._members.threads().items() for tid in tids]
        return {tid: task for pid, tid in pairs[: self.MOST] if (task := self._read(pid, tid))}

    def _read(self, pid: int, tid: int) -> _Task | None:
        base = f"/proc/{pid}/task/{tid}"
        try:
            run, wait = self._host.read_text(f"{base}/schedstat").split()[:2]
            status = dict(
                line.split(":", 1) for line in self._host.read_text(f"{base}/status").splitlines() if ":" in line
            )
            return _Task(
                int(run), int(wait), int(status["voluntary_ctxt_switches"]), int(status["nonvoluntary_ctxt_switches"])
            )
        except (HalError, KeyError, ValueError):
            return None

    def stop(self) -> None:
        """Nothing is held."""
