"""What a killed run left in force is known as such, whoever has its process id now, and one undo takes all of it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.apply import apply
from hal.host import LinuxHost
from hal.journal import Journal
from hal.planning import make_plan
from hal.processes import start_of
from hal.settings import Setting, tree
from sculpt.errors import SculptError
from sculpt.recovery import left_by_killed, recover

HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


def change(
    pid: int, journal: Journal, knob: str, value: str | int, title: str = "sculpt 20260101-000000-1 x: y"
) -> str:
    start = start_of(HOST, pid)
    assert start is not None
    plan = make_plan(HOST, [Setting(knob, tree(pid, start), value)], title=title, ours=journal.standing())
    return apply(plan, HOST, journal).identity


def say_it_was(pid: int, journal: Journal, identity: str) -> None:
    """Have the journal say that another process made a transaction."""
    path = journal.folder / f"{identity}.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), "pid": pid}), *rest, ""]))


def test_a_run_with_our_own_process_id_is_a_killed_one(sleeper: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    made = [change(sleeper, journal, "cpu.affinity", str(CPUS[0])), change(sleeper, journal, "cpu.nice", 3)]
    left = left_by_killed(HOST, journal, tmp_path / "runs")
    assert [one.identity for one in left] == made[::-1]
    assert recover(HOST, journal, tmp_path / "runs") == 2
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_a_run_whose_process_id_is_anothers_by_now_is_a_killed_one(sleeper: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    identity = change(sleeper, journal, "cpu.affinity", str(CPUS[0]))
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "sculpt"])
    try:
        say_it_was(other.pid, journal, identity)
        path = journal.folder / f"{identity}.jsonl"
        assert '"ticks"' in path.read_text()
        start = start_of(HOST, other.pid)
        began = journal.find(identity).began
        assert start is not None
        if start <= began:  # within one tick of each other
            path.write_text(path.read_text().replace(f'"ticks": {began}', f'"ticks": {start - 1}'))
        assert recover(HOST, journal, tmp_path / "runs") == 1
    finally:
        other.kill()
        other.wait()
    assert os.sched_getaffinity(sleeper) == set(CPUS)


def test_a_run_that_lives_is_in_the_way(sleeper: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "sculpt"])
    try:
        identity = change(sleeper, journal, "cpu.affinity", str(CPUS[0]))
        while b"sculpt" not in Path(f"/proc/{other.pid}/cmdline").read_bytes():
            pass  # between fork and exec it has our own name
        say_it_was(other.pid, journal, identity)
        with pytest.raises(SculptError, match="another run"):
            recover(HOST, journal, tmp_path / "runs")
        assert left_by_killed(HOST, journal, tmp_path / "runs") == []
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
def test_one_undo_takes_back_all_that_a_killed_run_left(sleeper: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    by_hand = change(sleeper, journal, "cpu.policy", "batch", title="by hand")
    made = [change(sleeper, journal, "cpu.affinity", str(CPUS[0])), change(sleeper, journal, "cpu.nice", 3)]
    for identity in made:
        say_it_was(2**22 - 3, journal, identity)
    environment = {**os.environ, "DNA_JOURNAL": str(journal.folder), "DNA_SCULPT": str(tmp_path / "runs")}
    command = [sys.executable, str(ROOT / "cli.py"), "undo", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [one["id"] for one in json.loads(done.stdout)] == made[::-1]
    assert os.sched_getaffinity(sleeper) == set(CPUS)
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == 0
    assert [one.identity for one in journal.unfinished()] == [by_hand]  # that nobody asked to take back
