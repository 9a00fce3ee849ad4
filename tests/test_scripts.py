"""The set-up scripts on machines that lack things, and the demonstration from end to end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("bash", "cut", "dirname", "env", "getent", "grep", "id", "sed", "sha256sum", "cat", "tail", "uname", "mkdir")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a folder for PATH with basic tools only: no Python, apt or uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        (folder / name).symlink_to(found)
    return folder


def script(name: str, *arguments: str, path: Path, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    # A copy: the scripts work in the checkout that they are in, whose caches are not this test's.
    copy = home / "checkout/scripts"
    shutil.copytree(ROOT / "scripts", copy, dirs_exist_ok=True)
    environment = {"PATH": str(path), "HOME": str(home), **more}
    return subprocess.run(
        [str(copy / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stub(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_no_python_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    done = script("find-python", path=bare, home=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no Python 3.12 or later" in done.stderr
    assert "apt install python3" in done.stderr


def test_a_shim_that_cannot_run_is_passed_over(bare: Path, tmp_path: Path) -> None:
    stub(bare / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    (bare / "python3").symlink_to(sys.executable)
    done = script("find-python", path=bare, home=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(bare / "python3"))


def test_an_old_python_is_passed_over_for_pyenvs(bare: Path, tmp_path: Path) -> None:
    stub(bare / "python3", "exit 1")  # as an old interpreter answers the question for its version
    for version in ("3.9.18", "3.13.0"):
        stub(tmp_path / f".pyenv/versions/{version}/bin/python3", f'exec "{sys.executable}" "$@"')
    done = script("find-python", path=bare, home=tmp_path)
    assert done.stdout.strip() == str(tmp_path / ".pyenv/versions/3.13.0/bin/python3")


def test_a_python_named_by_the_user_is_used_or_refused(bare: Path, tmp_path: Path) -> None:
    stub(tmp_path / "old", "exit 1")
    refused = script("find-python", path=bare, home=tmp_path, PYTHON=str(tmp_path / "old"))
    assert refused.returncode == 1
    assert str(tmp_path / "old") in refused.stderr
    taken = script("find-python", path=bare, home=tmp_path, PYTHON=sys.executable)
    assert taken.stdout.strip() == sys.executable


def test_without_apt_the_machine_is_left_as_it_is(bare: Path, tmp_path: Path) -> None:
    done = script("setup-system", "--demo", path=bare, home=tmp_path)
    assert done.returncode == 0
    # PATH holds no Redis; what else is missing depends on the machine.
    assert "missing for the full picture" in done.stderr
    assert "redis" in done.stderr


def test_an_unknown_set_is_a_usage_error(bare: Path, tmp_path: Path) -> None:
    done = script("setup", "everything", path=bare, home=tmp_path)
    assert done.returncode == 2
    assert "runtime or dev" in done.stderr


def children_of_demo(scratch: Path) -> list[psutil.Process]:
    """Return the processes that work in the demonstration's scratch folder."""
    return [p for p in psutil.process_iter(["cmdline"]) if any(str(scratch) in a for a in p.info["cmdline"] or ())]


def demo_environment(scratch: Path) -> Mapping[str, str]:
    if not (ROOT / ".venv/.made-dev").exists():
        pytest.skip("this environment was not made by scripts/setup; run the tests with `make test`")
    return {**os.environ, "DEMO_SECONDS": "4", "TMPDIR": str(scratch)}


@pytest.mark.slow
@pytest.mark.server
def test_demo_profiles_something_real_and_leaves_nothing(tmp_path: Path) -> None:
    environment = demo_environment(tmp_path)
    done = subprocess.run(
        [ROOT / "scripts/demo"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "profiling" in done.stderr
    assert done.stdout.strip()
    assert children_of_demo(tmp_path) == []
    assert list(tmp_path.glob("tmp.*")) == []


@pytest.mark.slow
@pytest.mark.server
def test_demo_stopped_by_the_user_ends_with_the_summary_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**demo_environment(tmp_path), "DEMO_SECONDS": "60"}
    demo = subprocess.Popen(
        ["env", "--default-signal=INT", ROOT / "scripts/demo"],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stderr
    for line in demo.stderr:
        if "profiling" in line:
            break
    assert demo.stdout
    demo.stdout.readline()  # the profiler has begun
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    printed, _ = demo.communicate(timeout=60)
    assert "redis" in printed or "pipe" in printed
    assert demo.returncode == 0
    assert children_of_demo(tmp_path) == []
    assert list(tmp_path.glob("tmp.*")) == []
