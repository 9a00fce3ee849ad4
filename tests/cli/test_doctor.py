"""``dna doctor`` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hal.checks.capability import CHANGE, MEASURE

ROOT = Path(__file__).parents[2]


def dna(
    *arguments: str, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_report_for_people() -> None:
    done = dna("doctor", environment={"COLUMNS": "80", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    assert "What can be measured" in done.stdout
    assert "What could be changed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout


def test_report_for_programs(tmp_path: Path) -> None:
    done = dna("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "workload-dna/doctor/1"
    assert document["tool"].startswith("dna ")
    assert document["machine"]["topology"]["cpus"] >= 1
    for one in document["capabilities"]:
        assert set(one) == {"name", "group", "area", "available", "detail", "reason", "remedy"}
        assert one["group"] in (MEASURE, CHANGE)
        assert one["available"] is True or (one["reason"] and one["remedy"])


@pytest.mark.parametrize("arguments", [("--bogus",), ("extra",)])
def test_bad_usage(arguments: tuple[str, ...]) -> None:
    assert dna("doctor", *arguments).returncode == 2
