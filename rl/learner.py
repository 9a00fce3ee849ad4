"""The decisions of one workload's loop: what is in force next, from what was measured under what was in force.

Pure of any machine: it is told what was seen in an interval and answers with the arm to have in force in the next. One arm is *kept*
(the baseline at first). Now and then the policy names a candidate, the gate lets it pass, and a trial of paired blocks
compares it with what is kept; proof of a gain makes it the one kept, anything else leaves it. Missing measurements, a
workload that is unlike what is known, a change of phase: all lead back to the baseline, and are counted.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rl.policy import BASELINE, Arm, Chosen, Context, Policy
from rl.safety import Ledger, Limits, Quarantine
from rl.trial import (
    HARD_LIMIT,
    INFERIOR,
    LEAST_AFTER,
    LEAST_BEFORE,
    PROMOTED,
    RUNNING,
    UNDECIDED,
    A,
    Design,
    Trial,
    before_after,
    begin,
)

HOLD, TRIAL, ONE_WAY, BLIND = "hold", "trial", "one-way", "blind"
"""States: what is kept is in force; a trial is running; a change that cannot be flipped is being judged; nothing can be judged."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things take, in intervals unless said otherwise."""

    dwell: int = 4
    """At least between the end of one trial and the beginning of the next."""
    reversal: int = 60
    """At least before an arm that was just given up may be tried again."""
    recheck: int = 120
    """What is kept is held against the baseline again after so many."""
    blind: int = 3
    """So many without a measurement lead back to the baseline."""
    drift: float = 1.0
    """Distance of the context from that of the last judgement beyond which it is another phase."""
    novelty: float = 2.0
    """Above this nothing is tried: the workload is unlike anything known."""


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


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be in force in the next interval, and why."""

    arm: Arm
    state: str
    because: str
    event: str = ""
    """What ended or began with it: "trial", "promoted", "made" (for good), "rolled back", "undecided", "phase", "blind", "novel", "gone" or nothing."""
    candidate: str = ""
    """Of a trial that runs or just ended."""
    gain: float | None = None
    """Measured in it, the difference of logarithms, as far as it is known."""
    interval: tuple[float, float] | None = None
    """Limits of that gain."""
    estimates: dict[str, tuple[float, float]] = field(default_factory=dict)


class Learner:
    """The loop's decisions for one workload.

    Args:
        seed: of the blocks' order; the policy has its own.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seed: int,
        design: Design | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.policy = policy
        self.design = design or Design()
        self.patience = patience or Patience()
        self.ledger = Ledger(limits or self.design.limits)
        self.quarantine = Quarantine(limits or self.design.limits)
        self.kept = Arm(BASELINE)
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._trial: Trial | None = None
        self._candidate: Arm | None = None
        self._phase: Context | None = None
        self._kept_gain = 0.0
        self._since_trial = 0
        self._since_check = 0
        self._without = 0
        self._given_up: dict[str, int] = {}
        self._recent: deque[float] = deque(maxlen=60)
        self._after: list[float] = []

    @property
    def is_trying(self) -> bool:
        """Tell whether something is being tried."""
        return self._candidate is not None

    def decide(self, seen: Seen) -> Decision:
        """Take in one interval, and say what is to be in force in the next."""
        self.counts["intervals"] += 1
        self._since_trial += 1
        self._since_check += 1
        arms = {arm.name: arm for arm in seen.arms}
        if reason := self._lost(seen, arms):
            return reason
        assert seen.reward is not None
        self._account(seen)
        if self._trial is not None:
            return self._go_on(seen)
        if self._candidate is not None:
            return self._one_way(seen)
        if seen.in_force == self.kept.name:
            self._recent.append(seen.reward)
        return self._consider(seen)

    # --- what leads back to the baseline

    def _lost(self, seen: Seen, arms: dict[str, Arm]) -> Decision | None:
        """Return the decision where this interval says nothing, or says that what was learned does not count here."""
        if self._phase is None:
            self._phase = seen.context
        if self._is_another_phase(seen):
            self._phase = seen.context
            return self._back("phase", "the workload behaves otherwise than before: judged anew")
        if self.kept.name not in arms:
            return self._back("gone", f"{self.kept.name} is no longer proposed")
        if self._candidate is not None and self._candidate.name not in arms:
            return self._drop("gone", f"{self._candidate.name} is no longer proposed")
        if seen.reward is None or not math.isfinite(seen.reward) or seen.reward <= 0:
            self._without += 1
            self.counts["missing"] += 1
            if self._without >= self.patience.blind:
                return self._back("blind", f"no measurement for {self._without} intervals", state=BLIND)
            return Decision(self._present(), self._state(), "no measurement in this interval: nothing is changed")
        self._without = 0
        return None

    def _is_another_phase(self, seen: Seen) -> bool:
        assert self._phase is not None
        if seen.context.cluster != self._phase.cluster:
            return True
        return float(np.linalg.norm(seen.context.vector - self._phase.vector)) > self.patience.drift

    def _back(self, event: str, because: str, *, state: str = HOLD) -> Decision:
        self.counts[event] += 1
        self._trial = self._candidate = None
        self.kept, self._kept_gain = Arm(BASELINE), 0.0
        self._since_trial = self._since_check = 0
        self._recent.clear()
        return Decision(self.kept, state, because, event)

    def _drop(self, event: str, because: str) -> Decision:
        self.counts[event] += 1
        self._trial = self._candidate = None
        self._since_trial = 0
        return Decision(self.kept, HOLD, because, event)

    def _present(self) -> Arm:
        if self._trial is not None and self._candidate is not None:
            return self.kept if self._trial.side == A else self._candidate
        return self._candidate or self.kept

    def _state(self) -> str:
        return TRIAL if self._trial is not None else ONE_WAY if self._candidate is not None else HOLD

    def _account(self, seen: Seen) -> None:
        gain = self._kept_gain
        if self._candidate is not None and seen.in_force == self._candidate.name and self._trial is not None:
            gain += self._trial.evidence.mean
        self.ledger = self.ledger.after(min(gain, 0.0), seen.interval_s)

    # --- a trial

    def _consider(self, seen: Seen) -> Decision:
        """Begin a trial where there is something worth trying, and it may be."""
        if self._since_trial < self.patience.dwell:
            return Decision(self.kept, HOLD, f"{self.kept.name} has been in force for {self._since_trial} intervals")
        if seen.novelty > self.patience.novelty:
            self.counts["novel"] += 1
            return Decision(
                self.kept, HOLD, f"unlike anything known (novelty {seen.novelty:.1f}): only watched", "novel"
            )
        chosen = self._choose(seen)
        candidate = chosen.arm
        if candidate.name == self.kept.name:
            return Decision(self.kept, HOLD, f"{self.kept.name}: {chosen.because}", estimates=dict(chosen.estimates))
        if reason := self._forbidden(seen, chosen):
            return Decision(
                self.kept, HOLD, f"{candidate.name} is not tried: {reason}", estimates=dict(chosen.estimates)
            )
        return self._begin(seen, chosen)

    def _choose(self, seen: Seen) -> Chosen:
        """Ask the policy, or check again what is kept."""
        if self.kept.name != BASELINE and self._since_check >= self.patience.recheck:
            self._since_check = 0
            return Chosen(seen.arms[0], f"{self.kept.name} has been kept for long: is it still better?")
        allowed = [
            arm
            for arm in seen.arms
            if arm.name in (BASELINE, self.kept.name)
            or not self.quarantine.holds(seen.context.cluster, arm.name, seen.t)
        ]
        return self.policy.choose(seen.context, allowed)

    def _forbidden(self, seen: Seen, chosen: Chosen) -> str:
        name = chosen.arm.name
        waited = self._given_up.get(name)
        if waited is not None and self.counts["intervals"] - waited < self.patience.reversal:
            return "it was given up a short while ago"
        if name in seen.one_way and len(self._recent) < LEAST_BEFORE:
            return f"it cannot be flipped back, and {LEAST_BEFORE} measurements before it are needed"
        mean, deviation = chosen.estimates.get(name, (0.0, 0.0))
        if not self.ledger.allows(mean - self._kept_gain, deviation, self._block_s(seen)):
            return f"it might cost more than is left of the budget ({self.ledger.room_s:.1f} s of the baseline's worth)"
        return ""

    def _block_s(self, seen: Seen) -> float:
        return seen.interval_s * 2 * (self.design.settle + self.design.measure)

    def _begin(self, seen: Seen, chosen: Chosen) -> Decision:
        self._seed += 1
        self.counts["trial"] += 1
        self._candidate = chosen.arm
        estimates = dict(chosen.estimates)
        if chosen.arm.name in seen.one_way:
            self._after = []
            because = f"{chosen.arm.name} is made, which cannot be flipped back: {chosen.because}"
            return Decision(chosen.arm, ONE_WAY, because, "trial", chosen.arm.name, estimates=estimates)
        self._trial = begin(self.design, seed=self._seed)
        because = f"{chosen.arm.name} against {self.kept.name}: {chosen.because}"
        return Decision(self._present(), TRIAL, because, "trial", chosen.arm.name, estimates=estimates)

    def _go_on(self, seen: Seen) -> Decision:
        assert self._trial is not None
        assert self._candidate is not None
        assert seen.reward is not None
        if (
            seen.in_force != self._present().name
        ):  # what was wanted could not be had yet: it says nothing of either side
            self.counts["late"] += 1
            return Decision(self._present(), TRIAL, "not yet in force", candidate=self._candidate.name)
        blocks = len(self._trial.differences)
        self._trial = self._trial.take(seen.reward)
        found = self._trial.evidence
        if self._trial.outcome == RUNNING:
            if len(self._trial.differences) > blocks and self._is_too_dear(seen):
                return self._end(seen, INFERIOR, "what it costs is more than is left of the budget")
            because = f"block {len(self._trial.differences) + 1}: {found.mean:+.3f} after {found.count} blocks"
            return Decision(self._present(), TRIAL, because, candidate=self._candidate.name, gain=found.mean)
        return self._end(seen, self._trial.outcome, "")

    def _is_too_dear(self, seen: Seen) -> bool:
        assert self._trial is not None
        found = self._trial.evidence
        deviation = 0.0 if math.isnan(found.deviation) else found.deviation / math.sqrt(max(found.count, 1))
        return not self.ledger.allows(found.mean, deviation, self._block_s(seen))

    def _end(self, seen: Seen, outcome: str, because: str) -> Decision:
        assert self._trial is not None
        assert self._candidate is not None
        candidate, found = self._candidate, self._trial.evidence
        gain = found.mean if found.count else self.ledger.limits.hard
        self._teach(seen, candidate, self._kept_gain + gain, max(found.count, 1))
        self._trial = self._candidate = None
        self._since_trial = 0
        if outcome == PROMOTED:
            return self._promote(seen, candidate, gain, f"better by {gain:+.3f}, proven in {found.count} blocks")
        words = {
            INFERIOR: f"worse by {gain:+.3f}",
            HARD_LIMIT: "far worse at once",
            UNDECIDED: f"no better in {found.count} blocks ({gain:+.3f})",
        }
        return self._leave(seen, candidate, outcome, because or words[outcome], gain)

    def _one_way(self, seen: Seen) -> Decision:
        """Judge a change that was made for good, once enough has been measured after it."""
        assert self._candidate is not None
        assert seen.reward is not None
        candidate = self._candidate
        if seen.in_force == candidate.name:
            self._after.append(seen.reward)
        settled = self._after[self.design.settle :]
        if len(settled) < max(LEAST_AFTER, 2 * self.design.measure):
            return Decision(candidate, ONE_WAY, f"{len(settled)} measurements after it", candidate=candidate.name)
        found = before_after(list(self._recent), settled)
        self._teach(seen, candidate, self._kept_gain + found.gain, 1.0)
        self._candidate = None
        self._since_trial = 0
        self.counts["made"] += 1
        # It is part of the machine from now on, so what is kept stays what it was, by its name: the baseline has changed.
        self._given_up[candidate.name] = self.counts["intervals"]
        self._recent.clear()
        if found.outcome == INFERIOR:
            self.quarantine = self.quarantine.put(seen.context.cluster, candidate.name, seen.t)
        because = f"{found.outcome}, judged before against after; it stays made"
        return Decision(self.kept, HOLD, because, "made", candidate.name, found.gain, interval=(found.low, found.high))

    def _teach(self, seen: Seen, arm: Arm, gain: float, weight: float) -> None:
        if arm.name == BASELINE:  # what is kept was held against the baseline: that teaches of what is kept
            self.policy.learn(seen.context, self.kept, self._kept_gain - gain, weight=weight)
        else:
            self.policy.learn(seen.context, arm, gain, weight=weight)

    def _promote(self, seen: Seen, arm: Arm, gain: float, because: str) -> Decision:
        self.counts["promoted"] += 1
        self._given_up[self.kept.name] = self.counts["intervals"]
        self.kept = arm
        self._kept_gain = 0.0 if arm.name == BASELINE else self._kept_gain + gain
        self._since_check = 0
        self._phase = seen.context
        self._recent.clear()
        self.quarantine = self.quarantine.pardon(seen.context.cluster, arm.name)
        return Decision(arm, HOLD, because, "promoted", arm.name, gain)

    def _leave(self, seen: Seen, arm: Arm, outcome: str, because: str, gain: float) -> Decision:
        event = "undecided" if outcome == UNDECIDED else "rolled back"
        self.counts[event] += 1
        if arm.name != BASELINE:
            self.quarantine = self.quarantine.put(seen.context.cluster, arm.name, seen.t)
        self._since_check = 0
        return Decision(self.kept, HOLD, because, event, arm.name, gain)


def arms_with(baseline: Arm, proposed: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms with the baseline first, each name once."""
    found = {arm.name: arm for arm in (baseline, *proposed)}
    return tuple(found.values())
