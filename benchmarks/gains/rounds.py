"""Measuring: arms in interleaved rounds of random order, each made, settled, measured and taken back, against the default of the same round."""

from __future__ import annotations

import math
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.gains.machine import Snapshot, difference, scheduling, snapshot
from benchmarks.gains.ours import Configuration, made
from benchmarks.gains.programs import Live, Program
from benchmarks.gains.quiet import used
from benchmarks.gains.tuned import in_force
from benchmarks.running import StartError
from hal.journal import Journal

DEFAULT, CONTROL = "default", "default again"
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)
"""97.5th percentiles of Student's t by degrees of freedom from 1."""

TRIES = 6
"""A measurement in which nothing was done, or that others disturbed, is made anew, so often in all."""
MOST_LOST = 0.05
"""Share of the machine's CPU time that others may take of a measurement."""

type Start = Callable[[], AbstractContextManager[Live]]


class NotAsFoundError(Exception):
    """An arm has left something behind; what and how it was is in the message."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to configure the machine for a program."""

    name: str
    profile: str = ""
    """Of TuneD; "" for none."""
    configuration: Configuration = field(default_factory=lambda: Configuration(DEFAULT))


@dataclass(frozen=True, slots=True)
class Bench:
    """A program that runs (or is started for each measurement), and how long it is measured."""

    program: Program
    start: Start
    """Starts it anew."""
    live: Live | None
    """The one that runs; None where it is started for each measurement."""
    journal: Journal
    found: Snapshot
    """The machine as it was found."""
    counts: Counter[str] = field(default_factory=Counter)
    """Measurements: made, made anew because others took too much of the machine, and taken disturbed as they were in the end."""

    def measure(self, arm: Arm, seconds: float) -> float:
        """Return what the program does with an arm in force; the machine is then as it was found, or this raises.

        Whether it counts is told from what others took of the CPUs alone, never from what was measured. Of those that were all disturbed
        the least disturbed one counts.
        """
        self.counts["made"] += 1
        best = (math.inf, 0.0)
        for _ in range(TRIES):
            lost, value = self._measure(arm, seconds)
            self.check(arm.name)
            if value > 0:
                best = min(best, (lost, value))
                if lost <= MOST_LOST:
                    return value
                self.counts["made anew"] += 1
        if best[1] <= 0:
            raise StartError(f"{self.program.name} does nothing under {arm.name}")
        self.counts["disturbed"] += 1
        return best[1]

    def check(self, what: str) -> None:
        """Raise NotAsFoundError where the machine is not as it was found."""
        left = difference(self.found, snapshot() if self.live is None else _with(self.live))
        if left:
            raise NotAsFoundError(f"{what} left {dict(list(left.items())[:3])}")

    def _measure(self, arm: Arm, seconds: float) -> tuple[float, float]:
        """Return the share of the machine that others took, and the value."""
        with ExitStack() as stack:
            if arm.profile:
                stack.enter_context(in_force(arm.profile))
            live = self.live or stack.enter_context(self.start())
            stack.enter_context(made(arm.configuration, live, self.journal))
            time.sleep(self.program.settle_s)
            began, others = time.monotonic(), used()
            before = live.read()
            time.sleep(seconds * self.program.longer)
            value = live.value(before, live.read())
            elapsed = time.monotonic() - began
            return used().lost_since(others) / (elapsed * (os.cpu_count() or 1)), value


def _with(live: Live) -> dict[str, str]:
    return {**snapshot(), **scheduling(live.roots)}


def as_found(live: Live | None) -> dict[str, str]:
    """Return the machine as it is now, and how the threads of a program are scheduled."""
    return snapshot() if live is None else _with(live)


def in_rounds(
    bench: Bench, arms: Sequence[Arm], *, rounds: int, seconds: float, seed: int, what: str
) -> dict[str, list[float]]:
    """Measure each arm once a round, each round in another order."""
    draw = random.Random(seed)
    results: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(rounds):
        for arm in draw.sample(arms, len(arms)):
            told(f"  {bench.program.name}: {what} {number + 1}/{rounds} {arm.name}")
            results[arm.name].append(bench.measure(arm, seconds))
    told("")
    return results


def told(text: str) -> None:
    """Show where it is, on one line, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r{text[:110]:<110}\r", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Effect:
    """How many times as good as another an arm is: paired by rounds."""

    median: float
    low: float
    high: float
    """95 % limits of the geometric mean, by Student's t of the logarithms."""
    rounds: int

    def as_data(self) -> dict[str, float]:
        """Return it as JSON data."""
        return {"median": self.median, "low": self.low, "high": self.high, "rounds": self.rounds}


SAME = Effect(1.0, 1.0, 1.0, 0)
"""Of two arms that are one configuration."""


def effect(program: Program, values: Sequence[float], base: Sequence[float]) -> Effect:
    """Return the effect of an arm over another measured in the same rounds."""
    logs = [math.log(program.gain(value, other)) for value, other in zip(values, base, strict=True)]
    count, mean = len(logs), statistics.fmean(logs)
    if count < 2:
        return Effect(math.exp(mean), 0.0, math.inf, count)
    t = _T[count - 2] if count - 2 < len(_T) else 1.96 + 2.5 / (count - 1)
    reach = t * statistics.stdev(logs) / math.sqrt(count)
    return Effect(math.exp(statistics.median(logs)), math.exp(mean - reach), math.exp(mean + reach), count)


def effects(program: Program, results: Mapping[str, Sequence[float]], base: str = DEFAULT) -> dict[str, Effect]:
    """Return the effect of each arm over one of them."""
    return {name: effect(program, values, results[base]) for name, values in results.items() if name != base}


@contextmanager
def nothing(live: Live) -> Iterator[Live]:
    """Be a program that runs already."""
    yield live
