"""What training leaves behind: a folder with the model and the library of the runs it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dna.dataset import Dataset
from dna.encoder import Encoder
from dna.errors import ModelError
from dna.features import FEATURE_NAMES
from dna.library import LIBRARY_FILE, Entry, Library
from dna.vector import Features


def library_of(encoder: Encoder, data: Dataset) -> Library:
    """Return the library of ``data``: for each run its mean vector and the medians of its features."""
    values, known = data.encoded()
    vectors = encoder.encode_many(values, known).vectors
    entries = []
    for run in sorted(set(data.runs.tolist())):
        mine = data.runs == run
        vector = np.round(vectors[mine].mean(axis=0).astype(np.float64), 5)
        entries.append(Entry(str(data.workloads[mine][0]), run, vector, _medians(data.raw[mine])))
    return Library(encoder.model_id, tuple(entries))


def _medians(raw: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Features:
    """Return the median of each feature that at least half of the intervals know, to four digits."""
    medians: dict[str, float | None] = {}
    for name, column in zip(FEATURE_NAMES, raw.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known) and 2 * len(known) >= len(column):
            medians[name] = float(f"{np.median(known):.4g}")
    return medians


def write(folder: Path, encoder: Encoder, data: Dataset) -> None:
    """Write the model and its library into ``folder``; raises ModelError."""
    encoder.save(folder)
    path = folder / LIBRARY_FILE
    partial = folder / f".{LIBRARY_FILE}.part"
    try:
        partial.write_text(json.dumps(library_of(encoder, data).to_json(), separators=(",", ":")) + "\n")
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error}", remedy="choose another folder with --out") from error
