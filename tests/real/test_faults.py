"""A part of the fault campaign (``python -m benchmarks.faults``): a real ``dna sculpt`` on a real program, and what goes wrong with both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fault_cases import CASES, Case, play
from benchmarks.fault_rig import CPUS, CannotRunError, State, impostor, setting_of, small_disk, state_of, target

CASE = {case.name: case for case in CASES}
QUICK = (
    "reused pid",
    "metric not a number",
    "full disk under the journal",
    "clock jumps",
    "another tool sets the same",
    "kill -9",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="not root: a nice value could not be taken back; run as root"),
    pytest.mark.skipif(len(CPUS) < 2, reason="one CPU: nothing to choose; give the machine two"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICK)
def test_the_machine_ends_as_found_or_as_declared(name: str, tmp_path: Path) -> None:
    with target(tmp_path) as goal:
        try:
            wrong = play(CASE[name], tmp_path, goal, seed=7)
        except CannotRunError as error:
            pytest.skip(str(error))
        assert wrong == ""


def test_the_campaign_sees_what_is_not_as_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def forgets(scene: object) -> State:
        goal = scene.goal  # type: ignore[attr-defined]
        os.setpriority(os.PRIO_PROCESS, goal.pid, 3)
        return scene.before  # type: ignore[attr-defined, no-any-return]

    count = faults.run(Case("forgetful", "as found", forgets), runs=2, seed=1)
    assert count.passed == 0
    assert len(count.failures) == 2
    assert "and not" in count.failures[0]
    assert "forgetful" in faults.line(count)


def test_a_process_id_is_really_reused(tmp_path: Path) -> None:
    with target(tmp_path) as goal:
        assert len(goal.state()) == 3
        before = Path(f"/proc/{goal.pid}/stat").read_text().rsplit(") ", 1)[1].split()[19]
        goal.kill()
        try:
            with impostor(goal.pid) as pid:
                assert Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19] != before
                assert state_of(pid) == {pid: setting_of(pid)}
        except CannotRunError as error:
            pytest.skip(str(error))


def test_a_small_disk_is_gone_afterwards(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "small", 64) as folder:
            assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == 64 << 10
    except CannotRunError as error:
        pytest.skip(str(error))
    mounted = subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in mounted
