"""What live views have in common: rows drawn when there is something new, a clock written over its place alone, keys, suspending.

A frame costs 10 to 20 ms of CPU time, the clock a few microseconds; so frames are drawn when there is something new (a
step, a key, another window size), and the clock once a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console

from ui.frame import CLOCK_WIDTH
from ui.glyphs import glyphs_for
from ui.panels import Rows
from ui.terminal import Keys, Screen, input_descriptor

_TICK_S = 1.0


_ARROWS = {"\x1b[A": "k", "\x1b[B": "j", "\x1bOA": "k", "\x1bOB": "j"}


def _with_arrows(keys: str) -> str:
    """Return keys with the arrows up and down as k and j."""
    for sequence, key in _ARROWS.items():
        keys = keys.replace(sequence, key)
    return keys


class LiveScreen(ABC):
    """A view on the terminal, and the thread that reads keys and moves its clock."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._glyphs = glyphs_for(console)
        self._keys = Keys(input_descriptor())
        self._screen = Screen(console, self._keys)
        self._lock = self._screen.lock
        self._size = (0, 0)
        self._began = clock()
        self._over = False

    @abstractmethod
    def _rows(self, width: int, height: int) -> Rows:
        """Return what is to be seen."""

    @abstractmethod
    def _clock_text(self, elapsed_s: float) -> str:
        """Return the right end of the first row."""

    @abstractmethod
    def press(self, key: str) -> None:
        """Act on a key."""

    def _has_news(self) -> bool:
        """Take in what has come since the last frame, and tell whether there was any; asked once a second."""
        return False

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Show it; the terminal is given back at the end, whatever happens."""
        ticker = threading.Thread(target=self._tick, name="view", daemon=True)
        try:
            with self._screen, self._suspending():
                self._draw()
                ticker.start()
                try:
                    yield
                finally:
                    self._over = True
                    self._keys.wake()
                    ticker.join()
        finally:
            self._keys.close()

    def _tick(self) -> None:
        while not self._over:
            since = self._clock() - self._began
            for key in _with_arrows(self._keys.wait(_TICK_S - since % _TICK_S + 0.01)):
                self.press(key)
            with self._lock:
                if self._over:
                    return
                if self._screen.size() != self._size or self._has_news():
                    self._draw()
                else:
                    self._draw_clock()

    def _draw(self) -> None:
        with self._lock:
            size = self._screen.size()
            if size != self._size:
                self._size = size
                self._screen.forget()
            self._screen.draw(self._rows(*size))
            self._draw_clock()

    def _draw_clock(self) -> None:
        width = self._size[0]
        if width > CLOCK_WIDTH + 10:
            self._screen.patch(0, width - CLOCK_WIDTH, self._clock_text(self._clock() - self._began))

    @contextlib.contextmanager
    def _suspending(self) -> Iterator[None]:
        """Give the terminal back while the view is suspended (Ctrl-Z), and draw anew when it goes on."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def suspend(_number: int, _frame: FrameType | None) -> None:
            with self._lock:
                self._screen.leave()
                os.kill(os.getpid(), signal.SIGSTOP)
                self._screen.enter()
                self._draw()

        before = signal.signal(signal.SIGTSTP, suspend)
        # The thread notices another size at its next tick; the signal only makes that now.
        before_size = signal.signal(signal.SIGWINCH, lambda *_: self._keys.wake())
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)
            signal.signal(signal.SIGWINCH, before_size)
