"""Running a command for what it prints: with a time limit that holds, bounded memory, and nothing left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from hal.host_protocol import CommandResult

TIMED_OUT = 124
"""Exit status of a command that did not finish in time, as of timeout(1)."""
MOST_OUTPUT = 1 << 24
"""Bytes of each stream that are kept: the last ones."""
_CHUNK = 1 << 16


def run(argv: Sequence[str], *, timeout_s: float) -> CommandResult:
    """Run a command without a shell, in a process group of its own, which ends with it.

    Of more output than ``MOST_OUTPUT`` the end is kept. A grandchild that holds the output open is not waited for.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        kept, in_time = _collect(process, time.monotonic() + timeout_s)
    finally:
        _end(process)
    if not in_time:
        return CommandResult(TIMED_OUT, "", f"{argv[0]} did not finish within {timeout_s:g} s")
    out, err = (bytes(part).decode("utf-8", "replace") for part in kept)
    return CommandResult(process.returncode, out, err)


def _collect(process: subprocess.Popen[bytes], deadline: float) -> tuple[tuple[bytearray, bytearray], bool]:
    """Read both streams until the process has ended and nothing more is there; return them, and whether that was in time."""
    kept = bytearray(), bytearray()
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            for stream, into in zip((process.stdout, process.stderr), kept, strict=True):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, into)
            return kept, _read_to_the_end(selector, ended, deadline)
    finally:
        os.close(ended)


def _read_to_the_end(selector: selectors.BaseSelector, ended: int, deadline: float) -> bool:
    is_running = True
    while True:
        ready = selector.select(max(deadline - time.monotonic(), 0) if is_running else 0)
        streams = [key for key, _ in ready if key.fd != ended]
        for key in streams:
            _take(selector, key)
        if not is_running and not streams:
            return True
        if is_running and len(streams) < len(ready):
            is_running = False  # what it wrote before is read first; what holds its output open is not waited for
            selector.unregister(ended)
        if time.monotonic() > deadline:
            return False


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    data = os.read(key.fd, _CHUNK)
    if not data:
        selector.unregister(key.fileobj)
        return
    key.data.extend(data)
    del key.data[:-MOST_OUTPUT]


def _end(process: subprocess.Popen[bytes]) -> None:
    # Until its status is taken, the number of the process, and with it of the group, is nobody else's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
