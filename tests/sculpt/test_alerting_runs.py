"""Alerts of the real loop on a real process: what it says of what befalls it is what is told, once."""

from __future__ import annotations

import math
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from dna.target import Target
from dna.vector import Interval
from hal.errors import HalError
from hal.journal import Journal
from rules.situation import Machine, Workload
from sculpt.alerts import NOTICE, WARNING, Alarms, Alert
from sculpt.guard import Guard
from sculpt.session import Wanted, run
from sculpt.step import ADVISE, Judged, Record
from sculpt.targets import Asked
from tests.sculpt.test_loop import World, promoted

CPUS = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


def told(records: Iterable[Record]) -> list[Alert]:
    alarms = Alarms()
    return [alert for record in records for alert in alarms.take(record)]


def rolled_back(record: Record) -> bool:
    return record.decision.event == "rolled back"


@pytest.mark.parametrize(("gain", "severity"), [(-1.0, WARNING), (-0.15, NOTICE)])
def test_what_is_worse_is_a_rollback_graver_where_it_is_far_worse(
    sleeper: int, tmp_path: Path, gain: float, severity: str
) -> None:
    records = World(sleeper, tmp_path, gain=gain).run(200, rolled_back)
    assert rolled_back(records[-1])
    (alert,) = told(records)
    assert (alert.kind, alert.severity) == ("rollback", severity)
    assert alert.text.endswith("; taken back")


@pytest.mark.slow
def test_what_pays_no_longer_is_a_grave_rollback(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.3)
    records = world.run(300, promoted)
    assert promoted(records[-1])
    world.gain = -0.3
    records += world.run(1000, rolled_back)
    assert rolled_back(records[-1])
    rollbacks = [alert for alert in told(records) if alert.kind == "rollback"]
    assert rollbacks[-1].severity == WARNING


def test_what_somebody_takes_over_is_lost_once(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.3)
    records = world.run(300, promoted)
    assert world.pinned
    os.sched_setaffinity(sleeper, {CPUS[1]})
    records += world.run(30)
    alerts = [alert for alert in told(records) if alert.kind == "lost"]
    assert len(alerts) == 1
    assert f"is {CPUS[1]}, and we set {CPUS[0]}" in alerts[0].text


def test_blindness_and_its_end(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.0)
    records = world.run(5)
    world.missing = True
    records += world.run(20)
    world.missing = False
    records += world.run(20)
    alerts = [alert for alert in told(records) if alert.kind == "blind"]
    assert [alert.severity for alert in alerts] == [WARNING, NOTICE]
    assert "back to the baseline" in alerts[0].text


def test_a_collapse_of_the_reward(sleeper: int, tmp_path: Path) -> None:
    class Falling(World):
        factor = 1.0

        def judge(self, interval: Interval, stall_s: float) -> Judged:
            judged = super().judge(interval, stall_s)
            return Judged(judged.reward * self.factor if judged.reward is not None else None)

    world = Falling(sleeper, tmp_path, gain=0.3)
    records = world.run(300, promoted) + world.run(40)
    world.factor = 0.2
    records += world.run(40)
    collapses = [alert for alert in told(records) if alert.kind == "collapse"]
    assert len(collapses) == 1
    assert "the reward has fallen to" in collapses[0].text


def test_rules_that_cannot_be_asked_are_told_once(sleeper: int, tmp_path: Path) -> None:
    world = World(sleeper, tmp_path, gain=0.0)

    def broken(_intervals: Sequence[Interval], _machine: Machine) -> Workload | None:
        raise HalError(f"/proc/{sleeper} cannot be read")

    world.loop.look = broken
    alerts = told(world.run(60))
    assert [alert.kind for alert in alerts] == ["trouble"]
    assert "could not be asked" in alerts[0].text


@pytest.mark.slow
def test_what_cannot_be_put_in_force_is_told_and_counted(sleeper: int, tmp_path: Path) -> None:
    guard = Guard(kill_switch=str(tmp_path / "stop"), most_changes=0)
    alerts = told(World(sleeper, tmp_path, gain=0.3, guard=guard).run(200))
    assert set(Counter(alert.kind for alert in alerts)) <= {"trouble", "rollback"}
    troubles = [alert for alert in alerts if alert.kind == "trouble"]
    assert "could not be put in force" in troubles[0].text
    assert len(troubles) <= 10


@pytest.mark.slow
def test_records_that_cannot_be_kept_are_told_and_the_run_goes_on(sleeper: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    records: list[Record] = []

    def judge(_interval: Interval, _stall_s: float) -> Judged:
        return Judged(1.0)

    judge_of: Callable[..., Callable[[Interval, float], Judged]] = lambda *_: judge  # noqa: E731
    wanted = Wanted((Asked(Target.pid(sleeper), ADVISE),), 0.3, 3.0)
    journal = Journal(tmp_path / "journal")
    ended = run(
        wanted, watchers=[records.append], judge_of=judge_of, journal=journal, folder=tmp_path / "file" / "runs"
    )
    assert ended.why == "duration"
    assert len(records) >= 3
    (alert,) = [alert for record in records for alert in record.raised or () if alert.kind == "trouble"]
    assert "no records are kept" in alert.text
    assert math.isfinite(alert.t)
