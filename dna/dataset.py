"""Training data: the features of many labelled intervals as arrays, with the run each came from.

Kept in a compressed ``.npz`` (no pickle) of raw values by feature name, so that it outlives changes of scale and gains
and losses of features; made from exported profiles (JSON) or a store.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dna.errors import DatasetError
from dna.features import FEATURE_NAMES, encode
from dna.vector import Features, Profile

_EXPORT = "give files written by `dna export` or `dna profile --json FILE`, or a .npz data set"


@dataclass(frozen=True, slots=True)
class Dataset:
    """n intervals of labelled runs."""

    raw: NDArray[np.float32]
    """Feature values in their units, NaN where unknown, shape (n, len(FEATURE_NAMES))."""
    workloads: NDArray[np.str_]
    """Label of each interval, ``program`` or ``program/load``, shape (n,)."""
    runs: NDArray[np.str_]
    """Identity of the run each interval belongs to, shape (n,)."""

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def programs(self) -> NDArray[np.str_]:
        """The part of each label before the first slash."""
        return np.array([label.split("/", 1)[0] for label in self.workloads], dtype=np.str_)

    def encoded(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return (values in [0, 1], known), both (n, F), as ``dna.features.encode`` makes them."""
        rows = [encode(_features(row)) for row in self.raw]
        shape = (0, len(FEATURE_NAMES))
        values = np.array([row[0] for row in rows]) if rows else np.zeros(shape)
        known = np.array([row[1] for row in rows]) if rows else np.zeros(shape, dtype=np.bool_)
        return values, known

    def select(self, chosen: NDArray[np.bool_]) -> Dataset:
        """Return the intervals where ``chosen``, shape (n,), is True."""
        return Dataset(self.raw[chosen], self.workloads[chosen], self.runs[chosen])

    def __add__(self, other: Dataset) -> Dataset:
        return Dataset(
            np.concatenate((self.raw, other.raw)),
            np.concatenate((self.workloads, other.workloads)),
            np.concatenate((self.runs, other.runs)),
        )

    def save(self, path: Path, about: Mapping[str, object] | None = None) -> None:
        """Write to ``path`` (.npz), with what ``about`` says of machine and date."""
        np.savez_compressed(
            path,
            features=np.array(FEATURE_NAMES),
            raw=self.raw,
            workloads=self.workloads,
            runs=self.runs,
            about=np.array(json.dumps(dict(about or {}), sort_keys=True)),
        )


def _features(row: NDArray[np.float32]) -> Features:
    return {name: None if np.isnan(value) else float(value) for name, value in zip(FEATURE_NAMES, row, strict=True)}


def dataset_of(rows: Iterable[tuple[Features, str, str]]) -> Dataset:
    """Return the data set of (features, label, run) rows; features unknown to the table are dropped."""
    listed = list(rows)
    raw = np.full((len(listed), len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    for line, (features, _, _) in zip(raw, listed, strict=True):
        line[:] = [np.nan if (value := features.get(name)) is None else value for name in FEATURE_NAMES]
    labels = [label for _, label, _ in listed]
    runs = [run for _, _, run in listed]
    return Dataset(raw, np.array(labels, dtype=np.str_), np.array(runs, dtype=np.str_))


def from_profiles(profiles: Iterable[Profile]) -> Dataset:
    """Return the intervals of stored profiles; those without a name are left out."""
    return dataset_of(
        (interval.features, profile.name, profile.id)
        for profile in profiles
        if profile.name
        for interval in profile.intervals
    )


def load(paths: Sequence[Path]) -> Dataset:
    """Return the data of several files: exported profiles (``.json``, ``.json.gz``, also lists of them) and ``.npz``."""
    parts = [_load_npz(path) if path.suffix == ".npz" else _load_json(path) for path in paths]
    data = dataset_of([])
    for part in parts:
        data = data + part
    return data


def _load_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [str(name) for name in archive["features"]]
            stored, workloads, runs = archive["raw"], archive["workloads"], archive["runs"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"cannot read {path}: {error}", remedy=_EXPORT) from error
    raw = np.full((len(stored), len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    for column, name in enumerate(FEATURE_NAMES):
        if name in names:
            raw[:, column] = stored[:, names.index(name)]
    return Dataset(raw, workloads, runs)


def _load_json(path: Path) -> Dataset:
    try:
        content = path.read_bytes()
        document = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"cannot read {path}: {error}", remedy=_EXPORT) from error
    documents = document if isinstance(document, list) else [document]
    try:
        return dataset_of(row for number, item in enumerate(documents) for row in _rows(item, f"{path.name}#{number}"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} is not an exported profile ({error!r})", remedy=_EXPORT) from error


def _rows(document: Mapping[str, object], fallback: str) -> Iterable[tuple[Features, str, str]]:
    label = str(document.get("name") or "")
    if not label:
        raise ValueError("it has no name: give one with --name")
    run = str(document.get("id") or fallback)
    intervals = document["intervals"]
    if not isinstance(intervals, list):
        raise TypeError("intervals is not a list")
    return [(interval["features"], label, run) for interval in intervals]


def gather(files: Sequence[Path], store: Path | None) -> Dataset:
    """Return the data of ``files``, or without any, of the named profiles of the history at ``store`` (or the default one)."""
    if files:
        return load(files)
    from dna.store import Store

    with Store.open(store, create=False) as history:
        data = from_profiles(history.get(stored.id) for stored in history.profiles())
    if not len(data):
        raise DatasetError(
            f"no named profiles in {history.path}",
            remedy="record some with `dna profile --name PROGRAM/LOAD ...`, or give files with --from",
        )
    return data
