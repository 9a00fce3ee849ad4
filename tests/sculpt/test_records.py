"""Records of a long run: what happens is written whole, what does not is thinned, and the story of it stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.decision import HOLD, Decision
from rl.policy import BASELINE, Arm
from sculpt import records
from sculpt.actuator import Done
from sculpt.candidates import Candidate
from sculpt.records import Log, read_run
from sculpt.step import Judged, Record
from sculpt.story import tell

STEPS, WHOLE, INTERVAL_S = 400, 20, 5.0


def record(number: int, *, event: str = "", reward: float | None = 100.0, workload: str = "redis") -> Record:
    decision = Decision(Arm(BASELINE), HOLD, "why", event)
    return Record(
        1_790_000_000.0 + INTERVAL_S * number,
        workload,
        BASELINE,
        Judged(reward, "" if reward else "gone"),
        decision,
        Done(Candidate()),
        interval_s=INTERVAL_S,
    )


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "WHOLE", WHOLE)
    log = Log(tmp_path, {"interval_s": INTERVAL_S, "mode": "apply"})
    for number in range(STEPS):
        event = "phase" if number == 201 else ""
        log.add(record(number, event=event, reward=None if number == 301 else 100.0))
    log.close({"why": "duration", "in_force": BASELINE, "on_exit": "restore"})
    return log.path


def test_what_happens_is_written_and_the_rest_is_thinned(long_run: Path) -> None:
    steps = read_run(long_run).steps
    assert len(steps) < STEPS / 2
    assert [step["decision"]["event"] for step in steps].count("phase") == 1
    assert [step["reward"] for step in steps].count(None) == 1
    assert all("held" in step for step in steps[:WHOLE])


def test_its_story_has_no_gaps_and_all_of_its_time(long_run: Path) -> None:
    told = tell(long_run.read_text().splitlines()).workloads[0]
    assert told.counts.get("gaps", 0) == 0
    assert told.seconds["all"] == pytest.approx(STEPS * INTERVAL_S, rel=0.02)


def test_each_workload_is_thinned_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "WHOLE", 0)
    log = Log(tmp_path, {})
    for number in range(100):
        log.add(record(number, workload="a"))
        log.add(record(number, workload="b"))
    log.close({})
    names = [step["workload"] for step in read_run(log.path).steps]
    assert names.count("a") == names.count("b") == 100 // records.EVERY
