"""The history on real files, and everything that can be wrong with one."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dna.database import Layout, Step, upgrade
from dna.errors import NoSuchProfileError, StoreError, StoreTooNewError
from dna.export import to_json
from dna.schema import LAYOUT
from dna.store import Store, default_path, new_id
from dna.vector import Profile
from tests.dna.profiles import START, make_profile, profiles

VECTOR = [0.5] * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        yield opened


def test_what_is_saved_comes_back(store: Store) -> None:
    row: dict[str, float | None] = {"syscall.file_share": 0.25, "cpu.ipc": None}
    profile = make_profile([row] * 3, name="web", vector=VECTOR)
    identity = store.save(profile)
    back = store.get(identity)
    assert to_json(back) == to_json(profile) | {"id": identity}


@pytest.mark.long
@given(profile=profiles)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_profile_comes_back(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> None:
    with Store.open(tmp_path_factory.mktemp("any") / "history.db") as store:
        identity = store.save(profile)
        assert to_json(store.get(identity)) == to_json(profile) | {"id": identity}


def test_saving_again_replaces(store: Store) -> None:
    identity = store.save(make_profile([{"cpu.ipc": 1.0}] * 5, name="first"))
    assert store.save(make_profile([{"cpu.ipc": 2.0}], identity=identity, name="second")) == identity
    assert [(s.name, s.intervals) for s in store.profiles()] == [("second", 1)]
    assert len(store.get(identity).intervals) == 1


def test_the_list_is_latest_first_with_typical_values(store: Store) -> None:
    rows: list[dict[str, float | None]] = [{"cpu.ipc": value} for value in (1.0, 3.0, 2.0, None)]
    store.save(make_profile(rows, name="old", vector=VECTOR))
    store.save(make_profile(name="new", started=START + 100))
    new, old = store.profiles()
    assert (new.name, old.name) == ("new", "old")
    assert old.features == {"cpu.ipc": 2.0}
    assert (old.intervals, old.duration_s) == (4, 20.0)
    assert old.dna is not None
    assert old.dna.vector.tolist() == VECTOR
    assert new.dna is None


def test_file_and_directory_are_private(path: Path, store: Store) -> None:
    store.save(make_profile())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = sorted(path.parent.iterdir())
    assert path in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_log_is_written_ahead(path: Path, store: Store) -> None:
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("reference", ["last", "last~0", "~0", "b", "web", "web~0"])
def test_references_to_the_latest(store: Store, reference: str) -> None:
    for i in range(3):
        store.save(make_profile(name="web", started=START + i * 60))
    latest = store.profiles()[0]
    assert store.find(latest.id[:8] if reference == "b" else reference).id == latest.id


def test_references_to_earlier_ones(store: Store) -> None:
    names = ["web", "db", "web", "db"]
    ids = [store.save(make_profile(name=name, started=START + i * 60)) for i, name in enumerate(names)]
    assert store.find("last~1").id == store.find("~1").id == ids[2]
    assert store.find("web").id == ids[2]
    assert store.find("web~1").id == ids[0]
    assert store.find(ids[1]).id == store.find(ids[1].upper()).id == ids[1]


def test_a_name_goes_before_a_prefix(store: Store) -> None:
    first = store.save(make_profile())
    named = store.save(make_profile(name=first[:5], started=START + 60))
    assert store.find(first[:5]).id == named


@pytest.mark.parametrize("reference", ["nothing", "last~9", "~9", "web~9", "", "%", "zz"])
def test_a_reference_to_nothing_says_so(store: Store, reference: str) -> None:
    store.save(make_profile(name="web"))
    with pytest.raises(NoSuchProfileError) as caught:
        store.find(reference)
    assert "dna list" in caught.value.remedy


def test_an_ambiguous_prefix_lists_what_it_could_be(store: Store) -> None:
    ids = [store.save(make_profile(identity=f"abc{i}")) for i in range(2)]
    with pytest.raises(NoSuchProfileError) as caught:
        store.find("abc")
    assert all(identity in str(caught.value) for identity in ids)


def test_forgetting_leaves_nothing_in_the_files(path: Path, store: Store) -> None:
    secret = "a-command-line-nobody-should-find"
    identity = store.save(make_profile(name=secret))
    kept = store.save(make_profile(name="kept", started=START + 60))
    assert store.forget([identity]) == 1
    assert [s.id for s in store.profiles()] == [kept]
    assert not any(secret.encode() in file.read_bytes() for file in path.parent.iterdir())
    assert store.forget([identity]) == 0


def test_forgetting_gives_space_back(path: Path, store: Store) -> None:
    for i in range(30):
        rows: list[dict[str, float | None]] = [{f"x.{j}": j * 1.1 + i for j in range(50)}] * 20
        store.save(make_profile(rows, started=START + i))
    store._shrink()
    before = path.stat().st_size
    store.forget([s.id for s in store.started_before(START + 1e6)])
    assert path.stat().st_size < before / 2


def test_started_before(store: Store) -> None:
    ids = [store.save(make_profile(started=START + i * 100)) for i in range(3)]
    assert [s.id for s in store.started_before(START + 150)] == [ids[1], ids[0]]


def test_named_profiles_of_the_model_are_entries_for_a_library(store: Store) -> None:
    store.save(make_profile(name="web", vector=VECTOR))
    store.save(make_profile(vector=VECTOR))
    store.save(make_profile(name="other", vector=VECTOR, model="model-2"))
    store.save(make_profile(name="without"))
    assert [entry.label for entry in store.entries("model-1")] == ["web"]


@given(st.lists(st.integers(0, 4_000_000_000), min_size=2, max_size=8))
def test_ids_sort_by_time_and_are_short(starts: list[int]) -> None:
    ids = [new_id(start) for start in sorted(set(starts))]
    assert ids == sorted(ids)
    assert {len(identity) for identity in ids} == {9}


def test_many_in_one_second_get_different_ids(store: Store) -> None:
    assert len({store.save(make_profile()) for _ in range(100)}) == 100


# --- where it is


@pytest.mark.parametrize(
    ("environment", "euid", "expected"),
    [
        ({"DNA_STORE": "/a/b.db", "HOME": "/h"}, 0, "/a/b.db"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, 1000, "/s/workload-dna/history.db"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, 1000, "/h/.local/state/workload-dna/history.db"),
        ({"HOME": "/h"}, 1000, "/h/.local/state/workload-dna/history.db"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, 0, "/var/lib/workload-dna/history.db"),
    ],
)
def test_the_default_place(environment: dict[str, str], euid: int, expected: str) -> None:
    assert default_path(environment, euid=euid) == Path(expected)


def test_without_a_home_it_asks_for_a_place() -> None:
    with pytest.raises(StoreError, match="HOME") as caught:
        default_path({}, euid=1000)
    assert "DNA_STORE" in caught.value.remedy


def test_reading_a_history_that_is_not_there_makes_nothing(path: Path) -> None:
    with Store.open(path, create=False) as store:
        assert store.profiles() == []
    assert not path.parent.exists()


# --- versions


def _second(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE profiles ADD COLUMN note TEXT NOT NULL DEFAULT 'none yet'")


def _broken(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE profiles ADD COLUMN half TEXT")
    raise sqlite3.OperationalError("the step failed")


def later(*steps: Step) -> Layout:
    return replace(LAYOUT, steps=(*LAYOUT.steps, *steps))


def test_an_older_history_is_upgraded_and_keeps_its_profiles(path: Path) -> None:
    with Store.open(path) as store:
        identity = store.save(make_profile(name="kept"))
    with Store.open(path, layout=later(_second)) as newer:
        assert newer.get(identity).name == "kept"
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (len(LAYOUT.steps) + 1,)
    assert raw.execute("SELECT note FROM profiles").fetchone() == ("none yet",)


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    with Store.open(path) as store:
        store.save(make_profile(name="kept"))
    with pytest.raises(StoreError):
        Store.open(path, layout=later(_second, _broken))
    columns = [row[1] for row in sqlite3.connect(path).execute("PRAGMA table_info(profiles)")]
    assert "note" not in columns
    assert "half" not in columns
    with Store.open(path) as store:
        assert store.find("kept").intervals == 1


def test_an_upgrade_runs_each_step_once(tmp_path: Path) -> None:
    seen: list[int] = []
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)

    def step(number: int) -> Step:
        return lambda _: seen.append(number)

    layout = Layout(1, tuple(step(number) for number in range(3)))
    upgrade(connection, replace(layout, steps=layout.steps[:2]))
    upgrade(connection, layout)
    upgrade(connection, layout)
    assert seen == [0, 1, 2]


def test_a_history_of_a_newer_version_is_left_alone(path: Path) -> None:
    Store.open(path, layout=later(_second)).close()
    with pytest.raises(StoreTooNewError, match="schema") as caught:
        Store.open(path)
    assert "Upgrade" in caught.value.remedy


# --- what can be wrong


def _one_line_with_remedy(error: StoreError) -> None:
    assert "\n" not in str(error)
    assert error.remedy
    assert "\n" not in error.remedy


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and not a database at all\n" * 100)
    with pytest.raises(StoreError, match="not a history") as caught:
        Store.open(path)
    _one_line_with_remedy(caught.value)
    assert path.read_text().startswith("these are my notes")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program") as caught:
        Store.open(path)
    _one_line_with_remedy(caught.value)
    assert [row[0] for row in sqlite3.connect(path).execute("SELECT name FROM sqlite_master")] == ["theirs"]


def test_damaged_pages(path: Path) -> None:
    with Store.open(path) as store:
        for i in range(20):
            store.save(make_profile([{f"x.{j}": float(j) for j in range(99)}] * 9, started=START + i))
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught, Store.open(path) as store:
        store.get("last")
    _one_line_with_remedy(caught.value)


def test_a_damaged_interval(path: Path) -> None:
    with Store.open(path) as store:
        store.save(make_profile())
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE intervals SET body = x'00'")
    with Store.open(path) as store, pytest.raises(StoreError, match="damaged") as caught:
        store.get("last")
    _one_line_with_remedy(caught.value)


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    _one_line_with_remedy(caught.value)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_where_the_directory_should_be(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "file" / "history.db", create=create)
    _one_line_with_remedy(caught.value)


def test_locked_by_another_writer(path: Path, store: Store) -> None:
    store.save(make_profile(name="before"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with Store.open(path, timeout_s=0.05) as second:
            assert [s.name for s in second.profiles()] == ["before"]
            with pytest.raises(StoreError, match="another process") as caught:
                second.save(make_profile())
        _one_line_with_remedy(caught.value)
    finally:
        other.execute("ROLLBACK")
    store.save(make_profile(name="after", started=START + 60))
    assert [s.name for s in store.profiles()] == ["after", "before"]


def _save_at_once(path: Path, barrier: Barrier) -> None:
    barrier.wait()
    with Store.open(path) as store:
        store.save(make_profile())


@pytest.mark.long
def test_many_processes_may_begin_a_history_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        path, barrier = tmp_path / str(attempt) / "history.db", context.Barrier(6)
        children = [context.Process(target=_save_at_once, args=(path, barrier)) for _ in range(6)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 6
        with Store.open(path) as store:
            assert len(store.profiles()) == 6


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow past 64 KiB, as on a full disk (the write fails with EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def _incompressible(intervals: int) -> list[dict[str, float | None]]:
    return [{f"x.{j}": int.from_bytes(os.urandom(6)) / 7 for j in range(100)} for _ in range(intervals)]


def test_no_room_keeps_what_was_there(path: Path, store: Store, small_files: None) -> None:
    store.save(make_profile(name="before"))
    with pytest.raises(StoreError, match="no room") as caught:
        store.save(make_profile(_incompressible(200), name="too big", started=START + 60))
    _one_line_with_remedy(caught.value)
    assert [s.name for s in store.profiles()] == ["before"]
    assert len(store.get("before").intervals) == 1


def _try(path: Path, create: bool) -> str:
    """Read and write a history, and say in lines what happened."""
    said = []
    try:
        with Store.open(path, create=create) as store:
            said.append(f"read {[s.name for s in store.profiles()]}")
            store.save(make_profile())
    except StoreError as error:
        said.append(f"{type(error).__name__} {error.exit_code} {bool(error.remedy)} {error}")
    return "\n".join(said)


def _as_nobody(path: Path, *, create: bool = True) -> list[str]:
    """Do ``_try`` in a child without privilege (a fork: nobody may not be able to reach this Python)."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writable, _try(path, create).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as stream:
        said = stream.read().splitlines()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A directory that an unprivileged user can reach, with a history that is not theirs."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else; run with sudo")
    with Store.open(tmp_path / "dir" / "history.db") as store:
        store.save(make_profile(name="theirs"))
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return tmp_path / "dir"


@pytest.mark.root
@pytest.mark.parametrize("create", [True, False])
def test_a_history_of_another_user(others: Path, create: bool) -> None:
    said = _as_nobody(others / "history.db", create=create)
    assert len(said) == 1
    assert said[0].startswith("StoreDeniedError 4 True cannot open the history")


@pytest.mark.root
def test_a_history_that_may_only_be_read(others: Path) -> None:
    others.chmod(0o755)
    (others / "history.db").chmod(0o644)
    said = _as_nobody(others / "history.db")
    assert said[0] == "read ['theirs']"
    assert said[1].startswith("StoreDeniedError 4 True")
    assert "read-only" in said[1]
    assert len(said) == 2
