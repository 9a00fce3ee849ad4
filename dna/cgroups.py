"""Control groups of v1, v2 and mixed set-ups: where they are mounted, who is in them, those of units and containers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dna.errors import TargetError, TargetGoneError
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


def of_unit(host: Host, name: str) -> str:
    """Return the path of a running systemd unit's cgroup."""
    try:
        done = host.run(["systemctl", "show", "--property=ControlGroup", "--value", "--", name])
        path = done.stdout.strip() if done.status == 0 else ""
    except HalError:
        path = ""
    path = path or next(iter(find(host, lambda entry: entry == name)), "")
    if not path:
        raise TargetGoneError(
            f"no running systemd unit {name}", remedy="see `systemctl list-units --type=service --state=running`"
        )
    return path


_CONTAINER_PREFIX = re.compile(r"^(docker|cri-containerd|nerdctl|crio|libpod|podman|lxc\.payload|lxc)[-.]")


def container_of(entry: str) -> str:
    """Return the container id or name in a cgroup directory's name, "" when it is none."""
    bare = _CONTAINER_PREFIX.sub("", entry.removesuffix(".scope"))
    return bare if bare != entry.removesuffix(".scope") or re.fullmatch(r"[0-9a-f]{64}", bare) else ""


def of_container(host: Host, identity: str) -> str:
    """Return the directory of a container's cgroup by its id (or a prefix of 6 digits or more) or name."""
    wanted = _container_id(host, identity)
    matches = find(host, lambda entry: bool(name := container_of(entry)) and _is_container(name, wanted))
    if not matches:
        raise TargetGoneError(
            f"no running container {identity}",
            remedy="give its id or name: see `docker ps`, `podman ps` or `crictl ps`",
        )
    distinct = {container_of(path.rsplit("/", 1)[-1]) for path in matches}
    if len(distinct) > 1:
        raise TargetError(f"{identity} means {len(distinct)} containers", remedy="give more digits of the id")
    return matches[0]


def _is_container(name: str, wanted: str) -> bool:
    return name == wanted or (len(wanted) >= 6 and name.startswith(wanted))


def _container_id(host: Host, identity: str) -> str:
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


def find(host: Host, matches: Callable[[str], bool], *, depth: int = 8) -> list[str]:
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
                if "." in name and not name.endswith((".slice", ".scope", ".service")) and not matches(name):
                    continue  # the files of a cgroup all have a dot: do not stat them
                path = f"{here}/{name}"
                if not host.exists(f"{path}/cgroup.procs"):
                    continue
                if matches(name):
                    found.append(path)
                elif level < depth:
                    queue.append((path, level + 1))
        if found:
            return sorted(found)
    return []
