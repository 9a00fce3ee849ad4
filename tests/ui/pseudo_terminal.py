"""A program of the tests on a pseudo-terminal of its own: what it shows is read, keys are pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_LIMIT_S = 60.0


class Terminal:
    """``python ARGUMENTS`` on a pseudo-terminal of its own."""

    def __init__(
        self, *arguments: str, width: int = 80, height: int = 24, environment: Mapping[str, str] | None = None
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        own = {"TERM": "xterm-256color", "PYTHONUTF8": "1", "PYTHONPATH": str(_ROOT), **(environment or {})}
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=_ROOT,
            env={**inherited, **own},
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

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def check_restored(self) -> None:
        """The terminal is as it was before."""
        assert self.text.rstrip().rfind("\x1b[?1049l") > self.text.rfind("\x1b[?1049h")
        assert "\x1b[?25h" in self.text
        assert termios.tcgetattr(self.slave) == self.before
