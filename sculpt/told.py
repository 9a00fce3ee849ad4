"""What is told of a run: plain values, of which the reports are made (``sculpt.story`` makes them)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl.policy import BASELINE
from rl.safety import loss

_MOST = 50.0
"""A gain beyond this, e**50, is none that anything could have: a damaged record."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A measured effect, a difference of logarithms; its limits where they are known."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """How far a trial had come after one of its blocks."""

    t: float
    count: int
    gain: float
    low: float | None
    high: float | None

    @property
    def as_gain(self) -> Gain:
        """Return the gain so far."""
        return Gain(self.gain, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was tried."""

    number: int
    candidate: str
    """The baseline where what is kept was held against it again."""
    against: str
    """What was kept meanwhile."""
    began: float
    ended: float | None
    """None where the records end before it."""
    one_way: bool
    """It cannot be flipped back: judged before against after."""
    chosen: str
    """Why it was chosen."""
    before: float | None
    """Mean reward of the last intervals before it."""
    demand: Mapping[str, float | None]
    proposed: tuple[str, ...]
    held: Mapping[str, str]
    expected: tuple[float, float] | None
    """What was expected of it over the baseline: mean and standard deviation, differences of logarithms."""
    blocks: tuple[Block, ...]
    outcome: str
    """Of ``rl.decision.EVENTS``; "" while it runs."""
    why: str
    gain: Gain | None
    """Of the candidate over what was kept; in a check that of what is kept over the baseline."""
    in_force_s: float
    """How long the candidate was in force in it."""

    @property
    def is_check(self) -> bool:
        """Tell whether what is kept was held against the baseline."""
        return self.candidate == BASELINE

    @property
    def cost_s(self) -> float | None:
        """What it lost, in seconds of the worth of what was kept, by the gain that was measured; below 0 where it won."""
        if self.gain is None:
            return None
        gain = -self.gain.mean if self.is_check else self.gain.mean
        return loss(min(gain, _MOST), self.in_force_s)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which one configuration was in force."""

    name: str
    role: str
    """"baseline", "kept" or "tried"."""
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Turn:
    """An event of ``rl.decision.EVENTS``."""

    t: float
    event: str
    name: str
    because: str
    times: int = 1
    """How often on end."""


@dataclass(frozen=True, slots=True)
class Alerted:
    """An alert, told once."""

    text: str
    kind: str
    first: float
    last: float
    times: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that was kept, or made for good, and what it gained when it was judged."""

    name: str
    gain: Gain | None
    event: str
    t: float


@dataclass(frozen=True, slots=True)
class Worth:
    """What the intervals under one configuration were worth, as they came: not paired, so no proof of anything."""

    name: str
    intervals: int
    measured: int
    median: float | None
    low: float | None
    """10th percentile."""
    high: float | None
    """90th."""
    metrics: Mapping[str, float | None]
    """Median of each metric."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value a step; NaN where there was none."""

    t: tuple[float, ...]
    reward: tuple[float, ...]
    budget: tuple[float, ...]
    """Seconds of the baseline's worth that might still be lost."""
    own: tuple[float, ...]
    """CPU time of the loop itself, of one core."""
    gaps: tuple[int, ...] = ()
    """Steps before which there is a gap."""


@dataclass(frozen=True, slots=True)
class Told:
    """The story of one workload of a run."""

    name: str
    joined: Mapping[str, Any]
    """What the record says of it when it was first served; empty in runs of one workload only."""
    left: Mapping[str, Any] | None
    """How serving it ended; None where it did not, or that is not recorded."""
    judged_by: tuple[str, ...]
    why_not: Mapping[str, int]
    """Why intervals have no reward, and how many."""
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    """"all", "in trials", "changing", and each role of a stretch."""
    stretches: tuple[Stretch, ...]
    trials: tuple[Trial, ...]
    turns: tuple[Turn, ...]
    alerts: tuple[Alerted, ...]
    held: Mapping[str, str]
    """What was proposed and held back, with the last reason."""
    known: Mapping[str, Mapping[str, Any]]
    """What candidates are made of, where the records say."""
    kept: str
    standing: tuple[Kept, ...]
    """What makes up what is kept."""
    for_good: tuple[Kept, ...]
    """What was made that cannot be flipped back."""
    worth: tuple[Worth, ...]
    series: Series
    quarantined: tuple[str, ...]
    """What might not be tried at the end."""
    longest_s: float
    """The longest interval: the loop takes longer ones where it would cost too much."""
    own_mean: float | None
    own_peak: float | None

    @property
    def gain(self) -> Gain | None:
        """What is kept, and was made for good, over what was found: parts that were judged one by one are added up, their limits too,
        which is wider than need be; None where nothing was, or one of them was not measured."""
        parts = [one.gain for one in (*self.for_good, *self.standing)]
        if not parts or any(one is None for one in parts):
            return None
        found = [one for one in parts if one is not None]
        return Gain(sum(one.mean for one in found), _sum([one.low for one in found]), _sum([one.high for one in found]))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None


def worth_of(
    in_force: Sequence[str], reward: Sequence[float], metrics: Mapping[str, Sequence[float]]
) -> tuple[Worth, ...]:
    """Return what the intervals under each configuration were worth; those in force the longest first, the baseline before all."""
    names = np.array(in_force, dtype=object)
    values = np.array(reward, dtype=np.float64)
    columns = {name: np.array(column, dtype=np.float64) for name, column in metrics.items()}
    found = []
    for name in dict.fromkeys(in_force):
        here = names == name
        own = values[here]
        own = own[np.isfinite(own)]
        low, median, high = (float(one) for one in np.percentile(own, (10, 50, 90))) if len(own) else (None, None, None)
        found.append(
            Worth(name, int(here.sum()), len(own), median, low, high, {n: _median(c[here]) for n, c in columns.items()})
        )
    return tuple(sorted(found, key=lambda one: (not one.name.startswith(BASELINE), -one.intervals)))


def _median(values: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    known = values[np.isfinite(values)]
    found = float(np.median(known)) if len(known) else math.nan
    return found if math.isfinite(found) else None
