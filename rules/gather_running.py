"""Which processes a target or a stored profile stands for now, and what settings on them are on."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dna.cgroups import of_container, of_unit
from dna.errors import DnaError, TargetError
from dna.members import resolve
from dna.target import Target
from dna.vector import Profile
from hal import cgroups
from hal.errors import HalError
from hal.host import Host
from hal.processes import descendants, read_process, start_of
from hal.settings import Subject, cgroup, tree

MOST_ROOTS = 16
"""Programs of one command name that are looked at, each by itself."""
_SLACK_S = 2.0
"""Start times are known to a hundredth of a second, the clock may have been set since."""


@dataclass(frozen=True, slots=True)
class Found:
    """A workload that runs: what settings are on, and its processes, the one first that the others came from."""

    subject: Subject
    pids: tuple[int, ...]


def single_targets(host: Host, target: Target) -> tuple[Target, ...]:
    """Return the targets that settings can be made for: of a command name each program of that name, with its children.

    Raises:
        TargetError: it is the whole machine, or there are too many programs of that name.
        TargetGoneError: there is none.
    """
    if target.kind == "host":
        raise TargetError(
            "the whole machine is no workload", remedy="Name what runs on it: --pid N, --cgroup PATH, ..."
        )
    if target.kind != "comm":
        return (target,)
    pids = resolve(host, target).pids()
    roots = [pid for pid in sorted(pids) if _parent(host, pid) not in pids]
    if len(roots) > MOST_ROOTS:
        raise TargetError(
            f"{len(roots)} programs have a name that fits {target.value!r}",
            remedy=f"Name at most {MOST_ROOTS}, with --pid, or the cgroup that they are in.",
        )
    return tuple(Target.pid(pid) for pid in roots)


def running(host: Host, target: Target) -> Found | None:
    """Return what a target is now, None where it has ended."""
    try:
        if target.kind == "pid":
            return _tree(host, int(target.value))
        path = {"unit": of_unit, "container": of_container}.get(target.kind, lambda _host, name: name)(
            host, target.value
        )
        pids = resolve(host, target).pids()
    except DnaError:
        return None
    return Found(cgroup(cgroups.inside(host, path)), _from_the_top(host, sorted(pids))) if pids else None


def still_running(host: Host, profile: Profile) -> Found | None:
    """Return the processes of a stored profile, None where they have ended, or ran elsewhere.

    A process is the one that was profiled when it is on the same machine, has the same pid and name, and began before.
    """
    target = profile.target
    if profile.machine.get("hostname") != platform.node():
        return None
    if target.get("kind") in ("cgroup", "unit", "container"):
        found = running(host, Target(str(target["kind"]), str(target.get("value"))))
        return found if found and _began_before(host, found.pids[0], profile.started) else None
    pids = recorded_pids(profile)
    roots = [pid for pid in pids if _parent(host, pid) not in pids]
    same = [pid for pid in roots if _is_same(host, pid, profile)]
    return _tree(host, same[0]) if len(same) == 1 == len(roots) else None


def _is_same(host: Host, pid: int, profile: Profile) -> bool:
    process = read_process(host, pid)
    name = str(profile.target.get("comm") or "")
    if process is None or not _began_before(host, pid, profile.started):
        return False
    # Of a launched command the profile has the file's name, which the kernel keeps fifteen characters of.
    return process.comm == name[:15]


def _tree(host: Host, pid: int) -> Found | None:
    start = start_of(host, pid)
    return None if start is None else Found(tree(pid, start), (pid, *descendants(host, [pid])))


def _from_the_top(host: Host, pids: Sequence[int]) -> tuple[int, ...]:
    first = next((pid for pid in pids if _parent(host, pid) not in pids), pids[0])
    return (first, *(pid for pid in pids if pid != first))


def _parent(host: Host, pid: int) -> int:
    process = read_process(host, pid)
    return process.parent if process else 0


def recorded_pids(profile: Profile) -> frozenset[int]:
    """Return the pids that a profile names, at most the ten lowest."""
    listed = profile.target.get("pids")
    return frozenset(pid for pid in listed if isinstance(pid, int)) if isinstance(listed, list | tuple) else frozenset()


def _began_before(host: Host, pid: int, moment: float) -> bool:
    start = start_of(host, pid)
    try:
        found = re.match(r"(\d+\.\d+)", host.read_text("/proc/uptime"))
    except HalError:
        found = None
    if start is None or found is None:
        return False
    began = time.time() - float(found[1]) + start / os.sysconf("SC_CLK_TCK")
    return began <= moment + _SLACK_S
