"""Advice on a real program, taken: random access over a gibibyte is given the huge pages that it is proposed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.workloads import find
from hal.host import LinuxHost
from hal.knobs import knob_of

ROOT = Path(__file__).parents[2]
CHASE = find("pointer-chase/1gib")
RULE = "memory.huge_pages_for_random_access"


def dna(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    own = {"DNA_JOURNAL": str(folder / "journal"), "DNA_STORE": str(folder / "history.db"), "DNA_RULES": ""}
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


def huge_share(pid: int) -> float:
    """Return the part of a process's anonymous memory that is in huge pages, as the kernel counts it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(kib) for name, kib in re.findall(r"^(Anonymous|AnonHugePages): +(\d+) kB", text, re.MULTILINE)}
    return found["AnonHugePages"] / found["Anonymous"]


@pytest.mark.server
@pytest.mark.root
@pytest.mark.slow
def test_random_access_is_proposed_huge_pages_and_gets_them(tmp_path: Path) -> None:
    if reason := CHASE.missing():
        pytest.skip(reason)
    support = knob_of("memory.hugepages").support(LinuxHost())
    if not support.works:
        pytest.skip(f"{support.reason}: {support.remedy}")
    plan = tmp_path / "plan.json"
    with CHASE.start(tmp_path) as running:
        before = huge_share(running.pid)
        if before > 0.2:
            pytest.skip(
                "this system gives huge pages to all by itself: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
            )
        words = ("--interval", "2", "--duration", "8", "--packs", "memory", "--out", str(plan), "--json")
        done = dna("advise", "--pid", str(running.pid), *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert RULE in [proposal["rule"] for proposal in found["proposals"]], found["cannot_tell"]
        assert huge_share(running.pid) == before  # advice changes nothing
        applied = dna("apply", str(plan), "--yes", folder=tmp_path)
        assert applied.returncode == 0, applied.stderr
        assert huge_share(running.pid) > 0.8
        again = json.loads(dna("advise", "--pid", str(running.pid), *words[:-3], "--json", folder=tmp_path).stdout)
        assert again["proposals"] == []  # it has them now
