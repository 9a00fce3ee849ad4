"""Tells when what a workload is worth collapses, and when it is itself again. Pure; by medians, since one burst is no collapse."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

LATE, EARLY, MOST_EARLY = 7, 12, 51
"""Rewards that are held against at least, and at most, so many before them: four low ones of seven are believed."""
DEVIATIONS = 6.0
"""So many standard errors of the late median: of 17,000 looks a day none should be wrong by chance, however noisy the reward is."""
LASTING = 60
"""Rewards after which a collapse is no event any more: that is what is usual now."""

FELL, ROSE, STAYED = "fell", "rose", "stayed"


@dataclass(frozen=True, slots=True)
class Turn:
    """What happened to the reward."""

    what: str
    """FELL; ROSE, when it is itself again; STAYED, when it has been low for so long that it is taken as usual."""
    log_usual: float
    log_late: float
    """Medians of the rewards' logarithms: before, and of the latest ``LATE``."""

    @property
    def share(self) -> float:
        """What is left of the usual reward."""
        return _exp(self.log_late - self.log_usual)

    @property
    def usual(self) -> float:
        """The usual reward."""
        return _exp(self.log_usual)

    @property
    def late(self) -> float:
        """The reward of late."""
        return _exp(self.log_late)


def _exp(logarithm: float) -> float:
    return math.exp(min(logarithm, 700.0))


def _logs(most: int) -> deque[float]:
    return deque(maxlen=most)


@dataclass(slots=True)
class CollapseWatch:
    """Takes in the rewards of one workload.

    Args:
        share: of the usual reward; below it a lasting fall is a collapse. Above 0, below 1.
    """

    share: float = 0.5
    _early: deque[float] = field(default_factory=lambda: _logs(MOST_EARLY))
    _late: deque[float] = field(default_factory=lambda: _logs(LATE))
    _low: deque[float] = field(default_factory=lambda: _logs(MOST_EARLY))
    _since: int | None = None

    @property
    def has_collapsed(self) -> bool:
        """Tell whether the reward is low at present."""
        return self._since is not None

    def take(self, reward: float) -> Turn | None:
        """Take in a reward (above 0, greater is better); return what happened, None where nothing did."""
        if len(self._late) == LATE:  # while it is low what was usual stays known
            (self._early if self._since is None else self._low).append(self._late[0])
        self._late.append(math.log(reward))
        if len(self._early) < EARLY or len(self._late) < LATE:
            return None
        usual, late = median(self._early), median(self._late)
        if self._since is None:
            return self._fallen(usual, late)
        self._since += 1
        return self._risen(usual, late)

    def _fallen(self, usual: float, late: float) -> Turn | None:
        # 1.4826 times the median deviation is the standard deviation of what is normal, 1.25 of it a median's over a mean's.
        spread = 1.4826 * median(abs(value - usual) for value in self._early)
        if usual - late <= max(-math.log(self.share), DEVIATIONS * 1.25 * spread / math.sqrt(LATE)):
            return None
        self._since = 0
        self._forget_what_led_here(usual + math.log(self.share))
        return Turn(FELL, usual, late)

    def _forget_what_led_here(self, limit: float) -> None:
        """Take the latest of what counts as usual away if they are part of the fall already."""
        while len(self._early) > EARLY and self._early[-1] < limit:
            self._early.pop()

    def _risen(self, usual: float, late: float) -> Turn | None:
        assert self._since is not None
        if late > usual + math.log(self.share) / 2:  # half way back, in logarithms: no flutter around the limit
            self._since = None
            self._low.clear()
            return Turn(ROSE, usual, late)
        if self._since < LASTING:
            return None
        self._since = None
        self._early = deque(islice(self._low, 0, None), maxlen=MOST_EARLY)
        self._low.clear()
        return Turn(STAYED, usual, late)
