"""Arrangements: CPUs chosen by what they share. Pure: from a topology and a wish to CPUs, the same each time.

*Pack* takes the fewest nodes, then caches, then cores; *spread* takes as many of one level as there are, evenly, and as few of those
above. CPUs that this process's cpuset forbids (``Cpu.allowed``), or that the caller says to avoid (isolated ones, those of others), are
never chosen; only a list of numbers names them all the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from hal.arrange_domains import LEVELS, by, distance, even, fewest, usable
from hal.arrange_graph import together
from hal.errors import SettingError
from hal.lists import format_cpu_list, parse_cpu_list
from hal.topology_values import Cpu, Topology

__all__ = [
    "Apart",
    "apart",
    "everything",
    "kind_of_core",
    "members",
    "pack",
    "parse_arrangement",
    "spread",
    "together",
]

FORMS = (
    "a list such as 0-3,8; all; node:N, llc:N, package:N, core:N; performance, efficient; "
    "pack:COUNT or spread:COUNT, with :node, :llc or :core, :near=NODE, :nosmt, :performance, :efficient behind it"
)


def pack(
    topology: Topology,
    count: int,
    *,
    near: int | None = None,
    smt: bool = True,
    kind: int | None = None,
    avoid: Collection[int] = frozenset(),
) -> tuple[int, ...]:
    """Return ``count`` CPUs on the fewest nodes, within those the fewest last-level caches, within those the fewest cores.

    Args:
        near: a NUMA node to be near to, such as that of a device or of memory without CPUs.
        smt: off takes one CPU of each core.
        kind: an index into ``Topology.cpu_kinds``: only cores of that kind. Otherwise the more capable ones come first.
        avoid: CPUs to leave out.

    Raises:
        SettingError: there are not as many.
    """
    cpus = usable(topology, avoid=avoid, kind=kind, smt=smt)
    _hold(count, cpus)
    _known_node(topology, near)
    return _numbers(_packed(topology, cpus, count, near))


def spread(
    topology: Topology,
    count: int,
    *,
    over: str = "core",
    near: int | None = None,
    smt: bool = True,
    kind: int | None = None,
    avoid: Collection[int] = frozenset(),
) -> tuple[int, ...]:
    """Return ``count`` CPUs on as many nodes, last-level caches or cores as there are, evenly.

    Of what is above that level as few as possible is taken; what is below it is spread over too: CPUs of one core are used
    together only when there are more CPUs wanted than cores. Arguments and errors are those of ``pack``.

    Args:
        over: "node" for the bandwidth of all memory, "llc" for all the cache, "core" for a core each.
    """
    if over not in LEVELS:
        raise SettingError(f"CPUs cannot be spread over {over!r}", remedy=f"Over one of: {', '.join(LEVELS)}.")
    cpus = usable(topology, avoid=avoid, kind=kind, smt=smt)
    _hold(count, cpus)
    _known_node(topology, near)
    # One CPU of as many of that level as are wanted says on which of them: in the fewest of those above.
    units = by(over, cpus)
    firsts = [members[0] for members in units.values()]
    chosen = {int(getattr(cpu, over)) for cpu in _packed(topology, firsts, min(count, len(firsts)), near)}
    pool = [cpu for cpu in cpus if int(getattr(cpu, over)) in chosen]
    return _numbers(_evenly(pool, count, LEVELS[LEVELS.index(over) :]))


def members(
    topology: Topology, level: str, numbers: Iterable[int], *, avoid: Collection[int] = frozenset()
) -> tuple[int, ...]:
    """Return the CPUs of these nodes (by OS index), last-level caches, packages or cores (by index).

    Raises:
        SettingError: there is no such one, or it has no CPU that may be used.
    """
    groups = by(level, topology.cpus)
    may = by(level, usable(topology, avoid=avoid))
    found: list[Cpu] = []
    for number in numbers:
        if number not in groups or number < 0:
            raise _no_such(topology, level, number, [n for n in groups if n >= 0])
        if number not in may:
            raise SettingError(
                f"{level} {number} has no CPU that may be used",
                remedy="Its CPUs are outside the cpuset, or isolated: give their numbers to take them all the same.",
            )
        found += may[number]
    return _numbers(found)


def everything(topology: Topology, *, avoid: Collection[int] = frozenset()) -> tuple[int, ...]:
    """Return all CPUs that may be used."""
    return _numbers(usable(topology, avoid=avoid))


def kind_of_core(topology: Topology, word: str) -> int:
    """Return the index of a kind of core: "performance", "efficient", or a name in ``Topology.cpu_kinds``.

    Raises:
        SettingError: there is no such kind; where all cores are alike every one is a performance core, and none an efficient one.
    """
    kinds = len(topology.cpu_kinds)
    if word == "performance":
        return max(kinds - 1, 0)
    if word == "efficient" and kinds > 1:
        return 0
    if word in topology.cpu_kinds:
        return topology.cpu_kinds.index(word)
    there = f"kinds here: {', '.join(topology.cpu_kinds)}" if kinds else "all cores of this machine are alike"
    raise SettingError(f"there are no cores of kind {word!r}", remedy=f"See `dna machine`: {there}.")


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
    _known_node(topology, near)
    wanted = tuple(max(1, math.ceil(_demand(demand))) for demand in (victim_demand, neighbour_demand))
    for level in LEVELS:
        found = _divided(topology, cpus, level, *wanted, near)
        if found:
            return found
    return _in_proportion(topology, cpus, *wanted, near)


def parse_arrangement(text: str, topology: Topology, *, avoid: Collection[int] = frozenset()) -> str:
    """Return the CPUs that an arrangement comes to, as a canonical list.

    Args:
        text: see ``FORMS`` and docs/arrangements.md.
        avoid: CPUs that are not chosen; a list of numbers names them all the same.

    Raises:
        SettingError: it is no arrangement, or this machine cannot have it.
    """
    word, *rest = [part.strip() for part in text.strip().lower().split(":")]
    if word in ("pack", "spread"):
        return format_cpu_list(_counted(word, rest, text, topology, avoid))
    if word in ("node", "llc", "package", "core") and len(rest) == 1:
        return format_cpu_list(members(topology, word, _list(rest[0], text), avoid=avoid))
    if word == "all" and not rest:
        return format_cpu_list(everything(topology, avoid=avoid))
    if word in ("performance", "efficient") and not rest:
        kind = kind_of_core(topology, word)
        return format_cpu_list(_numbers(usable(topology, avoid=avoid, kind=kind)))
    return format_cpu_list(_online(_list(text.strip(), text), topology))


def _counted(
    word: str, options: Sequence[str], text: str, topology: Topology, avoid: Collection[int]
) -> tuple[int, ...]:
    """Return the CPUs of ``pack:COUNT`` or ``spread:COUNT`` with its options."""
    if not options:
        raise _malformed(text)
    number, *words = options
    count = _number(number, text)
    over: str | None = None
    near: int | None = None
    kind: int | None = None
    smt = True
    for option in words:
        if option in LEVELS and word == "spread" and over is None:
            over = option
        elif option.startswith("near=") and near is None:
            near = _number(option.removeprefix("near="), text, least=0)
        elif option == "nosmt" and smt:
            smt = False
        elif option in ("performance", "efficient") and kind is None:
            kind = kind_of_core(topology, option)
        else:
            raise _malformed(text)
    if word == "pack":
        return pack(topology, count, near=near, smt=smt, kind=kind, avoid=avoid)
    return spread(topology, count, over=over or "core", near=near, smt=smt, kind=kind, avoid=avoid)


def _packed(topology: Topology, cpus: Sequence[Cpu], count: int, near: int | None) -> list[Cpu]:
    nodes = by("node", cpus)

    def apart_nodes(one: int, other: int) -> float:
        return distance(topology, one, other)

    order = fewest(_rooms(nodes), count, apart_nodes, near=near)
    if near is None and len(order) == 1:
        # Several nodes may have room: of those the one where it takes the fewest caches.
        able = [number for number, members in nodes.items() if len(members) >= count]
        order = [min(able, key=lambda n: (_caches(nodes[n], count), len(nodes[n]), n))]
    chosen: list[Cpu] = []
    for number in order:
        chosen += _packed_in_node(nodes[number], count - len(chosen))
    return chosen


def _packed_in_node(cpus: Sequence[Cpu], count: int) -> list[Cpu]:
    caches = by("llc", cpus)
    chosen: list[Cpu] = []
    for number in fewest(_rooms(caches), min(count, len(cpus)), _not_apart):
        chosen += _packed_in_cache(caches[number])[: count - len(chosen)]
    return chosen


def _packed_in_cache(cpus: Sequence[Cpu]) -> list[Cpu]:
    """Return CPUs core by core: capable kinds first, within a kind those cores that bring most CPUs."""
    cores = by("core", cpus).values()
    ranked = sorted(cores, key=lambda core: (-core[0].kind, -len(core), core[0].os_index))
    return [cpu for core in ranked for cpu in core]


def _caches(cpus: Sequence[Cpu], count: int) -> int:
    return len(fewest(_rooms(by("llc", cpus)), count, _not_apart))


def _not_apart(_one: int, _other: int) -> float:
    return 0.0


def _rooms(groups: dict[int, list[Cpu]]) -> dict[int, int]:
    return {number: len(members) for number, members in groups.items()}


def _evenly(cpus: Sequence[Cpu], count: int, levels: Sequence[str]) -> list[Cpu]:
    """Return CPUs shared out evenly over the first level, within each over the next."""
    if not levels:
        return sorted(cpus, key=lambda cpu: (-cpu.kind, cpu.os_index))[:count]
    groups = list(by(levels[0], cpus).values())
    if levels[0] == "core":
        groups.sort(key=lambda core: (-core[0].kind, core[0].os_index))
    shares = even([len(group) for group in groups], count)
    return [
        cpu for group, share in zip(groups, shares, strict=True) for cpu in _evenly(group, share, levels[1:]) if share
    ]


def _divided(
    topology: Topology, cpus: Sequence[Cpu], level: str, victim: int, neighbour: int, near: int | None
) -> Apart | None:
    """Return whole groups of a level for each of the two, None when there are not enough."""
    groups = by(level, cpus)
    node = {number: members[0].node for number, members in groups.items()}

    def apart_groups(one: int, other: int) -> float:
        return distance(topology, node.get(one, one), node[other])

    if len(groups) < 2:
        return None
    own = _whole(groups, victim, apart_groups, near if near is None else _nearest(topology, node, near))
    rest = {number: members for number, members in groups.items() if number not in own}
    if sum(len(members) for members in rest.values()) < neighbour:
        return None
    far = sorted(rest, key=lambda n: (-min(apart_groups(one, n) for one in own), -n))
    taken: list[Cpu] = []
    for number in far:
        if len(taken) < neighbour:
            taken += rest[number]
    mine = [cpu for number in own for cpu in groups[number]]
    shared = [above for above in LEVELS[: LEVELS.index(level)] if by(above, mine).keys() & by(above, taken).keys()]
    widest = next(above for above in LEVELS if above not in shared)
    return Apart(_numbers(mine), _numbers(taken), widest) if len(mine) >= victim else None
