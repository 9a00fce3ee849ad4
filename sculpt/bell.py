"""What the thread that holds a run together waits on: rung by the threads of workloads that ended, by signals, by whoever wants the end."""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Bell:
    """A pipe, since a signal's handler may write to one whatever its thread is doing."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        # Reentrant: the handler may run while its own thread is in here.
        self._lock = threading.RLock()
        self._is_stop = False

    def ring(self) -> None:
        """Wake whoever waits; from anywhere, at any time."""
        with self._lock, suppress(OSError):
            if self._write >= 0:
                os.write(self._write, b".")

    def stop(self) -> None:
        """Ask for the end; from anywhere, at any time."""
        self._is_stop = True
        self.ring()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until it is rung, or for so long; tell whether the end was asked for."""
        poll = select.poll()  # select(2) knows no descriptor past 1024, and profilers have many
        poll.register(self._read, select.POLLIN)
        poll.poll(None if timeout_s is None else round(timeout_s * 1000))
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        return self._is_stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1
