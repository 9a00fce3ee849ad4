"""Which processes and threads a target is at this moment.

Process trees are followed by the kernel where BPF works (``adopt``); elsewhere, and for targets that are a condition rather
than a tree (a command name, a cgroup), they are found again at each refresh. A process is known by pid and start time, so
a reused pid is never taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dna.errors import PermissionNeededError, TargetError, TargetGoneError
from dna.target import Target
from hal.errors import HalError
from hal.host import Host

_CGROUP_ROOT = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class Process:
    """What /proc/PID/stat says that does not change, and the parent."""

    pid: int
    comm: str
    parent: int
    start: int
    """Start time in clock ticks after boot."""


def read_process(host: Host, pid: int) -> Process | None:
    """Return a process, None when it is gone or a zombie."""
    try:
        text = host.read_text(f"/proc/{pid}/stat")
    except HalError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) < 20 or fields[0] in "ZX":
        return None
    return Process(pid, name, int(fields[1]), int(fields[19]))


def all_pids(host: Host) -> list[int]:
    """Return the ids of all processes that can be seen."""
    return [int(name) for name in host.list_dir("/proc") if name.isdigit()]


class _Finder(Protocol):
    def __call__(self) -> Iterable[int]: ...


class Members:
    """The processes of one target; ``refresh`` before reading. ``kind`` is "processes", "cgroup" or "host"."""

    def __init__(self, host: Host, kind: str, find: _Finder, *, cgroups: dict[str, str] | None = None) -> None:
        self.kind = kind
        self._host = host
        self._find = find
        self._cgroups = cgroups or {}
        self._start: dict[int, int] = {}
        self._threads: dict[int, frozenset[int]] = {}
        self._followed = False

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
            if process is None or not self._is_same(process):
                continue
            found = self._tasks(pid)
            if found:
                threads[pid] = found
        self._threads = threads
        for gone in self._start.keys() - threads.keys():
            del self._start[gone]
        return self.tids() - before

    def adopt(self, threads: dict[int, frozenset[int]]) -> None:
        """Take over what the kernel followed: all threads by process; no /proc is read."""
        self._threads = threads

    def _is_same(self, process: Process) -> bool:
        return self._start.setdefault(process.pid, process.start) == process.start

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
    return Members(host, "processes", _Tree(host, root))


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


# --- cgroups


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    mount: str
    controllers: tuple[str, ...]
    """() for the unified hierarchy."""


def hierarchies(host: Host) -> list[_Hierarchy]:
    """Return the mounted cgroup hierarchies, unified first."""
    found = []
    for line in host.read_text("/proc/self/mounts").splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[2] not in ("cgroup", "cgroup2"):
            continue
        options = fields[3].split(",")
        known = ("cpu", "cpuacct", "cpuset", "memory", "blkio", "pids", "perf_event", "freezer", "devices", "hugetlb")
        controllers = tuple(option for option in options if option in known or option.startswith("name="))
        found.append(_Hierarchy(fields[1], () if fields[2] == "cgroup2" else controllers))
    return sorted(found, key=lambda hierarchy: bool(hierarchy.controllers))


def in_cgroup(host: Host, path: str) -> Members:
    """Return all processes in a cgroup and below.

    ``path`` is a directory, or a path inside any hierarchy (``/system.slice/nginx.service``).
    """
    mounts = hierarchies(host)
    inside = path
    for hierarchy in mounts:
        if path == hierarchy.mount or path.startswith(hierarchy.mount + "/"):
            inside = path[len(hierarchy.mount) :]
            mounts = [hierarchy, *(h for h in mounts if h is not hierarchy)]
            break
    directories = _directories(host, mounts, inside)
    if not directories:
        raise TargetGoneError(
            f"there is no cgroup {path}",
            remedy=f"give a directory below {_CGROUP_ROOT}, or a path as in /proc/PID/cgroup",
        )
    holder = next(iter(directories.values()))
    members = Members(host, "cgroup", lambda: cgroup_pids(host, holder), cgroups=directories)
    members.refresh()
    if not members.alive:
        raise TargetGoneError(f"no process is in the cgroup {path}", remedy="see `systemd-cgls` for those in use")
    return members


def _directories(host: Host, mounts: list[_Hierarchy], inside: str) -> dict[str, str]:
    """Return controller to directory; the key "" stands for the unified hierarchy. The one named by the user is first."""
    inside = "/" + inside.strip("/") if inside.strip("/") else ""
    found: dict[str, str] = {}
    for hierarchy in mounts:
        directory = hierarchy.mount + inside
        if not host.exists(f"{directory}/cgroup.procs"):
            continue
        for controller in hierarchy.controllers or ("",):
            found.setdefault(controller, directory)
    return found


def cgroup_pids(host: Host, directory: str) -> set[int]:
    """Return the processes of a cgroup and of all below it."""
    pids: set[int] = set()
    queue = [directory]
    while queue:
        here = queue.pop()
        try:
            pids.update(int(line) for line in host.read_text(f"{here}/cgroup.procs").split())
            names = host.list_dir(here)
        except HalError:
            continue
        queue += [f"{here}/{name}" for name in names if host.exists(f"{here}/{name}/cgroup.procs")]
    pids.discard(0)  # processes of another PID namespace
    return pids


def of_unit(host: Host, name: str) -> Members:
    """Return the processes of a systemd unit."""
    path = ""
    try:
        done = host.run(["systemctl", "show", "--property=ControlGroup", "--value", "--", name])
        path = done.stdout.strip() if done.status == 0 else ""
    except HalError:
        path = ""
    if not path:
        path = next(iter(find_cgroups(host, lambda entry: entry == name)), "")
    if not path:
        raise TargetGoneError(
            f"no running systemd unit {name}", remedy="see `systemctl list-units --type=service --state=running`"
        )
    return in_cgroup(host, path)


_CONTAINER_PREFIX = re.compile(r"^(docker|cri-containerd|crio|libpod|podman|lxc\.payload|lxc)[-.]")


def container_of(entry: str) -> str:
    """Return the container id or name in a cgroup directory's name, "" when it is none."""
    bare = _CONTAINER_PREFIX.sub("", entry.removesuffix(".scope"))
    return bare if bare != entry.removesuffix(".scope") or re.fullmatch(r"[0-9a-f]{64}", bare) else ""


