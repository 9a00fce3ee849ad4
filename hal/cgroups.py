"""Control groups of v1, v2 and mixed set-ups: where they are mounted, and who is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hal.errors import HalError
from hal.glimpse import once
from hal.host import Host

ROOT = "/sys/fs/cgroup"

CONTROLLERS = {"cpu": "cpu", "cpuset": "cpuset", "io": "blkio", "memory": "memory", "pids": "pids"}
"""The controllers that have knobs, as v2 names them, with their names in v1."""

# Options of a v1 mount that name no controller (kernel/cgroup/cgroup-v1.c and the file system's own).
_NO_CONTROLLER = re.compile(
    r"rw|ro|nosuid|nodev|noexec|relatime|noatime|nodiratime|strictatime|lazytime|sync|dirsync|seclabel|xattr|noprefix|all"
    r"|none|clone_children|cpuset_v2_mode|favordynmods|release_agent=.*|context=.*"
)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of cgroups."""

    mount: str
    controllers: tuple[str, ...]
    """Those of a v1 hierarchy, its ``name=`` among them; () for the unified hierarchy (v2)."""
    read_only: bool = False

    @property
    def version(self) -> int:
        """Return 1 or 2."""
        return 1 if self.controllers else 2


def hierarchies(host: Host) -> list[Hierarchy]:
    """Return the mounted cgroup hierarchies, unified first."""
    return once(host, "hierarchies", lambda: _hierarchies(host))


def _hierarchies(host: Host) -> list[Hierarchy]:
    found = []
    for line in host.read_text("/proc/self/mounts").splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[2] not in ("cgroup", "cgroup2"):
            continue
        options = fields[3].split(",")
        controllers = () if fields[2] == "cgroup2" else tuple(o for o in options if not _NO_CONTROLLER.fullmatch(o))
        if fields[2] == "cgroup2" or controllers:
            found.append(Hierarchy(fields[1], controllers, "ro" in options))
    return sorted(found, key=lambda hierarchy: bool(hierarchy.controllers))


def homes(host: Host) -> dict[str, Hierarchy]:
    """Return the hierarchy in which each controller is, by the controller's name in v2; one that is nowhere is left out.

    A controller is in one hierarchy only, so that v1 and v2 may stand side by side.
    """
    return once(host, "homes", lambda: _homes(host))


def _homes(host: Host) -> dict[str, Hierarchy]:
    offered = [(hierarchy, _offered(host, hierarchy)) for hierarchy in hierarchies(host)]
    return {
        name: hierarchy
        for name, old_name in CONTROLLERS.items()
        for hierarchy, controllers in reversed(offered)
        if (old_name if hierarchy.version == 1 else name) in controllers
    }


def _offered(host: Host, hierarchy: Hierarchy) -> tuple[str, ...]:
    if hierarchy.version == 1:
        return hierarchy.controllers
    try:
        return tuple(host.read_text(f"{hierarchy.mount}/cgroup.controllers").split())
    except HalError:
        return ()


def membership(host: Host, tid: int) -> dict[str, str]:
    """Return the path of a thread's cgroup by controller, as ``homes`` names them; the key "" stands for the unified hierarchy.

    Raises:
        NotFoundError: the thread is gone.
    """
    by_name: dict[str, str] = {}
    for line in host.read_text(f"/proc/{tid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        by_name |= dict.fromkeys(names.split(","), path)
    found = {
        name: by_name[key]
        for name, home in homes(host).items()
        if (key := CONTROLLERS[name] if home.version == 1 else "") in by_name
    }
    return found | ({"": by_name[""]} if "" in by_name else {})


def groups(host: Host, hierarchy: Hierarchy) -> Iterator[str]:
    """Yield the paths of all cgroups inside a hierarchy, the root ``/`` first, each before those below it."""
    yield "/"
    yield from _below(host, hierarchy.mount, "")


def children(host: Host, directory: str) -> list[str]:
    """Return the names of the cgroups right below one; none when it is gone."""
    try:
        names = host.list_dir(directory)
    except HalError:
        return []
    return [name for name in names if host.exists(f"{directory}/{name}/cgroup.procs")]


def _below(host: Host, mount: str, path: str) -> Iterator[str]:
    for name in children(host, mount + path):
        yield f"{path}/{name}"
        yield from _below(host, mount, f"{path}/{name}")


def directories(host: Host, path: str) -> dict[str, str]:
    """Return the directories of a cgroup by controller; the key "" stands for the unified hierarchy. {} if there is none.

    ``path`` is a directory, or a path inside any hierarchy (``/system.slice/nginx.service``). The first directory is in the
    hierarchy that the user named, or else the first one that has such a cgroup.
    """
    mounts = hierarchies(host)
    inside = path = _without_links(host, path)
    for hierarchy in mounts:
        if path == hierarchy.mount or path.startswith(hierarchy.mount + "/"):
            inside = path[len(hierarchy.mount) :]
            mounts = [hierarchy, *(h for h in mounts if h is not hierarchy)]
            break
    inside = "/" + inside.strip("/") if inside.strip("/") else ""
    found: dict[str, str] = {}
    for hierarchy in mounts:
        directory = hierarchy.mount + inside
        if not host.exists(f"{directory}/cgroup.procs"):
            continue
        for controller in hierarchy.controllers or ("",):
            found.setdefault(controller, directory)
    return found


def _without_links(host: Host, path: str) -> str:
    """Follow the link that stands for one controller of a joint hierarchy (``cpu`` to ``cpu,cpuacct``)."""
    base, slash, rest = path.removeprefix(f"{ROOT}/").partition("/")
    if not path.startswith(f"{ROOT}/"):
        return path
    try:
        target = host.read_link(f"{ROOT}/{base}")
    except HalError:
        return path
    return (target if target.startswith("/") else f"{ROOT}/{target}") + slash + rest


def pids_in(host: Host, directory: str) -> set[int]:
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


def inside(host: Host, path: str) -> str:
    """Return a cgroup's path inside its hierarchy, given that or its directory."""
    path = _without_links(host, path)
    for hierarchy in hierarchies(host):
        if path == hierarchy.mount or path.startswith(hierarchy.mount + "/"):
            return "/" + path[len(hierarchy.mount) :].strip("/")
    return "/" + path.strip("/")
