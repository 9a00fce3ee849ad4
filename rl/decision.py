"""What a learner is told of an interval, what it answers, and how patient it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl.policy import Arm, Context

HOLD, TRIAL, ONE_WAY, BLIND = "hold", "trial", "one-way", "blind"
"""States: what is kept is in force; a trial is running; a change that cannot be flipped is being judged; nothing can be judged."""

EVENTS = {
    "trial": "something begins to be tried",
    "promoted": "it is proven better, and kept from now on",
    "made": "it cannot be flipped back, and is part of the baseline from now on",
    "rolled back": "it is worse, or pays no longer, and was taken back",
    "undecided": "no gain worth having could be shown, and it was taken back",
    "recalled": "it was proven in this kind of phase before, and is kept again",
    "confirmed": "what is kept was held against the baseline again, and still pays",
    "phase": "the workload behaves otherwise than before: back to the baseline",
    "blind": "there are no measurements: back to the baseline",
    "novel": "the workload is unlike anything known: nothing is tried",
    "gone": "it is no longer proposed",
    "failed": "the model came to grief: back to the baseline",
    "unverified": "nothing can be judged: what the rules alone suggest is in force from now on",
    "held": "nothing may be tried for the time being: what was is ended, what is kept stays",
}
"""What may end or begin with a decision, by name."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things take, in intervals unless said otherwise, and what is worth the trouble."""

    dwell: int = 4
    """At least between the end of one trial and the beginning of the next."""
    reversal: int = 60
    """At least before an arm that was just given up may be tried again."""
    recheck: int = 240
    """What is kept is held against the baseline again after so many, after twice as many each time it is confirmed, ..."""
    longest_recheck: int = 3840
    """... and after so many at most."""
    recalled: int = 12
    """What an earlier run has proven, and is kept again without a trial, is held against the baseline after so many."""
    alarm: int = 24
    """At least between two checks because the reward fell; more when it was not for what is kept."""
    blind: int = 3
    """So many without a measurement lead back to the baseline."""
    drift: float = 1.0
    """Distance of the context from that of the last judgement beyond which it is another phase."""
    sure: int = 2
    """So many on end must be of another phase before it is believed."""
    novelty: float = 2.0
    """Above this nothing is tried: the workload is unlike anything known."""
    worth: float = 0.01
    """A gain (difference of logarithms) below this is not worth a change."""
    likely: float = 0.1
    """An arm is tried only where it is worth the change with at least this probability."""
    stuck: int = 360
    """What cannot be flipped back is feared to be in force for so many, for the budget."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One interval that has ended."""

    t: float
    """Its end, in seconds."""
    interval_s: float
    context: Context
    arms: tuple[Arm, ...]
    """What may be in force next; the baseline first."""
    reward: float | None
    """Measured in it, above 0, greater is better; None when that could not be measured."""
    in_force: str
    """Name of the arm that was in force all through it."""
    novelty: float = 0.0
    one_way: frozenset[str] = frozenset()
    """Names of arms that cannot be flipped back."""
    way_back: frozenset[str] = frozenset()
    """Of these, what can be taken back all the same, if not exactly or at once."""
    is_spoiled: bool = False
    """Something that is not the workload's took the machine: no measurement, and no sign that there are none any more."""
    hold: str = ""
    """Why nothing may be begun now, and what is being tried is ended; what is kept stays."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be in force in the next interval, and why."""

    arm: Arm
    state: str
    because: str
    event: str = ""
    """Of EVENTS, or nothing."""
    candidate: str = ""
    """Of a trial that runs or just ended."""
    gain: float | None = None
    """Measured in it, the difference of logarithms, as far as it is known."""
    interval: tuple[float, float] | None = None
    """Limits of that gain, which hold at all times together."""
    blocks: int = 0
    """Blocks of the trial that are done."""
    estimates: dict[str, tuple[float, float]] = field(default_factory=dict)


def too_novel(novelty: float, most: float) -> str:
    """Say that a workload is only watched, and what would have to be set for more."""
    return f"unlike anything known (novelty {novelty:.1f}, most_novelty {most:.1f}): only watched"
