"""The model that ships: whole, small, of the recorded data, and with a card that tells the truth about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dna import dataset, model_folder
from dna.dataset import Dataset
from dna.encoder import SHIPPED, Encoder
from dna.evaluate import evaluate_model, neighbours
from dna.features import FEATURE_NAMES
from dna.library import LIBRARY_FILE, Library
from dna.masks import is_environment

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / "examples" / "training.npz"


@pytest.fixture(scope="module")
def model() -> Encoder:
    return Encoder.load(SHIPPED)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset.load([TRAINING])


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1 << 20
    assert TRAINING.stat().st_size < 2 << 20


@pytest.mark.long
def test_the_library_is_of_the_model_and_the_data(model: Encoder, data: Dataset) -> None:
    library = Library.load([SHIPPED / LIBRARY_FILE])
    assert library.model == model.model_id
    assert {entry.run for entry in library.entries} == set(data.runs.tolist())
    made = model_folder.library_of(model, data)
    for shipped, again in zip(library.entries, made.entries, strict=True):
        np.testing.assert_allclose(shipped.vector, again.vector, atol=1e-3)
        assert shipped.label == again.label


def test_the_data_is_what_was_asked_for(data: Dataset) -> None:
    assert len(set(data.programs.tolist())) >= 12
    runs = [len(set(data.runs[data.workloads == label].tolist())) for label in set(data.workloads.tolist())]
    assert min(runs) >= 3


@pytest.mark.slow
def test_it_tells_its_own_workloads_apart(model: Encoder, data: Dataset) -> None:
    own = evaluate_model(data, model).scores[0]
    assert own.program_accuracy > 0.9
    assert own.masked_accuracy["no-bpf"] > 0.7
    assert own.masked_shift["no-bpf"] < 0.4
    assert own.masked_shift["no-pmu"] == 0.0


@pytest.mark.long
def test_it_knows_recordings_of_another_time(model: Encoder, data: Dataset) -> None:
    test = dataset.load([ROOT / "examples" / "test.npz"])
    encoded = model.encode_many(*test.encoded())
    found = neighbours(encoded.vectors, model.encode_many(*data.encoded()).vectors, data.programs)
    assert (found == test.programs).mean() > 0.9
    assert (model.novelty(encoded) > 1).mean() < 0.2


def test_most_of_what_it_was_made_from_is_not_new(model: Encoder, data: Dataset) -> None:
    novelty = model.novelty(model.encode_many(*data.encoded()))
    assert (novelty <= 1).mean() > 0.97


def test_noise_is_new(model: Encoder) -> None:
    random = np.random.default_rng(0)
    values = random.random((200, len(FEATURE_NAMES)))
    novelty = model.novelty(model.encode_many(values, np.ones(values.shape, dtype=np.bool_)))
    assert (novelty > 1).mean() > 0.95


def test_surroundings_are_not_learned(model: Encoder) -> None:
    assert not (model.learned & is_environment(model.feature_names)).any()


def test_the_card_is_of_this_model(model: Encoder, data: Dataset) -> None:
    card = (SHIPPED / "MODEL_CARD.md").read_text()
    assert model.model_id in card
    for label in set(data.workloads.tolist()):
        assert f"`{label}`" in card
    unused = [name for name, used in zip(model.feature_names, model.learned, strict=True) if not used]
    assert all(f"`{name}`" in card for name in unused)
