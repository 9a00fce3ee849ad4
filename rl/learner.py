"""The decisions of one workload's loop: what is in force next, from what was measured under what was in force.

Pure of any machine: it is told what was seen in an interval and answers with the arm to have in force in the next. One arm is *kept*
(the baseline at first). Now and then the policy names a candidate, the gate lets it pass, and a trial of paired blocks
compares it with what is kept; proof of a gain makes it the one kept, anything else leaves it. What is kept is held against the
baseline again, ever more seldom while it pays, and at once when the reward falls; what was proven in a phase is kept again when that
phase comes back. Missing measurements, a workload that is unlike what is known, a change of phase: all lead back to the baseline, and
are counted.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist, stdev

from rl.decision import BLIND, HOLD, ONE_WAY, TRIAL, Decision, Patience, Seen, too_novel
from rl.policy import BASELINE, TRIAL_DEVIATION, Arm, Chosen, Policy
from rl.proofs import Proof, Proofs
from rl.safety import Ledger, Limits, Quarantine
from rl.sequential import interval
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
from rl.watch import YOUNG, FallWatch, PhaseWatch

__all__ = ["BLIND", "HOLD", "ONE_WAY", "TRIAL", "Decision", "Learner", "Patience", "Seen", "arms_with"]

FALLEN = 0.7
"""Share of the gain of what is kept: when the reward falls by that much, the gain may be gone."""
TOLD = 0.05
"""Chance that the limits of a gain, as told, miss it; whatever the trial itself goes by."""
LEAST_NOISE = 3
NOISE_EXCUSES = 5.0
"""From so many measurements the noise is known; so many standard deviations of one are no sign of anything in a difference of two."""
CHECK_DOUBT = 0.3
CHECK_BLOCKS = 24
"""Chance of error in finding that what is kept still pays, or no longer, and most blocks to find out in: the first was proven before, and
the other needs no proof."""


class Learner:
    """The loop's decisions for one workload.

    Args:
        seed: of the blocks' order; the policy has its own.
        known: what was proven before.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seed: int,
        design: Design | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
        known: Iterable[Proof] = (),
        quarantine: Quarantine | None = None,
    ) -> None:
        self.policy = policy
        self.design = design or Design()
        self.patience = patience or Patience()
        limits = limits or self.design.limits
        self.ledger = Ledger(limits)
        """What was lost, a running trial included as far as it can be told."""
        self.quarantine = quarantine or Quarantine(limits)
        self.proofs = Proofs(self.patience.drift, known)
        self.tries: dict[tuple[str, str], list[float]] = {}
        """Gains over the baseline that were measured of (cluster, arm): each further trial of it needs more proof."""
        self.kept = Arm(BASELINE)
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._trial: Trial | None = None
        self._candidate: Arm | None = None
        self._phase = PhaseWatch(self.patience.drift, self.patience.sure, young=YOUNG)
        self._fall = FallWatch()
        self._kept_gain = 0.0
        self._since_trial = 0
        self._since_check = 0
        self._check_after = self.patience.recheck
        self._alarm_after = self.patience.alarm
        self._without = 0
        self._given_up: dict[str, int] = {}
        self._recent: deque[float] = deque(maxlen=60)
        self._after: list[float] = []
        self._settled = self.ledger
        self._candidate_s = 0.0
        self._changing_s = 0.0
        self._returning = math.nan

    @property
    def is_trying(self) -> bool:
        """Tell whether something is being tried."""
        return self._candidate is not None

    def decide(self, seen: Seen) -> Decision:
        """Take in one interval, and say what is to be in force in the next."""
        seen = replace(seen, context=replace(seen.context, when=seen.t))
        self.counts["intervals"] += 1
        self._since_trial += 1
        self._since_check += 1
        self._account(seen)
        if reason := self._lost(seen, {arm.name for arm in seen.arms}):
            return reason
        if seen.hold:
            return self._hold(seen)
        assert seen.reward is not None
        if self._trial is not None:
            return self._go_on(seen, self._trial)
        if self._candidate is not None:
            return self._one_way(seen, self._candidate)
        if seen.in_force == self.kept.name and not self._account_return(seen):
            self._recent.append(seen.reward)
            self._fall.take(seen.reward, FALLEN * self._kept_gain)
        return self._consider(seen)

    def anew(self) -> None:
        """The machine is another than before: nothing that is measured from now on is compared with what was."""
        self._recent.clear()
        self._returning = math.nan

    def _hold(self, seen: Seen) -> Decision:
        if self._candidate is None:
            return Decision(self.kept, HOLD, seen.hold)
        if not self._candidate.parts:  # a check that was begun is made up for
            self._since_check = self._check_after
        elif self._trial is not None and len(self._trial.differences) > 1:  # what was looked at counts as a try
            self._note_try(seen, self._candidate, self._trial.gain)
        return self._drop("held", seen.hold)

    def _note_try(self, seen: Seen, arm: Arm, gain: float) -> None:
        self.tries.setdefault((seen.context.cluster, arm.name), []).append(self._kept_gain + gain)

    # --- what leads back to the baseline

    def _lost(self, seen: Seen, names: set[str]) -> Decision | None:
        """Return the decision where this interval says nothing, or says that what was learned does not count here."""
        if self._phase.is_another(seen.context):
            if self.kept.parts:  # nobody can tell what it cost here until that was noticed
                self._settled = self._settled.charged(self.ledger.limits.hard, self.patience.sure * seen.interval_s)
            return self._back("phase", "the workload behaves otherwise than before: judged anew")
        if self.kept.name not in names:
            return self._back("gone", f"{self.kept.name} is no longer proposed")
        if self._candidate is not None and self._candidate.name not in names:
            return self._drop("gone", f"{self._candidate.name} is no longer proposed")
        if seen.hold and self._candidate is not None:  # also where nothing was measured
            return self._hold(seen)
        if self._phase.is_in_doubt:
            return Decision(self._present(), self._state(), "it may be another phase: this interval does not count")
        if seen.is_spoiled:
            return Decision(self._present(), self._state(), "this interval does not count")
        if seen.reward is None or not math.isfinite(seen.reward) or seen.reward <= 0:
            self._without += 1
            self.counts["missing"] += 1
            words = f"no measurement for {self._without} intervals"
            if self._without > self.patience.blind:  # which was told
                return Decision(self.kept, BLIND, words)
            if self._without == self.patience.blind:
                return self._back("blind", words, state=BLIND)
            return Decision(self._present(), self._state(), "no measurement in this interval: nothing is changed")
        self._without = 0
        return None

    def _back(self, event: str, because: str, *, state: str = HOLD) -> Decision:
        self.kept, self._kept_gain = Arm(BASELINE), 0.0
        self._since_check = 0
        self._fall.restart()
        return replace(self._drop(event, because), state=state)

    def _drop(self, event: str, because: str) -> Decision:
        self.counts[event] += 1
        self._close()
        return Decision(self.kept, HOLD, because, event)

    def _close(self) -> None:
        """End what is being tried."""
        self._charge_so_far()
        self._settled, self._candidate_s, self._changing_s = self.ledger, 0.0, 0.0
        self._returning = self._trial.before if self._trial is not None else math.nan
        self._trial = self._candidate = None
        self._since_trial = 0
        self._recent.clear()

    def _present(self) -> Arm:
        if self._trial is not None and self._candidate is not None:
            return self.kept if self._trial.side == A else self._candidate
        return self._candidate or self.kept

    def _state(self) -> str:
        return TRIAL if self._trial is not None else ONE_WAY if self._candidate is not None else HOLD

    # --- what it costs

    def _account(self, seen: Seen) -> None:
        """Note the time; of a candidate also how long it has been in force, which is charged by what it has shown so far."""
        self._settled = self._settled.passed(seen.interval_s)
        if self._candidate is not None and seen.in_force == self._candidate.name:
            self._candidate_s += seen.interval_s
        elif seen.in_force == self.kept.name:
            self._settled = self._settled.charged(min(self._kept_gain, 0.0), seen.interval_s)
        self._charge_so_far()

    def _account_change(self, seen: Seen) -> None:
        """The interval was one in which a change was settling: it is charged by what was measured in it."""
        assert self._candidate is not None
        self._changing_s += seen.interval_s
        if seen.in_force == self._candidate.name:
            self._candidate_s -= seen.interval_s

    def _account_return(self, seen: Seen) -> bool:
        """Charge the first interval after a trial, in which the return was settling; tell whether it was that."""
        if self._candidate is not None or math.isnan(self._returning) or seen.in_force != self.kept.name:
            return False
        assert seen.reward is not None
        gain = self._kept_gain + math.log(seen.reward) - self._returning
        self._settled = self.ledger = _charged(self._settled, gain, TRIAL_DEVIATION, seen.interval_s)
        self._returning = math.nan
        return True

    def _charge_so_far(self) -> None:
        self.ledger = _charged(self._settled, *self._shown(), self._candidate_s)
        if self._trial is not None and (dropped := self._trial.dropped):
            gain = self._kept_gain + math.fsum(dropped) / len(dropped)
            self.ledger = _charged(self.ledger, gain, TRIAL_DEVIATION / math.sqrt(len(dropped)), self._changing_s)

    def _shown(self) -> tuple[float, float]:
        """Return what the candidate gains over the baseline, as far as it can be told, and the standard deviation of that."""
        if self._candidate is None or not self._candidate.parts:
            return 0.0, 0.0
        if self._trial is not None:
            return self._kept_gain + self._trial.plain, self._trial.plain_error
        settled = self._after[self.design.settle :]
        if not settled or not self._recent:
            return self._kept_gain, TRIAL_DEVIATION
        gain = self._kept_gain + _mean_log(settled) - _mean_log(self._recent)
        return gain, TRIAL_DEVIATION / math.sqrt(len(settled))

    # --- what is tried next

    def _consider(self, seen: Seen) -> Decision:
        """Begin a trial where there is something worth trying, and it may be."""
        if self._since_trial < self.patience.dwell:
            return Decision(self.kept, HOLD, f"{self.kept.name} has been in force for {self._since_trial} intervals")
        if seen.novelty > self.patience.novelty:
            self.counts["novel"] += 1
            return Decision(self.kept, HOLD, too_novel(seen.novelty, self.patience.novelty), "novel")
        if recalled := self._recall(seen):
            return recalled
        if because := self._must_check():
            self._since_check = 0
            return self._begin(seen, Chosen(seen.arms[0], because))
        chosen, refused = self._choose(seen)
        if chosen.arm.name != self.kept.name:
            return self._begin(seen, chosen)
        because = f"{self.kept.name}: {chosen.because}" + (f"; {refused}" if refused else "")
        return Decision(self.kept, HOLD, because, estimates=dict(chosen.estimates))

    def _recall(self, seen: Seen) -> Decision | None:
        """Return to what was proven in this phase before, where there is such a thing and it is not kept already."""
        arms = [arm for arm in self._allowed(seen) if arm.name not in seen.one_way]
        best = self.proofs.best(seen.context, arms)
        if best is None or best[0].name == self.kept.name or best[1] < self._kept_gain + self.patience.worth:
            return None
        self._keep(seen, *best)
        if not self.proofs.is_own(seen.context, best[0]):
            self._check_after = self.patience.recalled
        self.counts["recalled"] += 1
        words = f"{self.kept.name} was proven here before ({self._kept_gain:+.3f})"
        return Decision(self.kept, HOLD, words, "recalled", gain=self._kept_gain)

    def _must_check(self) -> str:
        """Return why what is kept is to be held against the baseline now; nothing where it need not be."""
        if not self.kept.parts:
            return ""
        if self._since_check >= self._check_after:
            return f"{self.kept.name} has been kept for long: is it still better?"
        if self._since_check >= self._alarm_after and self._fall.has_fallen:
            return f"the reward fell under {self.kept.name}: is it still better?"
        return ""

    def _allowed(self, seen: Seen) -> list[Arm]:
        cluster = seen.context.cluster
        return [
            arm
            for arm in seen.arms
            if arm.name in (BASELINE, self.kept.name) or not self.quarantine.holds(cluster, arm.name, seen.t)
        ]

    def _choose(self, seen: Seen) -> tuple[Chosen, str]:
        """Ask the policy, and once more without what may not be tried; say why that may not."""
        allowed = self._allowed(seen)
        chosen = self.policy.choose(seen.context, allowed)
        refused = self._forbidden(seen, chosen, chosen.arm)
        if not refused:
            return chosen, ""
        fit = [arm for arm in allowed if not self._forbidden(seen, chosen, arm)]
        return self.policy.choose(seen.context, fit), f"{chosen.arm.name} is not tried: {refused}"

    def _forbidden(self, seen: Seen, chosen: Chosen, arm: Arm) -> str:
        """Return why an arm may not be tried now; nothing where it may."""
        if arm.name == self.kept.name:
            return ""
        waited = self._given_up.get(arm.name)
        if waited is not None and self.counts["intervals"] - waited < self.patience.reversal:
            return "it was given up a short while ago"
        is_for_good = arm.name in seen.one_way
        if is_for_good and len(self._recent) < LEAST_BEFORE:
            return f"it cannot be flipped back, and {LEAST_BEFORE} measurements before it are needed"
        if chosen.estimates and (chance := self._chance(chosen, arm)) < self.patience.likely:
            return f"the chance that it is worth a change is {chance:.0%}"
        if not self._is_affordable(seen, chosen, arm):
            return f"it might cost more than is left of the budget ({self.ledger.room_s:.1f} s of the baseline's worth)"
        return ""

    def _is_affordable(self, seen: Seen, chosen: Chosen, arm: Arm) -> bool:
        """Tell whether what an arm might lose is left of the budget, until one could know.

        What was never tried here is feared to be at the hard limit, and what was to be as it was, whatever is expected of it: who expects
        may be wrong, or lie.
        """
        if not arm.parts:
            return True
        mean, deviation = chosen.estimates.get(arm.name, (0.0, 0.0))
        if arm.name in seen.one_way:
            return self.ledger.allows(mean, deviation, self.patience.stuck * seen.interval_s, for_good=True)
        measured = self.tries.get((seen.context.cluster, arm.name), [self.ledger.limits.hard])
        return self.ledger.allows(min(mean, measured[-1]), deviation, self._block_s(seen))

    def _chance(self, chosen: Chosen, arm: Arm) -> float:
        """Return how probable it is that an arm is better than what is kept by what is worth a change."""
        mean, deviation = chosen.ahead(arm.name, self.kept.name)
        if deviation == 0:
            return float(mean > self.patience.worth)
        return 1 - NormalDist(mean, deviation).cdf(self.patience.worth)

    def _block_s(self, seen: Seen) -> float:
        """Return for how long a candidate may hurt before one could know: two stretches, a measurement that is missing, the return."""
        return seen.interval_s * (2 * (self.design.settle + self.design.measure) + self.design.settle + 1)

    def _begin(self, seen: Seen, chosen: Chosen) -> Decision:
        self._seed += 1
        self.counts["trial"] += 1
        self._candidate = arm = chosen.arm
        estimates = dict(chosen.estimates)
        if arm.name in seen.one_way:
            self._after = []
            because = f"{arm.name} is made, which cannot be flipped back: {chosen.because}"
            return Decision(arm, ONE_WAY, because, "trial", arm.name, estimates=estimates)
        before = _mean_log(self._recent) if self._recent else math.nan
        self._trial = begin(self._design_for(seen, arm), seed=self._seed, before=before)
        self._recent.clear()
        because = f"{arm.name} against {self.kept.name}: {chosen.because}"
        return Decision(self._present(), TRIAL, because, "trial", arm.name, estimates=estimates)

    def _design_for(self, seen: Seen, arm: Arm) -> Design:
        """Return the trial's design: each further trial of one arm needs more proof, so that all of them err no oftener than once in 1/alpha or so."""
        design = replace(self.design, limits=self._limits())
        if not arm.parts:
            return replace(design, alpha=CHECK_DOUBT, doubt=CHECK_DOUBT, most_blocks=CHECK_BLOCKS)
        tries = len(self.tries.get((seen.context.cluster, arm.name), ()))
        return replace(design, alpha=self.design.alpha / (1 + tries) ** 2)

    def _limits(self) -> Limits:
        """Return a trial's limits: what noise alone does to what is kept is no reason to end one at once."""
        limits = self.design.limits
        if len(self._recent) < LEAST_NOISE:
            return limits
        noise = stdev(map(math.log, self._recent))
        return replace(limits, hard=min(limits.hard, -NOISE_EXCUSES * noise))

    # --- a trial

    def _go_on(self, seen: Seen, trial: Trial) -> Decision:
        assert self._candidate is not None
        assert seen.reward is not None
        name, is_check = self._candidate.name, not self._candidate.parts
        if seen.in_force != self._present().name:
            # What was wanted could not be had yet: it says nothing of either side.
            self.counts["late"] += 1
            return Decision(self._present(), TRIAL, "not yet in force", candidate=name)
        self._trial = now = trial.take(seen.reward)
        if len(now.dropped) > len(trial.dropped):
            self._account_change(seen)
        self._charge_so_far()
        found = now.evidence
        if now.outcome != RUNNING:
            return _with_limits(self._end(seen, now, now.outcome, ""), now, of_kept=is_check)
        if self.ledger.room_s < 0 or (len(now.differences) > len(trial.differences) and self._is_too_dear(seen, now)):
            words = "what it costs is more than is left of the budget"
            return _with_limits(self._end(seen, now, INFERIOR, words), now, of_kept=is_check)
        because = f"block {len(now.differences) + 1}: {found.mean:+.3f} after {found.count} blocks"
        return _with_limits(Decision(self._present(), TRIAL, because, candidate=name, gain=found.mean), now)

    def _is_too_dear(self, seen: Seen, trial: Trial) -> bool:
        if self._candidate is None or not self._candidate.parts:
            return False
        return not self.ledger.allows(self._kept_gain + trial.plain, trial.plain_error, self._block_s(seen))

    def _end(self, seen: Seen, trial: Trial, outcome: str, because: str) -> Decision:
        assert self._candidate is not None
        candidate, found = self._candidate, trial.evidence
        gain, weight = trial.gain, _weight(trial)
        is_check = not candidate.parts
        if is_check:  # what is kept was held against the baseline: that teaches of what is kept
            self.policy.learn(seen.context, self.kept, -gain, weight=weight)
        else:
            self.policy.learn(seen.context, candidate, self._kept_gain + gain, weight=weight)
            self._note_try(seen, candidate, gain)
        self._close()
        if is_check:
            return self._checked(seen, outcome, -gain, trial)
        if outcome == PROMOTED:
            return self._promote(seen, candidate, gain, f"better by {gain:+.3f}, proven in {found.count} blocks")
        words = {
            INFERIOR: f"worse by {gain:+.3f}",
            HARD_LIMIT: f"far worse at once ({gain:+.3f})",
            UNDECIDED: f"no better in {found.count} blocks ({gain:+.3f})",
        }
        return self._leave(seen, candidate, outcome, because or words[outcome], gain)

    def _promote(self, seen: Seen, arm: Arm, gain: float, because: str) -> Decision:
        self.counts["promoted"] += 1
        self._given_up[self.kept.name] = self.counts["intervals"]
        self._keep(seen, arm, self._kept_gain + gain)
        self.proofs.add(Proof(seen.context, frozenset(arm.parts), self._kept_gain))
        self.quarantine = self.quarantine.pardon(seen.context.cluster, arm.name)
        return Decision(arm, HOLD, because, "promoted", arm.name, gain)

    def _keep(self, seen: Seen, arm: Arm, gain: float) -> None:
        self.kept, self._kept_gain = arm, gain
        self._since_check = self._since_trial = 0
        self._check_after = self.patience.recheck
        self._alarm_after = self.patience.alarm
        self._phase.judged(seen.context)
        self._recent.clear()
        self._fall.restart()

    def _leave(self, seen: Seen, arm: Arm, outcome: str, because: str, gain: float) -> Decision:
        event = "undecided" if outcome == UNDECIDED else "rolled back"
        self.counts[event] += 1
        self.quarantine = self.quarantine.put(seen.context.cluster, arm.name, seen.t)
        return Decision(self.kept, HOLD, because, event, arm.name, gain)

    def _checked(self, seen: Seen, outcome: str, gain: float, trial: Trial) -> Decision:
        """Say what came of holding what is kept against the baseline: ``gain`` is its own.

        It was proven before: where nothing is shown it stays as long as it may well be worth it.
        """
        kept, blocks = self.kept, trial.evidence.count
        if outcome in (INFERIOR, HARD_LIMIT) or (outcome == UNDECIDED and gain + trial.error > self.patience.worth):
            self.counts["confirmed"] += 1
            if outcome != HARD_LIMIT:  # which may be chance
                self._kept_gain = (self._kept_gain + gain) / 2
            self.proofs.add(Proof(seen.context, frozenset(kept.parts), self._kept_gain))
            self._since_check = 0
            self._fall.looked_into()
            longer = max(2 * self._check_after, self.patience.recheck)
            self._check_after = min(longer, self.patience.longest_recheck)
            self._alarm_after = min(2 * self._alarm_after, 8 * self.patience.alarm)
            return Decision(kept, HOLD, f"still better by {gain:+.3f}", "confirmed", kept.name, gain)
        self.proofs.drop(seen.context)
        self._given_up[kept.name] = self.counts["intervals"]
        self.kept, self._kept_gain = seen.arms[0], 0.0
        self._fall.restart()
        self._doubt(seen.context.cluster)
        words = f"{kept.name} pays no longer ({gain:+.3f} in {blocks} blocks)"
        return self._leave(seen, kept, outcome if outcome == PROMOTED else INFERIOR, words, gain)

    def _doubt(self, cluster: str) -> None:
        """What was proven holds no longer, so what was refuted may not either."""
        self.policy.doubt()
        self.quarantine = self.quarantine.amnesty(cluster)
        self.tries = {key: gains for key, gains in self.tries.items() if key[0] != cluster}

    # --- a change that cannot be flipped back

    def _one_way(self, seen: Seen, candidate: Arm) -> Decision:
        """Judge a change that was made for good, once enough has been measured after it."""
        assert seen.reward is not None
        if seen.in_force == candidate.name:
            self._after.append(seen.reward)
        settled = self._after[self.design.settle :]
        if len(settled) < max(LEAST_AFTER, 2 * self.design.measure):
            return Decision(candidate, ONE_WAY, f"{len(settled)} measurements after it", candidate=candidate.name)
        found = before_after(list(self._recent), settled)
        self.policy.learn(seen.context, candidate, self._kept_gain + found.gain, weight=1.0)
        self._close()
        self._given_up[candidate.name] = self.counts["intervals"]
        if found.outcome == INFERIOR and candidate.name in seen.way_back:
            because = "worse, judged before against after"
            decision = self._leave(seen, candidate, found.outcome, because, found.gain)
            return replace(decision, interval=(found.low, found.high))
        self.counts["made"] += 1
        # It is part of the machine from now on, so what is kept stays what it was, by its name: the baseline has changed.
        if found.outcome == INFERIOR:
            self.quarantine = self.quarantine.put(seen.context.cluster, candidate.name, seen.t)
        because = f"{found.outcome}, judged before against after; it stays made"
        return Decision(self.kept, HOLD, because, "made", candidate.name, found.gain, interval=(found.low, found.high))


