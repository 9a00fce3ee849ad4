"""``dna sculpt``: what it takes, what it refuses, and its report, on a real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    own = {
        "DNA_SCULPT": str(tmp_path / "runs"),
        "DNA_JOURNAL": str(tmp_path / "journal"),
        "DNA_RUN": str(tmp_path / "run"),
    }
    return {**os.environ, **own, "DNA_STORE": str(tmp_path / "history.db")}


@pytest.fixture
def busy() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


def dna(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sculpt"], "no target"),
        (["sculpt", "--pid", "1", "--mode", "sculpt"], "--mode"),
        (["sculpt", "--pid", "1", "--on-exit", "leave"], "--on-exit"),
        (["sculpt", "--pid", "1", "--metric", "speed=file:/x"], "speed"),
        (["sculpt", "--pid", "1", "--guard", "/nonexistent.toml"], "cannot be read"),
        (["sculpt", "--pid", "1", "--interval", "0"], "interval"),
        (["sculpt", "--pid", "1", "--own-limit", "1"], "no share of a core"),
        (["sculpt", "--pid", "1", "--wait"], "does not come again"),
        (["sculpt", "--pid", "1", "--config", "/x.toml"], "--config names the targets"),
        (["sculpt", "--config", "/nonexistent.toml"], "cannot be read"),
        (["sculpt", "--pid", "1", "--comm", "sh", "--metric", "throughput=file:/x"], "of which of them"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(
    environment: dict[str, str], arguments: list[str], message: str
) -> None:
    done = dna(environment, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_a_target_that_is_not_there_exits_3(environment: dict[str, str]) -> None:
    done = dna(environment, "sculpt", "--pid", str(2**22 - 3), "--duration", "1")
    assert done.returncode == 3, done.stderr


@pytest.mark.slow
def test_a_run_is_recorded_and_told(environment: dict[str, str], busy: int, tmp_path: Path) -> None:
    rate = tmp_path / "rate"
    rate.write_text("100\n")
    metric = f"throughput=file:{rate}"
    done = dna(
        environment, "sculpt", "--pid", str(busy), "--mode", "advise", "--metric", metric,
        "--interval", "0.5", "--duration", "3", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) >= 4
    assert {step["in_force"] for step in steps} == {"baseline"}
    told = dna(environment, "sculpt", "report", "--json")
    assert [one["steps"] for one in json.loads(told.stdout)["workloads"]] == [len(steps)]
    text = dna(environment, "sculpt", "report")
    assert "advise" in text.stdout
    assert "its time was over" in text.stdout
    assert not (tmp_path / "journal").exists()


@pytest.mark.slow
def test_a_file_names_several_and_one_of_them_comes_later_and_again(
    environment: dict[str, str], busy: int, tmp_path: Path
) -> None:
    rate, program, config = tmp_path / "rate", tmp_path / "comes-later", tmp_path / "run.toml"
    rate.write_text("100\n")
    program.symlink_to(shutil.which("sleep") or "/bin/sleep")
    config.write_text(
        f"""
[run]
mode = "advise"
interval = 0.5
[[target]]
pid = {busy}
metrics = ["throughput=file:{rate}"]
[[target]]
comm = "^comes-later$"
wait = true
"""
    )
    config.chmod(0o600)
    arguments = ["sculpt", "--config", str(config), "--json", "--socket", "none"]
    run = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    seen: list[str] = []

    def until(enough: Callable[[], bool]) -> None:
        assert run.stdout is not None
        for line in run.stdout:
            seen.append(json.loads(line)["workload"])
            if enough():
                return
        raise AssertionError(f"it ended after {len(seen)} steps")

    def come_and_go() -> None:
        late = subprocess.Popen([program, "300"])
        try:
            before = seen.count("comes-later")
            until(lambda: seen.count("comes-later") >= before + 2)
        finally:
            late.kill()
            late.wait()

    try:
        until(lambda: len(seen) >= 3)
        assert "comes-later" not in seen
        come_and_go()
        first = len(seen)
        until(lambda: len(seen) >= first + 3 and "comes-later" not in seen[-3:])
        come_and_go()
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode == 0
    assert len(set(seen)) == 2
    told = json.loads(dna(environment, "sculpt", "report", "--json").stdout)
    assert {one["workload"] for one in told["workloads"]} == set(seen)


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--json"], []])
def test_it_ends_when_nobody_reads_any_more(environment: dict[str, str], busy: int, more: list[str]) -> None:
    arguments = ["sculpt", "--pid", str(busy), "--interval", "0.5", "--socket", "none", *more]
    run = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline()
        run.stdout.close()
        assert "Traceback" not in run.stderr.read()
        assert run.wait(timeout=90) is not None
    finally:
        run.kill()
        run.wait()
        if run.stderr is not None:
            run.stderr.close()


RULE = """
from rules import rule, s, w, when

