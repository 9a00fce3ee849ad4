"""What trials of the same come to together: one lesson for each arm of each kind of workload. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Protocol

from rl.learned import Learned, LearnedProof, LearnedSentence, LearnedTrial, Origin
from rl.policy import TRIAL_DEVIATION

_95_PER_CENT = 1.96


@dataclass(frozen=True, slots=True)
class Lesson:
    """One arm of one kind of workload."""

    workload: str
    objective: str
    arm: str
    parts: tuple[str, ...]
    trials: int
    runs: int
    machines: int
    gain: float | None
    """Over the baseline, difference of logarithms, by all trials together; None where there is none."""
    interval: tuple[float, float] | None
    """Limits of the gain at about 95 %."""
    expected: float | None
    """What the rules expected at last; None where no trial says."""
    last: float
    """When it was last learned of, Unix time."""
    outcome: str
    """Of the last trial; "" without one."""
    is_proven: bool
    until: float | None
    """Unix time at which its quarantine ends, or did; None where it is in none."""
    is_imported: bool


class _Dated(Protocol):
    @property
    def origin(self) -> Origin: ...
    @property
    def at(self) -> float: ...


def select(
    learned: Learned, *, workload: str = "*", arm: str = "*", run: str = "*", before: float = math.inf
) -> Learned:
    """Return what is of workloads, arms and runs of these names (shell patterns), and was learned before a Unix time.

    Proofs know the parts of an arm, not its name: one is chosen by arm where a trial says that this arm has those parts. Neither they nor
    sentences are of one run.
    """

    def fits(one: _Dated) -> bool:
        return fnmatchcase(one.origin.workload, workload) and one.at < before

    trials = tuple(one for one in learned.trials if fits(one) and fnmatchcase(one.arm.name, arm))
    named = {frozenset(one.arm.parts) for one in learned.trials if fnmatchcase(one.arm.name, arm)}
    return Learned(
        tuple(one for one in trials if fnmatchcase(one.run, run)),
        tuple(one for one in learned.proofs if fits(one) and (arm == "*" or frozenset(one.parts) in named)),
        tuple(one for one in learned.sentences if fits(one) and fnmatchcase(one.arm, arm)),
    )


def lessons(learned: Learned) -> tuple[Lesson, ...]:
    """Return the lessons, by workload, the largest gain first."""
    proven = {(one.origin.workload, one.origin.objective, frozenset(one.parts)): one for one in learned.proofs}
    sentences = {(one.origin.workload, one.origin.objective, one.arm): one for one in learned.sentences}
    found = []
    for key, trials in _grouped(learned.trials, lambda one: (one.origin.workload, one.origin.objective, one.arm.name)):
        proof = proven.get((*key[:2], frozenset(trials[-1].arm.parts)))
        found.append(_lesson(key, trials, proof, sentences.pop(key, None)))
    found += [_held(key, sentence) for key, sentence in sentences.items()]
    return tuple(sorted(found, key=lambda one: (one.workload, one.objective, -(one.gain or 0.0), one.arm)))


def pooled(trials: Iterable[LearnedTrial]) -> tuple[float, tuple[float, float]]:
    """Return the gain that trials come to together, and its limits at about 95 %.

    The mean is weighted, as the bandit weights them. Where trials differ by more than their noise the limits are widened to what they
    show (Birge's ratio); a single one has the limits that it told itself.
    """
    weighed = [(one, max(one.weight * one.share, 1e-9)) for one in trials]
    total = math.fsum(weight for _, weight in weighed)
    mean = math.fsum(weight * one.gain for one, weight in weighed) / total
    if len(weighed) == 1 and (told := weighed[0][0].interval) is not None:
        return mean, told
    scatter = math.fsum(weight * (one.gain - mean) ** 2 for one, weight in weighed) / TRIAL_DEVIATION**2
    ratio = scatter / (len(weighed) - 1) if len(weighed) > 1 else 1.0
    reach = _95_PER_CENT * TRIAL_DEVIATION * math.sqrt(max(ratio, 1.0) / total)
    return mean, (mean - reach, mean + reach)


def _lesson(
    key: tuple[str, str, str],
    trials: list[LearnedTrial],
    proof: LearnedProof | None,
    sentence: LearnedSentence | None,
) -> Lesson:
    gain, limits = pooled(trials)
    last = trials[-1]
    return Lesson(
        workload=key[0],
        objective=key[1],
        arm=key[2],
        parts=last.arm.parts,
        trials=len(trials),
        runs=len({one.run for one in trials}),
        machines=len({one.origin.machine.identity for one in trials}),
        gain=gain,
        interval=limits,
        expected=last.arm.expected if last.arm.trust > 0 else None,
        last=max(last.at, sentence.at if sentence else 0.0),
        outcome=last.outcome,
        is_proven=proof is not None and not proof.imported,
        until=sentence.until if sentence else None,
        is_imported=all(one.imported for one in trials),
    )


def _held(key: tuple[str, str, str], sentence: LearnedSentence) -> Lesson:
    """Return the lesson of an arm that nothing but its quarantine is known of, as where somebody else took it over."""
    return Lesson(*key, (), 0, 0, 1, None, None, None, sentence.at, "", False, sentence.until, sentence.imported)


def _grouped[T: _Dated, K: tuple[str, ...]](items: Iterable[T], key: Callable[[T], K]) -> Iterable[tuple[K, list[T]]]:
    ordered = sorted(items, key=lambda one: (key(one), one.at))
    return ((name, list(members)) for name, members in groupby(ordered, key=key))
