"""The live loop on a real pseudo-terminal: keys, signals, and the terminal given back."""

from __future__ import annotations

import io
import os
import re
import signal
import termios
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.ui.pseudo_terminal import Terminal
from tests.ui.recording import recording
from ui.live import follow
from ui.terminal import Keys, Screen, diverted


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal("-m", "tests.ui.follow_recording")
    yield found
    found.close()


@pytest.mark.long
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
    terminal.resize(200, 60)
    terminal.until("\x1b[60;1H")
    assert "bio_close_file" in terminal.text
    terminal.press("q")
    terminal.until("SUMMARY of 1+ intervals")
    assert terminal.end() == 0
    terminal.check_restored()


_OTHERS = [pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, *_OTHERS])
def test_a_signal_ends_cleanly(terminal: Terminal, number: signal.Signals) -> None:
    terminal.until("epoll_wait")
    terminal.process.send_signal(number)
    terminal.until("SUMMARY of 1+ intervals")
    assert terminal.end() == 0
    terminal.check_restored()


@pytest.mark.long
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
    terminal.check_restored()


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
