"""``dna profile`` as a user types it: targets, errors, what it prints, keeps and returns."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

import cli
from dna.errors import DnaError
from dna.store import Store
from dna.target import Target
from ui.options import choose_target, duration_of, interval_of

pytestmark = pytest.mark.slow  # each runs the command for seconds

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 60.0


class Run(Protocol):
    """Run ``dna profile`` with arguments; returns (exit status, stdout, stderr)."""

    def __call__(self, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("DNA_STORE", str(tmp_path / "history.db"))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dna", "profile", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def _command(store: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), "profile", "--store", str(store), *arguments]


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that makes system calls."""
    with subprocess.Popen([sys.executable, "-c", "import os\nwhile True: os.getppid()"]) as process:
        yield process
        process.kill()


# --- words of the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no target", "--pid N", "-- COMMAND"]),
        (["--pid", "1", "--host"], ["2 targets: --pid, --host", "exactly one"]),
        (["--host", "--", "true"], ["2 targets: --host, -- COMMAND"]),
        (["--pid", "0"], ["positive number"]),
        (["--comm", "("], ["not a regular expression"]),
        (["--comm", ""], ["--host"]),
        (["--"], ["no command after --"]),
        (["1234"], ["--pid 1234"]),
        (["redis-server", "--port", "1"], ["--comm redis-server", "-- redis-server --port 1"]),
        (["--host", "--interval", "0.1"], ["--interval 0.1", "0.2 and 3600"]),
        (["--host", "--interval", "nan"], ["--interval nan"]),
        (["--host", "--interval", "3601"], ["--interval 3601"]),
        (["--host", "--duration", "-1"], ["--duration -1"]),
        (["--host", "--duration", "inf"], ["--duration inf"]),
        (["--host", "--json", "/no/such/folder/x.json"], ["there is no folder"]),
    ],
)
def test_usage_errors_say_what_and_how(profile: Run, arguments: list[str], words: list[str]) -> None:
    status, out, err = profile(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("dna: ")
    assert len(err.splitlines()) <= 2
    for word in words:
        assert word in err


def test_a_bad_number_is_a_usage_error(profile: Run) -> None:
    assert profile("--pid", "redis")[0] == 2
    assert profile("--host", "--interval", "soon")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pid", "4194303"],
        ["--comm", "no-such-program-[0-9]+"],
        ["--unit", "no-such-unit"],
        ["--container", "0123456789abcdef"],
        ["--cgroup", "/sys/fs/cgroup/no/such"],
        ["--", "no-such-command"],
    ],
)
def test_a_missing_target_is_exit_3(profile: Run, arguments: list[str]) -> None:
    status, _, err = profile("--duration", "0.2", "--no-store", *arguments)
    assert status == 3
    assert err.startswith("dna: ")


def test_a_history_that_cannot_be_used_is_said_before_measuring(profile: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, and long enough to be read as one" * 100)
    began = time.monotonic()
    status, _, err = profile("--host", "--duration", "60", "--store", str(broken))
    assert status == 1
    assert str(broken) in err
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({"pid": 7}, Target.pid(7)),
        ({"cgroup": "/a"}, Target.cgroup("/a")),
        ({"unit": "nginx"}, Target.unit("nginx.service")),
        ({"container": "3f2a9c"}, Target.container("3f2a9c")),
        ({"comm": "^py"}, Target.comm("^py")),
        ({"host": True}, Target.host()),
        ({"command": ["sh", "-c", "x"]}, Target.command(["sh", "-c", "x"])),
    ],
)
def test_every_form_of_target(options: dict[str, object], target: Target) -> None:
    assert choose_target(**options) == target  # type: ignore[arg-type]


def test_spans() -> None:
    assert interval_of(0.2) == 0.2
    assert duration_of(None, default=30.0) == 30.0
    assert duration_of(0, default=30.0) is None
    assert duration_of(12, default=None) == 12
    with pytest.raises(DnaError):
        duration_of(0.1, default=None)


# --- real runs


