"""Profiles as documents and tables, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from dna.errors import ProfileFileError
from dna.export import dumps, from_json, read_json, to_json, write_json
from dna.files import write_whole
from dna.library import Entry, Library
from dna.summary import summarise
from dna.tables import to_csv, to_numpy, to_pandas, write_csv, write_parquet
from dna.vector import Profile
from tests.dna.profiles import START, make_profile, profiles

VECTOR = [float(i) for i in range(16)]
ROWS: list[dict[str, float | None]] = [
    {"syscall.file_share": 0.5, "cpu.ipc": None},
    {"syscall.file_share": 0.25, "cpu.ipc": None},
    {"syscall.file_share": None, "cpu.ipc": None},
]


@pytest.mark.long
@given(profiles)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_profile_goes_there_and_back(profile: Profile) -> None:
    document = to_json(profile)
    assert to_json(from_json(json.loads(dumps(document)))) == document


def test_the_document_is_the_one_in_the_design() -> None:
    document: dict[str, Any] = to_json(make_profile(ROWS, name="web", vector=VECTOR))
    assert {"schema", "tool", "machine", "target", "started", "interval_s", "intervals", "summary"} <= set(document)
    assert {"t", "features", "demand", "quality", "dna"} <= set(document["intervals"][0])
    assert document["intervals"][0]["dna"] == {"vector": VECTOR, "novelty": 0.5, "model": "model-1"}
    assert document["summary"]["features"] == {"syscall.file_share": 0.375, "cpu.ipc": None}
    assert document["summary"]["dna"]["vector"] == VECTOR
    assert document["summary"]["nearest"] == []


def test_nearest_come_from_the_library_without_the_profile_itself() -> None:
    library = Library("model-1").with_entries(
        [Entry("near", "run-1", np.array(VECTOR) + 0.1), Entry("self", "me", np.array(VECTOR))], "model-1"
    )
    summary = summarise(make_profile(ROWS, identity="me", vector=VECTOR), library)
    assert [(match.label, round(match.distance, 3)) for match in summary.nearest] == [("near", 0.4)]
    assert summarise(make_profile(ROWS, vector=VECTOR, model="other"), library).nearest == ()


def test_what_is_not_a_number_becomes_unknown() -> None:
    text = dumps(to_json(make_profile([{"cpu.ipc": float("nan"), "io.read_share": float("inf")}])))
    assert json.loads(text)["intervals"][0]["features"] == {"cpu.ipc": None, "io.read_share": None}


def test_a_name_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    write_json(make_profile(name=odd), tmp_path / "x.json")
    assert read_json(tmp_path / "x.json").name == "caf\N{REPLACEMENT CHARACTER}"


def _broken(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(dumps(to_json(make_profile(ROWS, vector=VECTOR))))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[1, 2]", "top level is not an object"),
        ('{"a": 1}', "no schema number"),
        (_broken(lambda d: d.update(schema=99)), "schema 99"),
        (_broken(lambda d: d.update(intervals={})), "intervals is not a list"),
        (_broken(lambda d: d.update(started="now")), "started is not a number"),
        (_broken(lambda d: d["intervals"][2].update(t=None)), "intervals[2].t is not a number"),
        (_broken(lambda d: d["intervals"][1]["features"].update(x="y")), "intervals[1].features.x is not a number"),
        (_broken(lambda d: d["intervals"][1]["features"].update(x=True)), "intervals[1].features.x is not a number"),
        (_broken(lambda d: d["intervals"][0]["dna"]["vector"].pop()), "15 numbers, not 16"),
        (_broken(lambda d: d["intervals"][0]["features"].update(x=float("nan"))), "NaN"),
        (_broken(lambda d: d.update(started=10**400)), "started is not a finite number"),
        (_broken(lambda d: d.pop("intervals")), "intervals is not a list"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_not_a_profile_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ProfileFileError) as caught:
        read_json(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a profile: ")
    assert says in message
    assert "\n" not in message
    assert caught.value.remedy


def test_a_binary_file_is_not_a_profile(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)))
    with pytest.raises(ProfileFileError, match="not text"):
        read_json(tmp_path / "x")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileFileError, match="No such file"):
        read_json(tmp_path / "x.json")


def test_fields_that_a_later_version_adds_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(_broken(lambda d: d.update(new={"deep": [1]})))
    assert len(read_json(tmp_path / "x.json").intervals) == 3


# --- tables


def test_csv_has_a_row_an_interval_and_leaves_the_unknown_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(make_profile(ROWS, identity="abc", name="web")))))
    assert [row["syscall.file_share"] for row in rows] == ["0.5", "0.25", ""]
    assert {row["cpu.ipc"] for row in rows} == {""}
    assert [float(row["t"]) for row in rows] == [START + 5, START + 10, START + 15]
    assert {(row["profile"], row["name"], row["demand.cores"], row["dna.0"]) for row in rows} == {
        ("abc", "web", "1.0", "")
    }


def test_numpy_has_the_shapes_it_promises() -> None:
    arrays = to_numpy(make_profile(ROWS, vector=VECTOR))
    assert arrays.features.shape == (3, len(arrays.feature_names)) == (3, 2)
    assert arrays.vectors.shape == (3, 16)
    assert np.isnan(arrays.features[:, 1]).all()
    empty = to_numpy(make_profile([]))
    assert (empty.t.shape, empty.vectors.shape, empty.features.shape) == ((0,), (0, 16), (0, 0))


@pytest.mark.slow  # importing pandas takes seconds
def test_pandas_is_indexed_by_time() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed: pip install 'workload-dna[tables]'")
    frame = to_pandas(make_profile(ROWS, vector=VECTOR))
    assert frame.index[0] == pd.Timestamp(START + 5, unit="s", tz="UTC")
    assert frame["cpu.ipc"].isna().all()
    assert frame["syscall.file_share"].median() == 0.375
    assert frame["dna.15"].tolist() == [15.0] * 3


@pytest.mark.slow
def test_parquet_keeps_numbers_and_the_head(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'workload-dna[tables]'")
    path = tmp_path / "x.parquet"
    write_parquet(make_profile(ROWS, name="web", vector=VECTOR), path)
    table = pq.read_table(path)
    assert table.column("syscall.file_share").to_pylist() == [0.5, 0.25, None]
    assert table.column("dna.3").to_pylist() == [3.0] * 3
    assert json.loads(table.schema.metadata[b"dna"])["machine"] == {"hostname": "box", "cpus": 2}


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("pyarrow", write_parquet),
        ("pandas", lambda p, path: to_pandas(p)),
    ],
)
def test_a_missing_library_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, use: Callable[[Profile, Path], object]
) -> None:
    # The import system refuses a module whose entry is None.
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ProfileFileError, match=module) as caught:
        use(make_profile(ROWS), tmp_path / "x")
    assert "pip install" in caught.value.remedy


# --- files


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow past 4 KiB, as on a full disk (the write fails with EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.long
@pytest.mark.parametrize("write", [write_json, write_csv, write_parquet])
def test_no_room_leaves_the_old_file_and_nothing_half(
    tmp_path: Path, small_files: None, write: Callable[[Profile, Path], None]
) -> None:
    path = tmp_path / "out"
    path.write_text("the old one")
    with pytest.raises(ProfileFileError, match="cannot write") as caught:
        write(make_profile([{f"x.{i}": i / 7 for i in range(50)}] * 50), path)
    assert "\n" not in str(caught.value)
    assert "room" in caught.value.remedy
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert path.read_text() == "the old one"


def test_a_full_device_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here: mknod /dev/full c 1 7")
    with pytest.raises(ProfileFileError, match="No space left"):
        write_json(make_profile(), "/dev/full")


def test_a_missing_directory_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ProfileFileError) as caught:
        write_json(make_profile(), tmp_path / "no" / "x.json")
    assert f"mkdir -p {tmp_path / 'no'}" in caught.value.remedy


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(stream: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_json(make_profile(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640
    assert read_json(tmp_path / "real").intervals
