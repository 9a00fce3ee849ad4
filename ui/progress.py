"""How far a change is that takes long: one line on a terminal, gone when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from hal.settings import Change
from ui.units import plain

_EVERY_S = 0.1


@contextmanager
def meter(console: Console | None = None, *, quiet: bool = False) -> Iterator[Callable[[Change, int, int], None]]:
    """Yield what is told how far a change is, and shows it on standard error.

    Nothing is written where that is no terminal, with ``quiet``, and until there is something to tell.
    """
    out = console or Console(stderr=True)
    line = _Line(out)
    try:
        yield line.show if out.is_terminal and not quiet else _unseen
    finally:
        line.close()


def _unseen(_change: Change, _done: int, _of: int) -> None:
    pass


class _Line:
    """A bar that begins with the first news; it is drawn when told, so that no thread runs beside the work."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._change: Change | None = None
        self._task = TaskID(0)
        self._drawn = 0.0

    def show(self, change: Change, done: int, of: int) -> None:
        """Show how many bytes of how many are dealt with."""
        if change != self._change:
            self._begin(change)
        now = time.monotonic()
        is_due = now - self._drawn >= _EVERY_S
        self._drawn = now if is_due else self._drawn
        self._bar.update(self._task, completed=done, total=of, refresh=is_due)

    def close(self) -> None:
        """Take the line away."""
        if self._change is not None:
            self._bar.stop()

    def _begin(self, change: Change) -> None:
        if self._change is None:
            self._bar.start()
        else:
            self._bar.remove_task(self._task)
        name = f" ({change.label})" if change.label else ""
        self._change = change
        self._task = self._bar.add_task(plain(f"{change.knob} of {change.subject}{name}"), total=None)