@rule(expect="throughput +1..2 %")
@when(w.demand.cores > 0.05)
def nicer(workload):
    \"\"\"Why.\"\"\"
    yield s.cpu.nice(workload, 5)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="taking niceness back needs root: run the tests as root")
@pytest.mark.parametrize("unverified", [True, False])
def test_without_anything_to_judge_by_it_advises_unless_told_otherwise(
    environment: dict[str, str], busy: int, tmp_path: Path, unverified: bool
) -> None:
    rules, guard = tmp_path / "mine.py", tmp_path / "guard.toml"
    rules.write_text(RULE)
    guard.write_text(f'most_novelty = 1e9\nkill_switch = "{tmp_path}/stop"\n')
    for path in (rules, guard):
        path.chmod(0o600)
    more = ["--unverified"] if unverified else []
    done = dna(
        environment, "sculpt", "--pid", str(busy), "--mode", "apply", "--interval", "0.5", "--duration", "6", "--json",
        "--no-packs", "--rules", str(rules), "--guard", str(guard), "--socket", "none", "--own-limit", "100%", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    if steps[-1]["reward"] is not None:
        pytest.skip("this machine counts instructions, which judge any workload: nothing to test where there is a PMU")
    assert any(step["unverified"] for step in steps) == unverified
    assert any(step["in_force"].startswith("unverified ") for step in steps) == unverified
    assert ("only advised" in steps[-1]["decision"]["because"]) != unverified
    assert os.getpriority(os.PRIO_PROCESS, busy) == 0


def test_a_report_of_nothing_says_so(environment: dict[str, str]) -> None:
    done = dna(environment, "sculpt", "report")
    assert done.returncode == 1
    assert "there is no run" in done.stderr


@pytest.fixture
def recorded(environment: dict[str, str], tmp_path: Path) -> str:
    """Return the name of a run whose records are there."""
    found = ROOT / "tests/sculpt/runs/random-access.jsonl"
    name = json.loads(found.read_text().splitlines()[0])["run"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{name}.jsonl").write_bytes(found.read_bytes())
    return str(name)


def test_a_report_is_text_data_or_a_page(environment: dict[str, str], recorded: str, tmp_path: Path) -> None:
    text = dna(environment, "sculpt", "report", recorded[:12])
    assert "memory.huge_pages_for_random_access" in text.stdout
    data = json.loads(dna(environment, "sculpt", "report", "--json").stdout)
    assert [one["outcome"] for one in data["workloads"][0]["trials"]] == ["promoted", "made", "promoted"]
    page = dna(environment, "sculpt", "report", "--html", "-")
    assert page.stdout.startswith("<!doctype html>")
    file = tmp_path / "report.html"
    done = dna(environment, "sculpt", "report", "--html", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "report.html" in done.stdout
    assert file.read_text() == page.stdout


def test_runs_are_listed_and_what_is_not_there_is_named(
    environment: dict[str, str], recorded: str, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "20270101-000000-1.jsonl").write_text("no record\n")
    listed = dna(environment, "sculpt", "report", "--list")
    assert recorded in listed.stdout
    assert "no record of a run" in listed.stdout
    runs = json.loads(dna(environment, "sculpt", "report", "--list", "--json").stdout)
    assert [one["identity"] for one in runs] == [recorded, "20270101-000000-1"]
    for arguments, words in (
        ([recorded, "--workload", "nobody"], "There is: rc."),
        (["20270101"], "no record of a run"),
        (["1999"], "there is no run"),
        ([recorded, "--html", str(tmp_path / "nowhere" / "x.html")], "nowhere"),
        ([recorded, "--html", "-", "--json"], "--html"),
    ):
        done = dna(environment, "sculpt", "report", *arguments)
        assert done.returncode != 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr
