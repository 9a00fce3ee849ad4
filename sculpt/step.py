"""One step of the loop, as values: what the interval was worth, and in full what was seen, decided and done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dna.vector import Interval
from rl.decision import Decision
from sculpt.actuator import Done
from sculpt.alert import Alert
from sculpt.candidates import Candidate, Held

OBSERVE, ADVISE, APPLY = "observe", "advise", "apply"
MODES = (OBSERVE, ADVISE, APPLY)


@dataclass(frozen=True, slots=True)
class Judged:
    """What an interval was worth."""

    reward: float | None
    """Above 0, greater is better; None when it cannot be told."""
    why: str = ""
    """Why it cannot be told."""
    values: tuple[tuple[str, float | None], ...] = ()
    """The metrics that it is made of, by name."""
    has_objective: bool = True
    """There is something to judge by, although it may not be known now."""


type Judge = Callable[[Interval, float], Judged]
"""From an interval, and the seconds of it that the change itself took, to what it was worth."""


@dataclass(frozen=True, slots=True)
class Record:
    """One step, in full: what a report or a live view is made of."""

    t: float
    workload: str
    in_force: str
    """All through the interval that ended."""
    judged: Judged
    decision: Decision
    done: Done | None = None
    """What was done about it; None in modes that change nothing."""
    proposed: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    alerts: tuple[str, ...] = ()
    demand: tuple[tuple[str, float | None], ...] = ()
    own_share: float = 0.0
    """CPU time of this process in the interval, of one core."""
    vector: tuple[float, ...] = ()
    """DNA of the interval; () where there is none."""
    novelty: float | None = None
    lost: tuple[str, ...] = ()
    """Of what we set, what somebody else has set since."""
    trouble: tuple[str, ...] = ()
    """Of the alerts, those that say what failed, changes apart: their failing is in ``done``."""
    room_s: float | None = None
    """What is left of the budget, in seconds of the baseline's worth; None in modes that risk nothing."""
    quarantined: tuple[str, ...] = ()
    """What may not be tried for the time being."""
    took_s: float = 0.0
    """How long the step itself took."""
    news: tuple[Candidate, ...] = ()
    """Candidates that no record before has told of."""
    interval_s: float | None = None
    """How long intervals are from now on; None where that was not told."""
    unverified: bool = False
    """What is in force from now on was never judged."""
    raised: tuple[Alert, ...] | None = None
    """What somebody is to be told of now; None where nobody has looked (``sculpt.alerts`` does)."""
    mode: str = ""
