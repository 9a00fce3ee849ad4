"""Reading a source without ever waiting for it longer than a set time.

A read runs in a thread of its own: a socket that trickles, a name that does not resolve, a file on a dead server can hold up that
thread, and nothing else. Until it is back the source counts as slow, and is not asked again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from hal.errors import HalError, NotFoundError
from rl.measured import Measured, Metric, Problem
from rl.sources.found import Fetch, Found, SourceError
from rl.sources.interpreter import Interpreter, Patience

TIMEOUT_S = 1.0


class Reader(Protocol):
    """One metric that can be read."""

    metric: Metric

    def read(self, now: float) -> Measured:
        """Return what it was in the interval since the last read; ``now`` is the caller's time, in seconds."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class _Attempt:
    """One read under way; ``done`` is set when it is over."""

    def __init__(self, fetch: Fetch, clock: Callable[[], int]) -> None:
        self.done = threading.Event()
        self.found: Found | None = None
        self.error: BaseException | None = None
        self.at_ns = 0
        self._fetch = fetch
        self._clock = clock
        self._abandoned = False
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="metric", daemon=True).start()

    def _run(self) -> None:
        try:
            self.found = self._fetch.fetch()
        except BaseException as error:
            self.error = error
        self.at_ns = self._clock()
        with self._lock:
            self.done.set()
            abandoned = self._abandoned
        if abandoned:
            _close(self._fetch)

    def abandon(self) -> bool:
        """Have the source closed when this is over; False when it is over already, and the caller is to close it."""
        with self._lock:
            self._abandoned = not self.done.is_set()
            return self._abandoned


class SourceReader:
    """Reads one opened source.

    Args:
        clock: nanoseconds that never go back, whatever is done to the time of day.
        timeout_s: how long a read waits.
    """

    def __init__(
        self,
        metric: Metric,
        fetch: Fetch,
        *,
        clock: Callable[[], int],
        timeout_s: float = TIMEOUT_S,
        patience: Patience | None = None,
    ) -> None:
        self.metric = metric
        self._fetch = fetch
        self._clock = clock
        self._timeout_s = timeout_s
        self._interpreter = Interpreter(metric, patience)
        self._attempt: _Attempt | None = None
        self._until = 0.0
        self._is_late = False
        self._at_ns = 0
        self._closed = False

    def read(self, now: float) -> Measured:
        """Return what it was since the last read, or why that is not known, after at most the set time."""
        self.begin()
        return self.finish(now)

    def begin(self) -> None:
        """Start a read, unless the last one is still under way."""
        if self._closed:
            return
        if self._attempt is not None and not self._attempt.done.is_set():
            return
        self._until = time.monotonic() + self._timeout_s
        self._is_late = False
        self._attempt = _Attempt(self._fetch, self._clock)

    def finish(self, now: float) -> Measured:
        """Wait for what was begun, and return the measurement."""
        attempt = self._attempt
        if attempt is None:
            return self._interpreter.fail(Problem.GONE, "it is closed", now)
        if self._is_late or not attempt.done.wait(max(self._until - time.monotonic(), 0)):
            self._is_late = True  # what it will answer is of this interval, and none of a later one's
            return self._interpreter.fail(Problem.SLOW, f"no answer within {self._timeout_s:g} s", now)
        if attempt.error is not None:
            return self._failed(attempt.error, now)
        assert attempt.found is not None
        elapsed_s = (attempt.at_ns - self._at_ns) * 1e-9
        self._at_ns = attempt.at_ns
        return self._interpreter.take(attempt.found, elapsed_s, now)

    def _failed(self, error: BaseException, now: float) -> Measured:
        if isinstance(error, SourceError):
            return self._interpreter.fail(error.problem, str(error), now)
        if isinstance(error, TimeoutError):
            return self._interpreter.fail(Problem.SLOW, f"no answer within {self._timeout_s:g} s", now)
        if isinstance(error, NotFoundError | OSError):
            return self._interpreter.fail(Problem.GONE, str(error), now)
        if isinstance(error, HalError):
            return self._interpreter.fail(Problem.REFUSED, str(error), now)
        # Whatever a server sends, the loop must live.
        return self._interpreter.fail(Problem.REFUSED, f"{type(error).__name__}: {error}", now)

    def close(self) -> None:
        """Release the source; at once, or when the read under way is over."""
        attempt, self._attempt = self._attempt, None
        if self._closed:
            return
        self._closed = True
        if attempt is None or not attempt.abandon():
            _close(self._fetch)


def _close(fetch: Fetch) -> None:
    with suppress(HalError, OSError):
        fetch.close()


def read_all(readers: Sequence[SourceReader], now: float) -> tuple[Measured, ...]:
    """Read several at the same time: one that is slow does not take the time of the others."""
    for reader in readers:
        reader.begin()
    return tuple(reader.finish(now) for reader in readers)
