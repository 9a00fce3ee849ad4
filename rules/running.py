"""Run what a rule's author wrote, within a time limit, without letting it bring anything else down."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

TIME_LIMIT_S = 1.0
"""What one body may take."""
MOST_YIELDED = 1000
"""Settings that one body may yield."""


@dataclass(frozen=True, slots=True)
class Ran[T]:
    """What became of a call."""

    value: T | None
    error: BaseException | None = None
    """What it raised; a TimeoutError when it did not end in time."""
    printed: str = ""
    """What it printed, which nobody else sees."""


class Runner:
    """Calls functions in a thread of its own, one after the other; a thread that does not come back is left behind."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    def call[T](self, function: Callable[[], T], *, limit_s: float = TIME_LIMIT_S) -> Ran[T]:
        """Call it, and wait no longer than the limit."""
        worker = self._worker if self._worker is not None else _Worker()
        self._worker = worker
        printed = io.StringIO()
        # Redirected here, not in the worker: one that is left behind must not keep everybody's output.
        result = None
        try:
            with _captured(printed):
                result = worker.call(function, limit_s)
        finally:
            if result is None:  # it takes too long, or who waits for it is interrupted
                worker.abandon()
                self._worker = None
        if result is None:
            return Ran(None, TimeoutError(f"it did not end within {limit_s:g} s"), printed.getvalue())
        value, error = result
        return Ran(value, error, printed.getvalue())  # type: ignore[arg-type]

    def close(self) -> None:
        """Let its thread end."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def __del__(self) -> None:
        self.close()  # whoever forgets a runner leaves no thread behind

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _captured(printed: io.StringIO) -> Iterator[None]:
    """Have what is printed go there; inside another call it goes where that one's does.

    A call inside another is made by a worker, which may be left behind: it would put back the wrong output, later.
    """
    if isinstance(threading.current_thread(), _Thread):
        yield
        return
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield


class _Thread(threading.Thread):
    """A worker's thread."""


class _Abandoned(BaseException):
    """Raised in a worker that took too long: no ``except Exception`` of a rule catches it."""


class _Worker:
    """One daemon thread that makes calls."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
        self._thread = _Thread(target=self._run, name="rules", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], object], limit_s: float) -> tuple[object, BaseException | None] | None:
        """Return what came of it, None when it takes longer than the limit."""
        self._calls.put(function)
        try:
            return self._results.get(timeout=limit_s)
        except queue.Empty:
            return None

    def end(self) -> None:
        """Let the thread end, which is idle."""
        self._calls.put(None)

    def abandon(self) -> None:
        """Interrupt it at its next step in Python; a call that never comes back to Python stays, and holds nothing of ours."""
        assert self._thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(_Abandoned))

    def _run(self) -> None:
        with contextlib.suppress(_Abandoned):
            while (function := self._calls.get()) is not None:
                try:
                    self._results.put((function(), None))
                except _Abandoned:
                    return
                except BaseException as error:  # SystemExit and KeyboardInterrupt of a rule are its errors, not ours
                    self._results.put((None, error))


def collected[T](found: Iterable[T] | None) -> tuple[T, ...]:
    """Return what a body yields.

    Raises:
        ValueError: it does not stop.
    """
    if found is None:
        return ()
    taken = tuple(itertools.islice(found, MOST_YIELDED + 1))
    if len(taken) > MOST_YIELDED:
        raise ValueError(f"it yields more than {MOST_YIELDED} settings")
    return taken
