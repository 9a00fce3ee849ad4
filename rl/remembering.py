"""A learner that begins with what was learned before, and keeps what it learns: between ``rl.learner`` and ``rl.memory``.

What is known is looked up once the workload's DNA has been seen, and again where that has moved. Finished trials, proofs and sentences are
stored as they come about; a trial is noted before it is made, so that what took the machine down with it is not tried again at once.
Whatever is wrong with the memory costs the memory: it is told once, and the loop goes on with what it knows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rl.bandit import LinearBandit, LinearModel, Settings, Tried, drawn
from rl.carry import NEAR, Carried, carried, likeness
from rl.decision import Decision, Seen
from rl.errors import LearnedError
from rl.learned import Begun, Learned, LearnedProof, LearnedSentence, LearnedTrial, Numbers, Origin
from rl.learner import Learner
from rl.memory import Memory
from rl.policy import BASELINE, Arm, Chosen, Context
from rl.proofs import Proof
from rl.safety import Sentence

MOVED = NEAR / 4
"""Distance of the DNA from where it was last looked up, from which on it is looked up again."""
CRASHED_S = 86_400.0
"""Quarantine of what was being tried when the machine went down."""
COUNTED_S = 7 * 86_400.0
"""Trials of an arm in this time before count as tries of it: each further one needs more proof."""
JUDGED = ("promoted", "rolled back", "undecided")
PENDING = 500
"""What could not be stored is kept for a better moment: so many trials, proofs and sentences."""
_DRAWS = 400


@dataclass(frozen=True, slots=True)
class Session:
    """Which run of which workload learns."""

    memory: Memory
    run: str
    boot: str
    """Which start of the machine this is."""
    origin: Callable[[], Origin | None]
    """Where it learns; None until DNA and objective are known."""


@dataclass(frozen=True, slots=True)
class _Heard:
    context: Context
    arm: Arm
    gain: float
    weight: float


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a trial was chosen among."""

    arm: str = ""
    offered: tuple[Arm, ...] = ()
    probability: float | None = None


@dataclass(slots=True)
class Listening:
    """A policy that also tells what it was asked, and what it was taught."""

    bandit: LinearBandit
    heard: list[_Heard] = field(default_factory=list)
    is_doubted: bool = False
    _asked: tuple[Arm, ...] = ()
    _chosen: Chosen | None = None
    _own: list[Tried] = field(default_factory=list)
    _draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def settings(self) -> Settings:
        """How the model learns."""
        return self.bandit.model.settings

    def choose(self, context: Context, arms: Sequence[Arm]) -> Chosen:
        """See ``Policy``."""
        self._asked, self._chosen = tuple(arms), self.bandit.choose(context, arms)
        return self._chosen

    def learn(self, context: Context, arm: Arm, gain: float, *, weight: float = 1.0) -> None:
        """See ``Policy``."""
        self.bandit.learn(context, arm, gain, weight=weight)
        if arm.parts:
            self.heard.append(_Heard(context, arm, gain, weight))
            self._own.append(Tried(context.numbers, frozenset(arm.parts), gain, weight, context.when))
            del self._own[: -self.settings.remembered]

    def doubt(self) -> None:
        """See ``Policy``."""
        self.bandit.doubt()
        self.is_doubted = True
        self._own = [replace(one, weight=one.weight * self.settings.doubted) for one in self._own]

    def recall(self, known: Carried) -> None:
        """Know this besides what was learned in this run."""
        before, settings = self.bandit.model, self.settings
        # The model wants the oldest first, and forgets those first.
        self.bandit.model = LinearModel(settings, sorted([*known.tried, *self._own], key=lambda one: one.when))
        self.bandit.model.rules = before.rules if self._own else known.calibration(settings)

    def choice(self, name: str, kept: str) -> _Choice:
        """Return what an arm was last chosen among, and with which probability, given that something is tried: what is kept is not."""
        offered = tuple(arm for arm in self._asked if arm.parts and arm.name != kept)
        chosen = self._chosen
        if chosen is None or name not in {arm.name for arm in offered}:
            return _Choice()
        if self.bandit.way != "sampled" or chosen.covariance is None:
            return _Choice(name, offered)
        among = [number for number, one in enumerate(chosen.estimates) if one in {arm.name for arm in offered}]
        mean = np.array([gain for gain, _ in chosen.estimates.values()])
        draws = drawn(self._draw, mean, chosen.covariance, _DRAWS)[:, among]
        mine = [list(chosen.estimates)[number] for number in among].index(name)
        share = float(np.mean(np.argmax(draws, axis=1) == mine))
        return _Choice(name, offered, max(share, 1 / _DRAWS))


