"""Trials in randomised paired blocks: baseline and candidate in turn, so that what drifts meets both.

A block is A B or B A, drawn by a coin of its own: so where the two are alike, each difference is as likely to be positive as negative
whatever the noise is like (autocorrelated, heavy-tailed, drifting), and independent of the others' signs; a drift meets both alike in
the long run, and widens the spread. Each stretch begins with a settling time that does not count, unless the same side was in force
before it. What comes of a block is one difference of mean logarithms; differences are judged by ``rl.sequential``. A change that cannot be
flipped back is judged once, before against after, with the drift before it allowed for, and said to be.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rl.policy import TRIAL_DEVIATION
from rl.safety import Limits
from rl.sequential import Evidence, clipped, evidence, expected

A, B = "A", "B"
"""The baseline, and the candidate."""
ORDERS = ((A, B), (B, A))
SETTLING_EXCUSES = 1.5
"""A measurement that does not count is beyond the hard limit when it is below so many times that."""
CONFIRMED, DISASTER = 2, 3.0
"""So many measurements of the candidate on end beyond the hard limit end a trial; and a single one below so many times that. A single
99th percentile of few requests is often enough twice the usual one, whatever is in force."""
LEAST_FUTILE = 4
"""Blocks before a trial can end because nothing is to be hoped of it."""
RUNNING, PROMOTED, INFERIOR, HARD_LIMIT, UNDECIDED = "running", "promoted", "inferior", "hard limit", "undecided"


@dataclass(frozen=True, slots=True)
class Design:
    """How a trial is made."""

    settle: int = 1
    """Measurements at the start of each stretch that do not count."""
    measure: int = 1
    """Measurements of each stretch that do."""
    alpha: float = 0.05
    """Chance of promoting what is no better, over the whole trial."""
    doubt: float = 0.1
    """Chance of ending as inferior what is no worse: to stop early costs little, so less proof will do."""
    worth: float = 0.01
    """A gain below this is not worth looking for: a trial in which more is no longer likely ends undecided."""
    likely: float = 0.5
    """How many standard errors above what was measured is still likely; more where blocks are few."""
    least_blocks: int = 3
    most_blocks: int = 60
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial as far as it has come. ``side`` says what must be in force; ``take`` takes the next measurement."""

    design: Design
    seed: int
    order: tuple[str, ...]
    before: float = math.nan
    """Mean logarithm of what the baseline brought last before it; NaN where that is not known."""
    differences: tuple[float, ...] = ()
    """One of each block done: mean logarithm of the candidate less that of the baseline; positive is better."""
    stretches: tuple[tuple[str, float], ...] = ()
    """Of the block in progress: side and mean logarithm of each stretch done."""
    current: tuple[float, ...] = ()
    """Logarithms of the stretch in progress, without the settling."""
    settled: int = 0
    """Measurements of the stretch in progress that were dropped."""
    outcome: str = RUNNING
    dropped: tuple[float, ...] = ()
    """Of measurements that do not count, the difference of logarithms from what the baseline brought last: what changes themselves cost."""
    beyond: int = 0
    """How many of the candidate's latest measurements on end were beyond the hard limit."""

    @property
    def side(self) -> str:
        """What must be in force now."""
        return self.order[len(self.stretches)] if self.outcome == RUNNING else A

    @property
    def evidence(self) -> Evidence:
        """What the blocks done say."""
        return evidence(self.judged)

    @property
    def judged(self) -> tuple[float, ...]:
        """The differences, of which none counts for much more than the usual one."""
        return clipped(self.differences)

    @property
    def so_far(self) -> float:
        """The gain as it is judged (``judged``), as far as it can be told from all blocks and the one in progress; 0 when nothing can be told."""
        return self._with_block_in_progress(self.evidence.mean)

    @property
    def plain(self) -> float:
        """The same where each block counts for what it was: what was lost by a few bad ones was lost all the same."""
        return self._with_block_in_progress(self._plain_mean)

    @property
    def plain_error(self) -> float:
        """Standard error of that."""
        return self._error_of(evidence(self.differences))

    @property
    def gain(self) -> float:
        """What is to be believed of the gain: as it is judged, but for what is better only when a few bad blocks are left out."""
        return self.so_far if self.so_far * self.plain > 0 else self.plain

    @property
    def _plain_mean(self) -> float:
        return math.fsum(self.differences) / len(self.differences) if self.differences else 0.0

    def _with_block_in_progress(self, mean: float) -> float:
        # Not ``self.side``: that says what must be in force next, which after a hard limit is another.
        current = [*self.stretches, *((self.order[len(self.stretches)], value) for value in self.current)]
        candidate = [value for side, value in current if side == B]
        baseline = [value for side, value in current if side == A] or (
            [self.before] if math.isfinite(self.before) else []
        )
        if not candidate or not baseline:
            return mean
        share = min(len(candidate) / self.order.count(B), 1.0)
        present = sum(candidate) / len(candidate) - sum(baseline) / len(baseline)
        return (len(self.differences) * mean + share * present) / (len(self.differences) + share)

    @property
    def error(self) -> float:
        """Standard error of the gain so far; of what is not known yet, that of a usual trial."""
        return self._error_of(self.evidence)

    def _error_of(self, found: Evidence) -> float:
        return (TRIAL_DEVIATION if found.count < 2 else found.deviation) / math.sqrt(max(found.count, 1))

    def take(self, reward: float) -> Trial:
        """Return the trial after one measurement (above 0, greater is better) on its present side.

        A measurement that is not above 0 and finite is no measurement: the trial stays as it is.
        """
        if self.outcome != RUNNING or not math.isfinite(reward) or reward <= 0:
            return self
        if self.settled < self.design.settle:
            return self._settle(math.log(reward))
        value = math.log(reward)
        taken = replace(self, current=(*self.current, value))
        if self.side == B:
            baseline = [value for side, value in self.stretches if side == A] or [self.before]
            taken = taken._held_to_the_limit(value - max(baseline), self.design.limits.hard)
        if taken.outcome != RUNNING:
            return taken
        return taken._end_stretch() if len(taken.current) == self.design.measure else taken

    def _settle(self, value: float) -> Trial:
        """Leave out a measurement, unless not even settling explains it."""
        cost = (value - self.before,) if math.isfinite(self.before) else ()
        taken = replace(self, settled=self.settled + 1, dropped=(*self.dropped, *cost))
        if self.side == A or not cost:
            return taken
        limit = self.design.limits.hard
        if SETTLING_EXCUSES * limit <= cost[0] < limit:  # excused, which takes nothing back of what was bad before
            return taken
        held = taken._held_to_the_limit(cost[0], SETTLING_EXCUSES * limit)
        return held if held.outcome == RUNNING else replace(held, current=(value,))

    def _held_to_the_limit(self, gain: float, limit: float) -> Trial:
        """Return the trial with one measurement of the candidate held to the hard limit; NaN where there is nothing to hold it against."""
        beyond = self.beyond + 1 if gain < limit else 0
        is_over = beyond >= CONFIRMED or gain < DISASTER * limit
        return replace(self, beyond=beyond, outcome=HARD_LIMIT if is_over else RUNNING)

    def _end_stretch(self) -> Trial:
        stretches = (*self.stretches, (self.side, math.fsum(self.current) / len(self.current)))
        if len(stretches) < len(self.order):
            return replace(self, stretches=stretches, current=(), settled=self._carried(self.order[len(stretches)]))
        means = {side: [value for one, value in stretches if one == side] for side in (A, B)}
        baseline = sum(means[A]) / len(means[A])
        difference = sum(means[B]) / len(means[B]) - baseline
        order = _order(self.seed, len(self.differences) + 1)
        ended = replace(
            self,
            before=baseline,
            differences=(*self.differences, difference),
            stretches=(),
            current=(),
            settled=self._carried(order[0]),
            order=order,
        )
        return replace(ended, outcome=ended._verdict())

    def _carried(self, following: str) -> int:
        """Two stretches of one side on end need no settling between them."""
        return self.design.settle if following == self.side else 0

    def _verdict(self) -> str:
        blocks, found = len(self.differences), self.evidence
        if blocks < self.design.least_blocks:
            return RUNNING
        # What is better but for rare disasters is not better.
        if found.proves_gain(self.design.alpha) and self._plain_mean > 0:
            return PROMOTED
        if found.proves_loss(self.design.doubt):
            return INFERIOR
        if self._is_futile(found):  # what looks worse and can hardly be better need not be proven to be
            return INFERIOR if found.mean < -self.design.worth else UNDECIDED
        return UNDECIDED if blocks >= self.design.most_blocks else RUNNING

    def _is_futile(self, found: Evidence) -> bool:
        """Tell whether a gain worth having, or its proof in time, is no longer likely. To end unpromoted costs no chance of error."""
        if found.count < LEAST_FUTILE:
            return False
        reach = self.design.likely * (1 + 2 / (found.count - 1)) * found.deviation / math.sqrt(found.count)
        hoped = found.mean + reach
        if hoped < self.design.worth:
            return True
        at_last = expected(hoped, found.deviation, self.design.most_blocks)
        return found.deviation > 0 and not at_last.proves_gain(self.design.alpha)


def begin(design: Design, *, seed: int, before: float = math.nan) -> Trial:
    """Return a trial that has not begun; ``before`` is the mean logarithm of the baseline's latest rewards."""
    return Trial(design, seed, _order(seed, 0), before)


def _order(seed: int, block: int) -> tuple[str, ...]:
    return ORDERS[random.Random(f"{seed}:{block}").randrange(2)]


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """What came of a change that cannot be flipped back."""

    gain: float
    """Mean logarithm after less what the trend before it would have led to."""
    low: float
    high: float
    """Limits of the gain at about 95 %, the uncertainty of the trend included."""

    @property
    def outcome(self) -> str:
        """PROMOTED, INFERIOR or UNDECIDED."""
        return PROMOTED if self.low > 0 else INFERIOR if self.high < 0 else UNDECIDED


LEAST_BEFORE, LEAST_AFTER = 6, 4


def before_after(before: Sequence[float], after: Sequence[float]) -> BeforeAfter:
    """Judge a change by measurements (above 0, greater is better, evenly spaced) before and after it.

    A line is fitted to all logarithms with a step at the change; the gain is the step, with the uncertainty that the line leaves.

    Raises:
        ValueError: there are too few to tell a step from a slope.
    """
    if len(before) < LEAST_BEFORE or len(after) < LEAST_AFTER:
        raise ValueError(
            f"{len(before)} measurements before and {len(after)} after: {LEAST_BEFORE} and {LEAST_AFTER} are needed"
        )
    values = np.log(np.array([*before, *after], dtype=np.float64))
    step = np.array([0.0] * len(before) + [1.0] * len(after))
    time = np.arange(len(values)) - len(before)
    design = np.column_stack((np.ones(len(values)), time, step))
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    rest = values - design @ coefficients
    freedom = len(values) - 3
    # Neighbouring measurements are alike: with their correlation as found the mean rests on fewer of them.
    related = min(max(float(rest[1:] @ rest[:-1] / max(rest @ rest, 1e-300)), 0.0), 0.9)
    variance = float(rest @ rest) / freedom * (1 + related) / (1 - related)
    deviation = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[2, 2]))
    gain, reach = (
        float(coefficients[2]),
        (2.0 + 4.0 / freedom) * deviation,
    )  # about the 97.5th percentile of Student's t
    return BeforeAfter(gain, gain - reach, gain + reach)
