"""From features to DNA with a trained model, in numpy only: no torch, no pickle.

A model is one safetensors file: the weights of a denoising autoencoder over (value, known), the normalisation of its
inputs, a set of reference vectors and the calibration of novelty; names, scales and version are in its metadata.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from dna.errors import ModelError
from dna.features import BY_NAME, END, FEATURE_NAMES, LOGARITHMIC, LOW, OFFSET
from dna.features import encode as encode_features
from dna.vector import DIMENSIONS, Dna, Features

type Array = NDArray[np.floating]
type Mask = NDArray[np.bool_]

FORMAT = "workload-dna-encoder"
VERSION = 1
MODEL_FILE = "model.safetensors"
SHIPPED = Path(__file__).parent / "models"
ENVIRONMENT = "DNA_MODEL"
"""Environment variable naming the folder of a model to use in place of the shipped one."""
CLIP = 4.0
"""Normalised values are limited to this many standard deviations, so that one strange feature cannot rule the vector."""

_RETRAIN = "train a model for this version with `dna train`, or give the one that came with it"
_REINSTALL = "reinstall workload-dna, or make a model with `dna train`"

_WEIGHTS = ("encoder.0", "encoder.1", "decoder.0", "decoder.1")
_TENSORS = (
    *(f"{layer}.{part}" for layer in _WEIGHTS for part in ("weight", "bias")),
    "mean",
    "std",
    "learned",
    "reference",
    "novelty",
)


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the model (and library) to use where none is named."""
    chosen = environment.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else SHIPPED


@dataclass(frozen=True, slots=True)
class Encoded:
    """One interval encoded, or many at once."""

    vectors: Array
    """Shape (..., 16)."""
    error: Array
    """Root mean square reconstruction error over known features, in standard deviations, shape (...)."""
    distance: Array
    """Distance to the nearest reference vector, likewise."""
    known_share: Array
    """Known share of the features that the model has learned, likewise."""


