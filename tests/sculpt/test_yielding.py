"""A run of the loop is nice, and so is its session where it has one of its own; a terminal's is left as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sculpt.yielding import AUTOGROUP_NICE, NICE

ROOT = Path(__file__).parents[2]
CODE = """
import os
from pathlib import Path
from hal.host import LinuxHost
from sculpt.yielding import yield_to_others
yield_to_others(LinuxHost())
session = Path("/proc/self/autogroup")
words = session.read_text().split() if session.exists() else []  # empty for what was started before any session
print(os.getpriority(os.PRIO_PROCESS, 0), words[-1] if words else "none")
"""


@pytest.mark.parametrize("own_session", [True, False])
def test_it_is_nice(own_session: bool) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        start_new_session=own_session,
        capture_output=True,
        text=True,
        check=True,
    )
    nice, session = done.stdout.split()
    assert int(nice) == min(before + NICE, 19)
    if own_session and session != "none":
        assert int(session) == AUTOGROUP_NICE
