"""Several targets profiled over one stretch of time: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dna.errors import TargetGoneError
from dna.target import Target
from dna.together import profile_together


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def test_in_the_order_asked_for_and_a_command_is_its_process_from_then_on(sleeper: int) -> None:
    command = Target.command([sys.executable, "-c", "while True: pass"])
    first, second = profile_together([Target.pid(sleeper), command], interval_s=0.4, duration_s=0.8)
    busy = int(second.target.value)
    try:
        assert first.target == Target.pid(sleeper)
        assert second.target.kind == "pid"
        assert os.path.exists(f"/proc/{busy}")
        assert (second.profile.intervals[-1].demand["cores"] or 0) > (first.profile.intervals[-1].demand["cores"] or 0)
    finally:
        os.kill(busy, 9)
        os.waitpid(busy, 0)


def test_one_that_ends_early_does_not_stop_the_others(sleeper: int) -> None:
    short = Target.command(["sleep", "0.5"])
    ended, whole = profile_together([short, Target.pid(sleeper)], interval_s=0.3, duration_s=1.5)
    assert len(whole.profile.intervals) > len(ended.profile.intervals)


def test_one_that_is_not_there_fails_all_before_anything_is_watched(sleeper: int) -> None:
    with pytest.raises(TargetGoneError):
        profile_together([Target.pid(sleeper), Target.pid(2**22 - 3)], interval_s=0.3, duration_s=60)


def test_nothing_is_nothing() -> None:
    assert profile_together([], interval_s=1, duration_s=1) == ()
