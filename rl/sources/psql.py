"""One psql that stays: to start it anew for each question would cost forty times as much as the question."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from rl.measured import Problem
from rl.sources.found import SourceError

_MARK = "dna-answered"
_MOST_BYTES = 1 << 16
_SHOWN = 160


class Psql:
    """A psql on a connection of its own, started when it is first asked and again after it ended.

    It ends with us, whatever becomes of us: its input is closed then.

    Args:
        target: arguments that name the server and database.
    """

    def __init__(self, target: Sequence[str], *, timeout_s: float) -> None:
        # Without -w it would wait for a password to be typed.
        self._argv = ["psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", *target]
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: str) -> str:
        """Return the last line of the answer to one SQL statement.

        Raises:
            SourceError: there is no psql, no server, no answer in time, or an error.
        """
        process = self._running()
        try:
            return self._answer(process, question)
        except BaseException:
            self.close()  # what it still says would be taken for the answer to the next question
            raise

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.kill()
        process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            limit = str(max(round(self._timeout_s), 2))  # libpq takes less for 2
            try:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, "PGCONNECT_TIMEOUT": limit, "PGAPPNAME": "dna", "LC_ALL": "C"},
                )
            except FileNotFoundError as error:
                raise SourceError(Problem.GONE, "psql is not installed: apt install postgresql-client") from error
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], question: str) -> str:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; what it said is still to be read
            process.stdin.write(f"{question};\n\\echo {_MARK}\n".encode())
            process.stdin.flush()
        said = self._until_mark(process)
        lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines or lines[-1] != _MARK:
            raise SourceError(Problem.REFUSED, lines[0][:_SHOWN] if lines else "psql ended without a word")
        return lines[-2] if len(lines) > 1 else ""

    def _until_mark(self, process: subprocess.Popen[bytes]) -> bytes:
        """Return what it says up to the mark, or to its end."""
        assert process.stdout is not None
        deadline = time.monotonic() + self._timeout_s
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not said.endswith(f"{_MARK}\n".encode()):
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    raise SourceError(Problem.SLOW, f"psql gave no answer within {self._timeout_s:g} s")
                data = os.read(process.stdout.fileno(), _MOST_BYTES)
                said = (said + data)[-_MOST_BYTES:]
                if not data:
                    break
        return said
