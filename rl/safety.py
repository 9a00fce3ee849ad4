"""The gate before every trial: what may be lost against the baseline is a budget, and never more than that.

Conservative exploration as in Kazerouni et al. (arXiv 1611.06426), checked at the start of a trial as in Garcelon et al. (arXiv
2002.03221): an arm may be tried when even its lower bound leaves the cumulative loss within a set fraction of what the
baseline would have brought. Quarantine keeps what was rolled back from being tried again for a time that doubles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be risked."""

    budget: float = 0.02
    """Share of what the baseline would have brought that may be lost in all."""
    allowance_s: float = 10.0
    """Seconds of baseline's worth that may be lost before the first second has been earned."""
    hard: float = math.log(0.7)
    """A gain below this (difference of logarithms) ends a trial at once: twice on end, or once far below it."""
    deviations: float = 1.645
    """How many standard deviations below its mean an arm is feared to be."""
    deviations_for_good: float = 2.33
    """The same of an arm that cannot be flipped back: 1 % of a normal distribution."""
    first_quarantine_s: float = 600.0
    longest_quarantine_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was lost and what time has earned, in seconds of the baseline's worth."""

    limits: Limits = field(default_factory=Limits)
    elapsed_s: float = 0.0
    lost_s: float = 0.0
    """What trials cost against the baseline, less what kept gains brought; never below 0, so that gains do not pay for recklessness."""
    doubt_s: float = 0.0
    """Standard deviation of that: it was measured, and trials that look better than they are go on for longer."""

    @property
    def room_s(self) -> float:
        """What may still be lost, if more was lost than was measured."""
        feared = self.lost_s + self.limits.deviations * self.doubt_s
        return self.limits.allowance_s + self.limits.budget * self.elapsed_s - feared

    def allows(self, mean: float, deviation: float, duration_s: float, *, for_good: bool = False) -> bool:
        """Tell whether an arm of this expected gain and deviation (in logarithms) may be tried for this long."""
        deviations = self.limits.deviations_for_good if for_good else self.limits.deviations
        feared = mean - deviations * deviation
        return loss(max(feared, self.limits.hard), duration_s) <= self.room_s

    def passed(self, duration_s: float) -> Ledger:
        """Return the ledger after a stretch of time, whatever was in force in it."""
        return replace(self, elapsed_s=self.elapsed_s + duration_s)

    def charged(self, gain: float, duration_s: float, deviation: float = 0.0) -> Ledger:
        """Return the ledger with what a stretch of time at this gain over the baseline lost, or brought back.

        Args:
            deviation: standard deviation of the gain.
        """
        doubt_s = math.hypot(self.doubt_s, deviation * math.exp(gain) * duration_s)
        return replace(self, lost_s=max(self.lost_s + loss(gain, duration_s), 0.0), doubt_s=doubt_s)

    def after(self, gain: float, duration_s: float) -> Ledger:
        """Return the ledger after a stretch of time with this gain over the baseline."""
        return self.passed(duration_s).charged(gain, duration_s)


def loss(gain: float, duration_s: float) -> float:
    """Return what a stretch at this gain (difference of logarithms) loses, in seconds of the baseline's worth; negative when it wins."""
    return (1 - math.exp(gain)) * duration_s


@dataclass(frozen=True, slots=True)
class Sentence:
    """One arm's time in quarantine."""

    until: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What may not be tried for the time being, by (cluster, arm)."""

    limits: Limits = field(default_factory=Limits)
    sentences: Mapping[tuple[str, str], Sentence] = field(default_factory=lambda: MappingProxyType({}))

    def holds(self, cluster: str, arm: str, now: float) -> bool:
        """Tell whether an arm may not be tried now."""
        found = self.sentences.get((cluster, arm))
        return found is not None and now < found.until

    def put(self, cluster: str, arm: str, now: float) -> Quarantine:
        """Return it with an arm that was rolled back: each time for twice as long."""
        before = self.sentences.get((cluster, arm))
        length = self.limits.first_quarantine_s if before is None else 2 * before.length_s
        sentence = Sentence(
            now + min(length, self.limits.longest_quarantine_s), min(length, self.limits.longest_quarantine_s)
        )
        return replace(self, sentences=MappingProxyType({**self.sentences, (cluster, arm): sentence}))

    def pardon(self, cluster: str, arm: str) -> Quarantine:
        """Return it without an arm that has since been promoted."""
        return replace(
            self, sentences=MappingProxyType({k: v for k, v in self.sentences.items() if k != (cluster, arm)})
        )

    def amnesty(self, cluster: str) -> Quarantine:
        """Return it without what was judged in a cluster: it has been found to behave otherwise by now."""
        return replace(self, sentences=MappingProxyType({k: v for k, v in self.sentences.items() if k[0] != cluster}))
