"""On a machine with four nodes: a process whose memory is on another node than its threads is told so, and helped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DNA = (sys.executable, str(ROOT / "cli.py"))
BALANCING = Path("/proc/sys/kernel/numa_balancing")
MIB = 288  # more than what rules hold for large, which is what caches hold

# Memory is touched from node 0, then the threads are bound to node 1; it is read in C and slowly, since the machine is emulated.
MISPLACED = """
import os, sys, time
os.sched_setaffinity(0, {0, 1})
area = bytearray(int(sys.argv[1]) << 20)
os.sched_setaffinity(0, {2, 3})
print("ready", flush=True)
step = 4 << 20
while True:
    for at in range(0, len(area), step):
        area.count(1, at, at + step)
        time.sleep(0.05)
"""


@pytest.fixture
def misplaced() -> Iterator[int]:
    """A process on node 1 with its memory on node 0, which the kernel leaves there."""
    before = BALANCING.read_text() if BALANCING.exists() else ""
    if before:
        BALANCING.write_text("0")
    child = subprocess.Popen([sys.executable, "-S", "-E", "-c", MISPLACED, str(MIB)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        if before:
            BALANCING.write_text(before)


def share(pid: int, node: int) -> float:
    """Return the part of a process's anonymous pages that is on a node, as numa_maps has it."""
    found: dict[int, int] = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if " anon=" in line:
            size = 2 << 20 if "kernelpagesize_kB=2048" in line else 4096
            for where, pages in re.findall(r" N(\d+)=(\d+)", line):
                found[int(where)] = found.get(int(where), 0) + int(pages) * size
    return found.get(node, 0) / sum(found.values())


def dna(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {"DNA_JOURNAL": str(folder / "journal"), "DNA_STORE": str(folder / "history.db"), "DNA_RULES": ""}
    return subprocess.run(
        [*DNA, *words], env={**os.environ, **own}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_memory_on_the_wrong_node_is_proposed_to_move_and_moves(compiled: None, misplaced: int, tmp_path: Path) -> None:
    assert share(misplaced, 0) > 0.8
    plan = tmp_path / "plan.json"
    words = ("--interval", "2", "--duration", "4", "--packs", "numa", "--out", str(plan), "--json")
    done = dna(tmp_path, "advise", "--pid", str(misplaced), *words)
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)
    told = {proposal["rule"]: proposal for proposal in advice["proposals"]}
    assert "numa.pages_follow_threads" in told, (advice["cannot_tell"], advice["dropped"])
    (setting,) = told["numa.pages_follow_threads"]["settings"]
    assert (setting["knob"], setting["value"], setting["state"]) == ("memory.placement", "1=1", "changes")
    assert share(misplaced, 0) > 0.8  # advice changes nothing
    applied = dna(tmp_path, "apply", str(plan), "--yes")
    assert applied.returncode == 0, applied.stderr
    assert share(misplaced, 1) > 0.9
    assert os.sched_getaffinity(misplaced) == {2, 3}
