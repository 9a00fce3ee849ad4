"""``dna sculpt`` with alerts and metrics, on a real process whose setting another tool takes over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
CPUS = sorted(os.sched_getaffinity(0))
PATIENT_S = 120.0
RULES = f'''
"""Pins what is busy."""

from collections.abc import Iterator

from rules import Wish, rule, s, w, when
from rules.situation import Workload


@rule(expect="throughput +40..60 %", source="a test", limits="none")
@when(w.demand.cores > 0.01)
def pin(workload: Workload) -> Iterator[Wish]:
    """A busy program runs on one CPU."""
    yield s.cpu.affinity(workload, "{CPUS[0]}")
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    own = {
        "DNA_SCULPT": str(tmp_path / "runs"),
        "DNA_JOURNAL": str(tmp_path / "journal"),
        "DNA_RUN": str(tmp_path / "run"),
    }
    return {**os.environ, **own, "DNA_STORE": str(tmp_path / "history.db"), "DNA_LEARNED": str(tmp_path / "learned.db")}


@pytest.fixture
def busy() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


@contextmanager
def measured(path: Path, pid: int) -> Iterator[None]:
    """Write a rate that is higher while a process is pinned, as if that paid."""
    over = threading.Event()

    def write() -> None:
        step = 0
        while not over.wait(0.05):
            step += 1
            rate = 150 if len(os.sched_getaffinity(pid)) == 1 else 100
            fresh = path.with_suffix(".new")
            fresh.write_text(f"{rate + step % 7 / 100}\n")
            fresh.rename(path)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(address, timeout=PATIENT_S) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        f"{sample.name} {sample.labels.get('kind', '')} {sample.labels.get('severity', '')}".strip(): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.slow
@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")
def test_a_setting_that_another_tool_takes_over_is_told(environment: dict[str, str], busy: int, tmp_path: Path) -> None:
    rules, log, hooked, errors = (tmp_path / name for name in ("pin.py", "alerts.jsonl", "hooked", "stderr"))
    rules.write_text(RULES)
    hook = tmp_path / "page"
    hook.write_text(f'#!/bin/sh\ncat >> {hooked}\necho "paged: $DNA_ALERT_KIND"\n')
    hook.chmod(0o755)

    def lost(path: Path) -> list[dict[str, Any]]:
        return [line for line in lines(path) if line.get("kind") == "lost"]

    def taken_over() -> bool:
        if os.sched_getaffinity(busy) == {CPUS[0]}:  # it has just been set: now somebody else sets it
            os.sched_setaffinity(busy, {CPUS[1]})
        return bool(lost(log)) and bool(lost(hooked))

    command = [
        sys.executable, "-m", "cli", "sculpt", "--pid", str(busy), "--mode", "apply", "--interval", "0.3",
        "--metric", f"throughput=file:{tmp_path / 'rate'}", "--rules", str(rules), "--no-packs",
        "--alert-log", str(log), "--alert-command", str(hook), "--prometheus", "0",
    ]  # fmt: skip
    with measured(tmp_path / "rate", busy), open(errors, "w") as stderr:
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            within(PATIENT_S, lambda: taken_over() or run.poll() is not None)
            assert taken_over(), (log.read_text() if log.exists() else "") + errors.read_text()
            found = re.search(r"metrics: (http://127\.0\.0\.1:\d+/metrics)", errors.read_text())
            assert found is not None
            numbers = scrape(found[1])
        finally:
            run.send_signal(signal.SIGTERM)
            status = run.wait(PATIENT_S)
    assert status == 0, errors.read_text()
    (alert, *_) = lost(log)
    assert "cpu.affinity" in alert["text"]
    assert "left to them" in alert["text"]
    assert lost(hooked)[0] == alert
    assert any(line.get("said") == "paged: lost" for line in lines(log))
    assert numbers["dna_sculpt_alerts_total lost warning"] >= 1
    assert numbers["dna_sculpt_trials_total"] >= 1
    assert numbers["dna_sculpt_reward"] > 0
    assert os.sched_getaffinity(busy) == {CPUS[1]}  # theirs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alert-command", "no-such-program --x"], "no program"),
        (["--alert-command", "'"], "--alert-command"),
        (["--alert-webhook", "https://me:secret@example.org/"], "seen by all users"),
        (["--alert-log", "/nonexistent/folder/log"], "cannot be written"),
        (["--prometheus", ":9464"], "whom to answer"),
        (["--prometheus", "port"], "no [HOST:]PORT"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(
    environment: dict[str, str], arguments: list[str], message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "sculpt", "--pid", str(os.getpid()), *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert "secret@" not in done.stderr


def test_the_table_of_a_configuration_counts(environment: dict[str, str], busy: int, tmp_path: Path) -> None:
    config, log = tmp_path / "sculpt.toml", tmp_path / "alerts.jsonl"
    command = [sys.executable, "-m", "cli", "sculpt", "--config", str(config), "--no-packs"]

    def go(alerts: str) -> subprocess.CompletedProcess[str]:
        config.write_text(
            f"[run]\ninterval = 0.3\nduration = 3\n[[target]]\npid = {busy}\n"
            f'metrics = ["throughput=file:{tmp_path}/none"]\n[alerts]\n{alerts}\n'
        )
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENT_S, check=False
        )

    done = go('log = "relative"')
    assert (done.returncode, "[alerts]: log" in done.stderr) == (2, True), done.stderr
    done = go(f'log = "{log}"\nkinds = ["blind"]')
    assert done.returncode == 0, done.stderr
    (alert,) = lines(log)
    assert alert["kind"] == "blind"
    assert "nothing can be judged" in alert["text"]
