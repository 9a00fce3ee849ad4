"""Retention of the journal: undo does with it what it would do without, kills and full disks lose nothing, readers beside it see all."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal import journal as log
from hal.apply import apply
from hal.errors import JournalError, RefusedError
from hal.fake import FakeHost
from hal.journal import CLOSED, MERGED, Journal
from hal.planning import make_plan
from hal.retention import Limits, retain
from hal.settings import SYSTEM, MachineId, Plan, Setting, Subject, thread
from hal.undo import undo
from tests.hal.knobs.machine import furnished, snapshot

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
LITTLE = Limits(files=2, slack=0, age_s=60)
LATER = 1e12
"""Seconds since the epoch by when everything is old."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


def task(host: FakeHost) -> Subject:
    tid = min(host.tasks)
    return thread(tid, host.tasks[tid].start)


def change(host: FakeHost, journal: Journal, knob: str, value: object) -> str:
    """Set something on the machine; return the transaction, empty where it was so already."""
    subject = task(host) if knob == "cpu.nice" else SYSTEM
    plan = make_plan(host, [Setting(knob, subject, value)], ours=journal.standing())  # type: ignore[arg-type]
    return apply(plan, host, journal).identity


def flip(host: FakeHost, journal: Journal, value: int = 3) -> str:
    identity = change(host, journal, "cpu.nice", value)
    undo(host, journal, identity)
    return identity


def kill_before_anything(host: FakeHost, journal: Journal) -> str:
    """Begin a transaction as an applier does that is killed at once."""
    return journal.begin(make_plan(host, [Setting("cpu.nice", task(host), 9)]))[0]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("nice"), st.integers(-5, 5)),
        st.tuples(st.just("swappiness"), st.integers(0, 100)),
        st.tuples(st.just("undo"), st.integers(0, 9)),
        st.tuples(st.just("killed"), st.just(0)),
        st.tuples(st.just("boot"), st.just(0)),
    ),
    min_size=1,
    max_size=14,
)


def play(host: FakeHost, journal: Journal, steps: list[tuple[str, int]]) -> list[str]:
    """Change this and that and take some of it back, as users do; return all transactions."""
    made: list[str] = []
    for what, number in steps:
        if what == "undo" and made:
            try:
                undo(host, journal, made[number % len(made)])
            except RefusedError:
                continue  # changed again since
        elif what == "killed":
            made.append(kill_before_anything(host, journal))
        elif what == "boot":
            host.files["/proc/sys/kernel/random/boot_id"] = f"boot{len(made)}\n"
        elif what in ("nice", "swappiness"):
            knob = {"nice": "cpu.nice", "swappiness": "memory.swappiness"}[what]
            made += [one for one in [change(host, journal, knob, number)] if one]
    return made


def told(host: FakeHost, journal: Journal, identity: str) -> object:
    """Undo; return what that says."""
    try:
        return undo(host, journal, identity)
    except (RefusedError, JournalError) as error:
        return str(error)


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@given(STEPS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_retention_never_changes_what_undo_does(steps: list[tuple[str, int]], files: int, draw: object) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        host, kept = furnished(), Journal(Path(name) / "kept")
        made = play(host, kept, steps)
        kept._make()
        shutil.copytree(kept.folder, Path(name) / "merged")
        merged = Journal(Path(name) / "merged")
        retain(merged, replace(LITTLE, files=files), now=LATER)
        assert merged.standing() == kept.standing()
        assert merged.unfinished() == kept.unfinished()
        twin = furnished()
        play(twin, Journal(Path(name) / "twin"), steps)
        assert snapshot(twin) == snapshot(host)
        draw.shuffle(made)  # type: ignore[attr-defined]
        for identity in made:
            assert told(host, merged, identity) == told(twin, kept, identity)
            assert snapshot(host) == snapshot(twin)
        assert {one.identity for one in [*merged.earlier(), *merged.transactions()]} == set(made)


def test_only_what_is_old_and_closed_is_merged(folder: Path) -> None:
    host, journal = furnished(), Journal(folder)
    standing = change(host, journal, "memory.swappiness", 7)
    killed = kill_before_anything(host, journal)
    old = [flip(host, journal) for _ in range(3)]
    newest = [flip(host, journal) for _ in range(2)]
    assert retain(journal, LITTLE) == 0  # closed just now
    assert retain(journal, LITTLE, now=LATER) == 3
    assert [one.identity for one in journal.transactions()] == [standing, killed, *newest]
    found = journal.earlier()
    assert [one.identity for one in found] == old
    assert {(one.state, one.merged) for one in found} == {(CLOSED, 1)}
    assert journal.find(old[0][:-1]).title == found[0].title
    assert retain(journal, LITTLE, now=LATER) == 0
    undo(host, journal, standing)
    assert retain(journal, LITTLE, now=LATER) == 1


def test_a_kill_at_any_point_of_merging_loses_nothing(folder: Path) -> None:
    host, journal = furnished(), Journal(folder / "whole")
    made = [flip(host, journal) for _ in range(5)]
    whole = {path.name: path.read_bytes() for path in journal.folder.iterdir() if path.name != "lock"}
    before = journal.transactions()
    assert retain(journal, LITTLE, now=LATER) == 3
    line = (journal.folder / MERGED).read_bytes()
    # What a kill leaves is the line in part, and then files that are gone one by one.
    for cut in range(0, len(line), 37):
        again = Journal(folder / f"line{cut}")
        _furnish(again.folder, {**whole, MERGED: line[:cut]})
        _is_whole(again, made)
        assert again.transactions() == before
        assert retain(again, LITTLE, now=LATER) == 3
        _is_whole(again, made)
    for gone in range(4):
        again = Journal(folder / f"gone{gone}")
        _furnish(again.folder, {**dict(sorted(whole.items())[gone:]), MERGED: line})
        _is_whole(again, made)
        retain(again, LITTLE, now=LATER)
        _is_whole(again, made)


def _furnish(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _is_whole(journal: Journal, made: list[str]) -> None:
    assert [one.identity for one in [*journal.earlier(), *journal.transactions()]] == made
    assert all(journal.find(identity).state == CLOSED for identity in made)


def test_what_is_forgotten_is_the_older_half(folder: Path) -> None:
    host, journal = furnished(), Journal(folder)
    made = [flip(host, journal) for _ in range(12)]
    retain(journal, replace(LITTLE, most_bytes=100), now=LATER)
    assert [one.identity for one in journal.earlier()] == made[5:10]
    with pytest.raises(JournalError, match="no transaction"):
        journal.find(made[0])
    assert not list(folder.glob("*.new"))


def test_a_journal_without_room_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    host, journal = furnished(), Journal(folder)
    made = [flip(host, journal) for _ in range(5)]
    (folder / MERGED).symlink_to("/dev/full")  # never followed: what a stranger could put there is not written to
    assert retain(journal, LITTLE, now=LATER) == 0
    assert [one.identity for one in journal.transactions()] == made
    assert undo(host, journal, change(host, journal, "cpu.nice", 4)).restored


def test_a_damaged_file_is_left_for_people_to_see(folder: Path) -> None:
    host, journal = furnished(), Journal(folder)
    made = [flip(host, journal) for _ in range(5)]
    (folder / f"{made[0]}.jsonl").write_bytes(b'{"is":"begin"}\n{"is":"closed"}\n')
    assert retain(journal, LITTLE, now=LATER) == 2
    assert (folder / f"{made[0]}.jsonl").exists()


def test_readers_beside_merging_always_see_everything(folder: Path) -> None:
    host, journal = furnished(), Journal(folder)
    made = [flip(host, journal) for _ in range(60)]
    wrong: list[object] = []
    over = threading.Event()

    def look() -> None:
        mine = Journal(folder)
        while not over.is_set():
            files = mine.transactions()
            seen = {one.identity for one in [*files, *mine.earlier()]}
            wrong.extend(set(made) - seen)
            try:
                mine.find(made[0])
            except JournalError as error:
                wrong.append(error)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for files in range(58, 0, -2):
        retain(journal, replace(LITTLE, files=files), now=LATER)
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(journal.earlier()) == 58


def test_ids_tell_what_was_later_when_the_clock_is_set_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, journal = furnished(), Journal(folder)
    before = snapshot(host)
    first = change(host, journal, "memory.swappiness", 7)
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    second = change(host, journal, "memory.swappiness", 8)
    assert second > first
    with pytest.raises(RefusedError, match="changed again"):
        undo(host, journal, first)
    for transaction in journal.unfinished()[::-1]:
        assert undo(host, journal, transaction.identity).restored
    assert snapshot(host) == before


def test_applying_and_undoing_tidy_by_themselves(folder: Path) -> None:
    host, journal = furnished(), Journal(folder)
    plan = Plan(changes=(), machine=MachineId("fake", "b00t"), created=0.0, title="long ago")
    first, writer = journal.begin(plan)
    writer.append({**log.note("closed"), "at": time.time() - 86_400})
    content = (folder / f"{first}.jsonl").read_bytes()
    for number in range(604):  # as a run of some hours leaves them, a day ago
        (folder / f"{log.new_id(1e9 + number)}.jsonl").write_bytes(content)
    identity = change(host, journal, "cpu.nice", 5)
    assert len(journal.paths()) == 200
    assert len(journal.earlier()) == 406
    assert undo(host, journal, identity).restored
