"""The catalogue of real programs: each comes up, works, and leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from benchmarks.programs.batch import BATCH
from benchmarks.running import MissingProgramError, Session, StartError, Workload, find_program
from benchmarks.workloads import CATALOGUE, find


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated inputs, made once."""
    return tmp_path_factory.mktemp("inputs")


def _cpu_s(pid: int) -> float:
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("workload", CATALOGUE, ids=lambda workload: workload.label)
def test_it_works_and_is_gone_afterwards(workload: Workload, tmp_path: Path, shared: Path) -> None:
    if reason := workload.missing():
        pytest.skip(reason)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with workload.start(tmp_path, shared=shared) as running:
        deadline = time.monotonic() + 20
        start = _cpu_s(running.pid)
        while _cpu_s(running.pid) < start + 0.02:
            assert time.monotonic() < deadline, f"{workload.label} does nothing"
            time.sleep(0.05)
    left = {process.pid for process in psutil.Process().children(recursive=True)} - before
    assert not left
    assert not psutil.pid_exists(running.pid)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_labels_are_unique_and_varied() -> None:
    labels = [workload.label for workload in CATALOGUE]
    assert len(set(labels)) == len(labels)
    core = {workload.program for workload in CATALOGUE if workload.core}
    assert len(core) >= 12


def test_an_unknown_label_lists_what_there_is() -> None:
    with pytest.raises(KeyError, match="redis/get"):
        find("nonsense")


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(MissingProgramError, match="apt install no-such-program"):
        find_program("no-such-program")
    strange = Workload("x", "y", "", ("no-such-program",), BATCH[0].begin)
    assert "apt install" in (strange.missing() or "")


def test_a_program_that_ends_at_once_is_an_error(tmp_path: Path) -> None:
    def begin(session: Session):  # type: ignore[no-untyped-def]
        process = session.shell("echo broken; exit 3")
        process.wait()
        return process

    with (
        pytest.raises(StartError, match="ended with 3: broken"),
        Workload("x", "y", "", ("sh",), begin).start(tmp_path),
    ):
        pass


def test_all_processes_end_even_when_the_block_fails(tmp_path: Path) -> None:
    workload = Workload("x", "y", "", ("sh",), lambda session: session.shell("sleep 600 & sleep 600 & wait"))
    children: list[psutil.Process] = []

    def fail() -> None:
        with workload.start(tmp_path) as running:
            deadline = time.monotonic() + 10
            while len(children) < 2 and time.monotonic() < deadline:
                children[:] = psutil.Process(running.pid).children()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(children) == 2
    _, left = psutil.wait_procs(children, timeout=5)  # a killed process takes a moment to go
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]
