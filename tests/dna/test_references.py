"""What a profile is compared with while it runs: as much as can be read, and never an error."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dna import references
from dna.encoder import ENVIRONMENT
from dna.library import LIBRARY_FILE, SHIPPED, Library
from dna.store import Store
from dna.vector import Dna, Interval, Profile

ENTRY = Library.load().entries[0]


def named_profile(model: str) -> Profile:
    dna = Dna(ENTRY.vector, 0.5, model)
    interval = Interval(t=1.0, features={}, demand={}, quality={}, dna=dna, detail={})
    return Profile(id="", name="mine", machine={}, target={}, started=1.0, interval_s=1.0, intervals=(interval,))


def test_shipped_and_named_workloads_are_known(tmp_path: Path) -> None:
    with Store.open(tmp_path / "history.db") as history:
        history.save(replace(named_profile(Library.load().model), id="one"))
    known = references.workloads_in_use(tmp_path / "history.db")
    assert known is not None
    assert set(known.labels) == {*Library.load().labels, "mine"}


@pytest.mark.parametrize("content", [None, b"not a database, and longer than the header of one" * 4])
def test_without_a_readable_history_the_shipped_ones_are(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "history.db"
    if content is not None:
        path.write_bytes(content)
    known = references.workloads_in_use(path)
    assert known is not None
    assert known.labels == Library.load().labels


def test_a_model_without_a_library_knows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    assert references.workloads_in_use(tmp_path / "history.db") is None
    shutil.copy(SHIPPED, tmp_path / LIBRARY_FILE)
    assert references.workloads_in_use(tmp_path / "history.db") is not None
