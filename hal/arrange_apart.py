"""Keeping a workload from a neighbour that disturbs it: CPUs that share as little as there is a way to."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hal.arrange_domains import LEVELS, by, distance, known_node, numbers_of, usable
from hal.errors import SettingError
from hal.topology_values import Cpu, Topology


@dataclass(frozen=True, slots=True)
class Apart:
    """CPUs for a workload and for one that disturbs it, disjoint."""

    victim: tuple[int, ...]
    neighbour: tuple[int, ...]
    level: str
    """The widest thing that they do not share: "node", "llc" or "core"."""


def apart(
    topology: Topology,
    victim_demand: float,
    neighbour_demand: float,
    *,
    near: int | None = None,
    avoid: Collection[int] = frozenset(),
) -> Apart:
    """Return CPUs that keep a workload from a noisy neighbour: they share no node, else no last-level cache, else no core.

    Each gets whole nodes, caches or cores, enough for its demand; the neighbour's are those farthest away. Where both
    together want more than there is, the cores are shared out in proportion.

    Args:
        victim_demand, neighbour_demand: CPUs that each keeps busy; at least one is given.
        near: the node where the victim's memory is.

    Raises:
        SettingError: there is but one core, which they cannot but share.
    """
    cpus = usable(topology, avoid=avoid)
    known_node(topology, near)
    victim, neighbour = _whole_cpus(victim_demand), _whole_cpus(neighbour_demand)
    for level in LEVELS:
        found = _divided(topology, by(level, cpus), victim, neighbour, near)
        if found:
            return found
    return _in_proportion(topology, by("core", cpus), victim, neighbour, near)


def _whole_cpus(demand: float) -> int:
    if not math.isfinite(demand) or demand < 0:
        raise SettingError(f"{demand} CPUs are no demand", remedy="Give what it keeps busy, such as 2.5.")
    return max(1, math.ceil(demand))


def _divided(
    topology: Topology, groups: Mapping[int, Sequence[Cpu]], victim: int, neighbour: int, near: int | None
) -> Apart | None:
    """Return whole groups for each of the two, None when there are not enough."""
    own = _nearest_first(topology, groups, victim, near)
    if own is None:
        return None
    rest = {number: groups[number] for number in groups if number not in own}
    far = sorted(rest, key=lambda n: (-min(_gap(topology, groups[one], rest[n]) for one in own), -n))
    taken = _enough(rest, far, neighbour)
    return (
        None if taken is None else _apart([cpu for n in own for cpu in groups[n]], [c for n in taken for c in rest[n]])
    )


def _nearest_first(
    topology: Topology, groups: Mapping[int, Sequence[Cpu]], wanted: int, near: int | None
) -> list[int] | None:
    """Return the fewest groups around one place that have enough CPUs, None when all together have not."""
    firsts = {groups[number][0].node: number for number in sorted(groups, reverse=True)}
    if near is not None:
        start = min(firsts, key=lambda node: (distance(topology, near, node), node))
        firsts = {start: firsts[start]}
    found = []
    for start in firsts.values():
        order = sorted(groups, key=lambda n: (n != start, _gap(topology, groups[start], groups[n]), n))
        found.append(_enough(groups, order, wanted))
    return min((one for one in found if one is not None), key=lambda one: (len(one), one), default=None)


def _enough(groups: Mapping[int, Sequence[Cpu]], order: Sequence[int], wanted: int) -> list[int] | None:
    room = 0
    for taken, number in enumerate(order, 1):
        room += len(groups[number])
        if room >= wanted:
            return list(order[:taken])
    return None


def _gap(topology: Topology, one: Sequence[Cpu], other: Sequence[Cpu]) -> float:
    """Return how far groups are from each other: less than any distance of nodes when they share a cache."""
    return 1.0 if one[0].llc == other[0].llc else distance(topology, one[0].node, other[0].node)


def _apart(mine: Sequence[Cpu], theirs: Sequence[Cpu]) -> Apart | None:
    """Return the two sets, None should they share a core (a description in which one spans nodes)."""
    shared = [level for level in LEVELS if by(level, mine).keys() & by(level, theirs).keys()]
    if "core" in shared:
        return None
    return Apart(numbers_of(mine), numbers_of(theirs), next(level for level in LEVELS if level not in shared))


def _in_proportion(
    topology: Topology, cores: Mapping[int, Sequence[Cpu]], victim: int, neighbour: int, near: int | None
) -> Apart:
    """Return the cores shared out by demand, which together is more than there is."""
    share = max(1, min(round(len(cores) * victim / (victim + neighbour)), len(cores) - 1))
    one_each = {number: members[:1] for number, members in cores.items()}
    own = _nearest_first(topology, one_each, share, near) if len(cores) > 1 else None
    found = own and _apart(
        [cpu for number in own for cpu in cores[number]],
        [cpu for number in cores if number not in own for cpu in cores[number]],
    )
    if not found:
        raise SettingError(
            "two workloads cannot be kept apart on one core",
            remedy="Give one of them a smaller share instead: cgroup.cpu_quota.",
        )
    return found
