"""The live view of a run of the loop: a watcher of its records that draws a frame a step, and hands keys on to the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from rich.console import Console

from sculpt.control import About
from sculpt.state import WorkloadState
from sculpt.step import Record
from ui.frame import clock_text
from ui.live_screen import LiveScreen
from ui.panels import Rows
from ui.sculpt_frame import SculptView, sculpt_frame


class Steered(Protocol):
    """A run: how it stands, and what may be asked of it; see ``sculpt.control.Control``."""

    about: About

    @property
    def run(self) -> str:
        """Its name."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether it is about to end."""
        ...

    def states(self) -> tuple[WorkloadState, ...]:
        """Return how each workload stands."""
        ...

    def own(self) -> Mapping[str, float]:
        """Return its own cost."""
        ...

    def is_paused(self) -> bool:
        """Tell whether it is paused."""
        ...

    def pause_left(self) -> float | None:
        """Return for how long yet."""
        ...

    def pause(self, for_s: float | None = None) -> None:
        """Pause it."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...

    def stop(self, on_exit: str = "") -> None:
        """End it."""
        ...

    def when_begun(self, call: Callable[[], None]) -> None:
        """Have ``call`` called when it begins."""
        ...


class SculptLive(LiveScreen):
    """Shows a run from its beginning to the end of the context."""

    def __init__(
        self,
        control: Steered,
        console: Console,
        *,
        duration_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self._control = control
        self._exit = ExitStack()
        self._last = self._taken = self._began
        self._is_stale = False
        self._view = SculptView(control.about, duration_s=duration_s)

    def __enter__(self) -> SculptLive:
        self._control.when_begun(lambda: self._exit.enter_context(self.showing()))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._exit.close()

    def __call__(self, _record: Record) -> None:
        """Show how the run stands after a step: at once, or within a second where many come, since each frame costs."""
        with self._lock:
            self._last = self._clock()
            self._is_stale = not self._view.frozen
            if self._is_stale and self._last - self._taken >= 1.0:
                self._take()
                self._draw()

    def _has_news(self) -> bool:
        if self._is_stale:
            self._take()
            return True
        return False

    def _take(self) -> None:
        self._is_stale, self._taken = False, self._clock()
        control = self._control
        self._view = replace(
            self._view,
            run=control.run,
            states=control.states(),
            paused=control.is_paused(),
            pause_left=control.pause_left(),
            stopping=control.is_stopping,
            own_share=control.own().get("share", 0.0),
        )

    def press(self, key: str) -> None:
        """Act on a key."""
        with self._lock:
            if key in "qQ":
                self._control.stop()
            elif key in "pP":
                (self._control.resume if self._control.is_paused() else self._control.pause)()
            elif not self._turned(key):
                return
            self._take()
            self._draw()

    def _turned(self, key: str) -> bool:
        """Change what is seen; tell whether the key is one that does."""
        view = self._view
        if key == " ":
            self._view = replace(view, frozen=not view.frozen)
        elif key in "jk\t" and view.states:
            step = -1 if key == "k" else 1
            self._view = replace(view, looked_at=(view.looked_at + step) % len(view.states))
        elif key in "?hH":
            self._view = replace(view, help=not view.help)
        elif key == "\x1b" and view.help:
            self._view = replace(view, help=False)
        else:
            return False
        return True

    def _rows(self, width: int, height: int) -> Rows:
        return sculpt_frame(self._view, width, height, self._glyphs)

    def _clock_text(self, elapsed_s: float) -> str:
        state = self._view.state
        interval_s = (state.latest.interval_s if state else None) or self._view.about.interval_s
        return clock_text(
            elapsed_s=elapsed_s,
            next_s=interval_s - (self._clock() - self._last),
            duration_s=self._view.duration_s,
            paused=self._view.frozen,
        )
