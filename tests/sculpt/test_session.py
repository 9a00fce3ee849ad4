"""A whole run on a real program: what it is worth comes from a file that the program writes; it ends as declared, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from dna.target import Target
from dna.vector import Interval
from hal.host import LinuxHost
from hal.journal import Journal
from rules import rule, s, w, when
from rules.rule import Rule, Yielded
from rules.situation import Workload
from sculpt.errors import SculptError
from sculpt.guard import Guard
from sculpt.records import find_run, read_run
from sculpt.session import KEEP, Asked, Ended, Wanted, recover, run
from sculpt.step import ADVISE, APPLY, Judged, Record

HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))
ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on"),
]
BUSY = "import hashlib\nwhile True: hashlib.sha256(bytes(65536)).digest()"


@pytest.fixture
def busy() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    yield process.pid
    process.kill()
    process.wait()


@rule(expect="throughput +20..40 %")
@when(w.demand.cores > 0.1)
def pin(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.affinity(workload, str(CPUS[0]))


def wanted(
    pid: int,
    folder: Path,
    *,
    mode: str = APPLY,
    duration_s: float = 12.0,
    on_exit: str = "restore",
    rules: tuple[Rule, ...] = (pin,),
) -> Wanted:
    asked = Asked(Target.pid(pid), mode, on_exit=on_exit)
    return Wanted(
        (asked,),
        0.3,
        duration_s,
        Guard(kill_switch=str(folder / "stop"), most_novelty=1e9),
        rules,
        command="test",
        own_limit=1.0,
    )


def worth(pid: int, factor: float = 1.5) -> Judged:
    """Return a reward that is higher while the process is pinned."""
    return Judged(factor if len(os.sched_getaffinity(pid)) == 1 else 1.0)


def go(request: Wanted, pid: int, folder: Path, records: list[Record]) -> Ended:
    def judge(_interval: Interval, _stall_s: float) -> Judged:
        return worth(pid)

    def watch(record: Record) -> None:
        records.append(record)
        if record.decision.event == "promoted":
            os.kill(os.getpid(), signal.SIGTERM)  # as from outside: it ends, however long it took on this machine

    journal = Journal(folder / "journal")
    return run(request, watchers=[watch], judge_of=lambda *_: judge, journal=journal, folder=folder / "runs")


def test_a_run_finds_keeps_and_restores(busy: int, tmp_path: Path) -> None:
    records: list[Record] = []
    ended = go(wanted(busy, tmp_path, duration_s=120), busy, tmp_path, records)
    assert ended.why == "stopped"
    assert "promoted" in {record.decision.event for record in records}
    assert os.sched_getaffinity(busy) == set(CPUS)
    kept = read_run(find_run(tmp_path / "runs"))
    assert len(kept.steps) == len(records)
    assert kept.end is not None
    assert any(step["decision"]["event"] == "promoted" for step in kept.steps)


def test_a_run_may_leave_what_it_kept(busy: int, tmp_path: Path) -> None:
    go(wanted(busy, tmp_path, duration_s=120, on_exit=KEEP), busy, tmp_path, [])
    assert os.sched_getaffinity(busy) == {CPUS[0]}
    assert recover(HOST, Journal(tmp_path / "journal"), tmp_path / "runs") == 0
    assert os.sched_getaffinity(busy) == {CPUS[0]}


def test_advice_changes_nothing(busy: int, tmp_path: Path) -> None:
    records: list[Record] = []
    ended = go(wanted(busy, tmp_path, mode=ADVISE, duration_s=4), busy, tmp_path, records)
    assert ended.why == "duration"
    assert ended.workloads[0].done is None
    assert records[-1].proposed
    assert os.sched_getaffinity(busy) == set(CPUS)


def test_the_target_ends(busy: int, tmp_path: Path) -> None:
    def end(_number: int, _frame: FrameType | None) -> None:
        os.kill(busy, signal.SIGKILL)
        os.waitid(os.P_PID, busy, os.WEXITED | os.WNOWAIT)

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(4)
    try:
        ended = go(wanted(busy, tmp_path, duration_s=60), busy, tmp_path, [])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert ended.why == "target"


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.sculpt.test_session import go, wanted
go(wanted({pid}, Path({folder!r}), duration_s=120), {pid}, Path({folder!r}), [])
"""


def test_what_a_killed_run_left_is_taken_back_by_the_next(busy: int, tmp_path: Path) -> None:
    code = KILLED.format(root=str(ROOT), pid=busy, folder=str(tmp_path))
    # A name on the command line, as the real one has: by it a run that still lives is told from a killed one.
    child = subprocess.Popen([sys.executable, "-c", code, "sculpt"])
    try:
        until = time.monotonic() + 60
        while os.sched_getaffinity(busy) != {CPUS[0]} and time.monotonic() < until:
            time.sleep(0.05)
        assert os.sched_getaffinity(busy) == {CPUS[0]}
        with pytest.raises(SculptError, match="another run"):
            recover(HOST, Journal(tmp_path / "journal"), tmp_path / "runs")
    finally:
        child.kill()
        child.wait()
    recover(HOST, Journal(tmp_path / "journal"), tmp_path / "runs")
    assert os.sched_getaffinity(busy) == set(CPUS)
