"""The tests in tests/lab/guest, run inside a machine with four NUMA nodes; see scripts/lab.py."""

from __future__ import annotations

import os
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
