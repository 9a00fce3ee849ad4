"""CPUs and caches in a few words: ranges, SMT siblings, what shares a cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hal.lists import format_cpu_list
from hal.topology import Cpu, Topology
from ui.units import size

_MOST_SIBLINGS = 8
"""Groups of siblings that are spelled out where no rule says them all."""

_LONG = 20
"""Characters from which a list of CPUs may be broken."""


def ranges(cpus: Iterable[int]) -> str:
    """Return numbers as ranges that a line can be broken between: ``0-3, 8``."""
    return format_cpu_list(cpus).replace(",", ", ")


def _together(cpus: Iterable[int]) -> str:
    """Return ranges that stay on one line unless they are long."""
    text = format_cpu_list(cpus)
    return text if len(text) <= _LONG else ranges(cpus)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def cpu_lines(cpus: Sequence[Cpu], kinds: Sequence[str]) -> list[str]:
    """Return a line for each kind of core among some CPUs: which, how many cores, which CPUs are siblings."""
    cores: dict[int, list[Cpu]] = {}
    for cpu in cpus:
        cores.setdefault(cpu.core, []).append(cpu)
    alike: dict[tuple[tuple[int, ...], int], list[tuple[int, ...]]] = {}
    for members in cores.values():
        kind = tuple(sorted({cpu.kind for cpu in members}))
        alike.setdefault((kind, len(members)), []).append(tuple(sorted(cpu.os_index for cpu in members)))
    return [
        _line(sorted(groups), "+".join(kinds[index] for index in kind) if kinds else "")
        for (kind, _), groups in sorted(alike.items(), key=lambda item: min(item[1]))
    ]


def _line(cores: Sequence[tuple[int, ...]], kind: str) -> str:
    threads = len(cores[0])
    parts = [ranges(cpu for core in cores for cpu in core), kind, count(len(cores), "core")]
    if threads > 1:
        parts += [f"{threads} threads each" if len(cores) > 1 else f"{threads} threads", siblings(cores)]
    return " · ".join(part for part in parts if part)


def siblings(cores: Sequence[tuple[int, ...]]) -> str:
    """Return which CPUs share a core, by a rule where there is one; cores have the same number of CPUs, two or more."""
    if len(cores) == 1:
        return ""
    steps = {tuple(cpu - core[0] for cpu in core) for core in cores}
    if len(steps) == 1:
        (step,) = steps
        if step == tuple(range(len(step))):
            join = "+" if len(step) == 2 else "-"
            return f"siblings {cores[0][0]}{join}{cores[0][-1]} to {cores[-1][0]}{join}{cores[-1][-1]}"
        return "siblings " + ", ".join("n" if not offset else f"n+{offset}" for offset in step)
    shown = ", ".join("+".join(map(str, core)) for core in cores[:_MOST_SIBLINGS])
    return f"siblings {shown}{', …' if len(cores) > _MOST_SIBLINGS else ''}"


def cache_lines(shape: Topology, cpus: Sequence[Cpu]) -> list[tuple[str, str]]:
    """Return name and words for each kind of cache that some CPUs have, outermost first; private ones share the last line."""
    here = frozenset(cpu.os_index for cpu in cpus)
    cores: dict[int, set[int]] = {}
    for cpu in cpus:
        cores.setdefault(cpu.core, set()).add(cpu.os_index)
    private = {frozenset(core) for core in cores.values()}
    alike: dict[tuple[int, int], list[frozenset[int]]] = {}
    for cache in shape.caches:
        if not here.isdisjoint(cache.cpus):
            alike.setdefault((-cache.level, -cache.size_bytes), []).append(frozenset(cache.cpus))
    lines, own = [], []
    for (level, value), domains in sorted(alike.items()):
        name = "L1d" if level == -1 else f"L{-level}"
        amount = size(-value) if value else "size unknown"
        if private.issuperset(domains):
            covered = frozenset().union(*domains)
            own.append(f"{name} {amount} a core{'' if covered == here else f' ({ranges(covered)})'}")
        else:
            lines.append((name, f"{amount} · {_shared(domains, here)}"))
    return lines + ([("cache", " · ".join(own))] if own else [])


def _shared(domains: Sequence[frozenset[int]], here: frozenset[int]) -> str:
    if len(domains) > 1:
        return f"{len(domains)} domains: {' | '.join(_together(cpus) for cpus in sorted(domains, key=min))}"
    (domain,) = domains
    whom = "shared by all" if here <= domain else ranges(domain & here)
    return f"{whom}, and by CPUs {ranges(domain - here)}" if domain - here else whom
