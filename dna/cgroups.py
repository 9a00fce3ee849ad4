"""The control groups of systemd units and containers."""

from __future__ import annotations

import re
from collections.abc import Callable

from dna.errors import TargetError, TargetGoneError
from hal.cgroups import hierarchies
from hal.errors import HalError
from hal.host import Host


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
