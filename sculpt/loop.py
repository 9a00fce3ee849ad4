"""The loop of one workload: an interval's measurements in, what is in force in the next one out.

Deciding is the learner's (``rl.learner``), proposing the rules', changing the actuator's; here they meet, each behind its own check. The
model may be wrong, late or missing: then nothing is tried, and what was is taken back. Every step is a record that says what
was seen, proposed, chosen and done.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from dna.vector import DIMENSIONS, Interval, Profile
from hal.errors import HalError
from hal.host import Host
from hal.settings import Plan, Setting
from rl.decision import Patience, too_novel
from rl.learner import HOLD, Decision, Learner, Seen
from rl.measured import LATENCY
from rl.policy import BASELINE, Arm, Context
from rl.watch import PhaseWatch
from rules.advice import Advisor
from rules.engine import Engine
from rules.reload import Rules
from rules.situation import Machine, Situation, Workload
from rules.sources import Loaded as LoadedRules
from sculpt.actuator import Actuator, Done
from sculpt.candidates import Candidate, Found, Held, find
from sculpt.guard import Guard
from sculpt.own_effect import OwnEffect
from sculpt.plausible import Plausible
from sculpt.step import APPLY, OBSERVE, Judge, Judged, Record
from sculpt.stolen import Stolen
from sculpt.surroundings import surroundings
from sculpt.turns import Turn
from sculpt.unverified import is_unverified, suggested

LATE_S = 1.0
"""A decision that takes longer than an interval, and than this, is about what was, not what is."""
RULES_EVERY = 4
"""Rules are asked anew after so many intervals at least, more where that would cost too much."""


type Look = Callable[[Sequence[Interval], Machine], Workload | None]
"""From the latest intervals, and the machine as it is now, to the workload as it is now; None when it has ended."""


@dataclass(slots=True)
class Loop:
    """One workload's loop.

    Args:
        kinds: what the objective is about, of ``rules.rule.EFFECTS``.
        program: what the guard knows the workload by; its name unless given.
        turn: its part in who of several workloads may have a trial.
        is_paused: asked before each decision; while it is so nothing new is begun, a trial is ended, and what is kept stays.
        held: asked about settings; returns why they are not made for this workload, "" for go on.
        beside: the other workloads that the run watches, for rules about two.
        follow: rules that follow their files; those of ``advisor`` otherwise. Several loops may have the same.
        unverified: where nothing can be judged, apply what the rules alone suggest, as far as it can be undone exactly.
        own_limit: share of one core that asking the rules may use; they are asked the less often for it.
    """

    name: str
    mode: str
    host: Host
    machine: Callable[[], Machine]
    look: Look
    judge: Judge
    advisor: Advisor
    learner: Learner
    actuator: Actuator
    guard: Guard = field(default_factory=Guard)
    kinds: Sequence[str] = ("throughput",)
    program: str = ""
    turn: Turn = field(default_factory=lambda: Turn(""))
    is_paused: Callable[[], bool] = lambda: False
    held: Callable[[Sequence[Setting]], str] = lambda _settings: ""
    beside: Callable[[Machine], tuple[Workload, ...]] = lambda _machine: ()
    follow: Rules | None = None
    unverified: bool = False
    own_limit: float = 0.01
    counts: Counter[str] = field(default_factory=Counter)
    """What went wrong, by name and how often."""
    _found: Found = field(default_factory=lambda: Found((Candidate(),), ()))
    _in_force: Candidate = field(default_factory=Candidate)
    _own_effect: OwnEffect = field(default_factory=OwnEffect)
    _machine: Machine | None = None
    """As it was when the rules were asked last."""
    _vector: NDArray[np.float64] = field(default_factory=lambda: np.zeros(DIMENSIONS))
    _stall_s: float = 0.0
    _asked_every: int = RULES_EVERY
    _since_asked: int = 10**9
    _own_s: float = field(default_factory=time.process_time)
    _taken: LoadedRules | None = None
    _lost: tuple[str, ...] = ()
    _trouble: list[str] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)
    _begun: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    _without: int = 0
    _aside: str = ""
    """Why what is proposed is not even advised."""
    _suggested: Candidate | None = None
    _phase: PhaseWatch = field(default_factory=lambda: PhaseWatch(Patience().drift, Patience().sure))
    _plausible: Plausible = field(default_factory=Plausible)
    _stolen: Stolen = field(init=False)

    def __post_init__(self) -> None:
        self.actuator.check = self._too_much
        self._stolen = Stolen(self.host, of_tail=LATENCY in self.kinds)
        self._stolen.refusal()
        self.learner.patience = replace(self.learner.patience, novelty=self.guard.most_novelty)
        self._taken = self.follow.loaded if self.follow else None

    def judged(self, interval: Interval) -> Judged:
        """Return what the interval that has just ended was worth; apart from ``step``, since a source may keep one waiting."""
        stall_s, self._stall_s = self._stall_s, 0.0
        try:
            found = self.judge(interval, stall_s)
        except Exception as error:  # whatever a source does, the loop must live
            self.counts["judging failed"] += 1
            return Judged(None, f"judging failed: {type(error).__name__}: {error}")
        stolen = self._stolen.refusal()
        if found.reward is None or not (math.isfinite(found.reward) and found.reward > 0):
            return found
        if stolen:
            self.counts["stolen"] += 1
            return replace(found, reward=None, why=stolen)
        if why := self._plausible.refusal(found.reward):
            self.counts["implausible"] += 1
            return replace(found, reward=None, why=why)
        return found

    def step(self, profile: Profile, judged: Judged | None = None, *, ended: float | None = None) -> Record:
        """Take in the profile whose last interval has just ended, and what it was worth.

        Args:
            ended: when the interval did, by ``time.monotonic``; now unless given.
        """
        interval = profile.intervals[-1]
        began = time.monotonic()
        alerts: list[str] = []
        self._lost, self._trouble, self._aside = (), [], ""
        judged = judged or self.judged(interval)
        self._without = 0 if judged.has_objective else self._without + 1
        own_share = self._own_share(profile.interval_s)
        self._ask_rules(profile, alerts)
        before = self._in_force.name
        decision = self._decided(profile, judged, alerts)
        late_s = time.monotonic() - (began if ended is None else ended)
        is_late = late_s > max(profile.interval_s, LATE_S)
        done = self._act(decision, alerts, late_s=late_s if is_late else 0.0) if self.mode == APPLY else None
        return Record(
            interval.t,
            self.name,
            before,
            judged,
            decision,
            done,
            () if self._aside else tuple(candidate.name for candidate in self._found.candidates[1:]),
            self._all_held(),
            tuple(alerts),
            tuple((name, interval.demand.get(name)) for name in ("cores", "resident")),
            own_share,
            tuple(float(value) for value in interval.vector) if interval.vector is not None else (),
            interval.novelty,
            self._lost,
            tuple(self._trouble),
            self.learner.ledger.room_s if self.mode == APPLY else None,
            self._quarantined(interval.t),
            time.monotonic() - began,
            self._news(),
            mode=self.mode,
            unverified=is_unverified(self._in_force),
        )

    def measured_otherwise(self) -> None:
        """From now on the DNA is of other measurements: that alone is no other phase."""
        self._own_effect.measured_otherwise()

    def end(self, *, keep: bool) -> Done:
        """Leave the machine as declared: with what is kept, or as it was found."""
        self.turn.note(trying=False)
        if not keep:
            return self.actuator.restore()
        kept = next((c for c in self._found.candidates if c.name == self.learner.kept.name), Candidate())
        return self.actuator.put(kept)

    # --- seeing

    def _own_share(self, interval_s: float) -> float:
        now = time.process_time()
        share = (now - self._own_s) / interval_s
        self._own_s = now
        return share

    def _ask_rules(self, profile: Profile, alerts: list[str]) -> None:
        """Ask the rules, except during a trial: what is in force then is not what is kept. They are asked as often as their cost allows."""
        self._since_asked += 1
        if self.mode == OBSERVE or self._is_trying() or self._since_asked < self._asked_every:
            return
        self._since_asked = 0
        began = time.thread_time()
        self._ask(profile.intervals, alerts)
        allowed_s = self.own_limit * profile.interval_s
        self._asked_every = max(RULES_EVERY, math.ceil((time.thread_time() - began) / allowed_s))

    def _ask(self, intervals: Sequence[Interval], alerts: list[str]) -> None:
        self._take_changed_rules(alerts)
        try:
            machine = self._machine = self.machine()
            workload = self.look(intervals, machine)
            if workload is None:
                return
            advice = self.advisor.advise(Situation(machine, (workload, *self.beside(machine))), focus=workload)
        except Exception as error:  # rules are other people's code, and the model may be at fault
            self.counts["rules not asked"] += 1
            words = str(error) if isinstance(error, HalError) else f"{type(error).__name__}: {error}"
            self._tell_trouble(alerts, f"the rules could not be asked: {words}")
            return
        self.counts["rules failed"] += len(advice.failures)
        for failure in advice.failures:
            self._tell_trouble(alerts, f"{failure.rule.identity}: {failure.message}")
        kept = next((one for one in self._found.candidates if one.name == self.learner.kept.name), Candidate())
        if self._is_unverified:
            kept = self._in_force
        self._found = find(advice, kept=kept, plan_of=self.actuator.plan, refusal=self._refusal, kinds=self.kinds)

    def _take_changed_rules(self, alerts: list[str]) -> None:
        """Look whether rule files have changed; one that is not fit is told once, and what was in effect stays."""
        if self.follow is None:
            return
        for news in self.follow.look():
            words = f"{'taken in' if news.taken else 'not taken in'}: {'; '.join(news.messages)}"
            if news.taken:
                alerts.append(f"rules {news.path or ''} {words}")
            else:
                self._tell_trouble(alerts, f"rules {news.path or ''} {words}")
        if self.follow.loaded is not self._taken:
            self._taken = self.follow.loaded
            self.advisor = Advisor(Engine(self.follow.rules))

    def _tell_trouble(self, alerts: list[str], what: str) -> None:
        alerts.append(what)
        self._trouble.append(what)

    def _all_held(self) -> tuple[Held, ...]:
        aside = self._found.candidates[1:] if self._aside else ()
        return (*self._found.held, *(Held(one.name, self._aside) for one in aside))

    def _news(self) -> tuple[Candidate, ...]:
        news = tuple(one for one in self._found.candidates if one.layers and one.name not in self._told)
        self._told.update(one.name for one in news)
        return news

    def _quarantined(self, now: float) -> tuple[str, ...]:
        sentences = self.learner.quarantine.sentences
        return tuple(sorted({arm for (_cluster, arm), sentence in sentences.items() if now < sentence.until}))

    @property
    def _is_unverified(self) -> bool:
        """Tell whether the rules alone decide."""
        return self.unverified and self._cannot_be_judged

    @property
    def _cannot_be_judged(self) -> bool:
        return self._without >= self.learner.patience.blind

    def _is_trying(self) -> bool:
        if self._is_unverified:
            return False
        return self._in_force.name != self.learner.kept.name or self.learner.is_trying

    def _refusal(self, settings: Sequence[Setting]) -> str:
        return self.guard.refusal(self.program or self.name, settings) or self.held(settings)

    # --- deciding

    def _decided(self, profile: Profile, judged: Judged, alerts: list[str]) -> Decision:
        """Decide; a model that comes to grief leads to the baseline, and is asked again in the next interval."""
        try:
            return self._decide(profile, judged, alerts)
        except Exception as error:
            self.counts["model failed"] += 1
            self.turn.note(trying=False)
            words = f"the model came to grief: {type(error).__name__}: {error}"
            self._tell_trouble(alerts, words)
            return Decision(Arm(BASELINE), HOLD, words, "failed")

    def _decide(self, profile: Profile, judged: Judged, alerts: list[str]) -> Decision:
        interval = profile.intervals[-1]
        if self.mode != APPLY:
            return self._advised(interval.novelty, judged)
        arms = tuple(candidate.arm for candidate in self._startable(alerts))
        if lost := self.actuator.lost():
            self._lost = lost
            alerts.append(f"somebody else sets what we set: {'; '.join(lost[:3])}")
            self._disown(interval.t)
            arms = arms[:1]
        seen = Seen(
            interval.t,
            profile.interval_s,
            self._context(interval),
            arms,
            judged.reward,
            self._in_force.name,
            novelty=interval.novelty or 0.0,
            one_way=frozenset(candidate.name for candidate in self._found.candidates if candidate.one_way),
            way_back=frozenset(candidate.name for candidate in self._found.candidates if candidate.way_back),
            is_spoiled=self._stolen.is_spoiled,
            hold=self._hold(),
        )
        if self._cannot_be_judged:
            return self._unjudged(seen, judged)
        decision = self.learner.decide(seen)
        if self._stolen.is_new:
            self.learner.anew()
        self._note_effect(decision)
        self.turn.note(trying=self.learner.is_trying)
        if decision.event == "trial":
            self._begun.append(time.monotonic())
        if decision.event in ("rolled back", "blind", "phase", "gone"):
            alerts.append(f"{decision.event}: {decision.because}")
        return decision

    def _advised(self, novelty: float | None, judged: Judged) -> Decision:
        """Say what is proposed, where nothing is changed anyway."""
        proposed = ", ".join(candidate.name for candidate in self._found.candidates[1:])
        if proposed and (novelty or 0.0) > self.guard.most_novelty:
            self.counts["novel"] += 1
            self._aside = too_novel(novelty or 0.0, self.guard.most_novelty)
            return Decision(Arm(BASELINE), HOLD, self._aside, "novel")
        if proposed and self._cannot_be_judged:
            return Decision(Arm(BASELINE), HOLD, f"proposed: {proposed}; it can be advised, not judged")
        return Decision(Arm(BASELINE), HOLD, f"proposed: {proposed}" if proposed else "watched only")

    def _unjudged(self, seen: Seen, judged: Judged) -> Decision:
        """Decide without any measure: advise, or where that was asked for apply what the rules alone suggest."""
        self.counts["unjudged"] += 1
        proposed = ", ".join(one.name for one in self._found.candidates[1:]) or "nothing"
        if not self.unverified:
            event = "blind" if self._without == self.learner.patience.blind else ""
            return Decision(Arm(BASELINE), HOLD, f"only advised ({proposed}): {judged.why}", event)
        if self._phase.is_another(seen.context):
            return Decision(
                Arm(BASELINE), HOLD, "the workload behaves otherwise than before: unverified, so taken back", "phase"
            )
        if self._lost:
            return Decision(Arm(BASELINE), HOLD, "unverified, and somebody else sets it: taken back")
        standing = self._in_force
        if is_unverified(standing) or not standing.layers:
            return self._beyond(standing, seen)
        return Decision(Arm(BASELINE), HOLD, "what is in force can be judged no longer: taken back", "blind")

    def _beyond(self, standing: Candidate, seen: Seen) -> Decision:
        """Return the decision for what the rules suggest on top of what is in force unverified."""
        self._suggested = suggested(self._found, standing)
        because = "unverified: nothing more is suggested"
        if self._suggested is not None:
            because = self._unverifiable(self._suggested, seen)
        if self._suggested is None or because:
            self._suggested = standing
            return Decision(standing.arm, HOLD, because)
        # Should it fail, or be taken over by somebody, it is not made again at once.
        self.learner.quarantine = self.learner.quarantine.put("", self._suggested.name, seen.t)
        words = f"unverified: nothing can be judged, and the rules suggest {self._suggested.layers[-1].name}"
        return Decision(self._suggested.arm, HOLD, words, "unverified", self._suggested.name)

    def _unverifiable(self, wanted: Candidate, seen: Seen) -> str:
        """Return why what is suggested is not applied now; "" when it is."""
        if seen.novelty > self.guard.most_novelty:
            return too_novel(seen.novelty, self.guard.most_novelty)
        if self.learner.quarantine.holds("", wanted.name, seen.t):
            return f"{wanted.name} was made or tried a short while ago"
        fresh = wanted.layers[-1].settings
        return seen.hold or self.guard.delay(
            fresh, self.actuator.last_set, now=time.monotonic(), moment=datetime.now().astimezone()
        )

    def _hold(self) -> str:
        """Return why nothing may be begun now; "" when it may."""
        if self.is_paused():
            return "the loop is paused"
        if self._stolen.is_new:
            return "the hypervisor takes far more of the CPUs than before: nothing is compared with what was then"
        if held := self.turn.hold():
            return held
        return "" if self.learner.is_trying else self.guard.too_often(self._begun, now=time.monotonic())

    def _disown(self, now: float) -> None:
        """Stand down from what somebody else has taken over: its arm is not tried again for a time."""
        for layer in self._in_force.layers:
            name = Candidate((layer,)).name
            self.learner.quarantine = self.learner.quarantine.put("", name, now)
        self._found = Found((Candidate(),), self._found.held)

    def _context(self, interval: Interval) -> Context:
        """Return what is decided in: the DNA without what is the loop's own doing, that of before where this interval has none; machine and load."""
        if interval.vector is not None:
            self._vector = self._own_effect.without(np.asarray(interval.vector, dtype=np.float64), self._in_force.name)
        return Context(self._vector, around=surroundings(self._machine, interval))

    def _note_effect(self, decision: Decision) -> None:
        if decision.event == "phase":
            self._own_effect.forget()
        elif decision.event == "made":
            self._own_effect.made(decision.candidate)

    # --- acting

    def _act(self, decision: Decision, alerts: list[str], *, late_s: float) -> Done:
        """Put in force what was decided; a decision that comes late is not carried out, unless it leads back to the baseline, or takes back what hurts."""
        if self._is_stopped():
            alerts.append(f"{self.guard.kill_switch} is there: nothing is changed")
            return self._settled(self.actuator.restore(), alerts)
        by_name = {candidate.name: candidate for candidate in (*self._found.candidates, self._suggested) if candidate}
        wanted = by_name.get(decision.arm.name, Candidate())
        worse = by_name.get(decision.candidate, Candidate())
        unmakes = decision.event == "rolled back" and worse.way_back
        if late_s and not unmakes and wanted.layers and wanted != self._in_force:
            self.counts["decided late"] += 1
            self._tell_trouble(
                alerts, f"it took {late_s:.1f} s to decide for {wanted.name}, which is too late: not done"
            )
            wanted = self._in_force
        done = self.actuator.put(wanted)
        if unmakes:
            done = done.then(self.actuator.unmake(worse.layers[-1].name))
        return self._settled(done, alerts)

    def _settled(self, done: Done, alerts: list[str]) -> Done:
        self._in_force = done.in_force
        self._stall_s = done.took_s if done.changed else 0.0
        if done.error:
            alerts.append(done.error)
        return done

    def _is_stopped(self) -> bool:
        return os.path.exists(self.guard.kill_switch)

    def _startable(self, alerts: list[str]) -> tuple[Candidate, ...]:
        """Return the candidates that a trial could begin with now; while one runs, all. What runs goes on, and may always be taken back."""
        if self._is_trying():
            return self._found.candidates
        found = []
        for candidate in self._found.candidates:
            fresh = [one for layer in candidate.layers if layer not in self._in_force.layers for one in layer.settings]
            why = self.guard.delay(
                fresh, self.actuator.last_set, now=time.monotonic(), moment=datetime.now().astimezone()
            )
            if not fresh or not why:
                found.append(candidate)
            else:
                alerts.append(f"{candidate.name}: {why}")
        return tuple(found)

    def _too_much(self, plan: Plan) -> str:
        return self.guard.too_many(plan.changes)


def recent(profile: Profile, count: int = 6) -> Profile:
    """Return the profile of the latest intervals only: what a workload did an hour ago says nothing of now."""
    return replace(profile, intervals=profile.intervals[-count:])
