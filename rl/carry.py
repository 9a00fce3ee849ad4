"""What was learned elsewhere or before, and how much of it counts here: by machine, by nearness of the DNA, and by age. Pure.

Only what has the same DNA model and the same objective counts at all. Then:

============================  ==============================================  =========================  ======================
machine                       trials                                          proofs                     quarantine
============================  ==============================================  =========================  ======================
the same, as it was           count by nearness                               are recalled where near    holds where near
the same, another kernel      at ``LIKE`` of that                             do not                     holds where near
another of the same model     at ``LIKE`` of that                             do not                     does not
any other                     do not                                          do not                     does not
============================  ==============================================  =========================  ======================

"The same, as it was" is: identity, model of machine and processor, kernel, NUMA nodes and CPUs. What was imported counts as of another
machine, whatever it says. A proof recalled is in force without a trial, so it has to be all of the same, and not old.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rl.bandit import Calibration, Settings, Tried
from rl.learned import Learned, LearnedProof, LearnedSentence, LearnedTrial, MachineFacts, Numbers, Origin

NEAR = 0.7
"""Distance of DNA vectors from which on nothing carries. Of the shipped library, runs of one workload are 0.12 apart (median; 0.48 at the
95th percentile), and fewer than 1 in 1,000 pairs of different ones are nearer than this."""
LIKE = 0.3
"""Of its weight, what a trial keeps on another machine of the same model, or under another kernel."""
LEAST = 0.01
"""A trial that would count less than this is left out."""
MOST = 200
"""Trials that are carried: the bandit remembers a few more, of its own."""
OLDEST_PROOF_S = 30 * 86_400.0
"""An older proof is not recalled; its trial still counts, by its age."""
REMEMBERED = 4.0
"""A sentence that is over is remembered for so many times its length: who comes back from it and fails again gets twice as long."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What counts here."""

    trials: tuple[tuple[LearnedTrial, float], ...] = ()
    """With the weight that each has here before age; oldest first."""
    proofs: tuple[LearnedProof, ...] = ()
    sentences: tuple[tuple[LearnedSentence, float], ...] = ()
    """With the Unix time until which each holds."""

    @property
    def tried(self) -> list[Tried]:
        """Return the trials as the bandit takes them; age is its own affair."""
        return [
            Tried(np.array(one.vector), frozenset(one.arm.parts), one.gain, weight, one.at)
            for one, weight in self.trials
        ]

    def calibration(self, settings: Settings) -> Calibration:
        """Return how far off the rules' expectations were, the latest trial of each arm counting once."""
        latest = {one.arm.parts: (one, weight) for one, weight in self.trials}
        found = Calibration()
        for one, weight in latest.values():
            if one.arm.trust > 0:
                variance = settings.noise**2 * (1 / one.arm.trust + 1 / weight)
                found = found.after(one.arm.expected - one.gain, variance)
        return found


def carried(learned: Learned, here: Origin, vector: Sequence[float], *, now: float, half_life_s: float) -> Carried:
    """Return what counts for a workload with this DNA vector, now (Unix time)."""
    place = tuple(float(number) for number in vector)
    proofs = [one for one in learned.proofs if _is_proven(one, here, place, now)]
    sentences = [(one, _until(one, now)) for one in learned.sentences if _holds(one, here, place, now)]
    return Carried(_trials(learned.trials, here, place, now, half_life_s), tuple(proofs), tuple(sentences))


def likeness(there: MachineFacts, here: MachineFacts, *, imported: bool = False) -> float:
    """Return how much of what was learned on one machine counts on another; see the module's docstring."""
    if there == here and here.identity and not imported:
        return 1.0
    is_known = bool(here.hardware)
    is_like = (there.hardware, there.nodes, there.cpus) == (here.hardware, here.nodes, here.cpus)
    return LIKE if is_known and is_like else 0.0


def nearness(one: Numbers, other: Numbers) -> float:
    """Return 1 for equal vectors, falling to 0 at NEAR (Epanechnikov's kernel)."""
    if len(one) != len(other):
        return 0.0
    return max(1 - (math.dist(one, other) / NEAR) ** 2, 0.0)


def _trials(
    trials: Iterable[LearnedTrial], here: Origin, vector: Numbers, now: float, half_life_s: float
) -> tuple[tuple[LearnedTrial, float], ...]:
    counted = [(one, one.weight * one.share * _share(one, here, vector)) for one in trials]
    aged = [(weight * 0.5 ** (max(now - one.at, 0.0) / half_life_s), one, weight) for one, weight in counted]
    heaviest = sorted((found for found in aged if found[0] >= LEAST), key=lambda found: -found[0])[:MOST]
    return tuple(sorted(((one, weight) for _, one, weight in heaviest), key=lambda pair: pair[0].at))


def _share(one: LearnedTrial, here: Origin, vector: Numbers) -> float:
    if not _is_comparable(one.origin, here):
        return 0.0
    return likeness(one.origin.machine, here.machine, imported=one.imported) * nearness(one.vector, vector)


def _is_comparable(there: Origin, here: Origin) -> bool:
    return (there.model, there.objective) == (here.model, here.objective)


def _is_proven(one: LearnedProof, here: Origin, vector: Numbers, now: float) -> bool:
    is_same = likeness(one.origin.machine, here.machine, imported=one.imported) == 1.0
    is_fresh = -60.0 <= now - one.at <= OLDEST_PROOF_S  # one from the future: whose clock was wrong is not known
    return is_same and is_fresh and _is_comparable(one.origin, here) and nearness(one.vector, vector) > 0


def _holds(one: LearnedSentence, here: Origin, vector: Numbers, now: float) -> bool:
    """Where DNA models differ the name must do: what hurt a workload yesterday is not to be forgotten for a new model."""
    if one.imported or one.origin.machine.identity != here.machine.identity or one.origin.objective != here.objective:
        return False
    is_same_model = one.origin.model == here.model
    is_near = nearness(one.vector, vector) > 0 if is_same_model else one.origin.workload == here.workload
    return is_near and now < one.until + REMEMBERED * one.length_s


def _until(one: LearnedSentence, now: float) -> float:
    """Return until when a sentence holds: none longer than its length from now, should the clock have been turned back since."""
    return min(one.until, now + one.length_s)