def test_a_command_is_followed_and_its_status_passed_on(tmp_path: Path) -> None:
    script = "echo from the command; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 7"
    arguments = ["--interval", "0.3", "--name", "loop", "--", "sh", "-c", script]
    done = subprocess.run(
        _command(tmp_path / "h.db", *arguments), capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == "from the command\n"
    assert "interval" in done.stderr
    assert "Quality" in done.stderr
    with Store.open(tmp_path / "h.db") as store:
        kept = store.get("loop")
    assert kept.target["kind"] == "command"
    assert kept.intervals
    assert "profile" in kept.tool
    assert "-- sh -c" in kept.tool


def test_json_on_standard_output_is_all_there_is_on_it(busy: subprocess.Popen[bytes], tmp_path: Path) -> None:
    arguments = ["--pid", str(busy.pid), "--interval", "0.5", "--duration", "1", "--json", "-", "--no-store"]
    done = subprocess.run(
        _command(tmp_path / "h.db", *arguments), capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["target"]["value"] == str(busy.pid)
    assert len(document["intervals"]) == 2
    assert document["summary"]["features"]["sched.oncpu_share"] is not None
    assert "cores" in done.stderr
    assert not (tmp_path / "h.db").exists()


def test_a_target_that_ends_ends_the_profile_with_what_there_is(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "3"]) as target:
        arguments = [
            "--pid",
            str(target.pid),
            "--interval",
            "0.5",
            "--duration",
            "50",
            "--json",
            str(tmp_path / "p.json"),
        ]
        began = time.monotonic()
        done = subprocess.run(
            _command(tmp_path / "h.db", *arguments), capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 45
    assert json.loads((tmp_path / "p.json").read_text())["intervals"]
    assert "Kept as" in done.stdout


def test_ctrl_c_ends_with_the_summary(busy: subprocess.Popen[bytes], tmp_path: Path) -> None:
    arguments = ["--pid", str(busy.pid), "--interval", "0.3", "--duration", "0"]
    with subprocess.Popen(_command(tmp_path / "h.db", *arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert "cores" in lines[2]
    assert process.returncode == 0
    assert "Quality" in rest
    assert "Kept as" in rest


def _on_a_terminal(command: list[str], keys: str, *, after: str) -> tuple[int, str]:
    """Run a command on a pseudo-terminal, press ``keys`` once ``after`` has appeared; return (exit status, output)."""
    pid, master = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(command[0], command)
    text = ""
    deadline = time.monotonic() + _LIMIT_S
    pressed = not keys
    while True:
        ready, _, _ = select.select([master], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"nothing more after {text[-2000:]!r}"
        try:
            text += os.read(master, 65536).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            break
        if not pressed and after in text:
            os.write(master, keys.encode())
            pressed = True
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def test_live_on_a_terminal(busy: subprocess.Popen[bytes], tmp_path: Path) -> None:
    command = _command(tmp_path / "h.db", "--pid", str(busy.pid), "--interval", "0.5", "--duration", "0")
    status, text = _on_a_terminal(command, "q", after="own cost")
    assert status == 0, text
    live, _, after = text.rpartition("\x1b[?1049l")
    assert "\x1b[?1049h" in live
    assert "System calls" in live
    assert "Quality" in after
    assert "Kept as" in after


@pytest.mark.slow
def test_a_command_on_a_terminal_prints_after_the_view(tmp_path: Path) -> None:
    command = _command(
        tmp_path / "h.db", "--interval", "0.5", "--", "sh", "-c", "echo from the command; sleep 1; exit 3"
    )
    status, text = _on_a_terminal(command, "", after="")
    assert status == 3, text
    live, _, after = text.rpartition("\x1b[?1049l")
    assert "from the command\r\n" not in live
    assert "from the command\r\n" in after
    assert "Quality" in after


@pytest.mark.slow
def test_no_live_on_a_terminal_is_plain(busy: subprocess.Popen[bytes], tmp_path: Path) -> None:
    options = ["--pid", str(busy.pid), "--interval", "0.5", "--duration", "1", "--no-live", "--no-store"]
    status, text = _on_a_terminal(_command(tmp_path / "h.db", *options), "", after="")
    assert status == 0, text
    assert "\x1b[?1049h" not in text
    assert " 0:00  " in text or " 0:01  " in text