class RememberingLearner(Learner):
    """See the module's docstring.

    Args:
        rest: as for ``Learner``.
    """

    def __init__(self, session: Session, bandit: LinearBandit, *, seed: int, **rest: Any) -> None:
        listening = Listening(bandit)
        super().__init__(listening, seed=seed, **rest)
        self.notebook = Notebook(self, listening, session)

    def decide(self, seen: Seen) -> Decision:
        """See ``Learner``; what is known is looked up before, and what was learned stored after. Both are told in the decision."""
        was_trying, kept = self.is_trying, self.kept.name
        self.notebook.look_up(seen)
        decision = super().decide(seen)
        self.notebook.write_down(seen, decision, was_trying=was_trying, kept=kept)
        if not (news := self.notebook.take_news()):
            return decision
        return replace(decision, because="; ".join((decision.because, *news)))


class Notebook:
    """What stands between one learner and the memory."""

    def __init__(self, learner: Learner, listening: Listening, session: Session) -> None:
        self._learner = learner
        self._listening = listening
        self._session = session
        self._origin: Origin | None = None
        self._learned: Learned | None = None
        self._where: Numbers | None = None
        self._proofs: list[tuple[Proof, str]] = []
        """Those that the learner had last, with their keys in the memory."""
        self._sentences: dict[tuple[str, str], tuple[Sentence, str]] = {}
        self._trials: list[str] = []
        """Keys of those that the policy knows."""
        self._pending = Learned()
        self._gone: list[str] = []
        self._choice = _Choice()
        self._news: list[str] = []
        self._trouble = ""

    def take_news(self) -> list[str]:
        """Return what is to be told since the last time."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Note that nothing is being tried any more, and store what could not be stored before."""
        if self._origin is not None and self._choice.arm:
            self._note_end(self._origin)
        if self._pending or self._gone:
            self._flush()

    # --- what is known

    def look_up(self, seen: Seen) -> None:
        """Let the learner know what is known of workloads like this."""
        origin, vector = self._session.origin(), _numbers(seen.context)
        if origin is None or not any(vector):
            return
        self._origin = origin
        if self._learner.is_trying or (self._where is not None and math.dist(vector, self._where) <= MOVED):
            return
        is_first, self._where = self._where is None, vector
        if self._learned is None:
            self._learned = self._read(origin, seen.t)
        half_life_s = self._listening.settings.half_life_s
        known = carried(self._learned, origin, vector, now=seen.t, half_life_s=half_life_s)
        self._recall(known, origin, seen.t)
        if is_first:
            self._news.append(what_is_known(known, seen.t))

    def _read(self, origin: Origin, now: float) -> Learned:
        memory, found = self._session.memory, []
        self._attempt(lambda: found.append(memory.read(objective=origin.objective)))
        learned: Learned = found[0] if found else Learned()
        if not memory.is_writable:
            self._trouble = f"what is learned is not kept: {memory.path} cannot be written"
            self._news.append(self._trouble)
            return learned
        crashes: list[LearnedSentence] = []
        machine, boot = origin.machine.identity, self._session.boot
        self._attempt(lambda: crashes.extend(_crash(one, now) for one in memory.cut_off(machine, boot)))
        if crashes:
            self._pending = joined(self._pending, Learned(sentences=tuple(crashes)))
            self._flush()
        for name in sorted({one.arm for one in crashes}):
            self._news.append(f"the machine went down while {name} was tried: it is left alone for a day")
        return replace(learned, sentences=(*learned.sentences, *crashes))

    def _recall(self, known: Carried, origin: Origin, now: float) -> None:
        self._listening.recall(known)
        self._trials += [one.key for one, _ in known.trials]
        self._recall_proofs(known)
        self._recall_sentences(known)
        self._recall_tries(known, origin, now)
        self._learner.counts["known"] = len(known.trials)

    def _recall_proofs(self, known: Carried) -> None:
        """Know what was proven near here, besides what this run has proven itself."""
        own = [pair for pair in self._proofs if pair[0].is_own]
        near = [(Proof(_context(one), frozenset(one.parts), one.gain, is_own=False), one.key) for one in known.proofs]
        self._proofs = [*near, *own]
        self._learner.proofs.known = [proof for proof, _ in self._proofs]

    def _recall_sentences(self, known: Carried) -> None:
        sentences = dict(self._learner.quarantine.sentences)
        for one, until in known.sentences:
            key, sentence = (one.cluster, one.arm), Sentence(until, one.length_s)
            if key not in sentences or sentences[key].until < until:
                sentences[key] = sentence
                self._sentences[key] = sentence, one.key
        self._learner.quarantine = replace(self._learner.quarantine, sentences=sentences)

    def _recall_tries(self, known: Carried, origin: Origin, now: float) -> None:
        """What was tried on this machine counts as tried: whoever begins a run each hour errs no oftener than whoever lets one run."""
        for one, _ in known.trials:
            is_ours = likeness(one.origin.machine, origin.machine, imported=one.imported) == 1.0
            if is_ours and one.share == 1.0 and one.outcome in JUDGED and now - one.at < COUNTED_S:
                gains = self._learner.tries.setdefault((one.cluster, one.arm.name), [])
                if one.gain not in gains:
                    gains.append(one.gain)

    # --- what was learned

    def write_down(self, seen: Seen, decision: Decision, *, was_trying: bool, kept: str) -> None:
        """Store what this decision taught; ``was_trying`` and ``kept`` are as before it."""
        origin = self._origin
        if origin is None:
            self._listening.heard.clear()
            return
        if self._listening.is_doubted:
            self._fade()
        trials = tuple(self._trial(origin, seen, decision, heard) for heard in self._listening.heard)
        self._listening.heard.clear()
        self._trials += [one.key for one in trials]
        if decision.event == "blind":
            self._distrust()
        vector = _numbers(seen.context)
        new = Learned(trials, self._new_proofs(origin, seen), self._new_sentences(origin, vector, seen.t))
        self._pending = joined(self._pending, new)
        if new or self._gone:
            self._flush()
        if decision.event == "trial":
            self._note_begin(origin, vector, seen, decision.candidate, kept)
        elif was_trying and not self._learner.is_trying:
            self._note_end(origin)

    def _note_begin(self, origin: Origin, vector: Numbers, seen: Seen, candidate: str, kept: str) -> None:
        session = self._session
        self._choice = self._listening.choice(candidate, kept)
        if candidate == BASELINE:
            return
        begun = Begun(origin, session.run, seen.t, session.boot, os.getpid(), seen.context.cluster, vector, candidate)
        self._attempt(lambda: session.memory.begin(begun))

    def _note_end(self, origin: Origin) -> None:
        self._choice = _Choice()
        self._attempt(lambda: self._session.memory.ended(self._session.run, origin))

    def _trial(self, origin: Origin, seen: Seen, decision: Decision, heard: _Heard) -> LearnedTrial:
        choice = self._choice if self._choice.arm == heard.arm.name else _Choice()
        kept_gain = heard.gain - decision.gain if decision.gain is not None else 0.0
        return LearnedTrial(
            origin=origin,
            run=self._session.run,
            at=seen.t,
            cluster=heard.context.cluster,
            vector=_numbers(heard.context),
            arm=heard.arm,
            gain=heard.gain,
            weight=heard.weight,
            outcome=decision.event,
            interval=_shifted(decision.interval, kept_gain),
            offered=choice.offered,
            probability=choice.probability,
        )

    def _new_proofs(self, origin: Origin, seen: Seen) -> tuple[LearnedProof, ...]:
        """Return proofs that are new; those that are gone are noted as such."""
        now = self._learner.proofs.known
        self._forget(key for proof, key in self._proofs if not _has(now, proof))
        kept = [pair for pair in self._proofs if _has(now, pair[0])]
        new = [one for one in now if not _has([proof for proof, _ in kept], one)]
        learned = tuple(
            LearnedProof(origin, seen.t, one.context.cluster, _numbers(one.context), tuple(sorted(one.parts)), one.gain)
            for one in new
        )
        self._proofs = [*kept, *zip(new, (one.key for one in learned), strict=True)]
        return learned

    def _new_sentences(self, origin: Origin, vector: Numbers, now: float) -> tuple[LearnedSentence, ...]:
        """Return sentences that are new; those that are gone are noted as such."""
        held = self._learner.quarantine.sentences
        gone = [key for key, (one, _) in self._sentences.items() if held.get(key) != one]
        self._forget(self._sentences.pop(key)[1] for key in gone)
        added = []
        for (cluster, arm), one in held.items():
            if (cluster, arm) not in self._sentences:
                learned = LearnedSentence(origin, now, cluster, vector, arm, one.until, one.length_s)
                self._sentences[cluster, arm] = one, learned.key
                added.append(learned)
        return tuple(added)

    def _distrust(self) -> None:
        """Under what an earlier run has proven nothing can be measured, it may be: this run recalls none of it again."""
        self._proofs = [pair for pair in self._proofs if pair[0].is_own]
        self._learner.proofs.known = [proof for proof, _ in self._proofs]
        if self._learned is not None:
            self._learned = replace(self._learned, proofs=())

    def _forget(self, keys: Iterable[str]) -> None:
        found = set(keys)
        self._gone += found
        if self._learned is not None and found:
            proofs = tuple(one for one in self._learned.proofs if one.key not in found)
            sentences = tuple(one for one in self._learned.sentences if one.key not in found)
            self._learned = replace(self._learned, proofs=proofs, sentences=sentences)

    def _fade(self) -> None:
        """What was learned here holds no longer as it did: no run after this one is to believe it either."""
        self._listening.is_doubted = False
        keys, share = set(self._trials), self._listening.settings.doubted
        if self._learned is not None:
            faded = (replace(one, share=one.share * share) if one.key in keys else one for one in self._learned.trials)
            self._learned = replace(self._learned, trials=tuple(faded))
        self._attempt(lambda: self._session.memory.fade(keys, share))

    # --- the memory, whatever state it is in

    def _flush(self) -> None:
        def add() -> None:
            self._session.memory.add(self._pending, without=self._gone)
            self._pending, self._gone = Learned(), []

        self._attempt(add)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except LearnedError as error:
            if not self._trouble:
                self._news.append(f"{error}; the run goes on without")
            self._trouble = str(error)


