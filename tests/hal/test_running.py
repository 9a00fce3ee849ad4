"""Commands that hang, that flood, and that leave others behind: the caller goes on in time and nothing stays."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from hal.errors import NotFoundError
from hal.host import LinuxHost
from hal.running import MOST_OUTPUT, TIMED_OUT, run

HANGS_S = 60
"""How long what must be cut short would take."""


def python(code: str, *arguments: str, timeout_s: float = 30.0) -> tuple[int, str, str]:
    done = run([sys.executable, "-S", "-E", "-c", code, *arguments], timeout_s=timeout_s)
    return done.status, done.stdout, done.stderr


def ends(pid: int) -> bool:
    until = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_output_errors_and_status_are_returned() -> None:
    assert python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)") == (3, "out\n", "err\n")


def test_what_does_not_end_is_ended() -> None:
    before = time.monotonic()
    status, out, error = python(f"print('begun', flush=True); import time; time.sleep({HANGS_S})", timeout_s=0.3)
    assert time.monotonic() - before < HANGS_S / 2
    assert (status, out) == (TIMED_OUT, "")
    assert "did not finish within 0.3 s" in error


def test_a_child_that_holds_the_output_open_is_neither_waited_for_nor_left(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    before = time.monotonic()
    done = run(["sh", "-c", f"sleep {HANGS_S} & echo $! > {note}; echo 42"], timeout_s=HANGS_S)
    assert time.monotonic() - before < HANGS_S / 2
    assert (done.status, done.stdout) == (0, "42\n")
    assert ends(int(note.read_text()))


@pytest.mark.long
def test_children_end_with_what_did_not_finish(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    done = run(["sh", "-c", f"sleep {HANGS_S} & echo $! > {note}; wait"], timeout_s=1.0)
    assert done.status == TIMED_OUT
    assert ends(int(note.read_text()))


def test_of_a_flood_the_end_is_kept() -> None:
    status, out, _ = python(
        f"import os, sys; [os.write(1, b'x' * 65536) for _ in range({MOST_OUTPUT >> 15})]; print(7)"
    )
    assert status == 0
    assert len(out) <= MOST_OUTPUT
    assert out.endswith("x7\n")


def test_closed_streams_do_not_keep_it_from_being_waited_for() -> None:
    status, out, error = python("import os, time; os.close(1); os.close(2); time.sleep(0.2); os._exit(5)")
    assert (status, out, error) == (5, "", "")


def test_no_descriptor_is_left() -> None:
    run(["true"], timeout_s=10)
    before = len(os.listdir("/proc/self/fd"))
    run(["true"], timeout_s=10)
    run(["sleep", str(HANGS_S)], timeout_s=0.1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_there_says_so() -> None:
    with pytest.raises(NotFoundError, match="no-such-command"):
        LinuxHost().run(["no-such-command"])


def test_a_command_reads_what_it_is_given_and_has_the_environment_it_is_given() -> None:
    given = b"x" * 200_000  # more than a pipe holds
    code = "import os, sys; print(len(sys.stdin.buffer.read()), sorted(os.environ))"
    done = run([sys.executable, "-S", "-E", "-c", code], timeout_s=30, given=given, environment={"LC_ALL": "C"})
    assert done.stdout == "200000 ['LC_ALL']\n", done
    assert run(["cat"], timeout_s=30).stdout == ""


@pytest.mark.long
def test_a_command_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    note = tmp_path / "pid"
    begins = threading.Timer(0.5, os.write, (writing, b"x"))
    begins.start()
    try:
        before = time.monotonic()
        done = run(["sh", "-c", f"echo $$ > {note}; sleep {HANGS_S}"], timeout_s=HANGS_S, cancel=reading)
        assert time.monotonic() - before < HANGS_S / 2
        assert done.status == TIMED_OUT
        assert ends(int(note.read_text()))
    finally:
        begins.join()
        os.close(reading)
        os.close(writing)


def test_only_so_much_output_is_kept() -> None:
    done = run(["sh", "-c", "seq 100000"], timeout_s=30, most_output=100)
    assert len(done.stdout) <= 100
    assert done.stdout.endswith("100000\n")
