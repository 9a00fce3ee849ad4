"""Counting on threads: those there are, and through inheritance those they start.

A counter opened on a thread follows everything that the thread clones or forks from then on (``inherit``), and keeps what
the ended ones counted. So each task must be under exactly one counter:

* a process found for the first time is opened thread by thread, unless its parent was followed when it was forked: then
  the parent's counters have it already;
* threads that appear later in a followed process were started by threads of it, and are inherited;
* in a process tree, an orphan whose parent was never seen comes from a member all the same, and is inherited;
* the counters of a process stay open as long as it or anything known to inherit from them is a member, and in a process
  tree, which is opened once, to the end.

What remains uncertain: a task started while its process is being opened (some 0.2 ms a thread) may be missed. Where the
members are a condition (a command name, a cgroup), descendants that do not meet it are counted with the one that does, and
an orphan whose parent was never seen is taken for a newcomer, so that its parent's counters may hold it as well.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

from dna.members import Members
from dna.probes.counting.plan import GroupPlan, Plan
from hal.errors import HostError
from hal.host import Host
from hal.limits import descriptor_room
from hal.perf import Counts, Group, zero
from hal.processes import read_process

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(slots=True)
class _Meter:
    """The groups of one plan entry on one thread, one a core PMU, and what they said last."""

    groups: list[Group]
    last: list[Counts]

    def difference(self) -> Counts:
        """Return the counts since the last call, summed over PMUs: a thread is on one of them at a time."""
        total = zero(len(self.last[0].values))
        enabled = 0
        for i, group in enumerate(self.groups):
            now = group.read()
            if now is not None:
                moved = now.since(self.last[i])
                self.last[i] = now
                enabled = max(enabled, moved.enabled)
                total = total.plus(moved)
        return Counts(enabled, min(total.running, enabled), total.values)

    def close(self) -> None:
        for group in self.groups:
            group.close()


@dataclass(slots=True)
class _Followed:
    """A process whose threads carry counters."""

    meters: dict[int, list[_Meter]] = field(default_factory=dict)
    """By thread id."""


@dataclass(slots=True)
class _Known:
    """A member process: whose counters it is under, and since when."""

    owner: _Followed
    since: int
    """Clock ticks after boot; what it starts from then on is inherited."""


class ThreadCounters:
    """Counters on the threads of a target."""

    def __init__(self, host: Host, members: Members, plan: Plan) -> None:
        self._host = host
        self._members = members
        self._plan = plan
        self._known: dict[int, _Known] = {}
        self._uncovered: dict[int, set[int]] = {}
        self._refused: dict[int, str] = {}
        self._orphans = _Followed()
        self._began: int | None = None
        self._ended: list[_Followed] = []
        self._room = 0
        self._pending: list[Counts] = self._nothing()

    def _nothing(self) -> list[Counts]:
        return [zero(len(group.names)) for group in self._plan.groups]

    @property
    def coverage(self) -> float:
        """The share of the target's threads that are counted, at the last refresh."""
        threads = self._members.threads()
        total = sum(len(tids) for tids in threads.values())
        missed = sum(self._missed(pid, tids) for pid, tids in threads.items())
        return 1.0 - missed / total if total else 1.0

    def _missed(self, pid: int, tids: frozenset[int]) -> int:
        uncovered = self._uncovered.get(pid, set()) & tids
        known = self._known.get(pid)
        if uncovered and known is not None and not known.owner.meters:
            return len(tids)  # and what an uncovered process starts is uncovered too
        return len(uncovered)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why threads are not counted, each reason once."""
        return tuple(dict.fromkeys(self._refused.values()))

    @property
    def open_threads(self) -> int:
        """Threads that carry counters of their own."""
        return sum(len(owner.meters) for owner in self._owners())

    def _owners(self) -> list[_Followed]:
        living = {id(known.owner): known.owner for known in self._known.values()}
        return [*living.values(), *(owner for owner in self._ended if id(owner) not in living)]

    def refresh(self) -> None:
        """Open counters on new processes; take leave of those that are gone."""
        threads = self._members.threads()
        if self._began is None:
            self._began = self._ticks()
        self._forget(threads.keys())
        self._retry_uncovered(threads)
        newcomers = [self._newcomer(pid) for pid in threads.keys() - self._known.keys()]
        to_open = []
        for pid, parent, start in sorted((n for n in newcomers if n is not None), key=lambda n: (n[2], n[0])):
            owner = self._inherited_from(parent, start)
            if owner is not None:
                self._known[pid] = _Known(owner, start)
            else:
                to_open.append(pid)
        self._open_all(to_open, threads)

    def _inherited_from(self, parent: int, start: int) -> _Followed | None:
        """Return whose counters a process that started then is under already, None for nobody's."""
        above = self._known.get(parent)
        if above is not None:
            covered = above.owner.meters or above.owner is self._orphans
            return above.owner if covered and start >= above.since else None
        orphan = self._members.by_fork and parent not in self._members.pids()
        return self._orphans if orphan and self._began is not None and start >= self._began else None

    def _newcomer(self, pid: int) -> tuple[int, int, int] | None:
        process = read_process(self._host, pid)
        return None if process is None else (pid, process.parent, process.start)

    def _forget(self, alive: Iterable[int]) -> None:
        gone = self._known.keys() - set(alive)
        leaving = {id(self._known[pid].owner): self._known[pid].owner for pid in gone}
        for pid in gone:
            del self._known[pid]
            self._uncovered.pop(pid, None)
            self._refused.pop(pid, None)
        staying = {id(known.owner) for known in self._known.values()}
        for identity, owner in leaving.items():
            if identity not in staying:
                self._leave(owner)

    def _leave(self, owner: _Followed) -> None:
        if self._members.by_fork:
            if owner.meters:
                self._ended.append(owner)
        else:
            self._pending = _add(self._pending, self._drain(owner))
            _close(owner)

    def _open_all(self, processes: list[int], threads: dict[int, frozenset[int]]) -> None:
        wanted = sum(len(threads[pid]) for pid in processes) * self._plan.descriptors
        self._room = descriptor_room(self._host, wanted) if wanted else 0
        fresh = [(pid, _Followed(), self._ticks(), self._tasks(pid)) for pid in processes]
        # Main threads first: with too few descriptors every process gets one before any gets two.
        for main in (True, False):
            for pid, owner, _, tids in fresh:
                for tid in sorted(tids):
                    if (tid == pid) == main:
                        self._open(pid, tid, owner)
        for pid, owner, since, _ in fresh:
            self._known[pid] = _Known(owner, since)

    def _tasks(self, pid: int) -> set[int]:
        """Return the threads at this moment: the members' list may be an interval old."""
        try:
            return {int(name) for name in self._host.list_dir(f"/proc/{pid}/task")}
        except HostError:
            return set()

    def _ticks(self) -> int:
        """Return the time since boot in the unit of process start times (USER_HZ is 100 on every architecture in use)."""
        return int(float(self._host.read_text("/proc/uptime").split()[0]) * 100)

    def _open(self, pid: int, tid: int, owner: _Followed) -> bool:
        if self._room < self._plan.descriptors:
            return self._refuse(pid, tid, "more threads than file descriptors; raise the limit: ulimit -Hn")
        meters: list[_Meter] = []
        try:
            for group in self._plan.groups:
                meters.append(_meter(self._host, group, tid))
        except HostError as error:
            for meter in meters:
                meter.close()
            if error.number == errno.ESRCH:
                return False
            if error.number in _OUT_OF_DESCRIPTORS:
                self._room = 0
                return self._refuse(pid, tid, "the kernel has no more file descriptors or memory for counters")
            return self._refuse(pid, tid, f"not allowed to count in some processes: {error}")
        self._room -= self._plan.descriptors
        owner.meters[tid] = meters
        return True

    def _refuse(self, pid: int, tid: int, reason: str) -> bool:
        self._uncovered.setdefault(pid, set()).add(tid)
        self._refused[pid] = reason
        return False

    def _retry_uncovered(self, threads: dict[int, frozenset[int]]) -> None:
        waiting = {pid: tids & threads.get(pid, frozenset()) for pid, tids in self._uncovered.items()}
        self._uncovered, self._refused = {}, {}
        count = sum(len(tids) for tids in waiting.values())
        self._room = descriptor_room(self._host, count * self._plan.descriptors) if count else 0
        for pid, tids in waiting.items():
            for tid in sorted(tids):
                if pid in self._known:
                    self._open(pid, tid, self._known[pid].owner)

    def read(self) -> list[Counts]:
        """Return what each group of the plan counted since the last read, summed over threads; never negative."""
        total, self._pending = self._pending, self._nothing()
        for owner in self._owners():
            total = _add(total, self._drain(owner))
        return total

    def _drain(self, owner: _Followed) -> list[Counts]:
        total = self._nothing()
        for meters in owner.meters.values():
            total = _add(total, [meter.difference() for meter in meters])
        return total

    def close(self) -> None:
        """Close all counters."""
        for owner in self._owners():
            _close(owner)
        self._known.clear()
        self._ended.clear()


def _meter(host: Host, plan: GroupPlan, tid: int) -> _Meter:
    groups: list[Group] = []
    try:
        for events in plan.variants:
            groups.append(Group(host, events, pid=tid, inherit=True))
    except HostError:
        for group in groups:
            group.close()
        raise
    return _Meter(groups, [zero(len(plan.names)) for _ in groups])


def _add(left: list[Counts], right: list[Counts]) -> list[Counts]:
    return [a.plus(b) for a, b in zip(left, right, strict=True)]


def _close(owner: _Followed) -> None:
    for meters in owner.meters.values():
        for meter in meters:
            meter.close()
    owner.meters.clear()
