"""Telling a service manager how the run is: that it is ready, how it stands, that it is alive (``sd_notify(3)``).

What is told is one datagram of lines to the socket that ``$NOTIFY_SOCKET`` names; where that is not set, nothing is. A service
manager that wants to hear regularly (``WatchdogSec=``) does so only while something moves in the run.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from types import TracebackType

from sculpt.control import Control
from sculpt.state import WorkloadState
from sculpt.step import Record

GRACE = 3.0
"""Intervals without a word after which a run counts as stuck ..."""
GRACE_S = 60.0
"""... and seconds beyond these."""


class Notifier:
    """Tells the service manager of a run; a watcher of its records.

    Args:
        environment: where the socket is named; what concerns it is taken out, so that no program started later takes it for its own.
        pid: of this process, which the manager must have meant.
    """

    def __init__(
        self, control: Control, *, environment: MutableMapping[str, str] | None = None, pid: int | None = None
    ) -> None:
        env = os.environ if environment is None else environment
        self._control = control
        self._address = env.pop("NOTIFY_SOCKET", "")
        self._every_s = _watchdog_s(env, os.getpid() if pid is None else pid)
        self._told = ""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Notifier:
        if self._address:
            self._control.when_begun(self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.tell("STOPPING=1")
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def __call__(self, _record: Record) -> None:
        """Tell how the run stands, where that is another than before."""
        words = status_line(self._control.states(), paused=self._control.is_paused())
        if words != self._told:
            self._told = words
            self.tell(f"STATUS={words}")

    def tell(self, *lines: str) -> None:
        """Send lines such as ``READY=1``. That nobody hears them is no error."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)  # a manager that does not listen holds nothing up
            out.sendto("\n".join(lines).encode(), address)

    def _begin(self) -> None:
        self.tell("READY=1", "STATUS=watching; the first interval is not over")
        if self._every_s is not None:
            self._thread = threading.Thread(target=self._beat, args=(self._every_s,), name="watchdog", daemon=True)
            self._thread.start()

    def _beat(self, every_s: float) -> None:
        while not self._over.wait(every_s):
            if self._control.silent_s() < GRACE * self._control.interval_s() + GRACE_S:
                self.tell("WATCHDOG=1")


def _watchdog_s(env: MutableMapping[str, str], pid: int) -> float | None:
    """Return how often the manager is to be told, twice as often as it asks for; None where it does not (sd_watchdog_enabled(3))."""
    interval, meant = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
    if not interval.isdigit() or int(interval) == 0 or (meant and meant != str(pid)):
        return None
    return int(interval) * 1e-6 / 2


def status_line(states: tuple[WorkloadState, ...], *, paused: bool = False) -> str:
    """Return how workloads stand, in one line."""
    words = [f"{state.workload}: {_doing(state)}" for state in states]
    line = "; ".join(words) or "waiting"
    return "".join(c if c.isprintable() else "." for c in (f"paused; {line}" if paused else line))[:500]


def _doing(state: WorkloadState) -> str:
    match state.activity:
        case "trying" | "judging":
            return f"{state.activity} {state.latest.decision.candidate}"
        case "holding":
            return f"holding {state.in_force}"
    return state.activity
