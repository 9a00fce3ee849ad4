"""``dna learn`` as a user types it: what was learned is shown, removed when that is meant, and handed on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rl.learned import Learned
from rl.memory import Memory
from tests.rl.lessons import HERE, proof, sentence, trial

ROOT = Path(__file__).parents[2]
DB = replace(HERE, workload="db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learned.db"


@pytest.fixture
def learned(path: Path) -> Learned:
    now = time.time()
    old = trial(at=now - 40 * 86_400, name="memory.hugepages", gain=-0.2, outcome="rolled back", interval=(-0.3, -0.1))
    found = Learned(
        (old, trial(at=now - 60), trial(at=now - 30, origin=DB)), (proof(at=now - 60),), (sentence(at=now),)
    )
    with Memory.open(path) as memory:
        memory.add(found)
    return found


def dna(path: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", "learn", *arguments],
        cwd=ROOT,
        env={**os.environ, "DNA_LEARNED": str(path), "COLUMNS": "160"},
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def stored(path: Path) -> Learned:
    with Memory.open(path) as memory:
        return memory.read()


@pytest.mark.usefixtures("learned")
def test_what_was_learned_is_shown_by_kind_of_workload(path: Path) -> None:
    shown = dna(path, "show")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.index("db, by throughput") < shown.stdout.index("web, by throughput")
    lines = {line.split()[0]: line for line in shown.stdout.splitlines() if line.split()}
    assert "-18.1 %" in lines["memory.hugepages"]
    assert "worse" in lines["memory.hugepages"]
    assert "until" in lines["bad"]
    assert "proven" in shown.stdout
    assert "db" not in dna(path, "show", "--workload", "web").stdout


@pytest.mark.usefixtures("learned")
def test_what_was_learned_is_data(path: Path) -> None:
    found = json.loads(dna(path, "show", "--json").stdout)
    assert [(one["workload"], one["arm"]) for one in found] == [
        ("db", "pin"),
        ("web", "pin"),
        ("web", "bad"),
        ("web", "memory.hugepages"),
    ]
    assert found[1]["is_proven"]
    assert found[3]["interval"] == [-0.3, -0.1]


def test_where_nothing_was_learned_it_says_so_and_makes_nothing(path: Path) -> None:
    assert "Nothing was learned yet" in dna(path, "show").stdout
    assert json.loads(dna(path, "show", "--json").stdout) == []
    assert "nothing was removed" in dna(path, "reset", "--yes").stdout
    assert not path.exists()


def test_a_reset_asks_first(path: Path, learned: Learned) -> None:
    refused = dna(path, "reset", typed="n\n")
    assert refused.returncode == 1
    assert "Remove 3 trials, 1 proof and 1 sentence of quarantine for good?" in refused.stdout
    assert stored(path) == learned
    assert dna(path, "reset").returncode == 1  # nobody is there to answer
    assert stored(path) == learned


@pytest.mark.usefixtures("learned")
def test_a_reset_removes_what_was_named_and_says_what(path: Path) -> None:
    done = dna(path, "reset", "--older-than", "30d", "--yes")
    assert done.stdout.strip() == "removed 1 trial, 0 proofs and 0 sentences of quarantine"
    assert dna(path, "reset", "--arm", "bad", "--yes").stdout.startswith("removed 0 trials, 0 proofs and 1 sentence")
    assert dna(path, "reset", "--workload", "db", "--yes").stdout.startswith("removed 1 trial,")
    assert [one.origin.workload for one in stored(path).trials] == ["web"]
    assert dna(path, "reset", "--yes").returncode == 0
    assert not stored(path)


@pytest.mark.usefixtures("learned")
def test_an_age_that_is_none_is_refused(path: Path) -> None:
    refused = dna(path, "reset", "--older-than", "yesterday")
    assert refused.returncode == 2
    assert "Give one such as 30d" in refused.stderr


def test_what_is_exported_can_be_imported_elsewhere_once(path: Path, learned: Learned, tmp_path: Path) -> None:
    file, other = tmp_path / "out.json", tmp_path / "other.db"
    assert dna(path, "export", str(file)).returncode == 0
    assert dna(other, "import", str(file)).stdout.strip() == "imported 5"
    assert "imported 0 of 5" in dna(other, "import", str(file)).stdout
    assert all(one.imported for one in stored(other).trials)
    assert "imported" in dna(other, "show").stdout
    assert "imported 0 of 5" in dna(path, "import", str(file)).stdout
    assert stored(path) == learned
    assert json.loads(dna(path, "export", "-", "--workload", "db").stdout)["trials"][0]["run"] == "r1"


def test_a_file_that_is_none_of_ours_is_one_line(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "hostile.json"
    file.write_text('{"schema": "workload-dna/learned/1", "origins": [], "trials": [NaN]}')
    refused = dna(path, "import", str(file))
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 2  # what is wrong, and the remedy
    assert not path.exists()


def test_a_damaged_memory_is_said(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be told from an empty one" * 20)
    shown = dna(path, "show")
    assert shown.returncode == 1
    assert "damaged" in shown.stderr
    assert "sets it aside" in shown.stderr


def test_a_replay_says_what_can_be_told_and_what_cannot(path: Path) -> None:
    now = time.time()
    with Memory.open(path) as memory:
        memory.add(
            Learned(tuple(trial(at=now - 1000 + n, run=f"run-{n // 30}/web", probability=0.5) for n in range(60)))
        )
    found = json.loads(dna(path, "replay", "--policy", "greedy", "--seeds", "4", "--json").stdout)
    assert found["decisions"] == 60
    assert found["policies"]["greedy"]["matching"]["gain"] == pytest.approx(0.1, abs=0.03)
    low, high = found["policies"]["greedy"]["model"]["interval"]
    assert low < 0.1 < high
    few = json.loads(dna(path, "replay", "run-1", "--policy", "greedy", "--seeds", "4", "--json").stdout)
    assert few["decisions"] == 30
    shown = dna(path, "replay", "--policy", "greedy", "--policy", "bound", "--seeds", "4")
    assert "of 60 match" in shown.stdout
    assert dna(path, "replay", "--policy", "best").returncode == 2


@pytest.mark.usefixtures("learned")
def test_a_replay_is_of_one_kind_of_workload(path: Path) -> None:
    refused = dna(path, "replay")
    assert refused.returncode == 2
    assert "2 kinds: db by throughput, web by throughput" in refused.stderr
    told = dna(path, "replay", "--workload", "web", "--seeds", "2")
    assert told.returncode == 0, told.stderr
    assert "cannot be told" in told.stdout
    assert dna(path, "replay", "none").returncode == 2
