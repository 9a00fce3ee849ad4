"""`dna train` and `dna evaluate` from files, and what they say when something is missing."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dna import dataset
from dna.dataset import Dataset, dataset_of
from dna.encoder import Encoder, default_folder
from dna.errors import DatasetError
from dna.features import FEATURE_NAMES
from dna.library import Library

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("synthetic", ROOT / "tests" / "dna" / "synthetic.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'workload-dna[train]'"
)


@pytest.fixture
def data() -> Dataset:
    made: Dataset = _module.synthetic(workloads=6)
    return made


def dna(*arguments: str | Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; ``code`` runs first."""
    program = f"{code}\nimport sys, cli\nsys.argv = ['dna', *{[str(a) for a in arguments]!r}]\ncli.main()"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@needs_torch
def test_train_leaves_a_model_and_its_library(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "data.npz")
    done = dna("train", "--from", tmp_path / "data.npz", "--out", tmp_path / "out", "--epochs", "20")
    assert done.returncode == 0, done.stderr
    encoder = Encoder.load(tmp_path / "out")
    library = Library.load([tmp_path / "out" / "library.json"])
    assert library.model == encoder.model_id
    assert len(library.entries) == 18
    assert encoder.model_id in done.stdout


@pytest.mark.slow
@needs_torch
def test_evaluate_prints_json_and_tables(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "data.npz")
    command = ("evaluate", "--from", tmp_path / "data.npz", "--epochs", "10", "--folds", "2")
    done = dna(*command, "--json")
    assert [score["method"] for score in json.loads(done.stdout)["scores"]] == [
        "dna",
        "raw features",
        "raw, surroundings too",
        "pca-16",
    ]
    assert "raw features" in dna(*command).stdout


def test_without_torch_the_remedy_is_the_extra(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "data.npz")
    hide = "import sys; sys.modules['torch'] = None"
    done = dna("train", "--from", tmp_path / "data.npz", code=hide)
    assert done.returncode == 1
    assert "pip install 'workload-dna[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_history_says_how_to_fill_it(tmp_path: Path) -> None:
    done = dna("evaluate", "--store", tmp_path / "none.db")
    assert done.returncode == 1
    assert "dna profile --name" in done.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"name": "a"}', b'{"intervals": []}', b"\xff\xfe"])
def test_files_that_are_no_profiles_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "strange.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"strange\.json") as caught:
        dataset.load([path])
    assert "dna export" in caught.value.remedy


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_damaged_data_set_is_named(data: Dataset, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "data.npz"
    data.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"data\.npz"):
        dataset.load([path])


def test_exported_profiles_and_data_sets_give_the_same(data: Dataset, tmp_path: Path) -> None:
    some = data.select(np.isin(data.runs, ["program0-0", "program1-2"]))
    documents = []
    for run in ("program0-0", "program1-2"):
        mine = some.select(some.runs == run)
        rows = [{n: None if np.isnan(v) else float(v) for n, v in zip(FEATURE_NAMES, r, strict=True)} for r in mine.raw]
        documents.append(
            {"id": run, "name": str(mine.workloads[0]), "intervals": [{"features": features} for features in rows]}
        )
    (tmp_path / "one.json").write_text(json.dumps(documents[0]))
    (tmp_path / "two.json.gz").write_bytes(gzip.compress(json.dumps([documents[1]]).encode()))
    some.save(tmp_path / "both.npz")
    exported = dataset.load([tmp_path / "one.json", tmp_path / "two.json.gz"])
    compact = dataset.load([tmp_path / "both.npz"])
    np.testing.assert_array_equal(exported.raw, compact.raw)
    assert exported.runs.tolist() == compact.runs.tolist()
    assert exported.workloads.tolist() == compact.workloads.tolist()


def test_features_that_are_gone_or_new_do_not_matter(tmp_path: Path) -> None:
    dataset_of([({"cpu.ipc": 1.5}, "a/b", "r")]).save(tmp_path / "data.npz")
    with np.load(tmp_path / "data.npz") as archive:
        content = dict(archive)
    content["features"] = np.array(
        ["gone.feature" if n == "sched.oncpu_share" else str(n) for n in content["features"]]
    )
    np.savez_compressed(tmp_path / "data.npz", **content)
    loaded = dataset.load([tmp_path / "data.npz"])
    assert loaded.raw[0, FEATURE_NAMES.index("cpu.ipc")] == 1.5
    assert np.isnan(loaded.raw[0, FEATURE_NAMES.index("sched.oncpu_share")])


def test_the_environment_names_the_model(tmp_path: Path) -> None:
    assert default_folder({"DNA_MODEL": str(tmp_path)}) == tmp_path
    assert default_folder({}) == default_folder({"DNA_MODEL": ""})
