"""From records to alerts: what somebody should be told of, once for each event, and never in floods.

A condition that lasts (a metric that cannot be read, a knob that somebody else has taken over) is told when it begins. What happens
again and again is told a few times; after that it is counted, and the count told with the next one. The same records raise the
same alerts, whenever they are looked at.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from rl.decision import Patience
from rl.policy import BASELINE, Context
from rl.watch import PhaseWatch
from sculpt.alert import (
    BLIND,
    COLLAPSE,
    CRITICAL,
    JUMP,
    KINDS,
    LOST,
    NOTICE,
    ROLLBACK,
    SCHEMA,
    SEVERITIES,
    TROUBLE,
    WARNING,
    Alert,
    alert_data,
)
from sculpt.collapse import FELL, ROSE, CollapseWatch, Turn
from sculpt.own_effect import OVER
from sculpt.step import Record

__all__ = [
    "BLIND", "COLLAPSE", "CRITICAL", "JUMP", "KINDS", "LOST", "NOTICE", "ROLLBACK", "SCHEMA", "SEVERITIES", "TROUBLE", "WARNING",
    "Alarms", "Alert", "alert_data", "alerts_of", "with_alerts",
]  # fmt: skip

BURST, EVERY_S = 3, 300.0
"""Of each kind and severity of a workload so many at once, and one in so many seconds."""
OVER_AFTER = OVER
"""A condition is over after so many intervals without it: as long as an interval takes part in the DNA that is looked at."""
MOST_WORKLOADS = 256
"""That are remembered; of one that was not heard of for the longest time its events may be told again."""
_SHOWN = 3
_NUMBER = re.compile(r"\d[\d.]*")


def alerts_of(record: Record) -> tuple[Alert, ...]:
    """Return what one record says by itself, whether or not it was said before."""
    return tuple(_alert(record, event) for event in _events(record))


def with_alerts(record: Record, raised: tuple[Alert, ...]) -> Record:
    """Return a record with the alerts that were raised, and with the words of those that it does not say by itself."""
    said = {alert.text for alert in alerts_of(record)}
    new = (alert.text for alert in raised if alert.kind in (COLLAPSE, JUMP, BLIND) and alert.text not in said)
    return replace(record, alerts=(*record.alerts, *new), raised=raised)


@dataclass(frozen=True, slots=True)
class _Event:
    kind: str
    severity: str
    text: str
    condition: str = ""
    """What lasts; "" for what happens at one time."""


def _alert(record: Record, event: _Event) -> Alert:
    return Alert(record.t, record.workload, event.kind, event.severity, event.text)


def _events(record: Record) -> Iterator[_Event]:
    decision = record.decision
    if decision.event == "phase":
        yield _jump(record, decision.because)
    if decision.event == "novel":
        yield _Event(JUMP, NOTICE, decision.because, "novel")
    if decision.event == "rolled back":
        severity = WARNING if _is_severe(record) else NOTICE
        yield _Event(ROLLBACK, severity, f"{decision.candidate}: {decision.because}; taken back")
    if decision.event == "blind":
        yield _blind(record, decision.because)
    if record.lost:
        yield _lost(record.lost)
    yield from (_Event(TROUBLE, WARNING, text, f"trouble {_shape(text)}") for text in record.trouble)
    if record.done is not None and record.done.error:
        yield _failed(record, record.done.error)


def _jump(record: Record, because: str) -> _Event:
    if record.in_force == BASELINE:
        return _Event(JUMP, NOTICE, f"{because}; nothing of ours is in force", "phase")
    done = "left as it is" if record.done is None else "taken back"
    return _Event(JUMP, WARNING, f"{because}; {record.in_force} {done}", "phase")


def _is_severe(record: Record) -> bool:
    """Tell whether more than a careful trial ended: one that was far worse at once, or what was kept and pays no longer."""
    because = record.decision.because
    return because.startswith("far worse") or "no longer" in because


def _blind(record: Record, words: str) -> _Event:
    done = "nothing can be judged" if record.done is None else "back to the baseline until there is one"
    why = f" ({record.judged.why})" if record.judged.why else ""
    return _Event(BLIND, WARNING, f"{words}{why}; {done}", "blind")


def _lost(lost: tuple[str, ...]) -> _Event:
    more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
    text = f"somebody else sets what we set: {'; '.join(lost[:_SHOWN])}{more}; it is left to them, and not tried again for a time"
    return _Event(LOST, WARNING, text, f"lost {sorted({one.partition(' of ')[0] for one in lost})}")


def _failed(record: Record, error: str) -> _Event:
    assert record.done is not None
    stays = record.done.in_force.name
    is_stuck = record.decision.arm.name == BASELINE and stays != BASELINE
    severity = CRITICAL if is_stuck else WARNING
    words = f"{stays} could not be taken back" if is_stuck else f"{record.decision.arm.name} could not be put in force"
    return _Event(TROUBLE, severity, f"{words}: {error}; in force: {stays}", f"failed {_shape(error)}")


def _shape(text: str) -> str:
    """Return a text without its numbers: pids, times and values change while the trouble is the same."""
    return _NUMBER.sub("#", text)


# --- what is remembered


@dataclass(slots=True)
class _Condition:
    """Something that lasts."""

    kind: str
    absent: int = 0


@dataclass(slots=True)
class _Bucket:
    """Lets ``BURST`` through at once and one every ``EVERY_S`` seconds; counts the rest."""

    left: float = BURST
    t: float = 0.0
    held: int = 0
    last: Alert | None = None

    def pass_on(self, alert: Alert) -> Alert | None:
        """Return the alert with the count of those held back before, or None where it is held back too."""
        self._refill(alert.t)
        if self.left < 1:
            self.held += 1
            self.last = alert
            return None
        self.left -= 1
        held, self.held, self.last = self.held, 0, None
        return replace(alert, held=held)

    def overdue(self, t: float) -> Alert | None:
        """Return the last of those that were held back, once it may be told."""
        self._refill(t)
        if self.last is None or self.left < 1:
            return None
        return self._tell(self.last, t)

    def rest(self, t: float) -> Alert | None:
        """Return the same at once."""
        return None if self.last is None else self._tell(self.last, t)

    def _tell(self, last: Alert, t: float) -> Alert:
        self.left -= 1
        before, self.held, self.last = self.held - 1, 0, None
        return replace(last, t=max(t, last.t), held=before)

    def _refill(self, t: float) -> None:
        self.left = min(self.left + max(t - self.t, 0.0) / EVERY_S, BURST)  # a clock set back costs no alert for ever
        self.t = t


def _phase_watch() -> PhaseWatch:
    return PhaseWatch(Patience().drift, Patience().sure)


@dataclass(slots=True)
class _Workload:
    """What is remembered of one."""

    collapse: CollapseWatch
    phase: PhaseWatch = field(default_factory=_phase_watch)
    vectors: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=OVER))
    without: int = 0
    conditions: dict[str, _Condition] = field(default_factory=dict)
    buckets: dict[tuple[str, str], _Bucket] = field(default_factory=dict)

    def take(self, record: Record) -> Iterator[Alert]:
        """Take in a step; yield what is to be told."""
        for event in [*self._begun([*_events(record), *self._seen(record)]), *self._over(record)]:
            bucket = self.buckets.setdefault((event.kind, event.severity), _Bucket(t=record.t))
            if (passed := bucket.pass_on(_alert(record, event))) is not None:
                yield passed
        yield from (late for bucket in self.buckets.values() if (late := bucket.overdue(record.t)) is not None)

    def _begun(self, events: Iterable[_Event]) -> list[_Event]:
        """Return what happens now and what has just begun to last; note what lasts."""
        for condition in self.conditions.values():
            condition.absent += 1
        found = []
        for event in events:
            if event.condition not in self.conditions:
                found.append(event)
            if event.condition:
                self.conditions[event.condition] = _Condition(event.kind)
        return found

    def _over(self, record: Record) -> list[_Event]:
        """Return what is worth telling of what lasts no longer."""
        over = [name for name, condition in self.conditions.items() if condition.absent >= OVER_AFTER]
        gone = [self.conditions.pop(name) for name in over]
        is_judged = record.judged.reward is not None
        return [_Event(BLIND, NOTICE, "it is measured again") for one in gone if one.kind == BLIND and is_judged]

    def _seen(self, record: Record) -> Iterator[_Event]:
        """Yield what only several records show."""
        self.without = self.without + 1 if record.judged.reward is None else 0
        if self.without >= Patience().blind:
            yield _blind(record, f"no measurement for {self.without} intervals")
        if record.done is None:  # otherwise the learner looks, and says so
            yield from self._jumped(record)
        # What is being tried is worth more or less than usual: that is what trials are for.
        reward = record.judged.reward
        if reward is not None and reward > 0 and record.in_force != record.decision.candidate:
            turn = self.collapse.take(reward)
            if turn is not None:
                yield _turned(record, turn)

    def _jumped(self, record: Record) -> Iterator[_Event]:
        if record.novelty is not None and record.novelty > Patience().novelty:
            yield _Event(JUMP, NOTICE, f"unlike anything known (novelty {record.novelty:.1f})", "novel")
        if not record.vector:
            return
        if self.vectors and len(self.vectors[-1]) != len(record.vector):
            self.vectors.clear()  # another model: nothing to compare
            self.phase = _phase_watch()
        self.vectors.append(record.vector)
        mean = np.mean(np.asarray(self.vectors), axis=0)
        if len(self.vectors) == OVER and self.phase.is_another(Context(mean)):
            yield _jump(record, "the workload behaves otherwise than before")


def _turned(record: Record, turn: Turn) -> _Event:
    numbers = f"{turn.share:.0%} of what is usual ({turn.late:.4g} against {turn.usual:.4g})"
    loop = f"in force: {record.in_force}" + (f"; {record.decision.because}" if record.decision.because else "")
    if turn.what == FELL:
        severity = WARNING if record.in_force == BASELINE else CRITICAL  # it may be our doing
        return _Event(COLLAPSE, severity, f"the reward has fallen to {numbers}; {loop}")
    if turn.what == ROSE:
        return _Event(COLLAPSE, NOTICE, f"the reward is itself again, {numbers}")
    return _Event(COLLAPSE, NOTICE, f"the reward has stayed at {numbers}: taken as usual from now on")


@dataclass(slots=True)
class Alarms:
    """Raises the alerts of all workloads of a run, each once.

    Args:
        collapse: share of the usual reward below which a fall is a collapse.
    """

    collapse: float = 0.5
    _workloads: OrderedDict[str, _Workload] = field(default_factory=OrderedDict)

    def take(self, record: Record) -> tuple[Alert, ...]:
        """Take in a step; return what is to be told of now."""
        known = self._workloads.pop(record.workload, None) or _Workload(CollapseWatch(self.collapse))
        self._workloads[record.workload] = known  # the latest last
        if len(self._workloads) > MOST_WORKLOADS:
            self._workloads.popitem(last=False)
        return tuple(known.take(record))

    def rest(self, t: float) -> tuple[Alert, ...]:
        """Return at the end what was held back and not told yet: the last of each kind, with the count of those before it."""
        buckets = [bucket for known in self._workloads.values() for bucket in known.buckets.values()]
        return tuple(late for bucket in buckets if (late := bucket.rest(t)) is not None)
