"""Control groups of v1, v2 and mixed set-ups: where they are mounted, and who is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.errors import HalError
from hal.host import Host

ROOT = "/sys/fs/cgroup"

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


def hierarchies(host: Host) -> list[Hierarchy]:
    """Return the mounted cgroup hierarchies, unified first."""
    found = []
    for line in host.read_text("/proc/self/mounts").splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[2] not in ("cgroup", "cgroup2"):
            continue
        options = [option for option in fields[3].split(",") if not _NO_CONTROLLER.fullmatch(option)]
        if fields[2] == "cgroup2":
            found.append(Hierarchy(fields[1], ()))
        elif options:
            found.append(Hierarchy(fields[1], tuple(options)))
    return sorted(found, key=lambda hierarchy: bool(hierarchy.controllers))


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
