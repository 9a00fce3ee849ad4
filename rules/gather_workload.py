"""Facts of workloads: what a profile says of one, and what only its running processes tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from dna.library import Library
from dna.summary import Summary, summarise
from dna.vector import Interval, Profile
from hal import cgroups
from hal.errors import HalError
from hal.glimpse import glimpse
from hal.host import Host
from hal.knobs.cpu import autogroup, cpuset_of, online_cpus
from hal.lists import parse_cpu_list
from hal.processes import start_of, threads_of
from hal.settings import Subject, Value, thread, tree
from hal.topology_values import Topology
from rules.gather_running import Found, recorded_pids
from rules.situation import Machine, Workload
from rules.tables import NEIGHBOURS

type Ours = Mapping[tuple[str, Subject], Value]
"""What dna itself set, by knob and subject (``Journal.standing``)."""

NOTHING_OURS: Ours = MappingProxyType({})
NEIGHBOURS_KEPT = 5
_HELD = 0.1
"""From this share of its memory on a node counts as holding some."""
_MOST_THREADS = 1024
_NORMAL_POLICIES = (0, 3, 5, 7)  # other, batch, idle, ext (include/uapi/linux/sched.h)


def workload_of(profile: Profile, library: Library | None = None, *, subject: Subject | None = None) -> Workload:
    """Return the workload of a profile: now is the summary, earlier are its intervals but the last.

    What only running processes tell is unknown, see ``live_workload``.

    Args:
        library: known workloads, for the nearest of them.
        subject: what settings are on; the process tree that was profiled unless given.
    """
    summary = summarise(profile, library, n=NEIGHBOURS_KEPT)
    pids = recorded_pids(profile)
    name = label_of(profile)
    return Workload(
        name=name,
        subject=subject or tree(min(pids, default=0), 0),
        values={**_of_summary(summary), "name": name, **_of_detail(profile.intervals)},
        earlier=tuple({**_named(interval), **_of_detail((interval,))} for interval in profile.intervals[:-1]),
        times=tuple(interval.t for interval in profile.intervals),
        pids=pids,
        peers=_peers(profile.intervals) or {},
        node_bytes=_node_bytes(profile.intervals),
    )


def live_workload(
    host: Host,
    profile: Profile,
    found: Found,
    machine: Machine,
    library: Library | None = None,
    *,
    ours: Ours = NOTHING_OURS,
) -> Workload:
    """Return the workload of a profile just taken, with what its running processes tell.

    Args:
        found: its subject and processes.
        machine: the one that it runs on.
        ours: what dna itself set; a thread that dna has bound is not pinned by somebody else.
    """
    known = workload_of(profile, library, subject=found.subject)
    host = glimpse(host)
    cpus, pinned = _affinity(host, found.pids, ours)
    where = {
        **cpu_facts(machine.topology, cpus, pinned),
        **placement_facts(known.node_bytes, machine.topology, cpus, _free_shares(machine)),
    }
    return replace(
        known,
        name=f"{known.name} ({found.subject.name})",
        values={**known.values, **where, **_scheduling(host, found.pids)},
        pids=frozenset(found.pids),
        cpus=cpus,
        cgroup=_cgroup(host, found.pids),
    )


def label_of(profile: Profile) -> str:
    """Return the label that the user gave a profile, else its command's name, else what was profiled."""
    target = profile.target
    words = (profile.name, target.get("comm"), target.get("value"), target.get("kind"), profile.id)
    return next((str(word) for word in words if word), "workload")


# --- what a profile says


def _named(interval: Interval) -> dict[str, object]:
    demand = {f"demand.{name}": value for name, value in interval.demand.items()}
    return {**interval.features, **demand, "novelty": interval.novelty}


def _of_summary(summary: Summary) -> dict[str, object]:
    nearest = summary.nearest[0] if summary.nearest else None
    return {
        **summary.features,
        **{f"demand.{name}": value for name, value in summary.demand.items()},
        "novelty": summary.dna.novelty if summary.dna else None,
        "nearest.label": nearest.label if nearest else None,
        "nearest.distance": nearest.distance if nearest else None,
        NEIGHBOURS: summary.nearest or None,
        "intervals": summary.intervals,
    }


def _of_detail(intervals: Sequence[Interval]) -> dict[str, object]:
    peers = _peers(intervals)
    huge = _latest(intervals, "huge_pages")
    eligible = _number(huge, "eligible")
    present = _number(huge, "present")
    return {
        "loopback_peers": None if peers is None else len(peers),
        "hugepages.eligible": eligible,
        "hugepages.dense_share": min(present / eligible, 1.0) if eligible and present is not None else None,
    }


def _latest(intervals: Sequence[Interval], key: str) -> Any:
    """Return what the last interval that has it says in its detail."""
    return next((interval.detail[key] for interval in reversed(intervals) if key in interval.detail), None)


def _number(data: object, key: str) -> float | None:
    found = data.get(key) if isinstance(data, Mapping) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _peers(intervals: Sequence[Interval]) -> dict[int, int] | None:
    """Return the processes of this machine at the other end, with how many connections; None where it was not measured."""
    rows = _latest(intervals, "peers")
    if not isinstance(rows, list):
        return None
    found: dict[int, int] = {}
    for row in rows:
        pid, count = _number(row, "pid"), _number(row, "connections")
        if pid is not None and count is not None:
            found[int(pid)] = found.get(int(pid), 0) + int(count)
    return found


