"""What a source hands over at one read, before it is a measurement: a level, a count, or a spread over buckets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hal.host import Host
from rl.measured import Problem


@dataclass(frozen=True, slots=True)
class Level:
    """A number as it is."""

    value: float
    stamp: float | None = None
    """When it was measured or written, where the source says so, on whatever clock: what bears the same one is the same measurement."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number that only grows: its rate is what counts."""

    value: float
    epoch: str = ""
    """Changes when the counter begins again, where the source says so."""
    stamp_s: float | None = None
    """When it was counted, where the source says so, in seconds on its clock."""
    own: float = 0.0
    """How much of it one read adds by itself, about: it is taken off, and up to twice as much is nothing."""
    of_events: bool = False
    """It is known to count separate events one by one, not bytes or joules."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How many events fell into each bucket, since the beginning."""

    limits: tuple[float, ...]
    """Upper limits, ascending; the last may be infinite. The first bucket begins at 0."""
    counts: tuple[float, ...]
    """Of each bucket alone."""
    epoch: str = ""


type Found = Level | Count | Spread


class SourceError(Exception):
    """A read gave nothing; says why."""

    def __init__(self, problem: Problem, because: str) -> None:
        super().__init__(because)
        self.problem = problem


class Fetch(Protocol):
    """One opened source. Called from one thread at a time."""

    def fetch(self) -> Found:
        """Return what is there now; may take its time, and raises SourceError."""
        ...

    def close(self) -> None:
        """Release what it holds; harmless when closed before."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """How one kind of source is named, checked and opened."""

    name: str
    form: str
    """What follows the name, for messages: "HOST:PORT"."""
    example: str
    """A whole one."""
    kinds: tuple[str, ...]
    """What it can give."""
    check: Callable[[str], None]
    """Raises MetricError where what follows the name makes no sense. Pure."""
    open: Callable[[str, str, Host, float], Fetch]
    """From what follows the name, the metric's kind, the machine and the longest time of a read in seconds to the source.

    Raises MetricError where this machine has no such thing; what may come and go, such as a server, is not asked yet.
    """
