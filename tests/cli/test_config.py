"""``dna config`` as a user runs it: on this machine, and for machines that are only described. Nothing is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hal.knobs import all_knobs

ROOT = Path(__file__).parents[2]


def dna(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        env={**os.environ, "DNA_JOURNAL": str(folder / "journal")},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_every_knob_is_listed_with_whether_it_works() -> None:
    done = dna("config", "knobs", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {one["knob"] for one in found} == set(all_knobs())
    for one in found:
        assert one["works"] or (one["reason"] and one["remedy"]), one["knob"]
    table = dna("config", "knobs").stdout
    assert all(name in table for name in all_knobs())


def test_a_process_of_one_s_own() -> None:
    done = dna("config", "show", "cpu", "--pid", str(os.getpid()), "--json")
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    assert {one["knob"] for one in settings} - {"cpu.autogroup_nice"} == {"cpu.affinity", "cpu.nice", "cpu.policy"}
    assert str(os.getpid()) in {one["subject"]["name"] for one in settings}


def test_saved_and_compared_with_now(tmp_path: Path) -> None:
    saved = tmp_path / "config.json"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        saved.write_text(dna("config", "show", "cpu.nice", "--pid", str(process.pid), "--json").stdout)
        same = dna("config", "diff", str(saved))
        assert same.returncode == 0, same.stderr
        assert "Nothing differs" in same.stdout
        os.setpriority(os.PRIO_PROCESS, process.pid, 9)
        other = dna("config", "diff", str(saved), "--json")
        assert other.returncode == 1
        (change,) = json.loads(other.stdout)["changes"]
        assert (change["old"], change["new"]) == (0, 9)
        plan = tmp_path / "plan.json"
        assert dna("config", "diff", str(saved), "--out", str(plan)).returncode == 0
        if os.geteuid() == 0:  # going back below needs the privilege
            assert dna("apply", str(plan), "--yes", folder=tmp_path).returncode == 0
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("text", ["pack:2 numa:2 core:8 pu:2", "numa:8 core:2 pu:1", "core:1 pu:1"])
def test_machines_that_are_only_described(text: str) -> None:
    done = dna("config", "show", "--topology", text, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["machine"]["hostname"] == "described"
    assert "memory.thp" in {one["knob"] for one in data["settings"]}


@pytest.mark.parametrize(
    "words",
    [
        ("config", "show", "--topology", "numa:2 nonsense:3"),
        ("config", "show", "nonsuch"),
        ("config", "show", "cpu.nonsuch"),
        ("config", "diff", "/nonexistent"),
        ("config",),
    ],
)
def test_wrong_use(words: tuple[str, ...]) -> None:
    done = dna(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