class Encoder:
    """A trained model. Immutable; ``model_id`` names it, and vectors of different models cannot be compared.

    Tensors, with F features, H hidden units, R references and L calibration levels:

    - ``encoder.{0,1}``, ``decoder.{0,1}`` ``.weight`` and ``.bias``: 2F -> H -> 16 -> H -> F, tanh on all but the last;
    - ``mean``, ``std`` (F,): normalisation of values in [0, 1];
    - ``learned`` (F,): 1 where training data knew the feature and it varied, else 0 (its weights are 0);
    - ``reference`` (R, 16): vectors of known workloads;
    - ``novelty`` (L, 5): known share, then the scales of error and distance, and the raw scores of novelty 0 and 1.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> None:
        self.metadata = dict(metadata)
        self.feature_names = _feature_names(metadata)
        self._tensors = _checked(tensors, len(self.feature_names))
        own = self._tensors
        self._mean, self._std, self._learned = own["mean"], own["std"], own["learned"] > 0
        self._narrow(self._learned)
        self.reference = own["reference"]
        self._reference_across = np.ascontiguousarray(-2.0 * self.reference.T)
        self._reference_squared = (self.reference * self.reference).sum(axis=1)
        self._levels = _levels(own["novelty"])
        self._learned_count = max(float(self._learned.sum()), 1.0)
        self.model_id = _identity(own, self.feature_names)

    def _narrow(self, learned: Mask) -> None:
        """Keep of the network what reaches a vector: weights of what is not learned are zero."""
        own = self._tensors
        table = np.array([FEATURE_NAMES.index(name) for name in self.feature_names])
        kept = np.flatnonzero(learned)
        kept = kept[np.argsort(~LOGARITHMIC[table[kept]], kind="stable")]  # logarithmic ones first: one slice
        self._columns = table[kept]
        self._centre, self._steepness = self._mean[kept], 1.0 / self._std[kept]
        first = own["encoder.0.weight"][:, np.concatenate((kept, kept + len(learned)))]
        weights = (first, own["encoder.1.weight"], own["decoder.0.weight"], own["decoder.1.weight"][kept])
        biases = (own["encoder.0.bias"], own["encoder.1.bias"], own["decoder.0.bias"], own["decoder.1.bias"][kept])
        self._layers = [(np.ascontiguousarray(w.T), b) for w, b in zip(weights, biases, strict=True)]
        self._prepare_one(kept)

    def _prepare_one(self, kept: NDArray[np.int64]) -> None:
        """Fold scaling and normalisation into one slope and shift a feature, for one interval at a time."""
        self._names = [self.feature_names[index] for index in kept]
        self._logarithms = int(LOGARITHMIC[self._columns].sum())
        self._low = LOW[self._columns[: self._logarithms]]
        span = END[self._columns] - OFFSET[self._columns]
        self._slope = self._steepness / span
        self._shift = -OFFSET[self._columns] * self._slope - self._centre * self._steepness
        self._floor = np.maximum(-CLIP, -self._centre * self._steepness)
        self._ceiling = np.minimum(CLIP, (1.0 - self._centre) * self._steepness)

    @classmethod
    def load(cls, path: Path | None = None) -> Encoder:
        """Read a model file, or the one in a folder; by default that of DNA_MODEL, else the shipped one. Raises ModelError."""
        path = path or default_folder()
        file = path / MODEL_FILE if path.is_dir() else path
        if not file.exists():
            raise ModelError(f"there is no model at {file}", remedy=_REINSTALL if path == SHIPPED else _RETRAIN)
        try:
            with safe_open(file, framework="numpy") as archive:
                metadata = archive.metadata() or {}
                tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{file} is damaged or not a model ({error})", remedy=_REINSTALL) from error
        try:
            return cls(tensors, metadata)
        except ModelError as error:
            raise ModelError(f"{file}: {error}", remedy=error.remedy) from error

    def save(self, folder: Path) -> Path:
        """Write the model file into ``folder``, whole or not at all, and return its path."""
        path = folder / MODEL_FILE
        partial = folder / f".{MODEL_FILE}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(serialize(self._tensors, metadata=self.metadata))  # save_file would make it 0600
            partial.replace(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot write {path}: {error}", remedy="choose another folder with --out") from error
        return path

    @property
    def learned(self) -> Mask:
        """Which of ``feature_names`` the model makes use of, shape (F,)."""
        return self._learned

    def encode(self, features: Features) -> Dna:
        """Return the DNA of one interval's features."""
        encoded = self._encoded(self._inputs_of(features))
        novelty = self._novelty_at(float(encoded.known_share), float(encoded.error), float(encoded.distance))
        return Dna(encoded.vectors.astype(np.float64), novelty, self.model_id)

    def reconstruct(self, features: Features) -> Features:
        """Return what the model takes the learned features to be, in their own units: its guess for unknown ones too."""
        position = np.clip(self.decode(self._vectors(self._inputs(*encode_features(features)))), 0.0, 1.0)
        rows = zip(self.feature_names, position, self.learned, strict=True)
        return {name: BY_NAME[name].scale.decode(float(at)) for name, at, learned in rows if learned}

    def encode_many(self, values: Array, known: Mask) -> Encoded:
        """Encode intervals given as ``dna.features.encode`` does, both of shape (..., len(FEATURES))."""
        return self._encoded(self._inputs(values, known))

    def _encoded(self, inputs: Array) -> Encoded:
        z, mask = inputs[..., : len(self._centre)], inputs[..., len(self._centre) :]
        vectors = self._vectors(inputs)
        count = mask.sum(axis=-1)
        residual = (self._decoded(vectors) - z) * mask
        error = np.sqrt((residual * residual).sum(axis=-1) / np.maximum(count, 1.0))
        distance = self._distance(vectors)
        return Encoded(vectors, error, distance, count / self._learned_count)

    def novelty(self, encoded: Encoded) -> Array:
        """Return novelty, one for each interval: 0 up to the median of known runs, 1 at their 99th percentile.

        The worse of reconstruction error and distance counts, each against what is usual with as many features known.
        """
        parts = np.broadcast_arrays(encoded.known_share, encoded.error, encoded.distance)
        rows = zip(*(part.ravel().tolist() for part in parts), strict=True)
        return np.array([self._novelty_at(*row) for row in rows]).reshape(parts[0].shape)

    def decode(self, vectors: Array) -> Array:
        """Return the values in [0, 1] (unclipped) that vectors of shape (..., 16) stand for, shape (..., F)."""
        hidden = np.tanh(vectors @ self._layers[2][0] + self._layers[2][1])
        last = self._tensors["decoder.1.weight"], self._tensors["decoder.1.bias"]
        decoded: Array = (hidden @ last[0].T + last[1]) * self._std + self._mean
        return decoded

    def _novelty_at(self, share: float, error: float, distance: float) -> float:
        levels, rows = self._levels
        place = min(bisect.bisect(levels, share, 1, max(len(levels) - 1, 1)), len(levels) - 1)
        part = min(max((share - levels[place - 1]) / (levels[place] - levels[place - 1]), 0.0), 1.0)
        low, high = rows[place - 1], rows[place]
        error_scale, distance_scale, middle, edge = (a + (b - a) * part for a, b in zip(low, high, strict=True))
        score = max(error / error_scale, distance / distance_scale)
        return max(score - middle, 0.0) / (edge - middle)

    def _inputs(self, values: Array, known: Mask) -> Array:
        """Return normalised values, 0 where unknown, and the mask of what is known, of the L learned features: (..., 2L)."""
        mask = known[..., self._columns].astype(np.float32)
        z = values[..., self._columns].astype(np.float32)
        z -= self._centre
        z *= self._steepness
        np.minimum(np.maximum(z, -CLIP, out=z), CLIP, out=z)
        z *= mask
        return np.concatenate((z, mask), axis=-1)

    def _inputs_of(self, features: Features) -> Array:
        """Return ``_inputs`` of one interval from its features; the same, by fewer steps."""
        raw = np.array([features.get(name) for name in self._names], dtype=np.float64)  # None becomes NaN
        known = raw == raw
        head = raw[: self._logarithms]
        np.log(np.maximum(head, self._low, out=head), out=head)
        z = np.minimum(np.maximum(raw * self._slope + self._shift, self._floor), self._ceiling)
        inputs = np.empty(2 * len(raw), dtype=np.float32)
        inputs[: len(raw)] = np.where(known, z, 0.0)
        inputs[len(raw) :] = known
        return inputs

    def _distance(self, vectors: Array) -> Array:
        """Return the Euclidean distance to the nearest reference vector."""
        nearest = (vectors @ self._reference_across + self._reference_squared).min(axis=-1)  # |a - b|², less |a|²
        distance: Array = np.sqrt(np.maximum(nearest + (vectors * vectors).sum(axis=-1), 0.0))
        return distance

    def _vectors(self, inputs: Array) -> Array:
        (first, first_bias), (second, second_bias) = self._layers[:2]
        vectors: Array = np.tanh(np.tanh(inputs @ first + first_bias) @ second + second_bias)
        return vectors

    def _decoded(self, vectors: Array) -> Array:
        """Return the normalised values of the learned features, shape (..., L)."""
        (first, first_bias), (second, second_bias) = self._layers[2:]
        decoded: Array = np.tanh(vectors @ first + first_bias) @ second + second_bias
        return decoded


