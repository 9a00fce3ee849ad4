"""Running a command for what it prints: with a time limit that holds, bounded memory, and nothing left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from hal.host_protocol import CommandResult

TIMED_OUT = 124
"""Exit status of a command that did not finish in time, as of timeout(1)."""
MOST_OUTPUT = 1 << 24
"""Bytes of each stream that are kept: the last ones."""
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Limits:
    deadline: float
    most_output: int
    cancel: int | None


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
    most_output: int = MOST_OUTPUT,
    cancel: int | None = None,
) -> CommandResult:
    """Run a command without a shell, in a process group of its own, which ends with it.

    Of more output than ``most_output`` bytes of a stream the end is kept. A grandchild that holds the output open is not waited for.

    Args:
        given: what it reads on its standard input.
        environment: instead of this process's.
        cancel: a descriptor; the command is ended as at its time limit when that becomes readable.

    Raises:
        OSError: it cannot be started.
    """
    with _input(given) as stdin:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
        )
    try:
        kept, in_time = _collect(process, _Limits(time.monotonic() + timeout_s, most_output, cancel))
    finally:
        _end(process)
    if not in_time:
        return CommandResult(TIMED_OUT, "", f"{argv[0]} did not finish within {timeout_s:g} s")
    out, err = (bytes(part).decode("utf-8", "replace") for part in kept)
    return CommandResult(process.returncode, out, err)


@contextmanager
def _input(given: bytes) -> Iterator[int]:
    """Yield a descriptor to read these bytes from: a file, since a pipe would have to be filled while the command runs."""
    if not given:
        yield subprocess.DEVNULL
        return
    memory = os.memfd_create("input")
    try:
        os.write(memory, given)
        os.lseek(memory, 0, os.SEEK_SET)
        yield memory
    finally:
        os.close(memory)


def _collect(process: subprocess.Popen[bytes], limits: _Limits) -> tuple[tuple[bytearray, bytearray], bool]:
    """Read both streams until the process has ended and nothing more is there; return them, and whether that was in time."""
    kept = bytearray(), bytearray()
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            if limits.cancel is not None:
                selector.register(limits.cancel, selectors.EVENT_READ)
            for stream, into in zip((process.stdout, process.stderr), kept, strict=True):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, into)
            return kept, _read_to_the_end(selector, ended, limits)
    finally:
        os.close(ended)


def _read_to_the_end(selector: selectors.BaseSelector, ended: int, limits: _Limits) -> bool:
    is_running = True
    while True:
        ready = [key for key, _ in selector.select(max(limits.deadline - time.monotonic(), 0) if is_running else 0)]
        if any(key.fd == limits.cancel for key in ready):
            return False
        streams = [key for key in ready if key.fd != ended]
        for key in streams:
            _take(selector, key, limits.most_output)
        if not is_running and not streams:
            return True
        if is_running and len(streams) < len(ready):
            is_running = False  # what it wrote before is read first; what holds its output open is not waited for
            selector.unregister(ended)
        if time.monotonic() > limits.deadline:
            return False


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey, most: int) -> None:
    data = os.read(key.fd, _CHUNK)
    if not data:
        selector.unregister(key.fileobj)
        return
    key.data.extend(data)
    del key.data[:-most]


def _end(process: subprocess.Popen[bytes]) -> None:
    # Until its status is taken, the number of the process, and with it of the group, is nobody else's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
