"""Start a command so that nothing of it goes unseen: it waits until the probes are attached."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress

from dna.errors import TargetGoneError

_CANNOT_RUN = 126  # as shells say of what is there but cannot be run


class Launched:
    """A child that has been forked but has not yet become the command; ``go`` lets it."""

    def __init__(self, argv: Sequence[str]) -> None:
        path = shutil.which(argv[0])
        if path is None:
            reason = "is not executable" if os.path.exists(argv[0]) else "was not found"
            raise TargetGoneError(f"the command {argv[0]} {reason}", remedy="check its spelling, PATH and mode")
        gate_in, self._gate = os.pipe()
        self.status: int | None = None
        self.cpu_s = 0.0
        """CPU time of it and of its children that it waited for; once it has ended."""
        self.pid = os.fork()
        if self.pid == 0:
            _become(path, list(argv), gate_in, self._gate)
        os.close(gate_in)

    def go(self) -> None:
        """Let the command begin."""
        if self._gate >= 0:
            with suppress(BrokenPipeError):
                os.write(self._gate, b"1")
            os.close(self._gate)
            self._gate = -1

    def poll(self) -> int | None:
        """Return the exit status as a shell gives it (128 + signal), None while it runs."""
        if self.status is None:
            pid, raw, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.cpu_s = used.ru_utime + used.ru_stime
                code = os.waitstatus_to_exitcode(raw)
                self.status = code if code >= 0 else 128 - code
        return self.status

    def close(self) -> None:
        """End a command that never began; one that did is left to itself."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _become(path: str, argv: list[str], gate_in: int, gate_out: int) -> None:
    """In the child: wait for the gate, then run the command. Never returns."""
    try:
        os.close(gate_out)
        if os.read(gate_in, 1):
            # CPython ignores these two; a command expects the default.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            os.execv(path, argv)
    except BaseException as error:
        os.write(2, f"dna: cannot run {path}: {error}\n".encode())
    finally:
        os._exit(_CANNOT_RUN)
