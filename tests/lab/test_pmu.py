"""Hardware counters on an emulated ARM machine, whose loops of known length are counted; see scripts/lab_pmu.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANNOT_RUN = 77


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.timeout(900)  # the first run downloads
def test_every_check_of_the_emulated_machine_passes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lab_pmu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == CANNOT_RUN:
        pytest.skip(done.stderr.strip().replace("\nlab-pmu:  ", ";"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert done.stdout.count("ok  ") >= 18