def _with_limits(decision: Decision, trial: Trial, *, of_kept: bool = False) -> Decision:
    """Return a decision with how many blocks its gain rests on, and its limits; the candidate's gain, unless it is that of what is kept."""
    if not trial.differences:
        return decision
    low, high = interval(trial.judged, TOLD)
    return replace(decision, blocks=len(trial.differences), interval=(-high, -low) if of_kept else (low, high))


def _mean_log(rewards: Iterable[float]) -> float:
    values = [math.log(reward) for reward in rewards]
    return math.fsum(values) / len(values)


def _charged(ledger: Ledger, gain: float, deviation: float, duration_s: float) -> Ledger:
    """Return the ledger with a loss as measured; what was clearly a gain does not pay for recklessness."""
    if gain > ledger.limits.deviations * deviation:
        return ledger
    return ledger.charged(min(gain, 0.0), duration_s, deviation)


def _weight(trial: Trial) -> float:
    """Return what a trial's mean is worth, in trials of the usual deviation."""
    found = trial.evidence
    if found.count < 2:
        return 1.0
    scatter = max(found.deviation, TRIAL_DEVIATION / 3)  # few blocks may be alike by chance
    return found.count * (TRIAL_DEVIATION / scatter) ** 2


def arms_with(baseline: Arm, proposed: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms with the baseline first, each name once."""
    found: Mapping[str, Arm] = {arm.name: arm for arm in (baseline, *proposed)}
    return tuple(found.values())
