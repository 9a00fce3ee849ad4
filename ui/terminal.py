"""The terminal as a screen that is always given back: alternate screen, keys without Return, rows that changed only."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import tempfile
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO

from rich.console import Console, Group
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # alternate screen, no cursor, no automatic wrapping, cleared
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


def input_descriptor() -> int | None:
    """Return the descriptor of standard input, None where there is none."""
    try:
        return sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        return None


class Keys:
    """Single keys from a terminal; nothing where the input is not one. ``wake`` ends a wait from any thread or handler."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor if descriptor is not None and os.isatty(descriptor) else None
        self._saved: list[object] | None = None
        self._waking, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def start(self) -> None:
        """Ask for keys as they are pressed, unechoed; Ctrl-C keeps its meaning."""
        if self._descriptor is None:
            return
        with contextlib.suppress(termios.error):
            self._saved = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor, termios.TCSANOW)

    def stop(self) -> None:
        """Put the terminal's own settings back."""
        if self._descriptor is not None and self._saved is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)  # type: ignore[arg-type]
            self._saved = None

    def close(self) -> None:
        """Release the pipe; no wait may be under way."""
        os.close(self._waking)
        os.close(self._waker)

    def wake(self) -> None:
        """End the wait under way, or else the next one."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b".")

    def wait(self, timeout_s: float) -> str:
        """Return the keys pressed, as soon as there are any, or an empty text after ``timeout_s`` or ``wake``."""
        watched = select.poll()  # not select(2), whose descriptors end at 1024
        for descriptor in (self._waking, self._descriptor):
            if descriptor is not None:
                watched.register(descriptor, select.POLLIN)
        ready = [number for number, _ in watched.poll(max(timeout_s, 0.0) * 1000)]
        if self._waking in ready:
            os.read(self._waking, 4096)
        if self._descriptor is None or self._descriptor not in ready:
            return ""
        return self._read(self._descriptor)

    def _read(self, descriptor: int) -> str:
        try:
            pressed = os.read(descriptor, 256)
        except OSError:
            pressed = b""
        if not pressed:
            self._descriptor = None  # hung up: never ready again with anything to read
        return pressed.decode("utf-8", "replace")


class Screen:
    """Rows on the alternate screen of a console's terminal. Only rows that changed are written."""

    def __init__(self, console: Console, keys: Keys) -> None:
        self._console = console
        self._keys = keys
        self._shown: list[str] = []
        self._active = False
        self.lock = threading.RLock()
        """Held while drawing; a signal handler of the drawing thread may take it again."""

    def __enter__(self) -> Screen:
        self.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal."""
        self._active = True
        self._shown = []
        self._keys.start()
        self._write(_ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was; may be called twice."""
        if self._active:
            self._active = False
            self._write(_LEAVE)
            self._keys.stop()

    def size(self) -> tuple[int, int]:
        """Return the terminal's (width, height)."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size(self._console.file.fileno())
            if size.columns and size.lines:
                return size.columns, size.lines
        return self._console.size.width, self._console.size.height

    def draw(self, rows: Sequence[Text]) -> None:
        """Show ``rows``, the first at the top."""
        with self.lock:
            if self._active:
                self._draw(rendered(self._console, rows))

    def _draw(self, lines: Sequence[str]) -> None:
        parts = []
        if len(lines) != len(self._shown):
            parts.append("\x1b[2J")
            self._shown = []
        for index, line in enumerate(lines):
            if index >= len(self._shown) or line != self._shown[index]:
                parts.append(f"\x1b[{index + 1};1H\x1b[K{line}\x1b[0m")
        self._shown = list(lines)
        if parts:
            self._write("".join(parts))

    def patch(self, line: int, column: int, text: str) -> None:
        """Write plain text over a place, both counted from 0; cheap, and forgotten by the next ``draw`` of that row."""
        with self.lock:
            if self._active:
                self._write(f"\x1b[{line + 1};{column + 1}H{text}")

    def forget(self) -> None:
        """Let the next ``draw`` write everything anew, as after a change of size."""
        with self.lock:
            self._shown = []

    def _write(self, text: str) -> None:
        file = self._console.file
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed: there is nobody to show it to
            file.write(text)
            file.flush()


def rendered(console: Console, rows: Sequence[Text]) -> list[str]:
    """Return each row with the control sequences for the console's colours."""
    with console.capture() as capture:
        console.print(Group(*rows), no_wrap=True, overflow="ignore", crop=False)
    return capture.get().split("\n")[: len(rows)]


def shows_live(console: Console) -> bool:
    """Tell whether a live view makes sense: a terminal that can place the cursor."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def diverted(console: Console) -> Iterator[Console]:
    """Keep a launched command's output off the screen, and show it when the view is over.

    Within, what is written to the terminal through standard output and error goes to a temporary file; the yielded
    console alone still reaches the terminal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2) if os.isatty(number)}
    if not kept:
        yield console
        return
    with tempfile.TemporaryFile() as aside:
        for number in kept:
            os.dup2(aside.fileno(), number)
        terminal = os.fdopen(os.dup(next(iter(kept.values()))), "w", encoding=console.encoding, errors="replace")
        try:
            yield Console(file=terminal, force_terminal=True, highlight=False, no_color=console.no_color or None)
        finally:
            terminal.close()
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
            _replay(aside, next(iter(kept)))


def _replay(aside: IO[bytes], descriptor: int) -> None:
    aside.seek(0)
    with contextlib.suppress(OSError):
        while chunk := aside.read(1 << 16):
            os.write(descriptor, chunk)
