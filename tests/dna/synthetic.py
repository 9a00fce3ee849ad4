"""Made-up workloads for tests of training: each a centre in feature space, each run a little off it, with noise."""

from __future__ import annotations

import numpy as np

from dna.dataset import Dataset
from dna.features import FEATURES


def synthetic(
    *, workloads: int = 4, runs: int = 3, intervals: int = 8, seed: int = 0, without: tuple[str, ...] = ("cpu.",)
) -> Dataset:
    """Return a data set in which groups of features move together, as they do in real ones; ``without`` is unknown."""
    random = np.random.default_rng(seed)
    basis = random.normal(size=(6, len(FEATURES)))
    rows, labels, names = [], [], []
    for workload in range(workloads):
        centre = random.normal(size=6)
        for run in range(runs):
            own = centre + random.normal(0, 0.05, size=6)
            for _ in range(intervals):
                position = 1 / (1 + np.exp(-(own + random.normal(0, 0.05, size=6)) @ basis))
                rows.append([f.scale.decode(float(p)) for f, p in zip(FEATURES, position, strict=True)])
                labels.append(f"program{workload}/load")
                names.append(f"program{workload}-{run}")
    raw = np.array(rows, dtype=np.float32)
    raw[:, [feature.name.startswith(without) for feature in FEATURES]] = np.nan
    return Dataset(raw, np.array(labels), np.array(names))
