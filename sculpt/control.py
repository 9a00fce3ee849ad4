"""What others may know of a run and ask of it while it goes on: a watcher of its records, with a switch to pause and to end it.

Safe from any thread. The loop asks ``is_paused`` before each decision; ``stop`` does what SIGTERM does. How others reach it is
``sculpt.control_server``'s.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sculpt.state import Gain, News, WorkloadState
from sculpt.step import Record

RESTORE, KEEP = "restore", "keep"
SHOWN_NEWS = 10


@dataclass(frozen=True, slots=True)
class About:
    """What a run is, from its beginning to its end."""

    mode: str
    """All of them, where workloads have different ones."""
    interval_s: float
    on_exit: str = RESTORE
    command: str = ""


class Control:
    """The state of a run.

    Args:
        clock: seconds that never go back.
        now: the time of day, in seconds since 1970.
    """

    def __init__(
        self, about: About, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self.about = about
        self._clock, self._now = clock, now
        # Reentrant: a signal's handler may ask for the end while the same thread is in here.
        self._lock = threading.RLock()
        self._run = ""
        self._since = now()
        self._began, self._began_cpu = clock(), time.process_time()
        self._states: dict[str, WorkloadState] = {}
        self._heard: dict[str, float] = {}
        self._beat = self._began
        self._paused_until: float | None = None
        self._stop: Callable[[], None] | None = None
        self._is_stopping = False
        self._on_exit = ""
        self._ended: dict[str, object] | None = None
        self._when_begun: list[Callable[[], None]] = []

    # --- the run's side

    def when_begun(self, call: Callable[[], None]) -> None:
        """Have ``call`` called when the run has begun: no thread may be there before a command is launched."""
        self._when_begun.append(call)

    def begin(self, run: str, stop: Callable[[], None]) -> None:
        """Say that a run has begun; ``stop`` must end it between two steps, from any thread."""
        with self._lock:
            self._run, self._stop = run, stop
            self._began, self._began_cpu = (
                self._clock(),
                time.process_time(),
            )  # what it took to start is no part of its cost
            calls, self._when_begun = self._when_begun, []
        for call in calls:
            call()
        if self._is_stopping:
            stop()

    def __call__(self, record: Record) -> None:
        """Take in a step."""
        with self._lock:
            before = self._states.get(record.workload)
            self._states[record.workload] = before.after(record) if before else WorkloadState.first(record)
            self._heard[record.workload] = self._clock()

    def end(self, why: str, in_force: str, trouble: str = "") -> None:
        """Say that the run is over, what was left in force, and what was not left as declared."""
        with self._lock:
            self._ended = {"why": why, "in_force": in_force, "trouble": trouble}

    def on_exit_of(self, declared: str) -> str:
        """Return what is to become of what is in force: as whoever stopped the run said, else as declared."""
        with self._lock:
            return self._on_exit or declared

    def beat(self) -> None:
        """Say that the run is alive although there is no step to tell of, as while a target is waited for."""
        with self._lock:
            self._beat = self._clock()

    def silent_s(self) -> float:
        """Return for how long nothing was heard of the run."""
        with self._lock:
            return self._clock() - max([self._beat, *self._heard.values()])

    def interval_s(self) -> float:
        """Return how long an interval is now, the longest of all workloads: a run that costs too much slows down."""
        with self._lock:
            return max([self.about.interval_s, *(state.latest.interval_s or 0.0 for state in self._states.values())])

    @property
    def run(self) -> str:
        """The run's name; "" before it has begun."""
        return self._run

    @property
    def is_stopping(self) -> bool:
        """Tell whether somebody asked for the end."""
        return self._is_stopping

    def is_paused(self) -> bool:
        """Tell whether nothing new may be begun."""
        with self._lock:
            if self._paused_until is not None and self._clock() >= self._paused_until:
                self._paused_until = None
            return self._paused_until is not None

    # --- the other side

    def pause(self, for_s: float | None = None) -> None:
        """Let nothing new be begun, for so many seconds or until ``resume``; a running trial is ended, what is kept stays."""
        with self._lock:
            self._paused_until = math.inf if for_s is None else self._clock() + for_s

    def resume(self) -> None:
        """Go on."""
        with self._lock:
            self._paused_until = None

    def stop(self, on_exit: str = "") -> None:
        """End the run between two steps, as SIGTERM does; ``on_exit`` overrides what was declared."""
        with self._lock:
            self._is_stopping = True
            self._on_exit = on_exit or self._on_exit
            stop = self._stop
        if stop is not None:
            stop()

    def states(self) -> tuple[WorkloadState, ...]:
        """Return how each workload stands, in the order in which they came."""
        with self._lock:
            return tuple(self._states.values())

    def status(self) -> dict[str, object]:
        """Return all of it as JSON data; numbers that are not finite are None."""
        with self._lock:
            paused, left = self.is_paused(), self.pause_left()
            return {
                "run": self._run,
                "pid": os.getpid(),
                "mode": self.about.mode,
                "interval_s": self.about.interval_s,
                "on_exit": self.on_exit_of(self.about.on_exit),
                "command": self.about.command,
                "since": self._since,
                "paused": paused,
                "paused_for_s": left,
                "stopping": self._is_stopping,
                "ended": self._ended,
                "own": self.own(),
                "workloads": [self._workload(state) for state in self._states.values()],
            }

    def pause_left(self) -> float | None:
        """Return for how many seconds a pause lasts yet; None without one, and for one without an end."""
        with self._lock:
            if self._paused_until is None or math.isinf(self._paused_until):
                return None
            return max(self._paused_until - self._clock(), 0.0)

    def own(self) -> dict[str, float]:
        """Return this process's CPU time since the run began, and its share of one core."""
        cpu_s, elapsed = time.process_time() - self._began_cpu, self._clock() - self._began
        return {"cpu_s": cpu_s, "share": cpu_s / elapsed if elapsed > 0 else 0.0}

    def _workload(self, state: WorkloadState) -> dict[str, object]:
        mode = state.latest.mode or self.about.mode
        interval_s = state.latest.interval_s or self.about.interval_s
        return {
            **workload_data(state),
            "mode": mode,
            "interval_s": interval_s,
            "age_s": self._clock() - self._heard[state.workload],
        }


