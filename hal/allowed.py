"""Which CPUs and memory nodes the cpuset of this process leaves it; a container's are often a part of the machine's."""

from __future__ import annotations

from collections.abc import Iterator

from hal import cgroups
from hal.errors import HostError
from hal.host import Host
from hal.lists import parse_cpu_list

# In a v1 hierarchy the plain names hold what was asked for; the effective ones came with 3.17 (ae1c802382f7).
_CPUS = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
_NODES = ("cpuset.mems.effective", "cpuset.effective_mems", "cpuset.mems")


def allowed_cpus(host: Host) -> frozenset[int] | None:
    """Return the CPUs that the cpuset allows, None where no cpuset tells."""
    return _first(host, _CPUS)


def allowed_nodes(host: Host) -> frozenset[int] | None:
    """Return the memory nodes that the cpuset allows, None where no cpuset tells."""
    return _first(host, _NODES)


def _first(host: Host, names: tuple[str, ...]) -> frozenset[int] | None:
    for directory in _directories(host):
        for name in names:
            try:
                if found := parse_cpu_list(host.read_text(f"{directory}/{name}")):
                    return frozenset(found)
            except (HostError, ValueError):
                continue
    return None


def _directories(host: Host) -> Iterator[str]:
    """Yield where this process's cpuset may be, its own group first, then those above: v2 has the files where enabled."""
    try:
        lines = host.read_text("/proc/self/cgroup").splitlines()
        hierarchies = cgroups.hierarchies(host)
    except HostError:
        return
    groups = {
        controllers: path for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1)
    }
    for hierarchy in hierarchies:
        if hierarchy.controllers and "cpuset" not in hierarchy.controllers:
            continue
        path = next(
            (p for names, p in groups.items() if set(names.split(",")) == set(hierarchy.controllers or ("",))), "/"
        )
        yield from (f"{hierarchy.mount}{above}" for above in _upwards(path))


def _upwards(path: str) -> Iterator[str]:
    while path.strip("/"):
        yield path.rstrip("/")
        path = path.rstrip("/").rpartition("/")[0]
    yield ""
