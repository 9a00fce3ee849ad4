"""The strongest plain baseline, for the model card: a random forest on raw features, split by run as ``dna evaluate`` does.

``python -m benchmarks.forest training.npz`` needs scikit-learn, which the project itself does not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dna import dataset
from dna.dataset import Dataset
from dna.evaluate import run_folds
from dna.features import FEATURE_NAMES
from dna.masks import masks

_PATTERNS = ("no-bpf", "no-instructions", "no-syscalls")


def _inputs(data: Dataset, hide: str = "") -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return encoded values with -1 where unknown, shape (n, F): a forest can split on that."""
    values, known = data.encoded()
    if hide:
        known = known & ~masks(FEATURE_NAMES)[hide]
    return np.where(known, values, -1.0)


def accuracies(data: Dataset, *, folds: int = 3, seed: int = 0) -> dict[str, float]:
    """Return accuracy by program, by load, and by program where the queries lack a pattern."""
    from sklearn.ensemble import RandomForestClassifier

    found: dict[str, list[float]] = {}
    for test in run_folds(data, folds):
        training, queries = data.select(~test), data.select(test)
        forest = RandomForestClassifier(300, random_state=seed).fit(_inputs(training), training.programs)
        loads = RandomForestClassifier(300, random_state=seed).fit(_inputs(training), training.workloads)
        found.setdefault("program", []).append(forest.score(_inputs(queries), queries.programs))
        found.setdefault("load", []).append(loads.score(_inputs(queries), queries.workloads))
        for pattern in _PATTERNS:
            score = forest.score(_inputs(queries, pattern), queries.programs)
            found.setdefault(f"program, {pattern}", []).append(score)
    return {name: float(np.mean(scores)) for name, scores in found.items()}


def main() -> int:
    """Print the accuracies."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        print("needs scikit-learn: pip install scikit-learn", file=sys.stderr)
        return 1
    for name, accuracy in accuracies(dataset.load([Path(word) for word in sys.argv[1:]])).items():
        print(f"{name:<30} {100 * accuracy:5.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
