"""What makes one look again: another phase of the workload, and a reward that has fallen under what is kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice
from statistics import median

import numpy as np

from rl.policy import Context

YOUNG = 6
"""Contexts at the very beginning that rest on few measurements, as they are means over so many: a workload is judged by the latest."""
TO_AND_FRO = 40
"""A workload that is back after no more intervals than these, about what a short trial takes, was in no other phase."""
MOST_PLACES = 8
"""Of one phase."""
LATE, EARLY, MOST_EARLY = 9, 12, 51
"""Measurements that are held against at least, and at most, so many before them."""
LEAST_FALL = 0.05
"""Of the logarithm: a smaller one may wait for the next check in turn."""
FALL_DEVIATIONS = 5.0


class PhaseWatch:
    """Tells whether the workload behaves otherwise than when it was last judged.

    A workload that goes to and fro between ways to behave, each back before anything could be judged in it, is in one phase that has
    several places: only its first step to each of them is told.

    Args:
        drift: distance beyond which it does.
        sure: so many intervals on end must say so.
        young: in so many intervals at the very beginning what it is judged by still follows what is seen.
    """

    def __init__(self, drift: float, sure: int, *, young: int = 0) -> None:
        self._young = young
        self._drift = drift
        self._sure = sure
        self._places: tuple[Context, ...] = ()
        self._left: tuple[Context, ...] = ()
        """Where the phase before this one was."""
        self._strange = 0
        self._seen = 0
        self._began = 0

    @property
    def is_in_doubt(self) -> bool:
        """Tell whether the latest interval was of another phase, but not yet enough of them."""
        return self._strange > 0

    def is_another(self, context: Context) -> bool:
        """Take in an interval's context; tell whether another phase has begun, which it then counts as judged in."""
        self._seen += 1
        if not self._places or (self._seen <= self._young and context.cluster == self._places[0].cluster):
            self._places = (context,)
        self._strange = 0 if self._is_at(context, self._places) else self._strange + 1
        if self._strange < self._sure:
            return False
        self._strange = 0
        if self._is_at(context, self._left) and self._seen - self._began <= TO_AND_FRO:
            self._places, self._left = (*self._places, *self._left)[:MOST_PLACES], ()
            return False
        self._left, self._places, self._began = self._places, (context,), self._seen
        return True

    def judged(self, context: Context) -> None:
        """From now on this is what other contexts are held against; what it came near to is moved there."""
        away = [place for place in self._places if not self._is_at(context, (place,))] if len(self._places) > 1 else []
        self._places = (context, *away)
        self._strange = 0

    def _is_at(self, context: Context, places: Iterable[Context]) -> bool:
        return any(context.cluster == place.cluster and distance(context, place) <= self._drift for place in places)


def distance(one: Context, other: Context) -> float:
    """Return how far two contexts are apart; infinite where their vectors are not of one kind."""
    if one.vector.shape != other.vector.shape:
        return math.inf
    return float(np.linalg.norm(one.vector - other.vector))


class FallWatch:
    """Tells when the reward of what is kept has fallen, and remembers that it has until it is looked into."""

    def __init__(self) -> None:
        self._rewards: deque[float] = deque(maxlen=LATE + MOST_EARLY)
        self.has_fallen = False

    def take(self, reward: float, least: float) -> None:
        """Take in a reward (above 0, greater is better); a fall is one by ``least`` or more, a difference of logarithms."""
        self._rewards.append(math.log(reward))
        self.has_fallen = self.has_fallen or self._falls(least)

    def looked_into(self) -> None:
        """Forget a fall; what is usual stays known."""
        self.has_fallen = False

    def restart(self) -> None:
        """Something else is kept from now on."""
        self._rewards.clear()
        self.has_fallen = False

    def _falls(self, least: float) -> bool:
        """Hold the latest rewards against those before them; by medians, since one burst is no fall."""
        if len(self._rewards) < LATE + EARLY:
            return False
        values = sorted(islice(self._rewards, len(self._rewards) - LATE))
        usual = median(values)
        # 1.4826 times the median deviation is the standard deviation of what is normal.
        spread = 1.4826 * median(abs(value - usual) for value in values)
        late = median(islice(self._rewards, len(self._rewards) - LATE, None))
        return usual - late > max(LEAST_FALL, least, FALL_DEVIATIONS * spread / math.sqrt(LATE))
