"""The values that come out: features, demand, and the DNA of one interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 16

type Features = Mapping[str, float | None]
"""Feature name to value; None is unknown."""

type Demand = Mapping[str, float | None]
"""Demand name to magnitude; None is unknown."""


@dataclass(frozen=True, slots=True)
class Dna:
    """The encoded vector of one interval."""

    vector: NDArray[np.float64]
    """Shape (16,)."""
    novelty: float
    """0 for something well known, 1 at the edge of what the model knows (its 99th percentile), above 1 beyond it."""
    model: str
    """Identity of the model that made it; vectors of different models cannot be compared."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of a profile: what is stored, shown and exported."""

    t: float
    features: Features
    demand: Demand
    quality: Mapping[str, object]
    """``Quality`` as plain JSON values."""
    dna: Dna | None
    detail: Mapping[str, object]
    """Plain JSON values for the views (see ``dna.detail``): top system calls, histograms, heaviest edges. May be empty."""

    @property
    def vector(self) -> NDArray[np.float64] | None:
        """The DNA vector, shape (16,), or None without a model."""
        return self.dna.vector if self.dna else None

    @property
    def novelty(self) -> float | None:
        """See ``Dna.novelty``."""
        return self.dna.novelty if self.dna else None


@dataclass(frozen=True, slots=True)
class Match:
    """A labelled workload near a vector; ``distance`` is in units of the model's latent space."""

    label: str
    distance: float
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Profile:
    """One run of the profiler on one target."""

    id: str
    name: str
    """Label given by the user, or empty."""
    machine: Mapping[str, object]
    target: Mapping[str, object]
    started: float
    interval_s: float
    intervals: tuple[Interval, ...]
    tool: str = ""
    """Version of dna and its command line."""

    SCHEMA = 1
