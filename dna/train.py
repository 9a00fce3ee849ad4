"""Training of the autoencoder, in torch; nothing else of the runtime tree imports it.

A denoising autoencoder reads (value, known) and gives values back. In training, features that were known are hidden
from it, one by one and in the patterns of ``dna.masks`` (no PMU, no BPF, ...), and it is asked for them all the same;
two differently masked views of an interval, and two intervals of one run, are drawn together. So an interval keeps its
place when a machine measures less. What was never known, or never varied, is not learned: its weights are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dna.dataset import Dataset
from dna.encoder import CLIP, Array, Encoder, describe
from dna.errors import DatasetError, ModelError
from dna.features import FEATURE_NAMES
from dna.masks import is_environment, masks
from dna.vector import DIMENSIONS

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise ModelError(
        "training needs torch, which is not installed", remedy="pip install 'workload-dna[train]'"
    ) from error

type Mask = NDArray[np.bool_]
type Progress = Callable[[int, float], None]
"""Called after each epoch with its number (from 1) and its loss."""

_LEAST_STD = 0.05
"""Floor of the normalisation, in units of a feature's scale: differences below it are noise, not behaviour."""
_LEAST_KNOWN = 20
_REFERENCES = 256
_CALIBRATION_DRAWS = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train."""

    epochs: int = 800
    seed: int = 0
    hidden: int = 96
    batch: int = 256
    rate: float = 3e-3
    consistency: float = 0.5
    """Weight of keeping masked views of one interval together, relative to the spread of vectors."""
    steadiness: float = 0.5
    """Weight of keeping intervals of one run together, likewise."""


@dataclass(frozen=True, slots=True)
class _Arrays:
    values: Array
    known: Mask
    runs: NDArray[np.int64]


class Network(nn.Module):
    """The autoencoder: 2F -> hidden -> 16 -> hidden -> F."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList((nn.Linear(2 * features, hidden), nn.Linear(hidden, DIMENSIONS)))
        self.decoder = nn.ModuleList((nn.Linear(DIMENSIONS, hidden), nn.Linear(hidden, features)))

    def encode(self, z: Tensor, known: Tensor) -> Tensor:
        """Return vectors (n, 16) of normalised values and their mask, both (n, F)."""
        hidden = torch.tanh(self.encoder[0](torch.cat((z * known, known), dim=1)))
        return torch.tanh(self.encoder[1](hidden))

    def decode(self, vectors: Tensor) -> Tensor:
        """Return normalised values (n, F)."""
        decoded: Tensor = self.decoder[1](torch.tanh(self.decoder[0](vectors)))
        return decoded


def held_out(data: Dataset) -> Mask:
    """Return which intervals calibrate rather than train, shape (n,): the last run of every workload with two or more.

    Where no workload has two, the last of all runs; of a single run, its last fifth.
    """
    last = [np.unique(data.runs[data.workloads == label]) for label in np.unique(data.workloads)]
    chosen = [runs[-1] for runs in last if len(runs) > 1]
    every = np.unique(data.runs)
    if not chosen and len(every) > 1:
        chosen = [every[-1]]
    if not chosen:
        return np.arange(len(data)) >= len(data) - max(len(data) // 5, 1)
    return np.isin(data.runs, chosen)


def train(data: Dataset, settings: Settings | None = None, progress: Progress | None = None) -> Encoder:
    """Return a model of ``data``; the same data, settings and torch give the same model. Raises DatasetError."""
    settings = settings or Settings()
    values, known = data.encoded()
    aside = held_out(data)
    if (~aside).sum() < _LEAST_KNOWN:
        raise DatasetError(
            f"{len(data)} intervals are too few to learn from",
            remedy="record more runs: `dna profile --name LABEL ...`, several for each workload",
        )
    mean, std, learned = _normalisation(values[~aside], known[~aside])
    z = np.clip((values - mean) / std, -CLIP, CLIP)
    known = known & learned
    arrays = _Arrays(z[~aside], known[~aside], np.unique(data.runs[~aside], return_inverse=True)[1])
    network = _fit(arrays, learned, settings, progress)
    tensors = _tensors(network, learned) | {"mean": mean, "std": std, "learned": learned.astype(np.float64)}
    return _calibrated(tensors, data, aside, settings)


def _normalisation(values: Array, known: Mask) -> tuple[Array, Array, Mask]:
    """Return mean and std of known values, and which features are to be learned, each (F,).

    Those are known often enough, vary, and belong to the workload rather than its surroundings.
    """
    count = known.sum(axis=0)
    mean = (values * known).sum(axis=0) / np.maximum(count, 1)
    std = np.sqrt((((values - mean) * known) ** 2).sum(axis=0) / np.maximum(count, 1))
    learned = (count >= _LEAST_KNOWN) & (std > 1e-4) & ~is_environment(FEATURE_NAMES)
    return mean, np.maximum(std, _LEAST_STD), learned


def _fit(arrays: _Arrays, learned: Mask, settings: Settings, progress: Progress | None) -> Network:
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        torch.set_num_threads(1)  # sums over threads would depend on their number
        try:
            return _descend(arrays, learned, settings, progress)
        finally:
            torch.set_num_threads(threads)


def _descend(arrays: _Arrays, learned: Mask, settings: Settings, progress: Progress | None) -> Network:
    random = np.random.default_rng(settings.seed)
    network = Network(len(learned), settings.hidden)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    patterns = np.array(list(masks(FEATURE_NAMES).values()))
    for epoch in range(1, settings.epochs + 1):
        order = random.permutation(len(arrays.values))
        losses = []
        for start in range(0, len(order), settings.batch):
            rows = order[start : start + settings.batch]
            loss = _loss(network, arrays, rows, _companions(arrays.runs, rows, random), patterns, random, settings)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()) * len(rows))
        schedule.step()
        if progress:
            progress(epoch, sum(losses) / len(order))
    return network


