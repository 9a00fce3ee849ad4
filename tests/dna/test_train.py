"""Training on made-up workloads: numpy equals torch, seeds reproduce, clusters separate, masked views stay close."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dna.dataset import Dataset
from dna.encoder import Encoder
from dna.errors import DatasetError
from dna.evaluate import auc, evaluate, evaluate_model, neighbours, run_folds
from dna.features import FEATURE_NAMES
from dna.masks import is_environment, masks

torch = pytest.importorskip("torch", reason="needs torch: pip install 'workload-dna[train]'")

from dna.train import Network, Settings, held_out, train  # noqa: E402

_spec = importlib.util.spec_from_file_location("synthetic", Path(__file__).with_name("synthetic.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
synthetic = _module.synthetic

pytestmark = pytest.mark.slow  # importing torch takes seconds

QUICK = Settings(epochs=120)


@pytest.fixture(scope="module")
def data() -> Dataset:
    made: Dataset = synthetic(workloads=6)
    return made


@pytest.fixture(scope="module")
def model(data: Dataset) -> Encoder:
    return train(data, QUICK)


def test_numpy_equals_torch(model: Encoder, data: Dataset) -> None:
    values, known = data.encoded()
    network = Network(len(FEATURE_NAMES), QUICK.hidden)
    state = {name: torch.from_numpy(model._tensors[name]) for name in network.state_dict()}
    network.load_state_dict(state)
    z = torch.from_numpy(((values - model._mean) / model._std).clip(-4, 4).astype(np.float32))
    mask = torch.from_numpy((known & model.learned).astype(np.float32))
    with torch.no_grad():
        vectors = network.encode(z * mask, mask)
        decoded = network.decode(vectors)
    np.testing.assert_allclose(model.encode_many(values, known).vectors, vectors.numpy(), atol=1e-5)
    expected = decoded.numpy() * model._std + model._mean
    np.testing.assert_allclose(model.decode(model.encode_many(values, known).vectors), expected, atol=1e-5)


def test_a_seed_reproduces(data: Dataset) -> None:
    short = Settings(epochs=5, seed=3)
    assert train(data, short).model_id == train(data, short).model_id
    assert train(data, short).model_id != train(data, Settings(epochs=5, seed=4)).model_id


def test_training_leaves_the_callers_random_numbers_alone(data: Dataset) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train(data, Settings(epochs=2))
    assert torch.rand(1) == expected


def test_intervals_of_unseen_runs_fall_to_their_workload(model: Encoder, data: Dataset) -> None:
    aside = held_out(data)
    vectors = model.encode_many(*data.encoded()).vectors
    found = neighbours(vectors[aside], vectors[~aside], data.workloads[~aside])
    assert (found == data.workloads[aside]).mean() > 0.95


@pytest.mark.parametrize("pattern", ["no-bpf", "no-instructions", "no-syscalls"])
def test_a_machine_that_measures_less_gives_a_close_vector(model: Encoder, data: Dataset, pattern: str) -> None:
    values, known = data.encoded()
    full = model.encode_many(values, known).vectors
    masked = model.encode_many(values, known & ~masks(FEATURE_NAMES)[pattern]).vectors
    centres = np.array([full[data.workloads == label].mean(axis=0) for label in np.unique(data.workloads)])
    nearest_other = min(np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[:i])
    assert np.median(np.linalg.norm(full - masked, axis=1)) < 0.5 * nearest_other


def test_what_was_never_known_does_not_move_the_vector(model: Encoder, data: Dataset) -> None:
    values, known = data.encoded()
    with_pmu, known_pmu = values.copy(), known.copy()
    columns = [name.startswith("cpu.") for name in FEATURE_NAMES]
    with_pmu[:, columns], known_pmu[:, columns] = 0.9, True
    before, after = model.encode_many(values, known), model.encode_many(with_pmu, known_pmu)
    np.testing.assert_array_equal(before.vectors, after.vectors)
    np.testing.assert_array_equal(model.novelty(before), model.novelty(after))


def test_a_busy_neighbour_does_not_move_the_vector(model: Encoder, data: Dataset) -> None:
    values, known = data.encoded()
    busy = values.copy()
    busy[:, is_environment(FEATURE_NAMES)] = 0.95
    before, after = model.encode_many(values, known), model.encode_many(busy, known)
    np.testing.assert_array_equal(before.vectors, after.vectors)
    np.testing.assert_array_equal(model.novelty(before), model.novelty(after))


def test_novelty_is_at_most_one_for_known_runs_and_above_for_others(model: Encoder, data: Dataset) -> None:
    aside = held_out(data)
    familiar = model.novelty(model.encode_many(*data.select(aside).encoded()))
    assert (familiar <= 1.0).mean() >= 0.95
    assert (familiar == 0).mean() >= 0.4
    strange = model.novelty(model.encode_many(*synthetic(seed=99).encoded()))
    assert np.median(strange) > 1.0


def test_reconstruction_fills_in_what_is_hidden(model: Encoder, data: Dataset) -> None:
    values, known = data.encoded()
    hidden = masks(FEATURE_NAMES)["no-memory"] & model.learned
    filled = model.decode(model.encode_many(values, known & ~hidden).vectors)
    error = np.abs(filled - values)[:, hidden].mean()
    assert error < 0.5 * np.abs(values - values.mean(axis=0))[:, hidden].mean()


def test_too_little_data_says_so(data: Dataset) -> None:
    with pytest.raises(DatasetError, match="too few"):
        train(data.select(np.arange(len(data)) < 10))


def test_held_out_is_whole_runs(data: Dataset) -> None:
    aside = held_out(data)
    assert not set(data.runs[aside]) & set(data.runs[~aside])
    assert set(data.workloads[aside]) == set(data.workloads[~aside])


def test_every_run_is_tested_once(data: Dataset) -> None:
    tested = [set(data.runs[test]) for test in run_folds(data, 3)]
    assert set().union(*tested) == set(data.runs)
    assert sum(len(runs) for runs in tested) == len(set(data.runs))


def test_auc_counts_pairs() -> None:
    assert auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1.0
    assert auc(np.array([0.0, 1.0]), np.array([1.0])) == 0.75
    assert auc(np.array([1.0]), np.array([1.0])) == 0.5


def test_a_report_compares_with_the_baselines(data: Dataset) -> None:
    steps: list[int] = []
    report = evaluate(data, lambda part: train(part, Settings(epochs=60)), folds=2, step=lambda: steps.append(1))
    assert [score.method for score in report.scores] == ["dna", "raw features", "raw, surroundings too", "pca-16"]
    assert len(steps) == 4
    assert report.scores[0].program_accuracy > 0.9
    assert report.scores[0].masked_shift["no-pmu"] == 0.0
    assert (report.intervals, report.runs, report.programs) == (len(data), 18, 6)


def test_a_finished_model_is_evaluated_without_training(model: Encoder, data: Dataset) -> None:
    report = evaluate_model(data, model)
    assert report.scores[0].program_accuracy > 0.9
    assert report.scores[0].novelty_auc is None


def test_evaluation_needs_two_workloads(data: Dataset) -> None:
    with pytest.raises(DatasetError, match="two workloads"):
        evaluate(data.select(data.programs == "program0"), lambda part: train(part, QUICK))
