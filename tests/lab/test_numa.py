"""The tests in tests/lab/guest, run inside a machine with four NUMA nodes; see scripts/lab.py."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANNOT_RUN = 77


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.skipif(
    "DNA_TEST_LAB" not in os.environ, reason="takes ten minutes and more: make lab, or set DNA_TEST_LAB=1"
)
@pytest.mark.timeout(1800)  # the first run downloads; the machine itself is ended after a quarter of an hour
def test_every_test_passes_inside_the_machine() -> None:
    done = subprocess.run([sys.executable, "-m", "scripts.lab"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == CANNOT_RUN:
        pytest.skip(done.stderr.strip().replace("\nlab:  ", ";"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]


def test_after_the_emulators_death_only_what_had_not_passed_is_run_again() -> None:
    from scripts.lab import PASSED, TESTS, without

    said = (
        "tests/lab/guest/test_a.py::test_one PASSED                 [  3%]\n"
        "tests/lab/guest/test_a.py::test_two[a b] PASSED            [  6%]\n"
        "tests/lab/guest/test_a.py::test_three FAILED               [  9%]\n"
        "tests/lab/guest/test_a.py::test_four lab: the emulator died\n"
    )
    passed = PASSED.findall(said)
    assert passed == ["tests/lab/guest/test_a.py::test_one", "tests/lab/guest/test_a.py::test_two[a b]"]
    words = shlex.split(without(TESTS, passed))
    assert words[: len(shlex.split(TESTS))] == shlex.split(TESTS)
    assert words[-2:] == [f"--deselect={name}" for name in passed]
    assert without(TESTS, []) == TESTS
