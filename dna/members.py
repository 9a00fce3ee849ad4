"""Which processes and threads a target is at this moment.

Process trees are followed by the kernel where BPF works (``adopt``); elsewhere, and for targets that are a condition rather
than a tree (a command name, a cgroup), they are found again at each refresh. A process of a tree is known by pid and start time,
so a reused pid is never taken for it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Protocol

from dna.cgroups import of_container, of_unit
from dna.errors import PermissionNeededError, TargetGoneError
from dna.target import Target
from hal import cgroups
from hal.errors import HalError
from hal.host import Host
from hal.processes import Process, all_pids, read_process


class _Finder(Protocol):
    def __call__(self) -> Iterable[int]: ...


class Members:
    """The processes of one target; ``refresh`` before reading. ``kind`` is "processes", "cgroup" or "host"."""

    def __init__(
        self,
        host: Host,
        kind: str,
        find: _Finder,
        *,
        cgroups: dict[str, str] | None = None,
        by_fork: bool = False,
    ) -> None:
        self.kind = kind
        self.by_fork = by_fork
        """True where members only ever come by being forked from members."""
        self._host = host
        self._find = find
        self._cgroups = cgroups or {}
        self._threads: dict[int, frozenset[int]] = {}

    def pids(self) -> frozenset[int]:
        """Return process ids at the last refresh."""
        return frozenset(self._threads)

    def tids(self) -> frozenset[int]:
        """Return thread ids at the last refresh."""
        return frozenset(tid for threads in self._threads.values() for tid in threads)

    def threads(self) -> dict[int, frozenset[int]]:
        """Return thread ids by process id."""
        return dict(self._threads)

    def cgroup_dir(self, controller: str) -> str | None:
        """Return the directory of the target's cgroup that ``controller`` (``"cpu"``, ``"perf_event"``, ...) governs.

        The unified hierarchy's (v2) where it has the files, else that controller's v1 hierarchy; None for targets that
        are no cgroup.
        """
        return self._cgroups.get(controller) or self._cgroups.get("")

    def refresh(self) -> frozenset[int]:
        """Find the target's processes again; return the thread ids that were not known before."""
        before = self.tids()
        threads: dict[int, frozenset[int]] = {}
        for pid in self._find():
            process = read_process(self._host, pid)
            if process is None:
                continue
            found = self._tasks(pid) - ({pid} if process.leader_ended else set())
            if found:
                threads[pid] = found
        self._threads = threads
        return self.tids() - before

    def adopt(self, threads: dict[int, frozenset[int]]) -> None:
        """Take over what the kernel followed: all threads by process; no /proc is read."""
        self._threads = threads

    def _tasks(self, pid: int) -> frozenset[int]:
        try:
            return frozenset(int(name) for name in self._host.list_dir(f"/proc/{pid}/task"))
        except HalError:
            return frozenset()

    @property
    def alive(self) -> bool:
        """Whether anything of the target was there at the last refresh."""
        return bool(self._threads)


class _Tree:
    """A process and its descendants, orphans of it included once seen."""

    def __init__(self, host: Host, root: int) -> None:
        self._host = host
        self._seen: dict[int, int] = {}
        process = read_process(host, root)
        if process is None:
            raise TargetGoneError(f"there is no process {root}", remedy="see `dna top` or `ps -e` for those there are")
        self._seen[root] = process.start

    def __call__(self) -> Iterable[int]:
        processes = [p for pid in all_pids(self._host) if (p := read_process(self._host, pid))]
        alive = {p.pid for p in processes if self._seen.get(p.pid) == p.start}
        children: dict[int, list[Process]] = {}
        for process in processes:
            children.setdefault(process.parent, []).append(process)
        queue = list(alive)
        while queue:
            for child in children.get(queue.pop(), []):
                if child.pid not in alive:
                    alive.add(child.pid)
                    queue.append(child.pid)
        self._seen = {p.pid: p.start for p in processes if p.pid in alive}
        return sorted(alive)


def tree(host: Host, root: int) -> Members:
    """Return a process and its descendants; TargetGoneError when there is no such process."""
    return Members(host, "processes", _Tree(host, root), by_fork=True)


def by_comm(host: Host, pattern: str) -> Members:
    """Return all processes whose command name matches; this process itself is left out."""
    import os

    expression = re.compile(pattern)

    def find() -> Iterator[int]:
        for pid in all_pids(host):
            try:
                name = host.read_text(f"/proc/{pid}/comm").rstrip("\n")
            except HalError:
                continue
            if pid != os.getpid() and expression.search(name):
                yield pid

    members = Members(host, "processes", find)
    members.refresh()
    if not members.alive:
        raise TargetGoneError(
            f"no running process has a command name that matches {pattern!r}",
            remedy="names are those of /proc/PID/comm, at most 15 characters: see `ps -eo comm`",
        )
    return members


def whole_host(host: Host) -> Members:
    """Return everything that runs, kernel threads included."""
    return Members(host, "host", lambda: all_pids(host))


def in_cgroup(host: Host, path: str) -> Members:
    """Return all processes in a cgroup and below; ``path`` as for ``cgroups.directories``."""
    directories = cgroups.directories(host, path)
    if not directories:
        raise TargetGoneError(
            f"there is no cgroup {path}",
            remedy=f"give a directory below {cgroups.ROOT}, or a path as in /proc/PID/cgroup",
        )
    holder = next(iter(directories.values()))
    members = Members(host, "cgroup", lambda: cgroups.pids_in(host, holder), cgroups=directories)
    members.refresh()
    if not members.alive:
        raise TargetGoneError(f"no process is in the cgroup {path}", remedy="see `systemd-cgls` for those in use")
    return members


def resolve(host: Host, target: Target, *, started: int | None = None) -> Members:
    """Return the members of a target; ``started`` is the pid of a command that was launched."""
    makers = {
        "pid": lambda: tree(host, int(target.value)),
        "comm": lambda: by_comm(host, target.value),
        "host": lambda: whole_host(host),
        "cgroup": lambda: in_cgroup(host, target.value),
        "unit": lambda: in_cgroup(host, of_unit(host, target.value)),
        "container": lambda: in_cgroup(host, of_container(host, target.value)),
        "command": lambda: tree(host, started or 0),
    }
    members = makers[target.kind]()
    members.refresh()
    _refuse_foreign(host, target, members)
    return members


def _refuse_foreign(host: Host, target: Target, members: Members) -> None:
    """Without root only one's own processes can be watched; say so instead of measuring nothing."""
    if host.euid() == 0 or members.kind == "host" or _has_capability(host, _CAP_SYS_PTRACE):
        return
    owners = set()
    for pid in members.pids():
        try:
            owners.add(host.owner(f"/proc/{pid}"))
        except HalError:
            continue
    if owners and host.euid() not in owners:
        import sys

        name = sys.argv[0] if sys.argv[0].endswith("dna") else "dna"
        command = next((word for word in sys.argv[1:2] if word in ("advise", "profile")), "profile")
        words = f"--{target.kind} {shlex.quote(target.value)}"
        raise PermissionNeededError(
            f"{target} belongs to another user", remedy=f"do it as root: sudo {name} {command} {words}"
        )


_CAP_SYS_PTRACE = 19


def _has_capability(host: Host, number: int) -> bool:
    try:
        status = host.read_text("/proc/self/status")
    except HalError:
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> number & 1)
