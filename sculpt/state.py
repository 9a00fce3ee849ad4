"""Where one workload's loop stands: what its records say up to now, as one value. Status and live view are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from rl.decision import BLIND, HOLD, ONE_WAY, TRIAL
from rl.policy import BASELINE
from sculpt.step import Record

KEPT_REWARDS = 240
KEPT_NEWS = 50
ALERT = "alert"
BASELINE_ROLE, KEPT_ROLE, TRIED_ROLE = "baseline", "kept", "tried"
PROVEN = ("promoted", "confirmed", "recalled")
"""Events that say what the kept configuration is worth."""


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened: an event of the loop's, or an alert."""

    t: float
    kind: str
    """Of ``rl.decision.EVENTS``, or ALERT."""
    text: str
    """Why, or the alert's words."""
    candidate: str = ""
    gain: float | None = None
    """Difference of logarithms."""
    interval: tuple[float, float] | None = None
    about: str = ""
    """Of an alert what kind it is, of ``sculpt.alert.KINDS``, where that is known."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the kept configuration was found to bring against what was kept before: differences of logarithms."""

    name: str
    gain: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class WorkloadState:
    """All that is known of one workload's loop after a record."""

    workload: str
    latest: Record
    began: float
    """Time of its first record."""
    steps: int = 1
    kept: Gain | None = None
    """None while nothing is kept that was proven in this run."""
    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Events by kind."""
    rewards: tuple[float | None, ...] = ()
    """The latest, oldest first; None where an interval was not measured."""
    roles: tuple[str, ...] = ()
    """What was in force in them: BASELINE_ROLE, KEPT_ROLE or TRIED_ROLE."""
    news: tuple[News, ...] = ()
    """The latest, oldest first."""

    @classmethod
    def first(cls, record: Record) -> WorkloadState:
        """Return the state after a workload's first record."""
        return cls(record.workload, record, record.t, steps=0).after(record)

    def after(self, record: Record) -> WorkloadState:
        """Return the state after one more record."""
        event = record.decision.event
        counts = {**self.counts, event: self.counts.get(event, 0) + 1} if event else self.counts
        return replace(
            self,
            latest=record,
            steps=self.steps + 1,
            kept=_kept(self.kept, record),
            counts=MappingProxyType(dict(counts)),
            roles=(*self.roles, self._role(record))[-KEPT_REWARDS:],
            rewards=(*self.rewards, record.judged.reward)[-KEPT_REWARDS:],
            news=(*self.news, *_news(record))[-KEPT_NEWS:],
        )

    def _role(self, record: Record) -> str:
        if record.in_force == BASELINE:
            return BASELINE_ROLE
        return KEPT_ROLE if self.kept is not None and record.in_force == self.kept.name else TRIED_ROLE

    @property
    def in_force(self) -> str:
        """What is in force now, in the interval that has begun."""
        done = self.latest.done
        return done.in_force.name if done is not None else self.latest.in_force

    @property
    def alerts(self) -> tuple[News, ...]:
        """The alerts of late, oldest first."""
        return tuple(one for one in self.news if one.kind == ALERT)

    @property
    def activity(self) -> str:
        """What the loop is doing with it: watching, holding, trying, judging or blind."""
        return _ACTIVITIES.get(self.latest.decision.state, "holding") if self._is_acting() else "watching"

    def _is_acting(self) -> bool:
        holds_nothing = self.latest.decision.state == HOLD and self.in_force == BASELINE
        return self.latest.done is not None and not holds_nothing


_ACTIVITIES = {HOLD: "holding", TRIAL: "trying", ONE_WAY: "judging", BLIND: "blind"}


def _kept(before: Gain | None, record: Record) -> Gain | None:
    """Return what is kept and its gain: from the decision that proved it until one that leads back to the baseline."""
    decision = record.decision
    if decision.event in PROVEN and decision.candidate:
        if decision.arm.name == BASELINE:
            return None
        gain = decision.gain if decision.gain is not None else 0.0
        return Gain(decision.arm.name, gain, decision.interval)
    if decision.state in (HOLD, BLIND) and decision.arm.name == BASELINE:
        return None
    return before


def _news(record: Record) -> tuple[News, ...]:
    decision = record.decision
    event = (
        (News(record.t, decision.event, decision.because, decision.candidate, decision.gain, decision.interval),)
        if decision.event
        else ()
    )
    if record.raised is not None:
        return (*event, *(News(record.t, ALERT, one.text, about=one.kind) for one in record.raised))
    return (*event, *(News(record.t, ALERT, alert) for alert in record.alerts))
