"""How good a model is, against what it has to beat: k-NN on the raw features and on their principal components.

Everything is split by run, never by interval. Numpy only: retraining is a function that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna.dataset import Dataset
from dna.encoder import Array, Encoder
from dna.errors import DatasetError
from dna.features import FEATURE_NAMES
from dna.masks import is_environment, masks
from dna.vector import DIMENSIONS

type Mask = NDArray[np.bool_]
type Labels = NDArray[np.str_]
type Fit = Callable[[Dataset], Encoder]
type Project = Callable[[Array, Mask], Array]
"""From (values, known), both (n, F), to vectors (n, d) in which distance means something."""

NEIGHBOURS = 5
_LEAST_STD = 0.05
PATTERNS = ("no-pmu", "no-bpf", "no-instructions", "no-pressure", "no-syscalls", "no-network", "no-memory")


@dataclass(frozen=True, slots=True)
class Score:
    """One way of telling workloads apart, averaged over folds; shares in [0, 1]."""

    method: str
    program_accuracy: float
    """k-NN accuracy over programs, of single intervals of runs not seen before."""
    load_accuracy: float
    """The same over program and load."""
    masked_accuracy: dict[str, float]
    """Program accuracy where the queries, not the known ones, lack what a pattern hides."""
    masked_shift: dict[str, float]
    """Median distance between the vectors of an interval with and without the pattern, over the median distance
    between workloads."""
    novelty_auc: float | None
    """Chance that an interval of a program left out looks newer than one of a known program's unseen run."""


@dataclass(frozen=True, slots=True)
class Report:
    """What ``evaluate`` found."""

    intervals: int
    runs: int
    programs: int
    loads: int
    reconstruction: float
    """Root mean square error over known features of unseen runs, in standard deviations (1 is knowing nothing)."""
    pca_reconstruction: float
    novelty_false_alarms: float | None
    """Share of intervals of unseen runs of known workloads with novelty above 1."""
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Standardised:
    """Raw features, unknown ones taken as the training mean: the baseline. With ``axes``, their principal components."""

    mean: Array
    std: Array
    used: Mask
    """Which features count, shape (F,)."""
    axes: Array | None = None
    """Shape (F, 16)."""

    @classmethod
    def fit(cls, values: Array, known: Mask, *, used: Mask | None = None, components: int = 0) -> Standardised:
        """Learn from training intervals; all features count, or those of ``used``."""
        used = np.ones(known.shape[1], dtype=np.bool_) if used is None else used
        count = np.maximum(known.sum(axis=0), 1)
        mean = (values * known).sum(axis=0) / count
        std = np.maximum(np.sqrt((((values - mean) * known) ** 2).sum(axis=0) / count), _LEAST_STD)
        plain = cls(mean, std, used)
        if not components:
            return plain
        _, _, axes = np.linalg.svd(plain(values, known), full_matrices=False)
        return cls(mean, std, used, axes[:components].T)

    def __call__(self, values: Array, known: Mask) -> Array:
        """Return vectors, (n, F) or (n, 16)."""
        z: Array = (values - self.mean) / self.std * (known & self.used)
        return z if self.axes is None else z @ self.axes

    def error(self, values: Array, known: Mask) -> float:
        """Return the root mean square reconstruction error over known features, in standard deviations."""
        known = known & self.used
        z = (values - self.mean) / self.std * known
        back = z if self.axes is None else z @ self.axes @ self.axes.T
        return float(np.sqrt((((back - z) * known) ** 2).sum() / max(int(known.sum()), 1)))


def neighbours(queries: Array, known: Array, labels: Labels, *, k: int = NEIGHBOURS) -> Labels:
    """Return the commonest label of the ``k`` nearest, ties to the nearest; shape (len(queries),)."""
    squared = (queries**2).sum(axis=1)[:, None] - 2 * queries @ known.T + (known**2).sum(axis=1)
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.array([_commonest(labels[row]) for row in nearest], dtype=labels.dtype)


def _commonest(labels: Labels) -> str:
    values, first, count = np.unique(labels, return_index=True, return_counts=True)
    return str(values[np.lexsort((first, -count))[0]])


def auc(negative: Array, positive: Array) -> float:
    """Return the chance that a positive exceeds a negative, ties half (Mann-Whitney)."""
    both = np.sort(negative)
    below, upto = np.searchsorted(both, positive, "left"), np.searchsorted(both, positive, "right")
    return float((below + upto).sum() / 2 / (len(negative) * len(positive)))


def run_folds(data: Dataset, folds: int) -> Iterator[Mask]:
    """Yield ``folds`` masks of test intervals: each run is in one; the runs of a workload are dealt out in turn."""
    fold = np.zeros(len(data), dtype=np.int64)
    for label in np.unique(data.workloads):
        mine = data.workloads == label
        fold[mine] = np.unique(data.runs[mine], return_inverse=True)[1] % folds
    for number in range(folds):
        if (fold == number).any() and (fold != number).any():
            yield fold == number


def program_folds(data: Dataset, folds: int) -> Iterator[Mask]:
    """Yield ``folds`` masks of the intervals of left-out programs."""
    programs = data.programs
    number = np.unique(programs, return_inverse=True)[1] % folds
    for fold in range(folds):
        yield number == fold


