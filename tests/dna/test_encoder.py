"""The encoder: files, errors, unknown features, speed of loading; on a model made here from random weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from dna.encoder import MODEL_FILE, Encoder, describe
from dna.errors import ModelError
from dna.features import BY_NAME, FEATURE_NAMES, encode


def random_model(seed: int = 0, names: tuple[str, ...] = FEATURE_NAMES) -> Encoder:
    """Return a model of random weights over ``names``, all learned."""
    random = np.random.default_rng(seed)
    features, hidden = len(names), 12
    shapes = {
        "encoder.0.weight": (hidden, 2 * features),
        "encoder.0.bias": (hidden,),
        "encoder.1.weight": (16, hidden),
        "encoder.1.bias": (16,),
        "decoder.0.weight": (hidden, 16),
        "decoder.0.bias": (hidden,),
        "decoder.1.weight": (features, hidden),
        "decoder.1.bias": (features,),
        "mean": (features,),
        "reference": (5, 16),
    }
    tensors = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    tensors |= {"std": np.full(features, 0.2, np.float32), "learned": np.ones(features, np.float32)}
    tensors["novelty"] = np.array([[0.3, 1, 1, 0.2, 1], [0.9, 0.8, 0.9, 0.3, 1]], np.float32)
    return Encoder(tensors, describe(names, {"seed": seed}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a saved model."""
    random_model().save(tmp_path)
    return tmp_path


def test_a_saved_model_is_the_same_model(saved: Path) -> None:
    features = {name: BY_NAME[name].scale.decode(0.4) for name in FEATURE_NAMES[:60]}
    loaded, made = Encoder.load(saved), random_model()
    assert loaded.model_id == made.model_id
    np.testing.assert_array_equal(loaded.encode(features).vector, made.encode(features).vector)
    assert loaded.encode(features).novelty == made.encode(features).novelty
    assert loaded.encode(features).model == loaded.model_id


def test_others_may_read_a_model(saved: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert (saved / MODEL_FILE).stat().st_mode & 0o777 == 0o666 & ~umask


def test_other_weights_are_another_model() -> None:
    assert random_model(0).model_id != random_model(1).model_id
    assert random_model(0).model_id != random_model(0, names=FEATURE_NAMES[:-1]).model_id


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(FEATURE_NAMES), st.none() | st.floats(-1e12, 1e12)))
def test_any_features_give_a_bounded_vector(features: dict[str, float | None]) -> None:
    dna = random_model().encode(features)
    assert dna.vector.shape == (16,)
    assert (np.abs(dna.vector) <= 1).all()
    assert dna.novelty >= 0


def test_one_by_one_is_the_same_as_all_at_once() -> None:
    random = np.random.default_rng(5)
    model, values = random_model(), random.random((20, len(FEATURE_NAMES)))
    known = random.random(values.shape) < random.random((20, 1))
    together = model.encode_many(values, known)
    novelty = model.novelty(together)
    for row in range(20):
        alone = model.encode_many(values[row], known[row])
        np.testing.assert_allclose(alone.vectors, together.vectors[row], atol=1e-5)
        np.testing.assert_allclose(model.novelty(alone), novelty[row], rtol=1e-4, atol=1e-6)


def test_the_reference_vectors_are_at_no_distance() -> None:
    model = random_model()
    np.testing.assert_allclose(model._distance(model.reference), 0, atol=1e-2)


@given(st.dictionaries(st.sampled_from(FEATURE_NAMES), st.none() | st.floats(-1e12, 1e12)))
def test_encoding_of_features_is_that_of_their_scales(features: dict[str, float | None]) -> None:
    values, known = encode(features)
    for name, position, is_known in zip(FEATURE_NAMES, values, known, strict=True):
        value = features.get(name)
        assert is_known == (value is not None)
        assert position == pytest.approx(0.0 if value is None else BY_NAME[name].scale.encode(value), abs=1e-12)