def of_container(host: Host, identity: str) -> Members:
    """Return the processes of a container by id (or a prefix of 6 digits or more) or name."""
    wanted = _resolve_container(host, identity)
    matches = find_cgroups(host, lambda entry: bool(name := container_of(entry)) and _is_container(name, wanted))
    if not matches:
        raise TargetGoneError(
            f"no running container {identity}", remedy="give its id or name: see `docker ps`, `podman ps` or `crictl ps`"
        )
    distinct = {container_of(path.rsplit("/", 1)[-1]) for path in matches}
    if len(distinct) > 1:
        raise TargetError(f"{identity} means {len(distinct)} containers", remedy="give more digits of the id")
    return in_cgroup(host, matches[0])


def _is_container(name: str, wanted: str) -> bool:
    return name == wanted or (len(wanted) >= 6 and name.startswith(wanted))


def _resolve_container(host: Host, identity: str) -> str:
    """Ask the engines that are there for the id behind a name; the words themselves where none knows it."""
    if re.fullmatch(r"[0-9a-f]{6,64}", identity):
        return identity
    for engine in ("docker", "podman"):
        try:
            done = host.run([engine, "inspect", "--format", "{{.Id}}", "--", identity])
        except HalError:
            continue
        if done.status == 0 and done.stdout.strip():
            return done.stdout.strip()
    return identity


class _Matches(Protocol):
    def __call__(self, entry: str) -> bool: ...


def find_cgroups(host: Host, matches: _Matches, *, depth: int = 8) -> list[str]:
    """Return the directories of cgroups whose last name part matches, in the first hierarchy that has any."""
    for hierarchy in hierarchies(host):
        found = []
        queue = [(hierarchy.mount, 0)]
        while queue:
            here, level = queue.pop()
            try:
                names = host.list_dir(here)
            except HalError:
                continue
            for name in names:
                path = f"{here}/{name}"
                if "." in name and not name.endswith((".slice", ".scope", ".service")) and not matches(entry=name):
                    continue  # the files of a cgroup all have a dot: do not stat them
                if not host.exists(f"{path}/cgroup.procs"):
                    continue
                if matches(entry=name):
                    found.append(path)
                elif level < depth:
                    queue.append((path, level + 1))
        if found:
            return sorted(found)
    return []


def resolve(host: Host, target: Target, *, started: int | None = None) -> Members:
    """Return the members of a target; ``started`` is the pid of a command that was launched."""
    makers = {
        "pid": lambda: tree(host, int(target.value)),
        "comm": lambda: by_comm(host, target.value),
        "host": lambda: whole_host(host),
        "cgroup": lambda: in_cgroup(host, target.value),
        "unit": lambda: of_unit(host, target.value),
        "container": lambda: of_container(host, target.value),
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

        words = f"--{target.kind} {target.value}"
        raise PermissionNeededError(
            f"{target} belongs to another user",
            remedy=f"profile it as root: sudo {sys.argv[0] if sys.argv[0].endswith('dna') else 'dna'} profile {words}",
        )


_CAP_SYS_PTRACE = 19


def _has_capability(host: Host, number: int) -> bool:
    try:
        status = host.read_text("/proc/self/status")
    except HalError:
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> number & 1)
