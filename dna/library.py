"""Labelled DNA of known workloads: what a vector resembles, and how far two stretches of time are apart.

The library file, shipped as ``dna/models/library.json`` beside the model whose vectors it holds::

    {"schema": 1, "model": "<id of the model>",
     "entries": [{"label": "redis-get", "run": "redis-get-3", "vector": [16 numbers],
                  "features": {"syscall.file_share": 0.01, ...}}]}

One entry is one run: the mean vector of its intervals, and (optional) the median of each feature. Vectors of different
models have nothing to do with one another, so a library holds those of one model and counts what it left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dna.errors import ModelError
from dna.features import BY_NAME
from dna.vector import DIMENSIONS, Dna, Features, Match

SCHEMA = 1
LIBRARY_FILE = "library.json"
SHIPPED = Path(__file__).parent / "models" / LIBRARY_FILE

_ROBUST_FROM = 4
"""From this many runs on, a label is as far as its second nearest run: one mislabelled run then names nothing."""

_LEAST_SPREAD = 0.02
"""Of a feature's scale: below this, being unlike the library is measurement noise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled run."""

    label: str
    run: str
    vector: NDArray[np.float64]
    """Mean over the run's intervals, shape (16,)."""
    features: Features = field(default_factory=dict)
    """Median of each feature over the run's intervals; may be empty."""


@dataclass(frozen=True, slots=True)
class Trait:
    """A feature that sets a workload apart from those of the library."""

    name: str
    value: float
    usual: float
    """The library's median."""
    score: float
    """Signed distance from the median in units of the library's spread, both on the feature's encoded scale."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a stretch of intervals is from an earlier one."""

    distance: float
    """Between the mean vectors, in units of the latent space."""
    scatter: float
    """Typical distance of one interval from its own stretch's mean; 0 for stretches of a single interval."""

    @property
    def ratio(self) -> float | None:
        """Distance over scatter: about 1 is fluctuation; None where there is no scatter to compare with."""
        return self.distance / self.scatter if self.scatter > 0 else None


@dataclass(frozen=True, slots=True)
class Library:
    """Labelled runs of one model. Immutable: the ``with_`` methods return another library."""

    model: str
    entries: tuple[Entry, ...] = ()
    left_out: int = 0
    """Entries offered that were of another model."""

    @classmethod
    def load(cls, paths: Iterable[str | Path] = (SHIPPED,), *, model: str = "") -> Library:
        """Read library files; without ``model`` the first file's model is the library's.

        Raises:
            ModelError: a file is missing or is not a library.
        """
        library = cls(model)
        for path in paths:
            read = _read(Path(path))
            library = replace(library, model=library.model or read.model).with_entries(read.entries, read.model)
        return library

    def with_entries(self, entries: Iterable[Entry], model: str) -> Library:
        """Return this library and ``entries``, whose vectors are of ``model``; those of another model are left out."""
        added = tuple(entries)
        if model != self.model:
            return replace(self, left_out=self.left_out + len(added))
        return replace(self, entries=self.entries + added)

    def without_run(self, run: str) -> Library:
        """Return this library without one run, so that a stored profile is not found to resemble itself."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.run != run))

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in alphabetical order."""
        return tuple(sorted({entry.label for entry in self.entries}))

    def nearest(self, vector: NDArray[np.float64], n: int = 5) -> list[Match]:
        """Return the ``n`` nearest labels, nearest first.

        The distance to a label is the Euclidean distance to its nearest run, because one program under several loads
        is several clouds whose common centre means nothing; with four runs or more it is that to the second nearest.
        """
        if not self.entries:
            return []
        vectors = np.stack([entry.vector for entry in self.entries])
        distances = np.linalg.norm(vectors - np.asarray(vector, dtype=np.float64), axis=1)
        by_label: dict[str, list[float]] = {}
        for entry, distance in zip(self.entries, distances, strict=True):
            by_label.setdefault(entry.label, []).append(float(distance))
        matches = [Match(label, _label_distance(found), len(found)) for label, found in by_label.items()]
        return sorted(matches, key=lambda match: (match.distance, match.label))[:n]

    def traits(self, features: Features, n: int = 5) -> list[Trait]:
        """Return the features that make a workload itself: the furthest from the library's usual values, furthest first.

        Distance is robust: from the median, in units of the spread (1.4826 times the median absolute deviation, which
        for a normal distribution is its standard deviation).
        """
        found = []
        for name, value in features.items():
            if value is None or name not in BY_NAME:
                continue
            trait = self._trait(name, value)
            if trait is not None:
                found.append(trait)
        return sorted(found, key=lambda trait: (-abs(trait.score), trait.name))[:n]

    def _trait(self, name: str, value: float) -> Trait | None:
        scale = BY_NAME[name].scale
        known = [v for entry in self.entries if (v := entry.features.get(name)) is not None]
        if not known:
            return None
        encoded = np.array([scale.encode(v) for v in known])
        centre = float(np.median(encoded))
        spread = max(1.4826 * float(np.median(np.abs(encoded - centre))), _LEAST_SPREAD)
        return Trait(name, value, float(np.median(known)), (scale.encode(value) - centre) / spread)

    def to_json(self) -> dict[str, object]:
        """Return the content of a library file."""
        entries = [
            {"label": e.label, "run": e.run, "vector": [float(x) for x in e.vector], "features": dict(e.features)}
            for e in self.entries
        ]
        return {"schema": SCHEMA, "model": self.model, "entries": entries}


def drift(previous: Sequence[Dna], current: Sequence[Dna]) -> Drift | None:
    """Return how far ``current`` is from ``previous``, None where either is empty or their models differ."""
    if not previous or not current or len({dna.model for dna in (*previous, *current)}) != 1:
        return None
    before = np.stack([dna.vector for dna in previous])
    after = np.stack([dna.vector for dna in current])
    own = np.concatenate([_distances_from_mean(before), _distances_from_mean(after)])
    return Drift(float(np.linalg.norm(after.mean(axis=0) - before.mean(axis=0))), float(np.median(own)))


def _distances_from_mean(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1), dtype=np.float64)


def _label_distance(distances: list[float]) -> float:
    ordered = sorted(distances)
    return ordered[1] if len(ordered) >= _ROBUST_FROM else ordered[0]


def _read(path: Path) -> Library:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ModelError(f"cannot read the library {path}: {reason}", remedy=_remedy(path)) from error
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a library of labelled workloads: {error}", remedy=_remedy(path)) from error


def _remedy(path: Path) -> str:
    if path == SHIPPED:
        return "Reinstall workload-dna: this file is part of it."
    return "Give a library.json made by `dna train`."


def _parse(content: object) -> Library:
    if not isinstance(content, Mapping):
        raise TypeError("the top level is not an object")
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']!r}; this version of dna reads {SCHEMA}")
    return Library(str(content["model"]), tuple(_entry(entry) for entry in content["entries"]))


def _entry(content: Mapping[str, object]) -> Entry:
    vector = np.asarray(content["vector"], dtype=np.float64)
    if vector.shape != (DIMENSIONS,) or not np.isfinite(vector).all():
        raise ValueError(f"entry {content.get('run')!r} has no vector of {DIMENSIONS} finite numbers")
    features = content.get("features") or {}
    if not isinstance(features, Mapping):
        raise TypeError(f"entry {content.get('run')!r}: features is not an object")
    values = {str(name): None if value is None else float(value) for name, value in features.items()}
    return Entry(str(content["label"]), str(content["run"]), vector, values)
