"""One workload's steps taken in their order, and what there is to tell of them in the end."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rl.decision import BLIND, HOLD, ONE_WAY, TRIAL
from rl.policy import BASELINE
from sculpt.lenient import limits, mapping, names, number, or_nan, pair, text
from sculpt.told import Alerted, Block, Gain, Kept, Series, Stretch, Told, Trial, Turn, Worth, worth_of

ENDINGS = ("promoted", "made", "rolled back", "undecided", "confirmed", "phase", "blind", "gone", "held", "failed")
"""Events that end a trial."""
BEFORE = 6
"""What was seen before a trial is the mean of so many measurements at most."""
GAP = 5.0
"""So many intervals without a record are a gap: the machine slept, or the process was stopped."""


@dataclass(slots=True)
class Open:
    """A trial that runs."""

    number: int
    candidate: str
    against: str
    began: float
    one_way: bool
    chosen: str
    before: float | None
    demand: Mapping[str, Any]
    proposed: tuple[str, ...]
    held: Mapping[str, Any]
    estimates: Mapping[str, Any]
    blocks: list[Block] = field(default_factory=list)
    in_force_s: float = 0.0
    last: float = 0.0

    def close(self, outcome: str, because: str, gain: Gain | None, ended: float | None) -> Trial:
        blocks = tuple(self.blocks)
        return Trial(
            number=self.number, candidate=self.candidate, against=self.against, began=self.began, ended=ended,
            one_way=self.one_way, chosen=self.chosen, before=self.before,
            demand={name: number(value) for name, value in self.demand.items()}, proposed=self.proposed,
            held={name: text(why) for name, why in self.held.items()},
            expected=pair(self.estimates.get(self.candidate)), blocks=blocks, outcome=outcome, why=because, gain=gain,
            in_force_s=self.in_force_s,
        )  # fmt: skip


@dataclass(slots=True)
class Teller:
    """Takes the steps of one workload in their order."""

    name: str
    interval_s: float
    joined: Mapping[str, Any] = field(default_factory=dict)
    left: Mapping[str, Any] | None = None
    kept: str = BASELINE
    open: Open | None = None
    wanted: str = ""
    time: float = -math.inf
    counts: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    why_not: Counter[str] = field(default_factory=Counter)
    stretches: list[Stretch] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    alerts: dict[str, Alerted] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    known: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    standing: list[Kept] = field(default_factory=list)
    for_good: list[Kept] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    t: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    budget: list[float] = field(default_factory=list)
    quarantined: tuple[str, ...] = ()
    own: list[float] = field(default_factory=list)
    in_force: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    longest_s: float = 0.0
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def take(self, step: Mapping[str, Any]) -> None:
        """Take in one step."""
        decision = mapping(step.get("decision"))
        self.interval_s = number(step.get("interval_s")) or self.interval_s
        self.longest_s = max(self.longest_s, self.interval_s)
        passed_s = self._pass(number(step.get("t")) or 0.0)
        in_force = text(step.get("in_force")) or BASELINE
        self._count(step, decision, in_force)
        self._measure(step, in_force, passed_s)
        self._held(step)
        self._trial(step, decision, in_force, passed_s)
        self._turn(decision)
        self._alert(step)
        self.wanted = text(mapping(decision).get("arm"))
        if decision.get("state") not in (TRIAL, ONE_WAY):
            self.kept = self.wanted or self.kept

    def told(self) -> Told:
        """Return what is there to tell."""
        trials = list(self.trials)
        if self.open is not None:
            trials.append(self.open.close("", "", self._so_far(self.open), None))
        t, own = tuple(self.t), [one for one in self.own if math.isfinite(one)]
        return Told(
            name=self.name, joined=self.joined, left=self.left, judged_by=tuple(self.metrics), why_not=dict(self.why_not), counts=dict(self.counts),
            seconds=dict(self.seconds), stretches=tuple(self.stretches), trials=tuple(trials), turns=tuple(self.turns),
            alerts=tuple(self.alerts.values()), held=dict(self.held), known=dict(self.known), kept=self.kept,
            standing=tuple(self.standing), for_good=tuple(self.for_good), worth=self._worth(),
            series=Series(t, tuple(self.reward), tuple(self.budget), tuple(self.own), tuple(self.gaps)),
            quarantined=self.quarantined, longest_s=self.longest_s,
            own_mean=fmean(own) if own else None, own_peak=max(own, default=None),
        )  # fmt: skip

    # --- time and measurements

    def _pass(self, t: float) -> float:
        """Return the seconds that a step stands for: those since the last one, a gap or a clock set back counted as one interval."""
        since = t - self.time
        if since < 0 and math.isfinite(self.time):
            self.counts["clock went back"] += 1
            t = self.time
        self.time = t
        self.t.append(t)
        usual = 0 < since <= GAP * self.interval_s if self.interval_s else 0 < since < math.inf
        if not usual and 0 < since < math.inf:
            self.gaps.append(len(self.t) - 1)
            self.counts["gaps"] += 1
            self.seconds["gaps"] += since - self.interval_s
        return since if usual else self.interval_s

    def _count(self, step: Mapping[str, Any], decision: Mapping[str, Any], in_force: str) -> None:
        self.counts["intervals"] += 1
        self.counts["blind"] += decision.get("state") == BLIND
        self.counts["novel"] += decision.get("event") == "novel"
        self.counts["late"] += bool(self.wanted) and in_force != self.wanted
        if number(step.get("reward")) is None:
            self.counts["missing"] += 1
            self.why_not[text(step.get("why_not")) or "?"] += 1
        done = mapping(step.get("done"))
        if number(done.get("changed")):
            self.counts["changes"] += int(number(done.get("changed")) or 0)
            self.seconds["changing"] += number(done.get("took_s")) or 0.0
        self.counts["not done"] += bool(text(done.get("error")))
        self.counts["lost"] += bool(step.get("lost"))
        self.quarantined = names(step.get("quarantined"))

    def _measure(self, step: Mapping[str, Any], in_force: str, passed_s: float) -> None:
        reward = number(step.get("reward"))
        self.reward.append(math.nan if reward is None else reward)
        self.budget.append(or_nan(step.get("room_s")))
        self.own.append(or_nan(step.get("own_share")))
        label = self._label(in_force)
        self.in_force.append(label)
        measured = mapping(step.get("metrics"))
        for name in measured:
            if name not in self.metrics:
                self.metrics[name] = [math.nan] * (len(self.t) - 1)
        for name, column in self.metrics.items():
            column.append(or_nan(measured.get(name)))
        self.seconds["all"] += passed_s
        role = BASELINE if in_force == BASELINE else "kept" if in_force == self.kept else "tried"
        self.seconds[role] += passed_s
        start = max(self.t[-1] - passed_s, self.stretches[-1].end if self.stretches else -math.inf)
        last = self.stretches[-1] if self.stretches else None
        if last is not None and (last.name, last.role) == (label, role) and self.t[-1] - last.end <= passed_s * 1.5:
            self.stretches[-1] = Stretch(label, role, last.start, self.t[-1])
        else:
            self.stretches.append(Stretch(label, role, start, self.t[-1]))

    def _label(self, in_force: str) -> str:
        """Return the name of what is in force, with what was made for good: the baseline after it is not the one before."""
        if not self.for_good:
            return in_force
        made = dict.fromkeys(one.name for one in self.for_good)
        return " with ".join((in_force, *(f"{name} made" for name in made)))

    def _worth(self) -> tuple[Worth, ...]:
        return worth_of(self.in_force, self.reward, self.metrics)

    # --- what was proposed, tried and said

    def _held(self, step: Mapping[str, Any]) -> None:
        for name, why in mapping(step.get("held")).items():
            self.held[name] = text(why)
        for name, what in mapping(step.get("candidates")).items():
            self.known[name] = mapping(what)

    def _trial(self, step: Mapping[str, Any], decision: Mapping[str, Any], in_force: str, passed_s: float) -> None:
        event, reward = text(decision.get("event")), number(step.get("reward"))
        running = self.open
        if running is not None:
            self.seconds["in trials"] += passed_s
            running.in_force_s += passed_s * (in_force == running.candidate)
            self._note_block(running, decision)
            if event in ENDINGS:
                self._end(running, decision, event)
        elif reward is not None and in_force == self.kept:
            self.recent = [*self.recent[1 - BEFORE :], reward]
        if event == "trial":
            self._begin(step, decision)
        elif running is None and event in (*ENDINGS, "recalled", "unverified"):
            self._keep(event, decision, None)

    def _begin(self, step: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        self.counts["trials"] += 1
        self.open = Open(
            self.counts["trials"], text(decision.get("candidate")), self.kept, self.time,
            decision.get("state") == ONE_WAY, text(decision.get("because")),
            fmean(self.recent) if self.recent else None, mapping(step.get("demand")), names(step.get("proposed")),
            mapping(step.get("held")), mapping(decision.get("estimates")),
        )  # fmt: skip
        self.recent = []

    def _note_block(self, running: Open, decision: Mapping[str, Any]) -> None:
        """Note how far a trial has come, once a block."""
        gain, count = number(decision.get("gain")), number(decision.get("blocks"))
        if gain is None or not count or (running.blocks and running.blocks[-1].count >= count):
            return
        low, high = limits(decision.get("interval"))
        if running.candidate == BASELINE and text(decision.get("event")) not in ENDINGS:
            # Until it ends the gain that is told is that of the baseline: here always that of what is kept.
            gain, low, high = -gain, None if high is None else -high, None if low is None else -low
        running.blocks.append(Block(self.time, int(count), gain, low, high))

    def _so_far(self, running: Open) -> Gain | None:
        if not running.blocks:
            return None
        last = running.blocks[-1]
        return Gain(last.gain, last.low, last.high)

    def _end(self, running: Open, decision: Mapping[str, Any], event: str) -> None:
        gain = _gain(decision) or self._so_far(running)
        if running.blocks and gain is not None and gain.low is None and running.blocks[-1].gain == gain.mean:
            gain = self._so_far(running)
        trial = running.close(event, text(decision.get("because")), gain, self.time)
        self.trials.append(trial)
        self.open = None
        self.counts[event] += 1
        self._keep(event, decision, trial)

    def _keep(self, event: str, decision: Mapping[str, Any], trial: Trial | None) -> None:
        """Follow what is kept, and what each part of it gained."""
        name, gain = text(decision.get("candidate")) or text(decision.get("arm")), _gain(decision)
        if event == "made":  # by itself, without what it was made on top of
            name = name.removeprefix(f"{self.kept} + ")
        if trial is not None:
            gain = trial.gain
        if event in ("promoted", "unverified"):
            self.standing.append(Kept(name, gain, event, self.time))
        elif event == "made":
            self.for_good.append(Kept(name, gain, event, self.time))
        elif event in ("confirmed", "recalled"):
            # A check ends as soon as it will: where it has no limits, those of the trial that proved it count on.
            if not (self.standing and event == "confirmed" and _is_vague(gain)):
                self.standing = [Kept(name, gain, event, self.time)]
        elif text(decision.get("arm")) == BASELINE and decision.get("state") in (HOLD, BLIND):
            self.standing = []

    def _turn(self, decision: Mapping[str, Any]) -> None:
        event = text(decision.get("event"))
        if not event:
            return
        because = text(decision.get("because"))
        last = self.turns[-1] if self.turns else None
        if last is not None and last.event == event == "novel":
            self.turns[-1] = Turn(last.t, event, last.name, last.because, last.times + 1)
            return
        self.turns.append(Turn(self.time, event, text(decision.get("candidate")), because))

    def _alert(self, step: Mapping[str, Any]) -> None:
        """Note the alerts that were raised; of a step that has none what it says by itself."""
        raised, said = step.get("raised"), step.get("alerts")
        for alert in raised if isinstance(raised, list) and raised else said if isinstance(said, list) else []:
            about = mapping(alert)
            words = text(about.get("text")) if about else text(alert)
            kind = ", ".join(part for part in (text(about.get("kind")), text(about.get("severity"))) if part)
            before = self.alerts.get(words)
            first, times = (self.time, 0) if before is None else (before.first, before.times)
            self.alerts[words] = Alerted(words, kind, first, self.time, times + 1)


def _gain(decision: Mapping[str, Any]) -> Gain | None:
    mean = number(decision.get("gain"))
    if mean is None:
        return None
    low, high = limits(decision.get("interval"))
    return Gain(mean, low, high)


def _is_vague(gain: Gain | None) -> bool:
    return gain is None or not math.isfinite(gain.low or 0.0) or gain.low is None
