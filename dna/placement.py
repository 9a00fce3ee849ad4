"""On which NUMA nodes a process's resident pages are, from a random sample of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dna.residency import Mapping
from hal.host import Host

PAGE = 4096
_ROUNDS = 3
_MOST_ASKED = 8192
_LEAST_DENSITY = 1.0 / 64.0


def draw_pages(
    mappings: Sequence[Mapping], wanted: int, random: np.random.Generator, *, most: int = _MOST_ASKED
) -> NDArray[np.uint64]:
    """Return page addresses so that about ``wanted`` resident ones are among them, each as likely as any other.

    A mapping gets draws in proportion to its resident pages over its density, that is to its size; but mappings of which
    less than 1 in 64 pages is resident (address space reserved by runtimes) get no more than that density would need, so
    their pages are under-represented rather than all draws lost in them.
    """
    resident = np.array([mapping.resident for mapping in mappings], dtype=np.float64)
    if wanted <= 0 or resident.sum() <= 0:
        return np.zeros(0, dtype=np.uint64)
    starts = np.array([mapping.start for mapping in mappings], dtype=np.uint64)
    pages = np.array([(mapping.end - mapping.start) // PAGE for mapping in mappings], dtype=np.int64)
    density = np.clip(resident / (pages * PAGE), _LEAST_DENSITY, 1.0)
    needed = resident / resident.sum() / density
    count = min(round(wanted * needed.sum()), most)
    which = random.choice(len(mappings), size=count, p=needed / needed.sum())
    offsets = (random.random(count) * pages[which]).astype(np.uint64)
    return starts[which] + offsets * np.uint64(PAGE)


def sample_nodes(
    host: Host, pid: int, mappings: Sequence[Mapping], wanted: int, random: np.random.Generator
) -> NDArray[np.int32]:
    """Return the node of about ``wanted`` resident pages of a process, drawn at random; fewer where few are found.

    Raises:
        HostError: if the process ended or may not be asked for.
    """
    found: list[NDArray[np.int32]] = []
    total = 0
    for _ in range(_ROUNDS):
        addresses = draw_pages(mappings, wanted - total, random)
        if not len(addresses):
            break
        nodes = host.page_nodes(pid, addresses)
        nodes = nodes[nodes >= 0][: wanted - total]  # a negative errno: not resident
        found.append(nodes)
        total += len(nodes)
        if total >= wanted * 3 // 4:
            break
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int32)


def count_nodes(nodes: NDArray[np.int32], os_indexes: Sequence[int]) -> NDArray[np.int64]:
    """Return how many pages are on each node, in the order of ``os_indexes``; nodes not among them are dropped."""
    return np.array([int((nodes == index).sum()) for index in os_indexes], dtype=np.int64)
