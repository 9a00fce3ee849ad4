"""The README's picture: made by the program itself, and whole without the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from dna.export import write_json
from tests.ui.recording import recording

ROOT = Path(__file__).parents[2]


def _outside_references(svg: str) -> list[str]:
    return [found for found in re.findall(r"https?://[^\"')\s]+", svg) if found != "http://www.w3.org/2000/svg"]


def test_a_stored_profile_becomes_a_picture(tmp_path: Path) -> None:
    source = recording()
    list(source)
    write_json(source.profile("web"), tmp_path / "p.json")
    program = [sys.executable, str(ROOT / "scripts" / "export_picture.py")]
    subprocess.run([*program, str(tmp_path / "p.json"), str(tmp_path / "p.svg")], check=True, timeout=60)
    svg = (tmp_path / "p.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    assert _outside_references(svg) == []
    text = svg.replace("&#160;", " ")
    for fact in ("redis-server", "epoll_wait", "Vector", "own cost"):
        assert fact in text


def test_the_picture_of_the_readme_needs_nothing_from_elsewhere() -> None:
    svg = (ROOT / "docs" / "live.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    assert _outside_references(svg) == []
    assert "redis-server" in svg
