"""A workload that is unlike anything known is only watched, as far as the guard says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sculpt.guard import Guard
from tests.sculpt.test_loop import CPUS, World

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs that this process may run on")


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.parametrize(("most", "is_tried"), [(0.4, False), (0.6, True)])
def test_the_guard_says_how_novel_a_workload_may_be(sleeper: int, tmp_path: Path, most: float, is_tried: bool) -> None:
    guard = Guard(kill_switch=str(tmp_path / "stop"), most_novelty=most)
    world = World(sleeper, tmp_path, gain=0.2, guard=guard)  # its DNA has a novelty of 0.5
    records = [world.step() for _ in range(40)]
    events = {record.decision.event for record in records}
    assert ("trial" in events) == is_tried
    assert ("novel" in events) != is_tried
    assert is_tried or os.sched_getaffinity(sleeper) == set(CPUS)
