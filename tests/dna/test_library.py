"""What the library finds near, usual and drifting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dna.errors import ModelError
from dna.export import dumps
from dna.library import SHIPPED, Entry, Library, drift
from dna.vector import Dna


def at(x: float, label: str = "web", run: str = "run", **features: float | None) -> Entry:
    vector = np.zeros(16)
    vector[0] = x
    return Entry(label, run, vector, features)


def library(*entries: Entry) -> Library:
    return Library("m").with_entries(entries, "m")


ORIGIN = np.zeros(16)


def test_nearest_first_with_the_number_of_runs() -> None:
    found = library(at(5, "far"), at(1, "near"), at(9, "near")).nearest(ORIGIN)
    assert [(m.label, m.distance, m.runs) for m in found] == [("near", 1.0, 2), ("far", 5.0, 1)]


def test_a_program_under_two_loads_is_found_by_either() -> None:
    shelf = library(at(-10, "redis"), at(10, "redis"), at(3, "between"))
    assert shelf.nearest(at(9.5).vector)[0].label == "redis"
    assert shelf.nearest(ORIGIN)[0].label == "between"


def test_one_mislabelled_run_among_many_names_nothing() -> None:
    wrong = [at(20 + i, "batch") for i in range(5)] + [at(0.1, "batch")]
    assert library(*wrong, at(1, "web")).nearest(ORIGIN)[0].label == "web"


def test_no_more_than_asked_for_and_nothing_from_nothing() -> None:
    shelf = library(*(at(i, f"w{i}") for i in range(9)))
    assert len(shelf.nearest(ORIGIN, 3)) == 3
    assert library().nearest(ORIGIN) == []


@given(arrays(np.float64, 16, elements=st.floats(-100, 100)), st.permutations(range(6)))
@settings(max_examples=40, deadline=None)
def test_order_of_entries_does_not_matter(vector: np.ndarray, order: list[int]) -> None:
    entries = [at(i, f"w{i % 3}", f"r{i}") for i in range(6)]
    assert library(*entries).nearest(vector) == library(*(entries[i] for i in order)).nearest(vector)


def test_vectors_of_another_model_are_left_out_and_counted() -> None:
    shelf = library(at(1)).with_entries([at(2), at(3)], "other")
    assert (len(shelf.entries), shelf.left_out) == (1, 2)


def test_traits_are_what_is_unusual() -> None:
    names = {"syscall.file_share": 0.1, "sched.oncpu_share": 0.5}
    shelf = library(*(Entry("web", f"r{i}", ORIGIN, {k: v + 0.01 * i for k, v in names.items()}) for i in range(5)))
    traits = shelf.traits({"syscall.file_share": 0.9, "sched.oncpu_share": 0.52, "cpu.ipc": 2.0, "io.read_share": None})
    assert [trait.name for trait in traits] == ["syscall.file_share", "sched.oncpu_share"]
    assert traits[0].score > 10
    assert traits[0].usual == pytest.approx(0.12)
    assert abs(traits[1].score) < 1


def test_drift_is_measured_against_the_scatter() -> None:
    random = np.random.default_rng(0)
    before = [Dna(random.normal(0, 0.1, 16), 0.0, "m") for _ in range(20)]
    same = [Dna(random.normal(0, 0.1, 16), 0.0, "m") for _ in range(20)]
    moved = [Dna(random.normal(1, 0.1, 16), 0.0, "m") for _ in range(20)]
    still, gone = drift(before, same), drift(before, moved)
    assert still is not None
    assert gone is not None
    assert (still.ratio or 0) < 1
    assert (gone.ratio or 0) > 5
    assert gone.distance == pytest.approx(4.0, abs=0.3)


def test_drift_needs_one_model_and_something_on_both_sides() -> None:
    here, there = Dna(ORIGIN, 0.0, "m"), Dna(ORIGIN + 1, 0.0, "other")
    assert drift([here], [there]) is None
    assert drift([], [here]) is None
    single = drift([here], [Dna(ORIGIN + 1, 0.0, "m")])
    assert single is not None
    assert (single.distance, single.ratio) == (4.0, None)


def test_a_library_file_goes_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "library.json"
    path.write_text(dumps(library(at(1, "web", "web-1", **{"cpu.ipc": 2.0}), at(2, "db", "db-1")).to_json()))
    other = tmp_path / "other.json"
    other.write_text(dumps(Library("m2").with_entries([at(1)], "m2").to_json()))
    read = Library.load([path, other])
    assert (read.model, read.labels, read.left_out) == ("m", ("db", "web"), 1)
    assert read.entries[0].features == {"cpu.ipc": 2.0}
    assert Library.load([path], model="m2").entries == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"schema": 2, "model": "m", "entries": []}),
        json.dumps({"schema": 1, "model": "m", "entries": [{"label": "x", "run": "y", "vector": [1, 2]}]}),
        json.dumps({"schema": 1, "model": "m", "entries": [{"label": "x", "run": "y", "vector": [None] * 16}]}),
        json.dumps({"schema": 1, "model": "m", "entries": [7]}),
    ],
)
def test_what_is_not_a_library_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ModelError, match="not a library") as caught:
        Library.load([tmp_path / "x.json"])
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_a_missing_library_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Library.load([tmp_path / "x.json"])


def test_the_shipped_library_knows_itself() -> None:
    if not SHIPPED.exists():
        pytest.skip("no model is in this checkout yet: `dna train` writes one")
    shelf = Library.load()
    assert shelf.model
    for entry in shelf.without_run("").entries[:5]:
        assert entry.label in [match.label for match in shelf.nearest(entry.vector, 3)]
