"""A profile in one value: typical features and demand, mean DNA, and what it resembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from dna.library import Library
from dna.vector import Demand, Dna, Features, Match, Profile


@dataclass(frozen=True, slots=True)
class Summary:
    """One profile, over all its intervals."""

    features: Features
    """Median over the intervals in which the feature was known; None where it never was."""
    demand: Demand
    """Likewise."""
    dna: Dna | None
    """Mean vector and median novelty over the intervals of the last interval's model."""
    nearest: tuple[Match, ...]
    """Labelled workloads, nearest first; empty without a library of the same model."""
    intervals: int
    duration_s: float
    """From the start to the end of the last interval."""


def summarise(profile: Profile, library: Library | None = None, *, n: int = 5) -> Summary:
    """Return the summary, with the ``n`` nearest labels of ``library``; the profile itself is not among them."""
    dna = mean_dna([interval.dna for interval in profile.intervals if interval.dna])
    return Summary(
        features=medians([interval.features for interval in profile.intervals]),
        demand=medians([interval.demand for interval in profile.intervals]),
        dna=dna,
        nearest=_nearest(profile, dna, library, n),
        intervals=len(profile.intervals),
        duration_s=max(profile.intervals[-1].t - profile.started, 0.0) if profile.intervals else 0.0,
    )


def medians(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the median of each name over the rows that know it, names in order of first appearance."""
    names = {name: None for row in rows for name in row}
    found: dict[str, float | None] = {}
    for name in names:
        known = [value for row in rows if (value := row.get(name)) is not None]
        found[name] = float(median(known)) if known else None
    return found


def mean_dna(dnas: Sequence[Dna]) -> Dna | None:
    """Return mean vector and median novelty of those of the last one's model; None for no DNA at all."""
    if not dnas:
        return None
    same = [dna for dna in dnas if dna.model == dnas[-1].model]
    vector = np.mean(np.stack([dna.vector for dna in same]), axis=0)
    return Dna(vector.astype(np.float64), float(median(dna.novelty for dna in same)), dnas[-1].model)


def _nearest(profile: Profile, dna: Dna | None, library: Library | None, n: int) -> tuple[Match, ...]:
    if dna is None or library is None or library.model != dna.model:
        return ()
    return tuple(library.without_run(profile.id).nearest(dna.vector, n))
