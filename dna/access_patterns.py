"""What sampled data accesses say: how many pages are in use, and whether addresses run one way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
_LEAST_TRIPLES = 16
_LEAST_ACCESSES = 100
_RANDOM_AGREEMENT = 1.0 / 3.0
_LOOP_BITS = 10


@dataclass(frozen=True, slots=True)
class PageCounts:
    """How often the pages of ``accesses`` sampled accesses were seen."""

    accesses: int
    distinct: int
    once: int
    twice: int


def page_counts(pids: NDArray[np.int32], addresses: NDArray[np.uint64]) -> PageCounts:
    """Count distinct 4 KiB pages, and those seen once and twice; a page belongs to one process."""
    if not len(addresses):
        return PageCounts(0, 0, 0, 0)
    pages = addresses >> np.uint64(PAGE_BITS)
    order = np.lexsort((pages, pids))
    pids, pages = pids[order], pages[order]
    first = np.flatnonzero(np.concatenate([[True], (pids[1:] != pids[:-1]) | (pages[1:] != pages[:-1])]))
    seen = np.diff(np.append(first, len(pages)))
    return PageCounts(len(pages), len(first), int((seen == 1).sum()), int((seen == 2).sum()))


def direction(
    tids: NDArray[np.int32],
    ips: NDArray[np.uint64],
    times: NDArray[np.uint64],
    addresses: NDArray[np.uint64],
    bases: NDArray[np.int64] | None = None,
) -> float | None:
    """Return how far the addresses of a stream run one way: 0 as if shuffled, 1 always up or always down.

    A stream is what a thread accesses by one instruction, or through one base register (``bases``) in one KiB of code:
    the first tells arrays of a simple loop apart, the second sees an unrolled loop, whose every instruction is sampled so
    seldom that the array has started over in between. The clearer of the two answers is taken.

    All arrays have shape (n,).
    """
    one_register = np.zeros(len(ips), dtype=np.int64) if bases is None else bases
    found = (
        _direction(tids, ips, one_register, times, addresses),
        _direction(tids, ips >> np.uint64(_LOOP_BITS), one_register, times, addresses),
    )
    return max((value for value in found if value is not None), default=None)


def _direction(
    tids: NDArray[np.int32],
    places: NDArray[np.uint64],
    bases: NDArray[np.int64],
    times: NDArray[np.uint64],
    addresses: NDArray[np.uint64],
) -> float | None:
    """Judge successive addresses of one (thread, place, base) by their turning points.

    Of three successive different values in random order the middle one is an extreme with probability 2/3, on a run it
    never is (Bienaymé 1874; Kendall & Stuart, The Advanced Theory of Statistics, 45.18). The share of triples without
    turning point, 1/3 at random, is scaled to begin at 0. None below 16 triples.
    """
    if len(addresses) < 3:
        return None
    order = np.lexsort((times, bases, places, tids))
    keys = (tids[order], places[order], bases[order])
    addresses = addresses[order]
    moved = ~_same(keys) | (addresses[1:] != addresses[:-1])
    kept = np.concatenate([[True], moved])  # a standing address is evidence for neither
    addresses = addresses[kept]
    same = _same((keys[0][kept], keys[1][kept], keys[2][kept]))
    up = addresses[1:] > addresses[:-1]
    triple = same[1:] & same[:-1]
    if int(triple.sum()) < _LEAST_TRIPLES:
        return None
    agreement = float((up[1:] == up[:-1])[triple].mean())
    return min(max((agreement - _RANDOM_AGREEMENT) / (1.0 - _RANDOM_AGREEMENT), 0.0), 1.0)


def _same(keys: tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Tell for each neighbouring pair whether all its keys are equal, shape (n - 1,)."""
    tids, places, bases = keys
    same: NDArray[np.bool_] = (tids[1:] == tids[:-1]) & (places[1:] == places[:-1]) & (bases[1:] == bases[:-1])
    return same


def working_set(counts: PageCounts, resident: float | None) -> float | None:
    """Return an estimate of the bytes accessed, from how often sampled pages were seen again.

    The bias-corrected form of Chao's lower bound on the number of species (Chao, Scandinavian Journal of Statistics 11,
    1984; Biometrics 43, 1987): ``distinct + once (once - 1) / (2 (twice + 1))`` pages. It is a lower bound where some pages
    are much hotter than others, and uncertain where hardly a page is seen twice (relative standard error about
    ``1 / sqrt(twice)``); clamped to ``resident`` bytes where known. None below 100 accesses.
    """
    if counts.accesses < _LEAST_ACCESSES:
        return None
    pages = counts.distinct + counts.once * (counts.once - 1) / (2 * (counts.twice + 1))
    estimate = float(pages * PAGE)
    return estimate if resident is None else min(estimate, float(resident))
