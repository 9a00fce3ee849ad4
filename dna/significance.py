"""Is a difference between two series of intervals real? Distribution-free, and honest about too little data.

The test is Mann and Whitney's (Ann. Math. Stat. 18, 1947) on mid-ranks: its permutation distribution in full where there
are few orderings, sampled with a fixed seed where there are many, and normal with the tie correction for long series.
Intervals that follow one another resemble one another, which makes every such test see differences that are not there; so
a series with memory is first averaged in blocks about as long as the memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

type Values = NDArray[np.float64]

ALPHA = 0.05
_EXACT = 20_000
"""Orderings up to which all are tried: 8 against 8 intervals has 12,870."""
_SAMPLED = 10_000
_ASYMPTOTIC_FROM = 50
"""Intervals of both sides together from which the normal approximation is good to about 1 %."""
_SEED = 20250101


@dataclass(frozen=True, slots=True)
class Test:
    """What a comparison of two series found."""

    p: float
    """Chance of so large a difference in rank between two parts of one and the same series (two-sided)."""
    least_p: float
    """The smallest p that series of this length could give."""
    delta: float
    """Cliff's delta: chance that a value of b is above one of a, less the chance that it is below; -1 to 1."""
    blocks: tuple[int, int]
    """Nearly independent stretches on each side."""


def rank_test(a: Values, b: Values) -> Test:
    """Compare two series in time order, of at least one value each."""
    length = _memory(a, b)
    x, y = _block_means(a, length), _block_means(b, length)
    ranks = midranks(np.concatenate([x, y]))
    n, m = len(x), len(y)
    expected = n * (n + m + 1) / 2
    off = abs(float(ranks[:n].sum()) - expected)
    orderings = math.comb(n + m, n)
    if n + m >= _ASYMPTOTIC_FROM:
        p, least = _normal_p(ranks, n, off), 0.0
    else:
        sums = ranks[_subsets(n + m, n)].sum(axis=1)
        # Ranks are multiples of a half, so a quarter separates equal from larger.
        reached = int((np.abs(sums - expected) >= off - 0.25).sum())
        exact = orderings <= _EXACT
        p = reached / orderings if exact else (reached + 1) / (_SAMPLED + 1)
        least = min(2 / orderings, 1.0) if exact else 1 / (_SAMPLED + 1)
    return Test(p, least, cliffs_delta(a, b), (n, m))


def cliffs_delta(a: Values, b: Values) -> float:
    """Return Cliff's delta of b against a (Psychological Bulletin 114, 1993)."""
    below = np.searchsorted(np.sort(a), b, side="left")
    not_above = np.searchsorted(np.sort(a), b, side="right")
    return float((below.sum() - (len(a) * len(b) - not_above.sum())) / (len(a) * len(b)))


def adjust(p: Values) -> Values:
    """Return p adjusted for testing many at once: Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995), same order.

    Below alpha, at most alpha of what is called different is not, on average.
    """
    if len(p) == 0:
        return p
    order = np.argsort(p)
    stepped = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return adjusted


def midranks(values: Values) -> Values:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _memory(a: Values, b: Values) -> int:
    """Return how many successive intervals to average into one block.

    With lag-one correlation r, (1+r)/(1-r) intervals are worth one independent value; blocks of twice that length have
    little left in common with their neighbours.
    Only a correlation beyond what independent values show (one-sided 5 %) counts, or short series would all be cut up.
    """
    parts = [series - series.mean() for series in (a, b) if len(series) > 2]
    power = sum(float(part @ part) for part in parts)
    if not parts or power <= 0:
        return 1
    r = sum(float(part[1:] @ part[:-1]) for part in parts) / power
    if r <= 1.645 / math.sqrt(sum(len(part) for part in parts)):
        return 1
    # The estimate is low by (1 + 4r) / n (Kendall, Biometrika 41, 1954).
    r = min(r + (1 + 4 * r) / (sum(len(part) for part in parts) / len(parts)), 0.95)
    return math.ceil(2 * (1 + r) / (1 - r))


def _block_means(series: Values, length: int) -> Values:
    """Average stretches of ``length``; what is left over at the end joins the last."""
    count = max(len(series) // length, 1)
    edges = np.arange(count) * length
    sums = np.add.reduceat(series, edges)
    sizes = np.diff(np.append(edges, len(series)))
    return np.asarray(sums / sizes, dtype=np.float64)


def _normal_p(ranks: Values, n: int, off: float) -> float:
    whole = len(ranks)
    m = whole - n
    _, ties = np.unique(ranks, return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (whole * (whole - 1))
    variance = n * m / 12 * (whole + 1 - tied)
    if variance <= 0:
        return 1.0
    return math.erfc(max(off - 0.5, 0.0) / math.sqrt(2 * variance))


@lru_cache(maxsize=8)
def _subsets(whole: int, n: int) -> NDArray[np.intp]:
    """Return subsets of ``n`` of ``whole`` positions: all of them, or a seeded sample where there are too many."""
    if math.comb(whole, n) <= _EXACT:
        return np.array(list(combinations(range(whole), n)), dtype=np.intp).reshape(-1, n)
    random = np.random.default_rng(_SEED)
    return np.argsort(random.random((_SAMPLED, whole)), axis=1)[:, :n]