def test_unknown_is_not_zero() -> None:
    model = random_model()
    assert not np.allclose(model.encode({}).vector, model.encode(dict.fromkeys(FEATURE_NAMES, 0.0)).vector)
    np.testing.assert_array_equal(model.encode({}).vector, model.encode(dict.fromkeys(FEATURE_NAMES)).vector)


def test_features_the_table_gained_later_are_unknown_to_an_older_model() -> None:
    older = random_model(names=FEATURE_NAMES[5:])
    some = {name: BY_NAME[name].scale.decode(0.7) for name in FEATURE_NAMES[5:40]}
    newer = some | {name: BY_NAME[name].scale.decode(0.7) for name in FEATURE_NAMES[:5]}
    np.testing.assert_array_equal(older.encode(some).vector, older.encode(newer).vector)


def test_the_order_of_a_models_features_is_its_own() -> None:
    backwards = random_model(names=FEATURE_NAMES[::-1])
    first = FEATURE_NAMES[0]
    features = {first: BY_NAME[first].scale.decode(0.9)}
    z = np.zeros(len(FEATURE_NAMES))
    known = np.zeros(len(FEATURE_NAMES), dtype=bool)
    z[0], known[0] = 0.9, True
    np.testing.assert_allclose(
        backwards.encode(features).vector, backwards.encode_many(z[None], known[None]).vectors[0], atol=1e-12
    )
    assert list(backwards.reconstruct(features)) == list(FEATURE_NAMES[::-1])


def test_reconstruction_is_in_the_features_own_units() -> None:
    for name, value in random_model().reconstruct({}).items():
        scale = BY_NAME[name].scale
        assert value is not None
        assert scale.low * (1 - 1e-9) <= value <= scale.high * (1 + 1e-9)


def _rewritten(folder: Path, **metadata: str) -> Path:
    path = folder / MODEL_FILE
    model = Encoder.load(folder)
    save_file(load_file(path), path, metadata=model.metadata | metadata)
    return folder


def test_no_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model at") as caught:
        Encoder.load(tmp_path)
    assert "dna train" in caught.value.remedy


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_a_truncated_file_is_a_model_error(saved: Path, keep: int) -> None:
    path = saved / MODEL_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged") as caught:
        Encoder.load(saved)
    assert caught.value.remedy


def test_text_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a model" * 100)
    with pytest.raises(ModelError, match="damaged"):
        Encoder.load(tmp_path / "notes.txt")


def test_features_that_are_gone_are_named(saved: Path) -> None:
    names = ["syscall.gone_share", *FEATURE_NAMES[1:]]
    with pytest.raises(ModelError, match=r"syscall\.gone_share") as caught:
        Encoder.load(_rewritten(saved, features=json.dumps(names)))
    assert "dna train" in caught.value.remedy


def test_a_changed_scale_is_refused(saved: Path) -> None:
    scales = json.loads(Encoder.load(saved).metadata["scales"])
    scales["cpu.ipc"] = [0.0, 8.0, False]
    with pytest.raises(ModelError, match=r"other scales of: cpu\.ipc"):
        Encoder.load(_rewritten(saved, scales=json.dumps(scales)))


def test_another_format_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="not a model of workload-dna"):
        Encoder.load(_rewritten(saved, format="other"))


def test_a_later_format_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="format 99"):
        Encoder.load(_rewritten(saved, version="99"))


@pytest.mark.parametrize("damage", ["missing", "shape", "nan"])
def test_damaged_tensors_are_named(saved: Path, damage: str) -> None:
    path = saved / MODEL_FILE
    metadata, tensors = Encoder.load(saved).metadata, dict(load_file(path))
    if damage == "missing":
        del tensors["encoder.1.weight"]
    elif damage == "shape":
        tensors["encoder.1.weight"] = tensors["encoder.1.weight"][:, :-1].copy()
    else:
        tensors["encoder.1.weight"][0, 0] = np.nan
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ModelError, match=r"encoder\.1\.weight"):
        Encoder.load(saved)


def test_a_model_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write"):
        random_model().save(tmp_path / "file")


@pytest.mark.long
def test_encoding_needs_neither_torch_nor_pickle() -> None:
    code = "import sys, dna.encoder; print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
