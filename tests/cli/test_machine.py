"""``dna machine`` as a user runs it: this machine, descriptions, files, and what is none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hal.machines import eight_nodes

ROOT = Path(__file__).parents[2]


def dna(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "machine", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_this_machine() -> None:
    done = dna(COLUMNS="80", LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    assert "Node 0" in done.stdout
    assert "by hwloc" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout


def test_ascii_where_there_is_nothing_else() -> None:
    done = dna("--topology", "pack:2 numa:2 core:8 pu:2", COLUMNS="80", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "4 NUMA nodes" in done.stdout


def test_a_captured_folder_as_json(tmp_path: Path) -> None:
    done = dna("--topology", str(eight_nodes().write(tmp_path)), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "workload-dna/machine/1"
    assert document["tool"].startswith("dna ")
    assert (len(document["cpus"]), len(document["nodes"]), len(document["distances"])) == (64, 8, 8)
    (nic,) = (one for one in document["pci"] if one["address"] == "0000:81:00.0")
    assert nic["link"] == {"speed_gts": 16.0, "width": 8, "max_speed_gts": 32.0, "max_width": 16}
    assert nic["virtual"] == {"total": 64, "made": [f"0000:81:01.{n}" for n in range(6)]}


@pytest.mark.parametrize("text", ["", "pack:2 core", "nowhere.xml", "/etc/passwd", "/nowhere"])
def test_what_is_no_machine_is_one_line_with_a_remedy(text: str) -> None:
    done = dna("--topology", text)
    assert (done.returncode, done.stdout) == (2, "")
    message, remedy = done.stderr.splitlines()
    assert message.startswith("dna: ")
    assert remedy.startswith("     ")


def test_every_field_is_described(tmp_path: Path) -> None:
    done = dna("--topology", str(eight_nodes().write(tmp_path)), "--json")
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/machine.md").read_text()))
    assert set(_names(json.loads(done.stdout))) - described == set()


def _names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)
