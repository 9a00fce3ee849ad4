"""The guard: what the loop may change, on what, when, how often and how much at once. Limits come from a TOML file.

::

    targets = ["redis*", "postgres"]        # names of workloads; all when it is not given
    neighbours = ["stress-ng", "cc1*"]      # names of programs that may be set for another workload's good; none when it is not given
    knobs = ["cpu.*", "memory.hugepages"]   # what may be set; all when it is not given
    never = ["memory.swappiness"]           # and what may not, whatever stands above
    most_changes = 200                      # changes in one step
    most_novelty = 2.0                      # how unlike anything known a workload may be for anything to be tried on it
    most_trials_an_hour = 30                # on one workload
    windows = ["Mon-Fri 22:00-06:00"]       # when changes may be made, in local time; always when it is not given
    kill_switch = "/run/dna/stop"           # while this file exists nothing is changed, and what was is taken back

    [cooldown_s]                            # seconds between two settings of one knob on one subject
    "memory.placement" = 300
    "*" = 10

    [limits."memory.swappiness"]            # what knobs may be set to, and how many of them in one step
    least = 10
    most = 100
    [limits."memory.*"]
    values = ["*"]
    most_changes = 50

The file decides what a root process does: as root one that others can write is refused.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any

from hal.knobs.knob import show
from hal.settings import Change, Setting, Subject
from rl.decision import Patience
from sculpt.errors import ConfigError, GuardFileError
from sculpt.toml_file import number_of, read_toml, refuse_unknown, table_of, text_of, whole_of, words_of

DEFAULT_KILL_SWITCH = "/run/dna/stop"
MOST_CHANGES = 500
MOST_TRIALS = 1000
MOST_NOVELTY = Patience().novelty
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = (
    "targets", "knobs", "never", "most_changes", "most_trials_an_hour", "most_novelty", "windows", "kill_switch",
    "cooldown_s", "limits", "neighbours",
)  # fmt: skip
_LIMITS = ("least", "most", "values", "most_changes")
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
class Limit:
    """What some knobs may be set to, and how many of them at once."""

    least: float = -math.inf
    most: float = math.inf
    """Of values that are numbers."""
    values: tuple[str, ...] = ("*",)
    """Patterns that a value must fit one of, as values are shown."""
    most_changes: int = MOST_CHANGES
    """In one step."""

    def refusal(self, setting: Setting) -> str:
        """Return why a setting is beyond it; "" when it is not."""
        value = setting.value
        if isinstance(value, int) and not isinstance(value, bool) and not self.least <= value <= self.most:
            return f"the guard lets {setting.knob} be set from {self.least:g} to {self.most:g}, and this is {value}"
        if not _fits(show(value), self.values):
            return f"the guard lets {setting.knob} be set to {', '.join(self.values)}, and this is {show(value)}"
        return ""


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
    most_trials_an_hour: int = MOST_TRIALS
    """On one workload; what runs is never ended by it."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    """By patterns of knobs."""
    neighbours: tuple[str, ...] = ()
    """Programs that yield: watched by the run, and set for the good of another of its workloads."""

    def yields(self, program: str) -> bool:
        """Tell whether a program may be set for the good of another workload."""
        return _fits(program, self.neighbours)

    def refusal(self, workload: str, settings: Iterable[Setting]) -> str:
        """Return why settings may never be made on a workload of this name; "" when they may."""
        if not _fits(workload, self.targets):
            return f"the guard's targets do not name {workload}"
        for setting in settings:
            if _fits(setting.knob, self.never):
                return f"the guard never lets {setting.knob} be set"
            if not _fits(setting.knob, self.knobs):
                return f"the guard's knobs do not name {setting.knob}"
            for limit in self._limits(setting.knob):
                if why := limit.refusal(setting):
                    return why
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

    def too_many(self, changes: Iterable[Change]) -> str:
        """Return why so many changes may not be made in one step; "" when they may."""
        knobs = [change.knob for change in changes]
        if len(knobs) > self.most_changes:
            return f"{len(knobs)} changes at once are more than the guard allows"
        for pattern, limit in self.limits.items():
            count = sum(fnmatch.fnmatchcase(knob, pattern) for knob in knobs)
            if count > limit.most_changes:
                return f"{count} changes of {pattern} at once are more than the guard allows"
        return ""

    def too_often(self, begun: Iterable[float], *, now: float) -> str:
        """Return why no trial may begin now, given when others of the workload did; "" when one may."""
        count = sum(now - at < 3600.0 for at in begun)
        return f"{count} trials in an hour are as many as the guard allows" if count >= self.most_trials_an_hour else ""

    def _limits(self, knob: str) -> Iterable[Limit]:
        return (limit for pattern, limit in self.limits.items() if fnmatch.fnmatchcase(knob, pattern))

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
        data = read_toml(path)
    except ConfigError as error:
        raise GuardFileError(str(error), remedy=error.remedy) from error
    try:
        return guard_of(data)
    except ConfigError as error:
        raise GuardFileError(f"{path}: {error}", remedy=error.remedy) from error


def guard_of(data: Mapping[str, Any]) -> Guard:
    """Return the guard that a file's content describes.

    Raises:
        GuardFileError: a name or value makes no sense.
    """
    try:
        refuse_unknown("guard", data, _NAMES)
        return Guard(
            targets=words_of(data, "targets", ("*",)),
            knobs=words_of(data, "knobs", ("*",)),
            never=words_of(data, "never"),
            most_changes=whole_of(data, "most_changes", MOST_CHANGES, least=1),
            most_trials_an_hour=whole_of(data, "most_trials_an_hour", MOST_TRIALS, least=1),
            most_novelty=number_of(data, "most_novelty", MOST_NOVELTY, least=0.0, most=1e9),
            windows=tuple(window_of(text) for text in words_of(data, "windows")),
            kill_switch=_path(data, "kill_switch", DEFAULT_KILL_SWITCH),
            cooldown_s=_seconds(data.get("cooldown_s", {})),
            limits={knobs: _limit(knobs, one) for knobs, one in table_of(data, "limits").items()},
            neighbours=words_of(data, "neighbours"),
        )
    except GuardFileError:
        raise
    except ConfigError as error:
        raise GuardFileError(str(error), remedy=error.remedy) from error


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


def _path(data: Mapping[str, Any], name: str, default: str) -> str:
    value = text_of(data, name, default)
    if not value.startswith("/"):
        raise GuardFileError(f"{name} must be an absolute path")
    return value


def _limit(knobs: str, data: object) -> Limit:
    if not isinstance(data, dict):
        raise GuardFileError(f"limits: {knobs} must be a table", remedy=f'[limits."{knobs}"]\nmost = 60')
    refuse_unknown(f"limits: {knobs}", data, _LIMITS)
    return Limit(
        number_of(data, "least", -math.inf, least=-math.inf, most=math.inf),
        number_of(data, "most", math.inf, least=-math.inf, most=math.inf),
        words_of(data, "values", ("*",)),
        whole_of(data, "most_changes", MOST_CHANGES, least=1),
    )


def _seconds(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise GuardFileError("cooldown_s must be a table of knobs and seconds", remedy='[cooldown_s]\n"memory.*" = 300')
    for knob, seconds in value.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            raise GuardFileError(f"cooldown_s: {knob} = {seconds!r} is no number of seconds")
    return {knob: float(seconds) for knob, seconds in value.items()}
