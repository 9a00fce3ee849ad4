"""Every example of the documents runs: ``console`` and ``python`` blocks of README.md and docs, against a real process.

In a block, process 4242 stands for the reader's own; here it is one that hashes what it reads. Long durations and intervals
are shortened. A block ``python file=NAME`` is written to that file. Blocks of other kinds (``sh``) need the reader's machine and are
not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if re.search(r"^```(console|python)$", page.read_text(), re.MULTILINE)
]
SHORTER = [
    (r"--interval \d+", "--interval 1"),
    (r"--duration \d+", "--duration 2"),
    (r"\binterval=\d+", "interval=1"),
    (r"\bduration=\d+", "duration=2"),
]
WORKLOAD = """
import hashlib, time
while True:
    with open("/dev/urandom", "rb", buffering=0) as source:
        hashlib.sha256(source.read(65536)).hexdigest()
    time.sleep(0.0005)
"""


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    return [command for _, command in steps(page) if command]


def steps(page: Path) -> Iterator[tuple[str, str]]:
    """Yield what a reader does, in order: ("", a command), or (a file's name and what to write into it, "")."""
    pattern = r"^```(console|python file=\S+)\n(.*?)^```$"
    for kind, block in re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL):
        if kind == "console":
            yield from (("", line[2:]) for line in block.splitlines() if line.startswith("$ "))
        else:
            yield f"{kind.partition('=')[2]}\n{block}", ""


def write(file: str, folder: Path) -> None:
    name, _, text = file.partition("\n")
    (folder / name).write_text(text)


PYTHON = [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))]


def prepared(text: str, pid: int) -> str:
    """Put a real process in the place of the example's, and shorten the waiting."""
    for pattern, shorter in SHORTER:
        text = re.sub(pattern, shorter, text)
    return re.sub(r"\b4242\b", str(pid), text)


@pytest.fixture(scope="module")
def workload() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", WORKLOAD])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment with this checkout's ``dna`` first on PATH, and a history and journal of its own."""
    folder = tmp_path_factory.mktemp("readme")
    command = folder / "dna"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
    command.chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "DNA_STORE": str(folder / "history.db")}
    return {**os.environ, **own, "DNA_JOURNAL": str(folder / "journal"), "DNA_RUN": str(folder / "run")}


def run(argv: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_there_are_examples() -> None:
    assert len(commands(ROOT / "README.md")) >= 8
    assert PYTHON


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_work(page: Path, workload: int, environment: dict[str, str], tmp_path: Path) -> None:
    # In order and together: later ones look at what earlier ones recorded.
    failed = []
    for file, command in steps(page):
        if file:
            write(file, tmp_path)
            continue
        done = run(["bash", "-c", prepared(command, workload)], environment, tmp_path)
        if done.returncode != 0 or not done.stdout.strip() or "Traceback" in done.stderr:
            failed.append(f"$ {command}\nexit status {done.returncode}\n{done.stdout[-500:]}{done.stderr[-2000:]}")
    assert failed == [], "\n".join(failed)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), PYTHON, ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_python_examples_work(
    page: Path, number: int, workload: int, environment: dict[str, str], tmp_path: Path
) -> None:
    code = prepared(blocks(page, "python")[number], workload)
    done = run([sys.executable, "-c", code], environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
