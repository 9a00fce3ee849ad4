"""What the live view shows, as one value: a frame is a pure function of it and of the terminal's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from dna.describe import distinctive as from_the_middle
from dna.vector import Features, Interval, Match, Profile

KEPT = 120
"""Intervals that the view remembers for its sparklines; the profile itself keeps all."""

type Distinctive = Callable[[Features], Sequence[tuple[str, float, float]]]
"""From features to (name, value, deviation), furthest from the ordinary first."""

_MOST_FEATURES = 16

type Nearest = Callable[[Interval], Sequence[Match]]
"""From an interval to the labelled workloads near its vector, nearest first."""


class Source(Protocol):
    """What a view follows: the profiler, or a recording."""

    @property
    def machine(self) -> Mapping[str, object]:
        """Facts of the machine, see ``dna.machine``."""
        ...

    @property
    def target_info(self) -> Mapping[str, object]:
        """Facts of the target."""
        ...

    @property
    def remedies(self) -> Mapping[str, str]:
        """Probe to what would bring it, for those that are missing."""
        ...

    def __iter__(self) -> Iterator[Interval]:
        """Yield one interval after the other until the end."""
        ...

    def stop(self) -> None:
        """Ask for the end; safe from a signal handler."""
        ...

    def profile(self, name: str = "") -> Profile:
        """Return what has been measured so far."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the screen except the clock."""

    machine: Mapping[str, object]
    target: Mapping[str, object]
    interval_s: float
    duration_s: float | None = None
    intervals: tuple[Interval, ...] = ()
    """The latest, oldest first, at most KEPT."""
    count: int = 0
    """Intervals so far."""
    features: tuple[tuple[str, float, float], ...] = ()
    """Those that make this workload itself: (name, value, deviation)."""
    nearest: tuple[Match, ...] = ()
    remedies: Mapping[str, str] = field(default_factory=dict)
    """See ``Source.remedies``."""
    paused: bool = False
    help: bool = False

    @property
    def last(self) -> Interval | None:
        """The latest interval."""
        return self.intervals[-1] if self.intervals else None

    @property
    def span_s(self) -> float:
        """Length of the latest interval: the last one of a profile may be cut short."""
        if len(self.intervals) < 2:
            return self.interval_s
        return max(self.intervals[-1].t - self.intervals[-2].t, 0.0) or self.interval_s

    @property
    def detail(self) -> Mapping[str, object]:
        """The latest interval's detail, empty before there is one."""
        return self.intervals[-1].detail if self.intervals else {}

    def with_interval(
        self, interval: Interval, *, distinctive: Distinctive | None = None, nearest: Nearest | None = None
    ) -> View:
        """Return the view with one more interval."""
        return replace(
            self,
            intervals=(*self.intervals, interval)[-KEPT:],
            count=self.count + 1,
            features=tuple(
                distinctive(interval.features) if distinctive else from_the_middle(interval.features, _MOST_FEATURES)
            ),
            nearest=tuple(nearest(interval)) if nearest and interval.dna else (),
        )

    def missing(self, part: str) -> str:
        """Return why a probe is missing, in one line; empty where it is not."""
        reasons = numbers_or_text(self.last.quality if self.last else {}, "missing")
        return str(reasons.get(part, ""))


def numbers_or_text(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return ``values[key]`` where it is a mapping, else an empty one."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def numbers(values: Mapping[str, object], key: str) -> dict[str, float]:
    """Return the finite numbers of the mapping ``values[key]``."""
    return {
        str(name): float(value)
        for name, value in numbers_or_text(values, key).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def series(values: Mapping[str, object], key: str) -> list[float]:
    """Return ``values[key]`` where it is a list of numbers, else an empty one."""
    found = values.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [float(value) for value in found if isinstance(value, int | float)]


def records(values: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    """Return ``values[key]`` where it is a list of mappings, else an empty one."""
    found = values.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [item for item in found if isinstance(item, Mapping)]


def number(values: Mapping[str, object], key: str) -> float | None:
    """Return ``values[key]`` where it is a number, else None."""
    found = values.get(key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