def evaluate(data: Dataset, fit: Fit, *, folds: int = 3, step: Callable[[], None] = lambda: None) -> Report:
    """Return the report of models trained by ``fit`` on parts of ``data``; ``step`` is called after each of 2 x folds."""
    if len(np.unique(data.programs)) < 2 or not any(True for _ in run_folds(data, folds)):
        raise DatasetError(
            "evaluation needs at least two workloads with two runs each",
            remedy="record more: `dna profile --name PROGRAM/LOAD ...`, several runs for each workload",
        )
    parts: list[tuple[float, float, float, list[Score]]] = []
    for test in run_folds(data, folds):
        parts.append(_known_fold(data.select(~test), data.select(test), fit))
        step()
    aucs = []
    for left_out in program_folds(data, folds):
        aucs.append(_novel_fold(data, left_out, fit))
        step()
    return _report(data, parts, np.nanmean(np.array(aucs), axis=0))


def evaluate_model(data: Dataset, encoder: Encoder) -> Report:
    """Return the report of a finished model on ``data``, k-NN split by run; novelty of left-out programs is not asked."""
    parts = []
    for test in run_folds(data, 2):
        parts.append(_known_fold(data.select(~test), data.select(test), lambda _: encoder))
    if not parts:
        raise DatasetError(
            "evaluation needs workloads with two runs each", remedy="record each workload more than once"
        )
    return _report(data, parts, None)


def _report(data: Dataset, parts: list[tuple[float, float, float, list[Score]]], aucs: Array | None) -> Report:
    merged = [
        _mean_score([part[3][i] for part in parts], None if aucs is None else float(aucs[i]))
        for i in range(len(parts[0][3]))
    ]
    error, pca, alarms = (float(np.mean([part[i] for part in parts])) for i in range(3))
    return Report(
        intervals=len(data),
        runs=len(np.unique(data.runs)),
        programs=len(np.unique(data.programs)),
        loads=len(np.unique(data.workloads)),
        reconstruction=error,
        pca_reconstruction=pca,
        novelty_false_alarms=alarms,
        scores=tuple(merged),
    )


def _mean_score(scores: list[Score], novelty_auc: float | None) -> Score:
    def mean(values: list[float]) -> float:
        return float(np.mean(values))

    return Score(
        scores[0].method,
        mean([s.program_accuracy for s in scores]),
        mean([s.load_accuracy for s in scores]),
        {name: mean([s.masked_accuracy[name] for s in scores]) for name in scores[0].masked_accuracy},
        {name: mean([s.masked_shift[name] for s in scores]) for name in scores[0].masked_shift},
        novelty_auc,
    )


def _methods(training: Dataset, encoder: Encoder) -> dict[str, Project]:
    values, known = training.encoded()
    own = ~is_environment(FEATURE_NAMES)
    return {
        "dna": lambda v, k: encoder.encode_many(v, k).vectors,
        "raw features": Standardised.fit(values, known, used=own),
        "raw, surroundings too": Standardised.fit(values, known),
        "pca-16": Standardised.fit(values, known, used=own, components=DIMENSIONS),
    }


def _known_fold(training: Dataset, test: Dataset, fit: Fit) -> tuple[float, float, float, list[Score]]:
    encoder = fit(training)
    values, known = test.encoded()
    encoded = encoder.encode_many(values, known)
    own = ~is_environment(FEATURE_NAMES)
    pca = Standardised.fit(*training.encoded(), used=own, components=DIMENSIONS)
    scores = [_score(name, project, training, test) for name, project in _methods(training, encoder).items()]
    error = float(np.sqrt((encoded.error**2).mean()))
    return error, pca.error(values, known), float((encoder.novelty(encoded) > 1).mean()), scores


def _score(method: str, project: Project, training: Dataset, test: Dataset) -> Score:
    library = project(*training.encoded())
    values, known = test.encoded()
    vectors = project(values, known)
    between = _between(vectors, test.workloads)
    hidden = {name: mask for name, mask in masks(FEATURE_NAMES).items() if name in PATTERNS}
    masked = {name: project(values, known & ~mask) for name, mask in hidden.items()}

    def accuracy(queries: Array, labels: Labels, truth: Labels) -> float:
        return float((neighbours(queries, library, labels) == truth).mean())

    return Score(
        method,
        accuracy(vectors, training.programs, test.programs),
        accuracy(vectors, training.workloads, test.workloads),
        {name: accuracy(queries, training.programs, test.programs) for name, queries in masked.items()},
        {name: _median_norm(queries - vectors) / between for name, queries in masked.items()},
        None,
    )


def _median_norm(differences: Array) -> float:
    return float(np.median(np.linalg.norm(differences, axis=1)))


def _between(vectors: Array, labels: Labels) -> float:
    """Return the median distance between the centres of different workloads."""
    centres = np.array([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])
    pairs = np.triu_indices(len(centres), k=1)
    return max(_median_norm(centres[pairs[0]] - centres[pairs[1]]), 1e-9) if len(centres) > 1 else 1e-9


def _novel_fold(data: Dataset, left_out: Mask, fit: Fit) -> list[float]:
    """Return the novelty AUC of each method where the programs of ``left_out`` and a third of the other runs are unseen."""
    unseen = next(run_folds(data, 3)) & ~left_out
    training, known, new = data.select(~left_out & ~unseen), data.select(unseen), data.select(left_out)
    encoder = fit(training)
    scores = [auc(*(encoder.novelty(encoder.encode_many(*part.encoded())) for part in (known, new)))]
    for project in list(_methods(training, encoder).values())[1:]:
        library = project(*training.encoded())
        scores.append(auc(*(_nearest(project(*part.encoded()), library) for part in (known, new))))
    return scores


def _nearest(queries: Array, library: Array) -> Array:
    """Return the distance of each query to the nearest of the library."""
    squared = (queries**2).sum(axis=1)[:, None] - 2 * queries @ library.T + (library**2).sum(axis=1)
    return np.sqrt(np.maximum(squared.min(axis=1), 0))
