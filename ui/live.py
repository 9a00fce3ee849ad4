"""The live view of a profile: follows a source, one frame an interval, and between them only the clock."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType

from rich.console import Console

from dna.library import Library
from dna.vector import Features, Interval, Match
from ui.frame import clock_text, frame
from ui.glyphs import glyphs_for
from ui.live_screen import LiveScreen
from ui.panels import Rows
from ui.plain import head_lines, interval_line
from ui.terminal import shows_live
from ui.view import Distinctive, Nearest, Source, View


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a view tells what is special: see ``Distinctive`` and ``Nearest``; None takes the scale's middle, and no labels."""

    distinctive: Distinctive | None = None
    nearest: Nearest | None = None

    @classmethod
    def with_library(cls, library: Library | None) -> Comparison:
        """Return how to tell it by labelled workloads; without any, by the scale's middle."""
        if library is None or not library.entries:
            return cls()

        def distinctive(features: Features) -> list[tuple[str, float, float]]:
            return [(trait.name, trait.value, trait.score) for trait in library.traits(features, 16)]

        def nearest(interval: Interval) -> list[Match]:
            same = interval.dna is not None and interval.dna.model == library.model
            return library.nearest(interval.dna.vector, 3) if interval.dna and same else []

        return cls(distinctive, nearest)


def follow(
    source: Source,
    *,
    console: Console,
    interval_s: float,
    duration_s: float | None = None,
    live: bool = True,
    comparison: Comparison | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Show a source until it ends, live where the console is a terminal, else one plain line an interval.

    The first SIGINT (SIGTERM, SIGHUP) asks the source to stop, the second raises KeyboardInterrupt. The terminal is given
    back whatever happens.
    """
    with stopping(source):
        if live and shows_live(console):
            LiveView(source, console, interval_s, duration_s, comparison or Comparison(), clock).run()
        else:
            _follow_plainly(source, console, interval_s)


def _follow_plainly(source: Source, console: Console, interval_s: float) -> None:
    glyphs = glyphs_for(console)
    for line in head_lines(source.machine, source.target_info):
        console.print(glyphs.text(line), style="bold", soft_wrap=True, highlight=False, markup=False)
    began: float | None = None
    for interval in source:
        began = interval.t - interval_s if began is None else began
        line = interval_line(interval, interval.t - began)
        console.print(glyphs.text(line), soft_wrap=True, highlight=False, markup=False)


@contextlib.contextmanager
def stopping(source: Source) -> Iterator[None]:
    """Let the first signal stop the source and the second interrupt; handlers are put back at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        source.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LiveView(LiveScreen):
    """A source on the screen, one frame an interval."""

    def __init__(
        self,
        source: Source,
        console: Console,
        interval_s: float,
        duration_s: float | None,
        comparison: Comparison,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(console, clock)
        self._source = source
        self._comparison = comparison
        self._newest = View(source.machine, source.target_info, interval_s, duration_s, remedies=dict(source.remedies))
        self._shown = self._newest
        self._last = self._began

    def run(self) -> None:
        """Follow the source to its end."""
        with self.showing():
            for interval in self._source:
                self._add(interval)

    def _add(self, interval: Interval) -> None:
        view = self._newest.with_interval(
            interval, distinctive=self._comparison.distinctive, nearest=self._comparison.nearest
        )
        with self._lock:
            # The profiler learns names and counts of processes as it goes.
            self._newest = replace(view, target=self._source.target_info, paused=self._shown.paused)
            self._last = self._clock()
            if not self._shown.paused:
                self._shown = replace(self._newest, help=self._shown.help)
                self._draw()

    def press(self, key: str) -> None:
        """Act on a key."""
        with self._lock:
            if key in "qQ":
                self._source.stop()
            elif key == " ":
                paused = not self._shown.paused
                shown = self._shown if paused else self._newest
                self._shown = replace(shown, paused=paused, help=False)
                self._draw()
            elif key in "?hH":
                self._shown = replace(self._shown, help=not self._shown.help)
                self._draw()
            elif key == "\x1b" and self._shown.help:
                self._shown = replace(self._shown, help=False)
                self._draw()

    def _rows(self, width: int, height: int) -> Rows:
        return frame(self._shown, width, height, self._glyphs)

    def _clock_text(self, elapsed_s: float) -> str:
        view = self._shown
        return clock_text(
            elapsed_s=elapsed_s,
            next_s=view.interval_s - (self._clock() - self._last),
            duration_s=view.duration_s,
            paused=view.paused,
        )