def _node_bytes(intervals: Sequence[Interval]) -> dict[int, int]:
    """Return the memory by node: sampled pages, scaled to what was resident."""
    last = next((interval for interval in reversed(intervals) if "pages_by_node" in interval.detail), None)
    if last is None:
        return {}
    rows = last.detail["pages_by_node"]
    counts = {int(node): count for node in rows if (count := _number(rows, node))} if isinstance(rows, Mapping) else {}
    resident = last.demand.get("resident")
    total = sum(counts.values())
    return {node: round(resident * count / total) for node, count in counts.items()} if resident and total else {}


ELSEWHERE = (
    "memory.numa_locality",
    "memory.numa_spread",
    "comm.cross_cache_share",
    "comm.cross_node_share",
    "sched.core_spread",
)
"""Features that say where on its machine a workload was, and so nothing of it on another one."""


def elsewhere(workload: Workload) -> Workload:
    """Return a workload as it would be on another machine than it was recorded on: what depended on that one is unknown."""
    unknown = dict.fromkeys(ELSEWHERE)
    return replace(
        workload,
        values={**workload.values, **unknown},
        earlier=tuple({**values, **unknown} for values in workload.earlier),
        node_bytes={},
    )


# --- what running processes tell


def cpu_facts(topology: Topology, cpus: frozenset[int], pinned: bool | None) -> dict[str, object]:
    """Return the facts about the CPUs that a workload may run on; unknown where none are given."""
    own = [cpu for cpu in topology.cpus if cpu.os_index in cpus]
    if not own:
        return {"cpus.pinned": pinned}
    usable = sum(cpu.allowed for cpu in topology.cpus) or topology.cpu_count
    return {
        "cpus.allowed": len(own),
        "cpus.nodes": len({cpu.node for cpu in own}),
        "cpus.llcs": len({cpu.llc for cpu in own}),
        "cpus.allowed_share": min(len(own) / usable, 1.0),
        "cpus.pinned": pinned,
    }


def placement_facts(
    node_bytes: Mapping[int, int], topology: Topology, cpus: frozenset[int], free: Mapping[int, float] = {}
) -> dict[str, object]:
    """Return the facts about where a workload's memory is.

    Args:
        free: free and reclaimable share of each node.
    """
    total = sum(node_bytes.values())
    if not total:
        return {}
    home = max(node_bytes, key=lambda node: (node_bytes[node], -node))
    here = {cpu.node for cpu in topology.cpus if cpu.os_index in cpus}
    return {
        "placement.nodes": sum(amount > _HELD * total for amount in node_bytes.values()),
        "placement.home_share": node_bytes[home] / total,
        "placement.home_free_share": free.get(home),
        "placement.here_share": sum(node_bytes.get(node, 0) for node in here) / total if here else None,
    }


def _free_shares(machine: Machine) -> dict[int, float]:
    """Return the free and reclaimable share of each node's memory."""
    sizes = {node.os_index: node.memory_bytes for node in machine.topology.nodes if node.memory_bytes}
    free = {memory.node: memory.free_bytes + memory.cached_bytes for memory in machine.hardware.memory}
    return {node: min(free[node] / size, 1.0) for node, size in sizes.items() if node in free}


def _affinity(host: Host, pids: Iterable[int], ours: Ours) -> tuple[frozenset[int], bool | None]:
    """Return the CPUs that threads may run on, and whether somebody else has bound one to fewer than its cpuset allows."""
    cpus: set[int] = set()
    pinned = False
    seen = 0
    for pid in pids:
        allowed = _cpuset(host, pid)
        for tid in threads_of(host, pid)[: _MOST_THREADS - seen]:
            try:
                held = frozenset(host.affinity(tid))
            except HalError:
                continue
            seen += 1
            cpus |= held
            if allowed is None or not held < allowed:
                continue
            pinned = pinned or not _is_ours(host, tid, held, ours)
    return frozenset(cpus) & _online(host), pinned if seen else None


def _is_ours(host: Host, tid: int, held: frozenset[int], ours: Ours) -> bool:
    value = ours.get(("cpu.affinity", thread(tid, start_of(host, tid) or 0)))
    return isinstance(value, str) and frozenset(parse_cpu_list(value)) == held


def _cpuset(host: Host, pid: int) -> frozenset[int] | None:
    try:
        return frozenset(cpuset_of(host, pid))
    except (HalError, ValueError):
        return None


def _online(host: Host) -> frozenset[int]:
    try:
        return frozenset(online_cpus(host))
    except (HalError, ValueError):
        return frozenset()


def _scheduling(host: Host, pids: Sequence[int]) -> dict[str, object]:
    try:
        found = host.scheduling(pids[0])
    except (HalError, IndexError):
        return {"nice": None, "realtime": None, "autogroup": None}
    session = autogroup(host, pids[0])
    return {
        "nice": found.nice,
        "realtime": found.policy not in _NORMAL_POLICIES,
        "autogroup": session[0] if session else None,
    }


def _cgroup(host: Host, pids: Sequence[int]) -> str:
    """Return the path of the first process's cgroup: in the unified hierarchy, else in that of the CPU controller."""
    try:
        found = cgroups.membership(host, pids[0])
    except (HalError, ValueError, IndexError):
        return ""
    return found.get("") or found.get("cpu") or next(iter(found.values()), "")
