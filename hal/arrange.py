"""Arrangements: CPUs chosen by what they share. Pure: from a topology and a wish to CPUs, the same each time.

*Pack* takes the fewest nodes, then caches, then cores; *spread* takes as many of one level as there are, evenly, and as few of those
above. CPUs that this process's cpuset forbids (``Cpu.allowed``), or that the caller says to avoid (isolated ones, those of others), are
never chosen; only a list of numbers names them all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from hal.arrange_apart import Apart, apart
from hal.arrange_domains import LEVELS, by, distance, even, fewest_caches, fewest_nodes, known_node, numbers_of, usable
from hal.arrange_together import together
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
    "a list such as 0-3,8; all; node:N, llc:N, package:N, core:N; performance, efficient, kind:NAME; "
    "pack:COUNT or spread:COUNT, with :near=NODE, :nosmt, :performance, :efficient or :kind=NAME behind it; spread:COUNT also with :node, :llc or :core"
)
_LIST = r"\d+(-\d+(:\d+/\d+)?)?(,\d+(-\d+(:\d+/\d+)?)?)*"


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
    known_node(topology, near)
    return numbers_of(_packed(topology, cpus, count, near))


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
    known_node(topology, near)
    # One CPU of as many of that level as are wanted says on which of them: in the fewest of those above.
    units = by(over, cpus)
    firsts = [members[0] for members in units.values()]
    chosen = {int(getattr(cpu, over)) for cpu in _packed(topology, firsts, min(count, len(firsts)), near)}
    pool = [cpu for cpu in cpus if int(getattr(cpu, over)) in chosen]
    first = (lambda cpu: 0.0) if near is None else (lambda cpu: distance(topology, near, cpu.node))
    return numbers_of(_evenly(pool, count, LEVELS[LEVELS.index(over) :], first))


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
            raise _no_such(topology, level, number)
        if number not in may:
            raise SettingError(
                f"{level} {number} has no CPU that may be used",
                remedy="Its CPUs are outside the cpuset, or isolated: give their numbers to take them all the same.",
            )
        found += may[number]
    return numbers_of(found)


def everything(topology: Topology, *, avoid: Collection[int] = frozenset()) -> tuple[int, ...]:
    """Return all CPUs that may be used."""
    return numbers_of(usable(topology, avoid=avoid))


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
    names = [name.lower() for name in topology.cpu_kinds]
    if word.lower() in names:
        return names.index(word.lower())
    there = f"kinds here: {', '.join(topology.cpu_kinds)}" if kinds else "all cores of this machine are alike"
    raise SettingError(f"there are no cores of kind {word!r}", remedy=f"See `dna machine`: {there}.")


def parse_arrangement(text: str, topology: Topology, *, avoid: Collection[int] = frozenset()) -> str:
    """Return the CPUs that an arrangement comes to, as a canonical list.

    Args:
        text: see ``FORMS`` and docs/arrangements.md.
        avoid: CPUs that are not chosen; a list of numbers names them all the same.

    Raises:
        SettingError: it is no arrangement, or this machine cannot have it.
    """
    if text.strip()[:1].isdigit():
        return format_cpu_list(_online(_list(text.strip(), text), topology))
    word, *rest = text.strip().lower().split(":")
    if word in ("pack", "spread"):
        return format_cpu_list(_counted(word, rest, text, topology, avoid))
    if word in ("node", "llc", "package", "core") and len(rest) == 1:
        return format_cpu_list(members(topology, word, _list(rest[0], text), avoid=avoid))
    if word == "all" and not rest:
        return format_cpu_list(everything(topology, avoid=avoid))
    if (word in ("performance", "efficient") and not rest) or (word == "kind" and len(rest) == 1):
        kind = kind_of_core(topology, rest[0] if rest else word)
        return format_cpu_list(numbers_of(usable(topology, avoid=avoid, kind=kind)))
    raise _malformed(text)


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
        elif option.startswith("kind=") and kind is None:
            kind = kind_of_core(topology, option.removeprefix("kind="))
        else:
            raise _malformed(text)
    if word == "pack":
        return pack(topology, count, near=near, smt=smt, kind=kind, avoid=avoid)
    return spread(topology, count, over=over or "core", near=near, smt=smt, kind=kind, avoid=avoid)


def _packed(topology: Topology, cpus: Sequence[Cpu], count: int, near: int | None) -> list[Cpu]:
    nodes = by("node", cpus)
    able = [number for number in nodes if len(nodes[number]) >= count]
    if near is None and able:
        order = [min(able, key=lambda n: (len(fewest_caches(by("llc", nodes[n]), count)), len(nodes[n]), n))]
    else:
        order = fewest_nodes(topology, {n: len(found) for n, found in nodes.items()}, count, near=near)
    chosen: list[Cpu] = []
    for number in order:
        chosen += _packed_in_node(nodes[number], count - len(chosen))
    return chosen


def _packed_in_node(cpus: Sequence[Cpu], count: int) -> list[Cpu]:
    caches = by("llc", cpus)
    chosen: list[Cpu] = []
    for number in fewest_caches(caches, count):
        chosen += _core_by_core(caches[number])[: count - len(chosen)]
    return chosen


def _core_by_core(cpus: Sequence[Cpu]) -> list[Cpu]:
    """Return CPUs core by core: capable kinds first, within a kind those cores that bring most CPUs."""
    cores = by("core", cpus).values()
    ranked = sorted(cores, key=lambda core: (-core[0].kind, -len(core), core[0].os_index))
    return [cpu for core in ranked for cpu in core]


def _evenly(cpus: Sequence[Cpu], count: int, levels: Sequence[str], first: Callable[[Cpu], float]) -> list[Cpu]:
    """Return CPUs shared out evenly over the first level, within each over the next; what is left over goes to the lowest ``first``."""
    if not levels:
        return sorted(cpus, key=lambda cpu: (-cpu.kind, cpu.os_index))[:count]
    groups = list(by(levels[0], cpus).values())
    groups.sort(key=lambda group: (first(group[0]), -max(cpu.kind for cpu in group), group[0].os_index))
    shares = even([len(group) for group in groups], count)
    return [
        cpu for group, share in zip(groups, shares, strict=True) for cpu in _evenly(group, share, levels[1:], first)
    ]


def _hold(count: int, cpus: Sequence[Cpu]) -> None:
    if count < 1:
        raise SettingError(f"{count} CPUs are none", remedy="Ask for one or more.")
    if count > len(cpus):
        raise SettingError(
            f"{count} CPUs are wanted, and {len(cpus)} can be chosen: {format_cpu_list(numbers_of(cpus))}",
            remedy="Ask for fewer, or for those that share a core too (without nosmt).",
        )


def _no_such(topology: Topology, level: str, number: int) -> SettingError:
    there = [one for one in by(level, topology.cpus) if one >= 0]
    if level == "node" and number in {node.os_index for node in topology.nodes}:
        return SettingError(
            f"node {number} has memory only, no CPUs of its own",
            remedy=f"For CPUs near to it: pack:COUNT:near={number}.",
        )
    return SettingError(
        f"there is no {level} {number}",
        remedy=f"This machine has {level} {format_cpu_list(there) or 'none'}: see `dna machine`.",
    )


def _online(numbers: Sequence[int], topology: Topology) -> tuple[int, ...]:
    there = numbers_of(topology.cpus)
    absent = set(numbers) - set(there)
    if absent:
        raise SettingError(
            f"CPU {format_cpu_list(absent)} is not online here", remedy=f"Online are {format_cpu_list(there)}."
        )
    return tuple(numbers)


def _list(text: str, whole: str) -> tuple[int, ...]:
    """Return the numbers of a list, strictly: digits of ASCII, no gaps, nothing empty."""
    try:
        numbers = parse_cpu_list(text) if re.fullmatch(_LIST, text, re.ASCII) else ()
    except (ValueError, ZeroDivisionError):
        numbers = ()
    if not numbers:
        raise _malformed(whole)
    return numbers


def _number(text: str, whole: str, *, least: int = 1) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) < least:
        raise _malformed(whole)
    return int(text)


def _malformed(text: str) -> SettingError:
    return SettingError(f"{text!r} is no arrangement of CPUs", remedy=f"It takes {FORMS}.")
