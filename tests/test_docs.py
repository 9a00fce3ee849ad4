"""The documents say what the program does: made pages are current, written ones name every field."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dna.export import to_json
from dna.vector import Interval, Profile

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("script", ["write_docs.py", "write_vocabulary.py"])
def test_what_is_made_is_current(script: str) -> None:
    done = subprocess.run(
        [sys.executable, f"scripts/{script}", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_of_a_profile_is_described() -> None:
    interval = Interval(t=1.0, features={}, demand={}, quality={}, dna=None, detail={})
    profile = Profile(id="a", name="", machine={}, target={}, started=0.0, interval_s=1.0, intervals=(interval,))
    document = to_json(profile)
    summary, intervals = document["summary"], document["intervals"]
    assert isinstance(summary, dict)
    assert isinstance(intervals, list)
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/profile-json.md").read_text()))
    assert {*document, *summary, *intervals[0]} - described == set()


def test_index_names_every_page() -> None:
    """A folder of pages has an index of its own, which the first one names."""
    for index in sorted((ROOT / "docs").rglob("README.md")):
        text = index.read_text()
        pages = [page.name for page in sorted(index.parent.glob("*.md"))]
        folders = [f"{folder.parent.name}/README.md" for folder in sorted(index.parent.glob("*/README.md"))]
        assert [name for name in pages + folders if name not in text and name != "README.md"] == []
    assert {page.parent for page in (ROOT / "docs").rglob("*.md")} == {
        index.parent for index in (ROOT / "docs").rglob("README.md")
    }