def workload_data(state: WorkloadState) -> dict[str, object]:
    """Return a workload's state as JSON data."""
    record, decision = state.latest, state.latest.decision
    return {
        "workload": state.workload,
        "activity": state.activity,
        "in_force": state.in_force,
        "candidate": decision.candidate,
        "because": decision.because,
        "gain": _finite(decision.gain),
        "interval": _pair(decision.interval),
        "blocks": decision.blocks,
        "kept": _gain_data(state.kept),
        "reward": _finite(record.judged.reward),
        "why_not": record.judged.why,
        "metrics": {name: _finite(value) for name, value in record.judged.values},
        "proposed": list(record.proposed),
        "held": {held.name: held.because for held in record.held},
        "quarantined": list(record.quarantined),
        "room_s": _finite(record.room_s),
        "steps": state.steps,
        "counts": dict(state.counts),
        "own_share": record.own_share,
        "news": [_news_data(one) for one in state.news[-SHOWN_NEWS:]],
    }


def _gain_data(gain: Gain | None) -> dict[str, object] | None:
    return None if gain is None else {"name": gain.name, "gain": _finite(gain.gain), "interval": _pair(gain.interval)}


def _news_data(news: News) -> dict[str, object]:
    return {
        "t": news.t,
        "kind": news.kind,
        "about": news.about,
        "text": news.text,
        "candidate": news.candidate,
        "gain": _finite(news.gain),
        "interval": _pair(news.interval),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _pair(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_finite(limit) for limit in interval]