def _companions(runs: NDArray[np.int64], rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Return for each row another interval of its run (or itself), drawn evenly."""
    by_run = np.argsort(runs, kind="stable")
    starts = np.searchsorted(runs[by_run], np.arange(runs.max() + 2))
    low, high = starts[runs[rows]], starts[runs[rows] + 1]
    chosen: NDArray[np.int64] = by_run[low + (random.random(len(rows)) * (high - low)).astype(np.int64)]
    return chosen


def _hidden(rows: int, patterns: Mask, random: np.random.Generator) -> Mask:
    """Return features to hide, shape (rows, F): each pattern one time in five, then single ones up to 40 %."""
    drawn = random.random((rows, len(patterns))) < 0.2
    drawn &= random.random((rows, 1)) < 0.7  # and some rows are shown whole
    whole = drawn.astype(np.int64) @ patterns.astype(np.int64) > 0
    single: Mask = random.random((rows, patterns.shape[1])) < random.uniform(0.0, 0.4, (rows, 1))
    return whole | single


def _loss(
    network: Network,
    arrays: _Arrays,
    rows: NDArray[np.int64],
    companions: NDArray[np.int64],
    patterns: Mask,
    random: np.random.Generator,
    settings: Settings,
) -> Tensor:
    """Return reconstruction of all known features from two masked views, plus the two consistencies."""
    z, known = _tensor(arrays.values[rows]), _tensor(arrays.known[rows])
    views = [known * _tensor(~_hidden(len(rows), patterns, random)) for _ in range(2)]
    vectors = [network.encode(z, view) for view in views]
    errors = [((network.decode(v) - z) ** 2 * known).sum() / known.sum().clamp(min=1.0) for v in vectors]
    other = network.encode(_tensor(arrays.values[companions]), _tensor(arrays.known[companions]))
    whole = network.encode(z, known)
    spread = whole.var(dim=0, correction=0).sum().clamp(min=1e-3)
    apart = ((vectors[0] - vectors[1]) ** 2).sum(dim=1).mean() + ((vectors[0] - whole) ** 2).sum(dim=1).mean()
    drift = ((whole - other) ** 2).sum(dim=1).mean()
    return sum(errors, torch.zeros(())) + (settings.consistency * apart + settings.steadiness * drift) / spread


def _tensor(array: Array | Mask) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _tensors(network: Network, learned: Mask) -> dict[str, Array]:
    """Return the weights with those of features not learned set to zero."""
    state = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in network.state_dict().items()}
    state["encoder.0.weight"] = state["encoder.0.weight"] * np.concatenate((learned, learned))
    state["decoder.1.weight"] = state["decoder.1.weight"] * learned[:, None]
    state["decoder.1.bias"] = state["decoder.1.bias"] * learned
    return state


def _calibrated(tensors: dict[str, Array], data: Dataset, aside: Mask, settings: Settings) -> Encoder:
    """Return the model with reference vectors of the training runs and novelty calibrated on those held out."""
    about = asdict(settings) | {
        "intervals": len(data),
        "runs": len(np.unique(data.runs)),
        "workloads": sorted({str(label) for label in data.workloads}),
        "torch": torch.__version__,
    }
    metadata = describe(FEATURE_NAMES, about)
    draft = {"reference": np.zeros((1, DIMENSIONS)), "novelty": np.array([[0.0, 1.0, 1.0, 0.0, 1.0]])}
    model = Encoder(_narrow(tensors | draft), metadata)
    values, known = data.encoded()
    vectors = model.encode_many(values[~aside], known[~aside]).vectors
    draft["reference"] = _spread_out(vectors, _REFERENCES)
    model = Encoder(_narrow(tensors | draft), metadata)
    draft["novelty"] = _novelty_levels(model, values[aside], known[aside], np.random.default_rng(settings.seed))
    return Encoder(_narrow(tensors | draft), metadata)


def _narrow(tensors: dict[str, Array]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def _spread_out(vectors: Array, count: int) -> Array:
    """Return up to ``count`` of ``vectors``, each the farthest from those before it (Gonzalez 1985)."""
    chosen = [0]
    distance = np.linalg.norm(vectors - vectors[0], axis=1)
    while len(chosen) < min(count, len(vectors)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return vectors[chosen]


def _novelty_levels(model: Encoder, values: Array, known: Mask, random: np.random.Generator) -> Array:
    """Return the calibration, one row for each amount of knowledge, by rising known share.

    Known runs as recorded, with all that needs BPF hidden, and with random halves hidden.
    """
    bpf = masks(model.feature_names)["no-bpf"]
    halves = [known & (random.random(known.shape) < 0.5) for _ in range(_CALIBRATION_DRAWS)]
    levels = {
        "all": (values, known),
        "no-bpf": (values, known & ~bpf),
        "half": (np.tile(values, (_CALIBRATION_DRAWS, 1)), np.concatenate(halves)),
    }
    rows = np.array(sorted(_level(model, *level) for level in levels.values()))
    # np.interp wants rising levels; two that agree would make it arbitrary.
    return rows[np.concatenate(([True], np.diff(rows[:, 0]) > 1e-3))]


def _level(model: Encoder, values: Array, known: Mask) -> tuple[float, ...]:
    encoded = model.encode_many(values, known)
    error, distance = (max(float(np.quantile(part, 0.99)), 1e-6) for part in (encoded.error, encoded.distance))
    score = np.maximum(encoded.error / error, encoded.distance / distance)
    middle, edge = np.quantile(score, (0.5, 0.99))
    return float(np.median(encoded.known_share)), error, distance, float(middle), float(max(edge, middle + 1e-3))