def _levels(rows: Array) -> tuple[list[float], list[list[float]]]:
    """Return the calibration as Python numbers (one interval at a time, numpy is slower), at least two levels."""
    levels, scales = rows[:, 0].tolist(), rows[:, 1:].tolist()
    return (levels, scales) if len(levels) > 1 else ([levels[0], levels[0] + 1.0], [scales[0], scales[0]])


def describe(feature_names: tuple[str, ...], extra: Mapping[str, object]) -> dict[str, str]:
    """Return a model file's metadata; ``extra`` says how it was trained."""
    scales = {name: _scale(name) for name in feature_names}
    return {
        "format": FORMAT,
        "version": str(VERSION),
        "features": json.dumps(feature_names),
        "scales": json.dumps(scales),
        "training": json.dumps(extra, sort_keys=True),
    }


def _scale(name: str) -> list[float | bool]:
    scale = BY_NAME[name].scale
    return [scale.low, scale.high, scale.log]


def _feature_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the model's features after checking that this version has them all, on the same scales.

    Features that the table gained since are simply not used: unknown to the model, by name.
    """
    if metadata.get("format") != FORMAT:
        raise ModelError("not a model of workload-dna", remedy=_RETRAIN)
    if metadata.get("version") != str(VERSION):
        raise ModelError(f"written in format {metadata.get('version')}, not {VERSION}", remedy=_RETRAIN)
    try:
        names = tuple(json.loads(metadata["features"]))
        scales = json.loads(metadata["scales"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"damaged metadata ({error})", remedy=_REINSTALL) from error
    if gone := [name for name in names if name not in BY_NAME]:
        raise ModelError(f"trained on features that this version does not have: {', '.join(gone[:3])}", remedy=_RETRAIN)
    if changed := [name for name in names if scales.get(name) != _scale(name)]:
        raise ModelError(f"trained on other scales of: {', '.join(changed[:3])}", remedy=_RETRAIN)
    return names


def _checked(tensors: Mapping[str, NDArray[np.float32]], features: int) -> dict[str, NDArray[np.float32]]:
    if missing := [name for name in _TENSORS if name not in tensors]:
        raise ModelError(f"damaged: {missing[0]} is missing", remedy=_REINSTALL)
    hidden, references, levels = (len(tensors[name]) for name in ("encoder.0.bias", "reference", "novelty"))
    expected = {
        "encoder.0.weight": (hidden, 2 * features),
        "encoder.1.weight": (DIMENSIONS, hidden),
        "encoder.1.bias": (DIMENSIONS,),
        "decoder.0.weight": (len(tensors["decoder.0.bias"]), DIMENSIONS),
        "decoder.1.weight": (features, len(tensors["decoder.0.bias"])),
        "decoder.1.bias": (features,),
        "mean": (features,),
        "std": (features,),
        "learned": (features,),
        "reference": (max(references, 1), DIMENSIONS),
        "novelty": (max(levels, 1), 5),
    }
    for name, shape in expected.items():
        if tensors[name].shape != shape or not np.isfinite(tensors[name]).all():
            raise ModelError(f"damaged: {name} is not finite or not of shape {shape}", remedy=_REINSTALL)
    return {name: np.ascontiguousarray(tensors[name], dtype=np.float32) for name in _TENSORS}


def _identity(tensors: Mapping[str, NDArray[np.float32]], names: tuple[str, ...]) -> str:
    """Return 12 hexadecimal digits of the hash of feature names and weights."""
    digest = hashlib.sha256(json.dumps(names).encode())
    for name in _TENSORS:
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()[:12]
