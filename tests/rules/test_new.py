"""A rule file that is begun is sound, whatever the umask, and nothing is overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rules.cases import try_cases
from rules.errors import RuleError
from rules.lint import lint
from rules.loader import load
from rules.new import write_new
from rules.sources import Sources, load_all


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_it_can_be_loaded_at_once_and_is_sound(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path, test = write_new(tmp_path / "a" / "b" / "mine.py")
    finally:
        os.umask(before)
    file = load(path)
    assert file.test == test
    assert lint([file], among=load_all(Sources(system=None)).files) == []
    tried = try_cases(file)
    assert tried.passed
    assert len(tried.cases) == 3
    assert (tried.never_fired, tried.never_held) == ((), ())


@pytest.mark.parametrize("name", ["mine.py", "test_mine.py"])
def test_what_is_there_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(RuleError, match="there already"):
        write_new(tmp_path / "mine.py")
    assert os.listdir(tmp_path) == [name]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RuleError, match="cannot write"):
        write_new(tmp_path / "file" / "mine.py")
