"""What was learned, on real files: it comes back, several processes write at once, and whatever is wrong with a file is said."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.errors import LearnedDamagedError, LearnedError
from rl.learned import Begun, Learned
from rl.memory import Memory, default_path
from rl.memory_file import is_damaged, set_aside
from tests.rl.lessons import HERE, MACHINE, proof, sentence, trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "learned.db"


@pytest.fixture
def memory(path: Path) -> Iterator[Memory]:
    with Memory.open(path) as opened:
        yield opened


def test_what_was_learned_comes_back(memory: Memory) -> None:
    learned = Learned((trial(at=1.0), trial(at=2.0, gain=-0.3, interval=(-0.4, -0.2))), (proof(),), (sentence(),))
    assert memory.add(learned) == 4
    assert memory.read() == learned


@given(gain=st.floats(-5, 5), weight=st.floats(1e-3, 300), at=st.floats(0, 4e9), name=st.text(min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_trial_comes_back(
    tmp_path_factory: pytest.TempPathFactory, gain: float, weight: float, at: float, name: str
) -> None:
    one = trial(at=at, gain=gain, weight=weight, name=name)
    with Memory.open(tmp_path_factory.mktemp("any") / "learned.db") as memory:
        memory.add(Learned((one,)))
        assert memory.read().trials == (one,)


def test_the_same_is_stored_once(memory: Memory) -> None:
    learned = Learned((trial(),), (proof(),), (sentence(),))
    assert [memory.add(learned), memory.add(learned)] == [3, 0]
    assert memory.read() == learned


def test_only_what_can_be_compared_is_read(memory: Memory) -> None:
    other = replace(trial(), origin=replace(HERE, objective="energy"))
    memory.add(Learned((trial(), other, replace(trial(), origin=replace(HERE, model="another")))))
    assert memory.read(objective="energy").trials == (other,)
    assert memory.read(objective="throughput", model=HERE.model).trials == (trial(),)


def test_what_is_gone_is_removed_with_what_takes_its_place(memory: Memory) -> None:
    memory.add(Learned(proofs=(proof(gain=0.1),)))
    memory.add(Learned(proofs=(proof(gain=0.2),)), without=[proof(gain=0.1).key])
    assert memory.read().proofs == (proof(gain=0.2),)


def test_doubt_lasts(memory: Memory, path: Path) -> None:
    memory.add(Learned((trial(at=1.0), trial(at=2.0))))
    memory.fade([trial(at=1.0).key], 0.02)
    with Memory.open(path) as again:
        assert [one.share for one in again.read().trials] == [0.02, 1.0]


def test_the_oldest_trials_go_first(memory: Memory) -> None:
    memory.add(Learned(tuple(trial(at=float(n)) for n in range(10))))
    memory.prune(4)
    assert [one.at for one in memory.read().trials] == [6.0, 7.0, 8.0, 9.0]


def test_removing_leaves_no_trace_in_the_file(memory: Memory, path: Path) -> None:
    memory.add(Learned((trial(name="a-name-to-look-for"),)))
    assert memory.remove(memory.read()) == 1
    assert b"a-name-to-look-for" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def begun(boot: str, run: str = "r1", pid: int | None = None) -> Begun:
    return Begun(HERE, run, 5.0, boot, os.getpid() if pid is None else pid, "", (0.1,) * 16, "pin")


def test_a_trial_under_which_the_machine_went_down_is_told_once(memory: Memory) -> None:
    memory.begin(begun("one start"))
    assert memory.cut_off(MACHINE.identity, "one start") == ()
    assert memory.cut_off("another machine", "the next start") == ()
    assert memory.cut_off(MACHINE.identity, "the next start") == (begun("one start"),)
    assert memory.cut_off(MACHINE.identity, "the next start") == ()


def test_who_was_killed_in_this_start_is_not_suspected_after_the_next(memory: Memory) -> None:
    worker = multiprocessing.get_context("fork").Process(target=lambda: None)
    worker.start()
    worker.join()
    assert worker.pid is not None
    memory.begin(begun("one start", run="killed", pid=worker.pid))
    memory.begin(begun("one start", run="alive"))
    assert memory.cut_off(MACHINE.identity, "one start") == ()
    assert [one.run for one in memory.cut_off(MACHINE.identity, "the next start")] == ["alive"]


def test_a_trial_that_ended_is_not_told(memory: Memory) -> None:
    memory.begin(begun("one start"))
    memory.begin(begun("one start", run="r2"))
    memory.ended("r1", HERE)
    assert [one.run for one in memory.cut_off(MACHINE.identity, "the next start")] == ["r2"]


def test_file_and_folder_are_private(path: Path, memory: Memory) -> None:
    memory.add(Learned((trial(),)))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_where_it_is() -> None:
    assert default_path({"DNA_LEARNED": "/x/y.db"}) == Path("/x/y.db")
    assert default_path({"DNA_JOURNAL": "/x/journal"}) == Path("/x/learned.db")


def test_what_is_not_there_reads_as_empty_and_is_not_made(path: Path) -> None:
    with Memory.open(path, create=False) as memory:
        assert memory.read() == Learned()
    assert not path.exists()


# --- several at once, and killed


def _write(path: Path, number: int, count: int) -> None:
    with Memory.open(path, timeout_s=60) as memory:
        for one in range(count):
            memory.add(Learned((trial(at=float(one), run=f"run-{number}"),)))


def test_many_processes_write_at_once(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(path, number, 15)) for number in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 5
    with Memory.open(path) as memory:
        assert len(memory.read().trials) == 75


def _write_for_ever(path: Path) -> None:
    with Memory.open(path, timeout_s=60) as memory:
        for one in range(10**6):
            memory.add(Learned((trial(at=float(one)),)))


def test_who_is_killed_leaves_what_was_finished(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with Memory.open(path) as memory:
        for delay in (0.0, 0.01, 0.02):
            before = len(memory.read().trials)
            worker = context.Process(target=_write_for_ever, args=(path,))
            worker.start()
            deadline = time.monotonic() + 60
            while len(memory.read().trials) < before + 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(delay)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            memory.remove(Learned(memory.read().trials[:3]))
        assert len(memory.read().trials) >= 5
    assert not is_damaged(path)


def test_a_long_writer_is_said(path: Path, memory: Memory) -> None:
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with Memory.open(path, timeout_s=0.05) as hasty, pytest.raises(LearnedError, match="another process"):
            hasty.add(Learned((trial(),)))
    memory.add(Learned((trial(),)))


# --- what may be wrong with a file


def test_a_damaged_file_is_set_aside_with_its_log(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, and long enough to be told from an empty one" * 20)
    Path(f"{path}-wal").write_bytes(b"log")
    with pytest.raises(LearnedDamagedError, match="damaged"):
        Memory.open(path)
    aside = set_aside(path)
    assert aside is not None
    assert aside.read_bytes().startswith(b"this is no database")
    assert [file for file in path.parent.iterdir() if file != aside] == []
    with Memory.open(path) as memory:
        assert memory.read() == Learned()


def test_a_page_that_was_overwritten_is_found(path: Path) -> None:
    with Memory.open(path) as memory:
        memory.add(Learned(tuple(trial(at=float(n)) for n in range(200))))
    content = bytearray(path.read_bytes())
    assert not is_damaged(path)
    content[4096 * 8 : 4096 * 20] = b"\xff" * (4096 * 12)
    path.write_bytes(content)
    assert is_damaged(path)


def test_what_another_has_mended_meanwhile_stays(path: Path) -> None:
    with Memory.open(path) as memory:
        memory.add(Learned((trial(),)))
    assert set_aside(path) is None
    with Memory.open(path) as memory:
        assert memory.read().trials == (trial(),)


@pytest.mark.parametrize("column", ["vector", "arm", "offered"])
def test_a_cell_that_makes_no_sense_is_damage(path: Path, memory: Memory, column: str) -> None:
    memory.add(Learned((trial(),)))
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE trials SET {column} = 'nonsense'")
    with pytest.raises(LearnedDamagedError):
        memory.read()


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(LearnedError, match="another program"):
        Memory.open(path)


def test_a_newer_one_is_left_alone(path: Path) -> None:
    Memory.open(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LearnedError, match="schema 99"):
        Memory.open(path)


def test_no_room_is_said_and_what_was_stored_stays(path: Path, memory: Memory) -> None:
    memory.add(Learned((trial(),)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # The file system refuses to let any file grow, as one that is full does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
        with pytest.raises(LearnedError, match=r"room|disk"):
            memory.add(Learned(tuple(trial(at=float(n), name="x" * 400) for n in range(100))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert memory.read().trials == (trial(),)


def _read_only(path: Path, answers: Connection) -> None:
    if os.geteuid() == 0:  # who may write everywhere
        os.setgid(65534)
        os.setuid(65534)
    with Memory.open(path) as memory:
        answers.send(memory.read())
        try:
            memory.add(Learned((trial(at=9.0),)))
        except LearnedError as error:
            answers.send(str(error))


def test_what_may_not_be_written_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learned.db"
        with Memory.open(path) as memory:
            memory.add(Learned((trial(),)))
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        context = multiprocessing.get_context("fork")
        answers, theirs = context.Pipe()
        worker = context.Process(target=_read_only, args=(path, theirs))
        worker.start()
        worker.join(60)
        Path(folder).chmod(0o755)
        assert answers.poll(0)
        assert answers.recv() == Learned((trial(),))
        assert answers.poll(0)
        assert "read-only" in answers.recv()
