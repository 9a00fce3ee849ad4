"""Several real processes served by one run: one trial at a time, each with an end of its own, all left as declared, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dna.target import Target
from dna.vector import Interval
from hal.host import Host, LinuxHost
from hal.journal import Journal
from rl.decision import HOLD
from rules import rule, s, w, when
from rules.rule import Yielded
from rules.situation import Workload
from sculpt.errors import SculptError
from sculpt.guard import Guard
from sculpt.records import find_run, read_run
from sculpt.session import KEEP, RESTORE, Asked, Ended, Wanted, recover, run
from sculpt.step import APPLY, Judge, Judged, Record
from sculpt.watchers import Watchers

HOST = LinuxHost()
CPUS = sorted(os.sched_getaffinity(0))
ROOT = Path(__file__).parents[2]
needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")
# They sleep a little, so that two of them and the run itself find room on two CPUs.
PACED = "import hashlib, time\nwhile True:\n hashlib.sha256(bytes(2000000)).digest()\n time.sleep(0.005)"


@pytest.fixture
def pair() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    two = [subprocess.Popen([sys.executable, "-c", PACED]) for _ in range(2)]
    yield two[0], two[1]
    for process in two:
        process.kill()
        process.wait()


@rule(expect="throughput +20..40 %")
@when(w.demand.cores > 0.02)
def pin(workload: Workload) -> Iterator[Yielded]:
    """Why."""
    yield s.cpu.affinity(workload, str(CPUS[0]))


def is_pinned(pid: int) -> bool:
    return os.sched_getaffinity(pid) == {CPUS[0]}


def judge_of(asked: Asked, _host: Host) -> Judge:
    """Return a judge to whom a process is worth more while it is pinned."""
    pid = int(asked.target.value)

    def judge(_interval: Interval, _stall_s: float) -> Judged:
        try:
            return Judged(1.5 if is_pinned(pid) else 1.0)
        except ProcessLookupError:
            return Judged(None, "it ended")

    return judge


def wanted(folder: Path, *pids: int, on_exit: str = RESTORE, duration_s: float = 240.0) -> Wanted:
    asked = tuple(Asked(Target.pid(pid), APPLY, on_exit=on_exit) for pid in pids)
    return Wanted(
        asked,
        0.3,
        duration_s,
        Guard(kill_switch=str(folder / "stop"), most_novelty=1e9),
        (pin,),
        command="test",
        own_limit=1.0,
    )


def go(request: Wanted, folder: Path, *watchers: Callable[[Record], None]) -> Ended:
    return run(
        request,
        watchers=watchers,
        judge_of=judge_of,
        journal=Journal(folder / "journal"),
        folder=folder / "runs",
    )


class Until:
    """Ends the run as from outside once something was seen, or a long time is over."""

    def __init__(self, seen: Callable[[list[Record]], bool]) -> None:
        self.records: list[Record] = []
        self._seen = seen

    def __call__(self, record: Record) -> None:
        self.records.append(record)
        if self._seen(self.records):
            os.kill(os.getpid(), signal.SIGTERM)


def promoted(records: list[Record]) -> set[str]:
    return {record.workload for record in records if record.decision.event == "promoted"}


def keeping(records: list[Record]) -> set[str]:
    """Return who keeps something now: a loop of three lines seems to behave otherwise now and then, and is then judged anew."""
    latest = {record.workload: record.decision for record in records}
    return {name for name, decision in latest.items() if decision.state == HOLD and decision.arm.parts}


@pytest.mark.slow
@needs_two
def test_both_find_what_pays_one_trial_at_a_time(
    pair: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    until = Until(lambda records: len(promoted(records)) == 2)
    ended = go(wanted(tmp_path, *(one.pid for one in pair)), tmp_path, until)
    assert ended.why == "stopped"
    names = {left.workload for left in ended.workloads}
    assert len(names) == 2
    assert promoted(until.records) == names
    trying: set[str] = set()
    for record in until.records:
        event = record.decision.event
        trying = trying | {record.workload} if record.decision.state == "trial" else trying - {record.workload}
        assert len(trying) <= 1, f"two trials at a time after {event!r} of {record.workload}"
    assert not any(is_pinned(one.pid) for one in pair)
    kept = read_run(find_run(tmp_path / "runs"))
    assert set(kept.workloads) == names == {one["workload"] for one in kept.joined}
    assert {one["why"] for one in kept.left} == {"stopped"}
    assert kept.end is not None


@pytest.mark.slow
@needs_two
def test_one_that_ends_does_not_end_the_other(
    pair: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first, second = pair
    records: list[Record] = []

    def watch(record: Record) -> None:
        records.append(record)
        if len(records) == 8:
            first.kill()
            first.wait()
        alone = [one.workload for one in records[-4:]]
        if first.returncode is not None and len(alone) == 4 and len(set(alone)) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    ended = go(wanted(tmp_path, first.pid, second.pid), tmp_path, watch)
    assert [left.why for left in ended.workloads] == ["target", "stopped"]
    assert ended.why == "stopped"
    assert not is_pinned(second.pid)


@pytest.mark.slow
@needs_two
def test_what_is_kept_at_the_end_is_each_ones_own_declaration(
    pair: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first, second = pair
    request = wanted(tmp_path, first.pid, second.pid)
    kept = Asked(Target.pid(first.pid), APPLY, on_exit=KEEP)
    until = Until(lambda records: len(keeping(records)) == 2)
    go(Wanted((kept, request.targets[1]), 0.3, 240.0, request.guard, (pin,), own_limit=1.0), tmp_path, until)
    assert is_pinned(first.pid)
    assert not is_pinned(second.pid)
    assert recover(HOST, Journal(tmp_path / "journal"), tmp_path / "runs") == 0


KILLED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.sculpt.test_several import go, wanted
go(wanted(Path({folder!r}), *{pids!r}), Path({folder!r}))
"""


@pytest.mark.slow
@needs_two
def test_what_a_killed_run_left_of_several_is_taken_back_by_the_next(
    pair: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    pids = [one.pid for one in pair]
    code = KILLED.format(root=str(ROOT), pids=pids, folder=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code, "sculpt"])
    try:
        until = time.monotonic() + 180
        while not all(is_pinned(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.05)
        assert all(is_pinned(pid) for pid in pids)
    finally:
        child.kill()
        child.wait()
    assert recover(HOST, Journal(tmp_path / "journal"), tmp_path / "runs") >= 2
    assert not any(is_pinned(pid) for pid in pids)


def test_targets_with_a_process_in_common_are_refused(tmp_path: Path) -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(SculptError, match="in common"):
            go(wanted(tmp_path, parent.pid, child), tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_a_watcher_that_raises_is_told_of_once_and_ends_nothing() -> None:
    heard: list[object] = []

    def broken(_record: Record) -> None:
        raise ValueError("a full pipe")

    watchers = Watchers([broken, heard.append])
    for number in range(3):
        watchers.tell(number)  # type: ignore[arg-type]
    assert heard == [0, 1, 2]
    assert [one.partition(" cannot")[2] for one in watchers.failures()] == [
        " be told of steps: ValueError: a full pipe"
    ]
    watchers.tell(3)  # type: ignore[arg-type]
    assert watchers.failures() == ()


def test_the_bell_is_heard_from_another_thread_and_after_its_end() -> None:
    from sculpt.bell import Bell

    with Bell() as bell:
        assert not bell.wait(0.0)
        threading.Timer(0.05, bell.ring).start()
        assert not bell.wait(60.0)
        threading.Timer(0.05, bell.stop).start()
        while not bell.wait(60.0):
            pass
    bell.stop()  # a late caller harms nobody
