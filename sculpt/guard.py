"""The guard: what the loop may change, on what, when, how often and how much at once. Limits come from a TOML file.

::

    targets = ["redis*", "postgres"]        # names of workloads; all when it is not given
    knobs = ["cpu.*", "memory.hugepages"]   # what may be set; all when it is not given
    never = ["memory.swappiness"]           # and what may not, whatever stands above
    most_changes = 200                      # changes in one step
    most_novelty = 2.0                      # how unlike anything known a workload may be for anything to be tried on it
    windows = ["Mon-Fri 22:00-06:00"]       # when changes may be made, in local time; always when it is not given
    kill_switch = "/run/dna/stop"           # while this file exists nothing is changed, and what was is taken back

    [cooldown_s]                            # seconds between two settings of one knob on one subject
    "memory.placement" = 300
    "*" = 10

The file decides what a root process does: as root one that others can write is refused.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any

from hal.settings import Setting, Subject
from rl.decision import Patience
from sculpt.errors import GuardFileError

DEFAULT_KILL_SWITCH = "/run/dna/stop"
MOST_CHANGES = 500
MOST_NOVELTY = Patience().novelty
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:(\w{3})(?:-(\w{3}))? )?(\d{2}):(\d{2})-(\d{2}):(\d{2})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the day on some days; one that ends before it begins goes on past midnight."""

    days: frozenset[int]
    """0 is Monday; of a stretch past midnight the day that it begins on."""
    begin: time
    end: time

    def holds(self, moment: datetime) -> bool:
        """Tell whether a local time is in it."""
        now, today = moment.time(), moment.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= now < self.end
        return (today in self.days and now >= self.begin) or ((today - 1) % 7 in self.days and now < self.end)


@dataclass(frozen=True, slots=True)
class Guard:
    """What is allowed."""

    targets: tuple[str, ...] = ("*",)
    knobs: tuple[str, ...] = ("*",)
    never: tuple[str, ...] = ()
    most_changes: int = MOST_CHANGES
    most_novelty: float = MOST_NOVELTY
    windows: tuple[Window, ...] = ()
    kill_switch: str = DEFAULT_KILL_SWITCH
    cooldown_s: Mapping[str, float] = field(default_factory=dict)

    def refusal(self, workload: str, settings: Iterable[Setting]) -> str:
        """Return why settings may never be made on a workload of this name; "" when they may."""
        if not _fits(workload, self.targets):
            return f"the guard's targets do not name {workload}"
        for setting in settings:
            if _fits(setting.knob, self.never):
                return f"the guard never lets {setting.knob} be set"
            if not _fits(setting.knob, self.knobs):
                return f"the guard's knobs do not name {setting.knob}"
        return ""

    def delay(
        self, settings: Iterable[Setting], last: Mapping[tuple[str, Subject], float], *, now: float, moment: datetime
    ) -> str:
        """Return why settings may not be made just now; "" when they may.

        Args:
            last: when each was last set, in seconds of the same clock as ``now``.
            moment: the local time, for the windows.
        """
        if self.windows and not any(window.holds(moment) for window in self.windows):
            return "it is outside the guard's windows"
        for setting in settings:
            wait = self._cooldown(setting.knob)
            since = now - last.get(setting.key, -1e18)
            if since < wait:
                return f"{setting.knob} was set {since:.0f} s ago, and cools down for {wait:g} s"
        return ""

    def _cooldown(self, knob: str) -> float:
        fitting = [pattern for pattern in self.cooldown_s if fnmatch.fnmatchcase(knob, pattern)]
        return self.cooldown_s[max(fitting, key=len)] if fitting else 0.0  # the longest pattern is the most particular


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def read_guard(path: str | Path) -> Guard:
    """Read a guard's file.

    Raises:
        GuardFileError: it cannot be read, others can write it, or it makes no sense; the message says where.
    """
    try:
        with open(path, "rb") as file:
            _hold_ours(Path(path), os.fstat(file.fileno()))
            data = tomllib.load(file)
    except OSError as error:
        raise GuardFileError(
            f"{path} cannot be read: {error.strerror}", remedy="Give a TOML file: see docs/sculpt.md."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GuardFileError(f"{path} is no TOML: {error}") from error
    try:
        return guard_of(data)
    except GuardFileError as error:
        raise GuardFileError(f"{path}: {error}", remedy=error.remedy) from error


def _hold_ours(path: Path, found: os.stat_result) -> None:
    if os.geteuid() == 0 and (found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise GuardFileError(
            f"others can write {path}, which decides what root changes", remedy=f"chown root {path}; chmod go-w {path}"
        )


def guard_of(data: Mapping[str, Any]) -> Guard:
    """Return the guard that a file's content describes.

    Raises:
        GuardFileError: a name or value makes no sense.
    """
    known = {"targets", "knobs", "never", "most_changes", "most_novelty", "windows", "kill_switch", "cooldown_s"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise GuardFileError(f"there is no {unknown[0]!r}", remedy=f"It takes: {', '.join(sorted(known))}.")
    return Guard(
        targets=_words(data, "targets", ("*",)),
        knobs=_words(data, "knobs", ("*",)),
        never=_words(data, "never", ()),
        most_changes=_whole(data, "most_changes", MOST_CHANGES),
        most_novelty=_novelty(data),
        windows=tuple(window_of(text) for text in _words(data, "windows", ())),
        kill_switch=_text(data, "kill_switch", DEFAULT_KILL_SWITCH),
        cooldown_s=_seconds(data.get("cooldown_s", {})),
    )


def window_of(text: str) -> Window:
    """Return a window such as ``"Mon-Fri 22:00-06:00"`` or ``"01:00-05:00"``.

    Raises:
        GuardFileError: it is none.
    """
    wrong = GuardFileError(
        f"windows: {text!r} is no window", remedy='Write it as "Mon-Fri 22:00-06:00" or "01:00-05:00".'
    )
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise wrong
    first, last, *clock = match.groups()
    try:
        begin, end = time(int(clock[0]), int(clock[1])), time(int(clock[2]) % 24, int(clock[3]))
        if first is None:
            return Window(frozenset(range(7)), begin, end)
        low = DAYS.index(first.lower())
        high = DAYS.index((last or first).lower())
    except ValueError as error:
        raise wrong from error
    return Window(frozenset((low + n) % 7 for n in range((high - low) % 7 + 1)), begin, end)


def _words(data: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = data.get(name, default)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise GuardFileError(f"{name} must be a list of words", remedy=f'{name} = ["...", "..."]')
    return tuple(value)


def _whole(data: Mapping[str, Any], name: str, default: int) -> int:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise GuardFileError(f"{name} must be a whole number from 1")
    return value


def _novelty(data: Mapping[str, Any]) -> float:
    value = data.get("most_novelty", MOST_NOVELTY)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise GuardFileError("most_novelty must be a number from 0", remedy=f"most_novelty = {MOST_NOVELTY:g}")
    return float(value)


def _text(data: Mapping[str, Any], name: str, default: str) -> str:
    value = data.get(name, default)
    if not isinstance(value, str) or not value.startswith("/"):
        raise GuardFileError(f"{name} must be an absolute path")
    return value


def _seconds(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise GuardFileError("cooldown_s must be a table of knobs and seconds", remedy='[cooldown_s]\n"memory.*" = 300')
    for knob, seconds in value.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            raise GuardFileError(f"cooldown_s: {knob} = {seconds!r} is no number of seconds")
    return {knob: float(seconds) for knob, seconds in value.items()}
