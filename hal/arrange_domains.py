"""What arrangements choose from: the CPUs that may be used, grouped by what they share, and which groups are near each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from hal.errors import SettingError
from hal.lists import format_cpu_list
from hal.topology_values import Cpu, Topology

LEVELS = ("node", "llc", "core")
"""What CPUs share, the widest first. A cache may span nodes and a node several caches: both are found on real machines."""

_LOCAL, _REMOTE = 10.0, 20.0
"""Distances where the firmware states none, as the kernel assumes them (LOCAL_DISTANCE, REMOTE_DISTANCE)."""


def usable(
    topology: Topology, *, avoid: Collection[int] = (), kind: int | None = None, smt: bool = True
) -> tuple[Cpu, ...]:
    """Return the CPUs that may be chosen: online, allowed, not to be avoided, of one kind of core if one is given.

    Args:
        smt: off leaves one CPU of each core.

    Raises:
        SettingError: there is none.
    """
    left = set(avoid)
    found = [c for c in topology.cpus if c.allowed and c.os_index not in left and (kind is None or c.kind == kind)]
    if not smt:
        found = list({cpu.core: cpu for cpu in reversed(found)}.values())
    if not found:
        raise SettingError(
            "no CPU is left to choose", remedy="See `dna machine`: which are online, allowed and isolated."
        )
    return tuple(sorted(found, key=lambda cpu: cpu.os_index))


def by(level: str, cpus: Iterable[Cpu]) -> dict[int, list[Cpu]]:
    """Return CPUs grouped by the node, cache ("llc"), core or package they are in, both in order."""
    found: dict[int, list[Cpu]] = {}
    for cpu in cpus:
        found.setdefault(int(getattr(cpu, level)), []).append(cpu)
    return dict(sorted(found.items()))


def numbers_of(cpus: Iterable[Cpu]) -> tuple[int, ...]:
    """Return the numbers of CPUs, sorted."""
    return tuple(sorted(cpu.os_index for cpu in cpus))


def known_node(topology: Topology, node: int | None) -> None:
    """Hold a node that something is to be near to against the machine.

    Raises:
        SettingError: there is no such node.
    """
    there = [one.os_index for one in topology.nodes]
    if node is not None and node not in there:
        raise SettingError(f"there is no node {node}", remedy=f"Nodes here: {format_cpu_list(there)}.")


def distance(topology: Topology, origin: int, destination: int) -> float:
    """Return the distance between two nodes; what the kernel assumes where none is stated."""
    known = topology.distance(origin, destination)
    return known if known is not None else _LOCAL if origin == destination else _REMOTE


def fewest_nodes(topology: Topology, rooms: Mapping[int, int], wanted: int, *, near: int | None = None) -> list[int]:
    """Return the fewest nodes that together have room for ``wanted``, close to each other, in the order to fill them.

    Args:
        rooms: room by node.
        near: the node to be near to; any otherwise.
    """
    starts = rooms if near is None else [min(rooms, key=lambda node: (distance(topology, near, node), node))]
    found = [_grown(topology, rooms, start, wanted) for start in starts]
    return min(found, key=lambda nodes: (len(nodes), sum(distance(topology, a, b) for a in nodes for b in nodes)))


def _grown(topology: Topology, rooms: Mapping[int, int], start: int, wanted: int) -> list[int]:
    """Return ``start`` and what it takes besides: no more nodes than needed, the nearest of those that suffice."""
    chosen, left = [start], wanted - rooms[start]
    others = [node for node in rooms if node != start]
    while left > 0 and others:
        largest = sorted((rooms[node] for node in others), reverse=True)
        needed = next((n for n in range(1, len(others)) if sum(largest[:n]) >= left), len(others))
        after = sum(largest[: needed - 1])
        suffice = [node for node in others if rooms[node] + after >= left or rooms[node] == largest[0]]
        best = min(suffice, key=lambda node: (distance(topology, start, node), -rooms[node], node))
        chosen.append(best)
        others.remove(best)
        left -= rooms[best]
    return chosen


def fewest_caches(caches: Mapping[int, Sequence[Cpu]], wanted: int) -> list[int]:
    """Return the fewest caches that together have ``wanted`` CPUs; the last is the fullest fit, so that larger ones stay whole.

    Caches of more capable cores come first.
    """
    left = dict(caches)
    chosen: list[int] = []
    while wanted > 0 and left:
        fitting = [cache for cache in left if len(left[cache]) >= wanted]
        if fitting:
            best = min(fitting, key=lambda cache: (-_capability(left[cache]), len(left[cache]), cache))
        else:
            best = min(left, key=lambda cache: (-len(left[cache]), -_capability(left[cache]), cache))
        wanted -= len(left.pop(best))
        chosen.append(best)
    return chosen


def _capability(cpus: Sequence[Cpu]) -> int:
    return max(cpu.kind for cpu in cpus)


def even(rooms: Sequence[int], wanted: int) -> list[int]:
    """Share ``wanted`` out over groups as evenly as their room allows; what is left over goes to the first."""
    shares = [0] * len(rooms)
    left = min(wanted, sum(rooms))
    while left:
        open_ = [index for index, room in enumerate(rooms) if shares[index] < room]
        least = min(shares[index] for index in open_)
        for index in open_:
            if left and shares[index] == least:
                shares[index] += 1
                left -= 1
    return shares
