"""Where alerts go out: each outlet has a queue and a thread of its own, so that whatever hangs behind it holds up nothing else.

A queue that is full drops what comes, an outlet that fails goes on with the next; both are counted, and said at the end.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from sculpt.alerts import Alert

WAITING = 100
"""Alerts that wait in an outlet's queue at most."""
DRAINED_S = 5.0
"""At the end all outlets together have so long to deliver what waits."""


class DeliveryError(Exception):
    """An alert could not be delivered."""


@dataclass(slots=True)
class Stop:
    """Says that it is time to end: to who waits for a time, and to who waits for a descriptor."""

    event: threading.Event = field(default_factory=threading.Event)
    descriptor: int = field(default_factory=lambda: os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def set(self) -> None:
        """It is time."""
        self.event.set()
        if self.descriptor >= 0:
            os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Nobody waits any more."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Sink(Protocol):
    """Delivers one alert at a time."""

    name: str

    def deliver(self, alert: Alert, stop: Stop) -> str:
        """Deliver it, and return what is to be noted of that, if anything.

        It may take its time, except once ``stop`` is set.

        Raises:
            DeliveryError: that was not possible.
        """


type Note = Callable[[str, Alert, Mapping[str, object]], None]
"""Told by which sink which alert was delivered, and what came of it."""


def untold(_sink: str, _alert: Alert, _outcome: Mapping[str, object]) -> None:
    """Be told of a delivery, and do nothing with it."""


@dataclass(slots=True)
class Counts:
    """Of one outlet."""

    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    """For want of room in the queue, or of time at the end."""
    trouble: str = ""
    """The last that failed."""


class Outlet:
    """One sink with its queue and its thread, which begins with the first alert: before, a command may have to be forked.

    Args:
        note: told of what failed, and of what a sink wants noted; called from the outlet's thread.
    """

    def __init__(self, sink: Sink, *, note: Note = untold, waiting: int = WAITING) -> None:
        self.sink = sink
        self.counts = Counts()
        self._note = note
        self._queue: queue.Queue[Alert | None] = queue.Queue(waiting)
        self._stop = Stop()
        self._thread: threading.Thread | None = None

    def put(self, alert: Alert) -> None:
        """Take an alert; never waits. By one thread at a time."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"alerts-{self.sink.name}", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self.counts.dropped += 1

    def close(self, until: float) -> None:
        """Deliver what waits until a time of the monotonic clock; then end whatever is being delivered."""
        if self._thread is not None:
            self._end(self._thread, until)
        else:
            self._stop.close()

    def _end(self, thread: threading.Thread, until: float) -> None:
        with suppress(queue.Full):
            self._queue.put(None, timeout=max(until - time.monotonic(), 0.0))
        thread.join(max(until - time.monotonic(), 0.0))
        self._stop.set()
        thread.join(1.0)
        if not thread.is_alive():  # else it still looks at the descriptor, until the process ends
            self._stop.close()
        self.counts.dropped += self._left()

    def _left(self) -> int:
        left = 0
        with suppress(queue.Empty):
            while True:
                left += self._queue.get_nowait() is not None
        return left

    def _work(self) -> None:
        while not self._stop.event.is_set():
            alert = self._queue.get()
            if alert is None:
                return
            self._deliver(alert)

    def _deliver(self, alert: Alert) -> None:
        began = time.monotonic()
        try:
            said, failed = self.sink.deliver(alert, self._stop), ""
        except DeliveryError as error:
            said, failed = "", str(error)
        except Exception as error:  # whatever a sink comes to must not end its thread: the next alert may pass
            said, failed = "", f"{type(error).__name__}: {error}"
        if failed:
            self.counts.failed += 1
            self.counts.trouble = failed
        else:
            self.counts.delivered += 1
        if said or failed:
            outcome = {"failed": failed} if failed else {"said": said}
            self._note(self.sink.name, alert, {**outcome, "took_s": round(time.monotonic() - began, 3)})


def close_all(outlets: Sequence[Outlet], drained_s: float = DRAINED_S) -> None:
    """Close all outlets side by side, so that one that hangs leaves the others their time."""
    until = time.monotonic() + drained_s
    closing = [threading.Thread(target=outlet.close, args=(until,)) for outlet in outlets]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
