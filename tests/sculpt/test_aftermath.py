"""What is left of a run: whether it goes on, what of it stands, and the list of runs, from real records, journals and processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hal.host import LinuxHost
from hal.journal import Journal
from hal.planning import machine_id
from hal.processes import start_of
from hal.settings import Setting, tree
from hal.undo import undo
from sculpt.actuator import Actuator
from sculpt.aftermath import Standing, is_there, standing_of
from sculpt.candidates import Candidate, Layer
from sculpt.listing import briefs
from sculpt.records import Log, is_going
from tests.sculpt.telling import END, HEAD, START, lines, step

HOST = LinuxHost()
RUN = "20260922-101500-4242"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process
        process.kill()


def standing(journal: Journal, run: str = RUN) -> tuple[Standing, ...]:
    return standing_of(run, journal.transactions(), machine_id(HOST), partial(is_there, HOST))


def test_what_stands_is_named_until_it_is_taken_back(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    start = start_of(HOST, sleeper.pid)
    assert start is not None
    journal = Journal(tmp_path)
    setting = Setting("cpu.nice", tree(sleeper.pid, start), 5)
    Actuator(HOST, journal, f"sculpt {RUN} sleep").put(Candidate((Layer("later", (setting,)),)))
    (one,) = standing(journal)
    assert one.title == "sleep: later"
    assert one.settings == (f"cpu.nice of thread {sleeper.pid} = 5",)
    assert (one.is_exact, one.is_of_this_boot, one.is_gone) == (True, True, False)
    assert standing(journal, "20260922-101500-4") == (), "another run, whose name is the beginning of this one's"
    elsewhere = replace(machine_id(HOST), boot_id="another")
    assert [found.is_of_this_boot for found in standing_of(RUN, journal.transactions(), elsewhere, lambda _: True)] == [
        False
    ]
    undo(HOST, journal, one.identity)
    assert standing(journal) == ()
    assert os.getpriority(os.PRIO_PROCESS, sleeper.pid) == 0


def test_what_stood_on_a_process_that_has_ended_is_gone_with_it(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    start = start_of(HOST, sleeper.pid)
    assert start is not None
    journal = Journal(tmp_path)
    setting = Setting("cpu.nice", tree(sleeper.pid, start), 5)
    Actuator(HOST, journal, f"sculpt {RUN} sleep").put(Candidate((Layer("later", (setting,)),)))
    sleeper.kill()
    sleeper.wait()
    assert [one.is_gone for one in standing(journal)] == [True]


_WRITER = """
import sys, time
from pathlib import Path
from sculpt.records import Log
log = Log(Path(sys.argv[1]), {})
print(log.path, flush=True)
time.sleep(300)
"""


def test_a_run_goes_on_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    log = Log(tmp_path / "own", {})
    assert is_going(log.path)
    log.close({"why": "duration"})
    assert not is_going(log.path)
    assert not is_going(tmp_path / "nowhere")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "runs")]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        path = Path(writer.stdout.readline().strip())
        assert is_going(path)
        assert [one.going for one in briefs(tmp_path / "runs")] == [True]
        writer.kill()
        writer.wait()
    assert not is_going(path)
    assert [(one.going, one.why) for one in briefs(tmp_path / "runs")] == [(False, None)]


def test_runs_are_listed_from_their_ends_only(tmp_path: Path) -> None:
    steps = [step(number) for number in range(2000)]
    (tmp_path / "a.jsonl").write_text("".join(lines(*steps, END)))
    joined = [{"joined": {"workload": name, "mode": "advise"}} for name in ("web", "db")]
    (tmp_path / "b.jsonl").write_text("".join(lines(*joined, step(3))) + '{"t": 17')
    (tmp_path / "c.jsonl").write_text("")
    (tmp_path / "d.jsonl").write_bytes(b"\xff\x00\n[1]\n")
    (tmp_path / "e.jsonl").write_text(json.dumps(HEAD))
    found = {one.identity: one for one in briefs(tmp_path)}
    assert (found["a"].workload, found["a"].mode, found["a"].why) == ("walker", "apply", "duration")
    assert (found["a"].began, found["a"].last) == (START - 2, START + 2 * 1999)
    assert (found["b"].workload, found["b"].why) == ("web, db", None)
    assert {found[name].trouble for name in "cd"} == {"no record of a run"}
    assert (found["e"].workload, found["e"].began, found["e"].trouble) == ("walker", None, "")
    assert briefs(tmp_path / "nowhere") == ()
