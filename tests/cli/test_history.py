"""The commands about stored profiles, as a user types them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from rich.console import Console

import cli
from dna.compare import compare
from dna.export import read_json
from dna.features import DEMAND, FEATURE_NAMES
from dna.library import Entry, Library, drift
from dna.store import Store
from dna.vector import Dna, Profile
from tests.dna.profiles import START, make_profile
from ui.features import features_table
from ui.glyphs import glyphs_for
from ui.history import differences, profiles_table

ROOT = Path(__file__).resolve().parents[2]


class Run(Protocol):
    """Run ``dna`` with arguments; returns (exit status, stdout, stderr)."""

    def __call__(self, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture
def dna(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("DNA_STORE", str(tmp_path / "history.db"))
    monkeypatch.setenv("DNA_MODEL", str(tmp_path / "model"))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dna", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def profile(name: str, *, share: float, at: float, seed: int) -> Profile:
    random = np.random.default_rng(seed)
    rows: list[dict[str, float | None]] = [
        {"syscall.file_share": share + random.normal(0, 0.01), "io.read_share": 0.5 + random.normal(0, 0.01)}
        for _ in range(10)
    ]
    made = make_profile(rows, name=name, started=START + at)
    vectors = [Dna(random.normal(share, 0.01, 16), 0.5, "m") for _ in rows]
    pairs = zip(made.intervals, vectors, strict=True)
    return dataclasses.replace(made, intervals=tuple(dataclasses.replace(i, dna=v) for i, v in pairs))


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[list[str]]:
    """Three stored profiles: redis/get twice, and one that reads files much more."""
    with Store.open(tmp_path / "history.db") as store:
        yield [
            store.save(profile("redis/get", share=0.1, at=0, seed=1)),
            store.save(profile("redis/get", share=0.1, at=100, seed=2)),
            store.save(profile("[bold]backup", share=0.8, at=200, seed=3)),
        ]


def test_list_shows_what_is_stored_latest_first(dna: Run, stored: list[str]) -> None:
    status, out, _ = dna("list")
    assert status == 0
    assert out.index(stored[2]) < out.index(stored[1]) < out.index(stored[0])
    assert "[bold]backup" in out
    _, out, _ = dna("list", "--json", "--limit", "2")
    assert [item["id"] for item in json.loads(out)] == [stored[2], stored[1]]
    _, out, _ = dna("list", "--name", "redis/get", "--json")
    assert {item["name"] for item in json.loads(out)} == {"redis/get"}


def test_list_of_nothing_says_how_to_get_some(dna: Run, tmp_path: Path) -> None:
    status, out, _ = dna("list")
    assert status == 0
    assert "dna profile" in out
    assert dna("list", "--json")[1].strip() == "[]"
    assert not (tmp_path / "history.db").exists()


@pytest.mark.parametrize("reference", ["last", "last~0", "[bold]backup"])
def test_show_by_any_reference(dna: Run, stored: list[str], reference: str) -> None:
    status, out, _ = dna("show", reference, "--json")
    assert status == 0
    assert json.loads(out)["id"] == stored[2]
    status, out, _ = dna("show", reference)
    assert status == 0
    assert "redis-server" in out


def test_show_finds_the_nearest_labelled_profiles(dna: Run, stored: list[str]) -> None:
    _, out, _ = dna("show", stored[0], "--json")
    assert [match["label"] for match in json.loads(out)["summary"]["nearest"]] == ["redis/get", "[bold]backup"]


def test_an_exported_file_is_as_good_as_a_stored_profile(dna: Run, stored: list[str], tmp_path: Path) -> None:
    path = tmp_path / "out" / "web.json"
    path.parent.mkdir()
    assert dna("export", stored[2], "--out", str(path))[0] == 0
    assert read_json(path).id == stored[2]
    Store.open(tmp_path / "history.db").forget([stored[2]])
    status, out, _ = dna("compare", stored[0], str(path), "--json")
    assert status == 0
    first = json.loads(out)["differences"][0]
    assert (first["name"], first["verdict"]) == ("syscall.file_share", "real")
    assert first["scaled"] == pytest.approx(0.7, abs=0.05)


def test_compare_says_what_is_real(dna: Run, stored: list[str]) -> None:
    _, out, _ = dna("compare")
    assert "syscall.file_share" in out
    assert "1 real, 1 within noise, 0 cannot tell" in out
    _, out, _ = dna("compare", "redis/get~1", "redis/get")
    assert "0 real" in out
    _, out, _ = dna("compare", "--demand", "--json")
    assert [d["name"] for d in json.loads(out)["differences"]] == ["cores"]


def test_similar_takes_the_library_and_the_history(dna: Run, stored: list[str], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    shelf = Library("m").with_entries([Entry("nginx", "n1", np.full(16, 0.79), {"syscall.file_share": 0.1})], "m")
    (tmp_path / "model" / "library.json").write_text(json.dumps(shelf.to_json()))
    _, out, _ = dna("similar", "last", "--json")
    found = json.loads(out)
    assert [match["label"] for match in found["nearest"]] == ["nginx", "redis/get"]
    assert found["traits"][0]["name"] == "syscall.file_share"
    status, out, _ = dna("similar", "last", "-n", "1")
    assert status == 0
    assert "nginx" in out
    assert out.count("redis/get") == 0


def test_similar_without_anything_comparable_says_why(dna: Run, tmp_path: Path) -> None:
    with Store.open(tmp_path / "history.db") as store:
        store.save(make_profile(name="plain"))
        store.save(make_profile(name="alone", started=START + 1, vector=[0.0] * 16))
    status, _, err = dna("similar", "plain")
    assert status == 1
    assert "plain has no vector" in err
    status, _, err = dna("similar", "alone")
    assert status == 1
    assert "no labelled workload" in err
    assert "--name" in err


def test_export_to_standard_output(dna: Run, stored: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    command = [sys.executable, str(ROOT / "cli.py"), "export", stored[0], "--format", "csv"]
    with log.open("a") as stream:
        subprocess.run(command, stdout=stream, check=True)
    before, *rest = log.read_text().splitlines(keepends=True)
    assert before == "before\n"
    rows = list(csv.DictReader(io.StringIO("".join(rest))))
    assert len(rows) == 10
    assert {row["profile"] for row in rows} == {stored[0]}


@pytest.mark.slow  # importing pyarrow takes seconds
def test_the_format_is_that_of_the_file(dna: Run, stored: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'workload-dna[tables]'")
    assert dna("export", "last", "-o", str(tmp_path / "x.parquet"))[0] == 0
    assert (tmp_path / "x.parquet").read_bytes()[:4] == b"PAR1"
    assert dna("export", "last", "-o", str(tmp_path / "x.csv"))[0] == 0
    assert (tmp_path / "x.csv").read_text().startswith("profile,name,t,")


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "last", "--format", "xml"),
        ("export", "last", "--format", "parquet"),
        ("forget",),
        ("forget", "--all", "--before", "30d"),
        ("forget", "--before", "yesterday"),
        ("list", "--limit", "0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(dna: Run, stored: list[str], arguments: tuple[str, ...]) -> None:
    assert dna(*arguments)[0] == 2
    assert len(json.loads(dna("list", "--json")[1])) == 3


def test_forget_by_reference(dna: Run, stored: list[str]) -> None:
    status, out, _ = dna("forget", "last", stored[2], stored[0], "--yes")
    assert (status, out.strip()) == (0, "forgot 2 profiles")
    assert [item["id"] for item in json.loads(dna("list", "--json")[1])] == [stored[1]]


def test_forget_before_spares_what_is_younger(dna: Run, stored: list[str], tmp_path: Path) -> None:
    import time

    with Store.open(tmp_path / "history.db") as store:
        young = store.save(make_profile(started=time.time() - 3600))
    assert dna("forget", "--before", "1d", "--yes")[1].strip() == "forgot 3 profiles"
    assert [item["id"] for item in json.loads(dna("list", "--json")[1])] == [young]


def test_forget_asks_first(dna: Run, stored: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, out, _ = dna("forget", "--all")
    assert status == 1
    assert all(identity in out for identity in stored)
    assert len(json.loads(dna("list", "--json")[1])) == 3
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert dna("forget", "--all")[0] == 0
    assert json.loads(dna("list", "--json")[1]) == []


@pytest.mark.parametrize("command", ["show", "similar", "export"])
def test_an_unknown_reference_is_one_line_and_a_remedy(dna: Run, stored: list[str], command: str) -> None:
    status, out, err = dna(command, "nothing-like-it")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert len(lines) == 2
    assert "nothing-like-it" in lines[0]
    assert "dna list" in lines[1]


def test_a_file_that_is_not_a_profile(dna: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    status, _, err = dna("show", str(tmp_path / "x.json"))
    assert status == 1
    assert len(err.splitlines()) == 2
    assert "is not a profile" in err


def test_a_store_that_is_not_one(dna: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not a database, but long enough to be looked at\n" * 50)
    status, _, err = dna("list", "--store", str(tmp_path / "notes"))
    assert status == 1
    assert len(err.splitlines()) == 2


def test_a_full_disk_on_export_leaves_the_old_file(dna: Run, stored: list[str], tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "x.json"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        status, _, err = dna("export", "last", "--out", str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert status == 1
    assert len(err.splitlines()) == 2
    assert path.read_text() == "old"
    assert not list(tmp_path.glob(".x.json*"))


@pytest.mark.parametrize("command", ["export", "list"])
def test_a_full_standard_output_is_one_line(stored: list[str], tmp_path: Path, command: str) -> None:
    environment = os.environ | {"DNA_STORE": str(tmp_path / "history.db")}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("dna: ")
    assert "No space left" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_features_names_everything(dna: Run) -> None:
    _, out, _ = dna("features")
    assert all(name in out for name in FEATURE_NAMES)
    found = json.loads(dna("features", "--json")[1])
    assert [f["name"] for f in found["features"]] == list(FEATURE_NAMES)
    assert [d["name"] for d in found["demand"]] == [row.name for row in DEMAND]


@pytest.mark.parametrize("command", ["list", "compare", "similar", "features"])
def test_tables_fit_80_columns(dna: Run, stored: list[str], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = dna(command)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_a_terminal_without_unicode_gets_ascii(stored: list[str], tmp_path: Path) -> None:
    with Store.open(tmp_path / "history.db") as store:
        a, b = store.get(stored[0]), store.get(stored[2])
        rows = store.profiles()
    written = io.BytesIO()
    console = Console(file=io.TextIOWrapper(written, encoding="ascii"), width=120)
    glyphs = glyphs_for(console)
    found = compare(a, b)
    console.print(profiles_table(rows, START, glyphs))
    console.print(differences(a, b, found, drift([], []), glyphs, limit=9, width=120))
    console.print(features_table(glyphs))
    console.file.flush()
    assert b"[bold]backup" in written.getvalue()
    assert b"\xe2" not in written.getvalue()