def what_is_known(known: Carried, now: float) -> str:
    """Return in one line what a run begins with."""
    if not known.trials and not known.proofs and not known.sentences:
        return "nothing is known yet of workloads like this"
    arms = len({one.arm.parts for one, _ in known.trials})
    runs = len({one.run for one, _ in known.trials})
    held = len({one.arm for one, until in known.sentences if until > now})
    words = [f"{_count(len(known.trials), 'trial')} of {_count(arms, 'configuration')} in {_count(runs, 'run')}"]
    words += [f"{len(known.proofs)} proven"] if known.proofs else []
    words += [f"{held} in quarantine"] if held else []
    return f"known of workloads like this: {', '.join(words)}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _crash(begun: Begun, now: float) -> LearnedSentence:
    return LearnedSentence(begun.origin, now, begun.cluster, begun.vector, begun.arm, now + CRASHED_S, CRASHED_S)


def joined(some: Learned, more: Learned) -> Learned:
    """Return both together; of what could not be stored the oldest is given up."""
    return Learned(
        (*some.trials, *more.trials)[-PENDING:],
        (*some.proofs, *more.proofs)[-PENDING:],
        (*some.sentences, *more.sentences)[-PENDING:],
    )


def _shifted(interval: tuple[float, float] | None, by: float) -> tuple[float, float] | None:
    if interval is None or not all(math.isfinite(limit) for limit in interval):
        return None
    return interval[0] + by, interval[1] + by


def _has(proofs: Iterable[Proof], wanted: Proof) -> bool:
    return any(one is wanted for one in proofs)


def _context(proof: LearnedProof) -> Context:
    return Context(np.array(proof.vector), proof.cluster, proof.at)


def _numbers(context: Context) -> Numbers:
    return tuple(float(number) for number in context.vector)
