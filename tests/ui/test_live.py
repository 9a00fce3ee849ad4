"""The live loop on a real pseudo-terminal: keys, signals, and the terminal given back."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.ui.recording import recording
from ui.live import follow
from ui.terminal import Keys, Screen, diverted

_ROOT = Path(__file__).parents[2]
_LIMIT_S = 30.0


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", "PYTHONPATH": str(_ROOT)}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ui.follow_recording"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=_ROOT,
            env=environment,
            start_new_session=True,
        )
        self.text = ""

    def until(self, words: str) -> str:
        """Read until ``words`` appear after what was read before; return everything since."""
        start = len(self.text)
        deadline = time.monotonic() + _LIMIT_S
        while words not in self.text[start:]:
            self._read(deadline, words)
        return self.text[start:]

    def _read(self, deadline: float, words: str) -> None:
        ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{words!r} did not appear in {self.text[-2000:]!r}"
        self.text += os.read(self.master, 65536).decode("utf-8", "replace")

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        return self.process.wait(timeout=_LIMIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


def _restored(terminal: Terminal) -> None:
    assert terminal.text.rstrip().rfind("\x1b[?1049l") > terminal.text.rfind("\x1b[?1049h")
    assert "\x1b[?25h" in terminal.text
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_keys_and_another_size(terminal: Terminal) -> None:
    terminal.until("epoll_wait")
    terminal.press(" ")
    terminal.until("paused")
    terminal.press(" ")
    terminal.until("next")
    terminal.press("?")
    terminal.until("measuring goes on")
    terminal.press("\x1b")
    terminal.until("epoll_wait")
    fcntl.ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    terminal.until("\x1b[60;1H")
    assert "bio_close_file" in terminal.text
    terminal.press("q")
    terminal.until("SUMMARY of 1+ intervals")
    assert terminal.end() == 0
    _restored(terminal)


_OTHERS = [pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.parametrize("number", [signal.SIGINT, *_OTHERS])
def test_a_signal_ends_cleanly(terminal: Terminal, number: signal.Signals) -> None:
    terminal.until("epoll_wait")
    terminal.process.send_signal(number)
    terminal.until("SUMMARY of 1+ intervals")
    assert terminal.end() == 0
    _restored(terminal)


def test_suspended_it_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.until("epoll_wait")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.until("\x1b[?1049l")
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED)
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until("epoll_wait")
    terminal.press("q")
    terminal.until("SUMMARY")
    _restored(terminal)


def test_without_a_terminal_one_plain_line_an_interval() -> None:
    source = recording()
    file = io.StringIO()
    follow(source, console=Console(file=file, width=80), interval_s=5.0)
    lines = file.getvalue().splitlines()
    assert len(lines) == 2 + len(source.intervals)
    assert "redis-server" in lines[0]
    assert "db7" in lines[1]
    assert re.match(r" 0:05 {2}cores 0.78 .* novelty 0.40 {2}network program", lines[2])
    assert "\x1b" not in file.getvalue()


def test_the_second_signal_interrupts() -> None:
    source = recording()
    source.stop = lambda: None  # type: ignore[method-assign]

    def intervals() -> Iterator[object]:
        os.kill(os.getpid(), signal.SIGINT)
        yield source.intervals[0]
        os.kill(os.getpid(), signal.SIGINT)
        yield source.intervals[1]

    class Stubborn(type(source)):  # type: ignore[misc]
        def __iter__(self) -> Iterator[object]:
            return intervals()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        follow(Stubborn(source.intervals), console=Console(file=io.StringIO()), interval_s=5.0)
    assert signal.getsignal(signal.SIGINT) is before


def test_only_changed_rows_are_written() -> None:
    from rich.text import Text

    file = io.StringIO()
    keys = Keys(None)
    try:
        with Screen(Console(file=file, width=20, height=2), keys) as screen:
            screen.draw([Text("one"), Text("two")])
            written = len(file.getvalue())
            screen.draw([Text("one"), Text("three")])
            assert file.getvalue()[written:] == "\x1b[2;1H\x1b[Kthree\x1b[0m"
            screen.forget()
            screen.draw([Text("one"), Text("three")])
            assert file.getvalue().count("one") == 2
    finally:
        keys.close()


def test_output_to_a_file_is_not_diverted(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO())
    with diverted(console) as shown:
        os.write(1, b"hello\n")
        assert shown is console
    assert capfd.readouterr().out == "hello\n"
