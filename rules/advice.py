"""From matches to advice: run the bodies, hold the proposals against one another, and merge them into one configuration.

Two proposals for one setting are resolved by priority, then by specificity; what is still level is a conflict: neither is taken.
A proposal is taken whole or not at all, since its settings were meant together.
"""

from __future__ import annotations

import fnmatch
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from hal.settings import ServerConfig, Setting, Subject, Value
from rules.engine import Engine, Match
from rules.errors import Place, RuleError
from rules.language import Evidence
from rules.rule import PARAMETERS, Choice, Never, Option, Rule, Wish, Yielded
from rules.running import Runner, collected
from rules.situation import Binding, Situation, Workload

type Key = tuple[str, Subject]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one rule wants, for what it matched."""

    rule: Rule
    about: tuple[str, ...]
    """Names of the workload and things that it matched."""
    options: tuple[Option, ...]
    """Ways to do it; one where there is no choice."""
    evidence: tuple[Evidence, ...]
    choice: str = ""
    """Name of the choice, empty where there is none."""
    taken: int = 0
    """Which of the options is meant."""

    @property
    def option(self) -> Option:
        """The way that is meant."""
        return self.options[self.taken]

    @property
    def expect(self) -> str:
        """The effect expected of it."""
        return self.option.expect or self.rule.expect

    def settings(self) -> tuple[Setting, ...]:
        """Return its settings, with the reason."""
        reason = f"{self.rule.identity}: {self.rule.summary}"
        return tuple(Setting(wish.knob, wish.subject, wish.value, reason) for wish in self.option.wishes)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A proposal that was not taken, and why."""

    proposal: Proposal
    because: str


@dataclass(frozen=True, slots=True)
class Vetoed:
    """One way of a proposal that a rule forbids, and why."""

    proposal: Proposal
    """As its rule made it, with all its ways."""
    option: Option
    by: Rule
    knobs: str
    """Which it forbids, as a pattern."""
    reason: str
    """Its own, without which no rule may forbid anything."""

    @property
    def because(self) -> str:
        """Return it in words."""
        return f"{self.by.identity} forbids {self.knobs}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Proposals of equal rank that want one setting otherwise."""

    knob: str
    subject: Subject
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule whose body came to grief."""

    rule: Rule
    about: tuple[str, ...]
    message: str
    place: Place


@dataclass(frozen=True, slots=True)
class Advice:
    """What the rules say of a situation."""

    proposals: tuple[Proposal, ...]
    """Those taken, the weightiest first."""
    dropped: tuple[Dropped, ...]
    conflicts: tuple[Conflict, ...]
    failures: tuple[Failure, ...]
    config: ServerConfig
    """What all those taken come to."""
    notes: tuple[str, ...] = ()
    """What should be known besides, such as that a rule printed something."""
    vetoed: tuple[Vetoed, ...] = ()
    """Every way that a rule forbids, also of proposals that have another; those left without any are among ``dropped`` as well."""

    @property
    def partly_vetoed(self) -> tuple[Vetoed, ...]:
        """Those ways of which the proposal still has another."""
        whole = [dropped.proposal for dropped in self.dropped]
        return tuple(one for one in self.vetoed if not _is_in(one.proposal, whole))


@dataclass(slots=True)
class Advisor:
    """Rules ready to advise. It remembers the rules that it stopped asking: one that did not end in time is not run again."""

    engine: Engine
    suspended: dict[str, str] = field(default_factory=dict)
    _runner: Runner = field(default_factory=Runner)

    def advise(self, situation: Situation, *, focus: Workload | None = None) -> Advice:
        """Return what the rules say; nothing is changed.

        Args:
            focus: only what is said of this workload.
        """
        found = _Found()
        for match in self.engine.matches(situation, focus=focus):
            if match.rule.identity in self.suspended:
                because = self.suspended[match.rule.identity]
                found.failures.append(
                    Failure(match.rule, match.binding.names, f"not asked again: {because}", match.rule.place)
                )
            else:
                self._ask(match, found)
        return merged(found.proposals, found.vetoes, failures=found.failures, notes=found.notes)

    def _ask(self, match: Match, found: _Found) -> None:
        rule = match.rule
        ran = self._runner.call(lambda: collected(rule(**arguments(rule, match.binding))))
        if ran.printed:
            first = ran.printed.strip().splitlines()[0] if ran.printed.strip() else ""
            found.notes.append(f"{rule.identity} printed: {first[:200]}")
        try:
            if ran.error is not None:
                raise ran.error
            found.take(match, ran.value or ())
        except BaseException as error:
            if isinstance(error, TimeoutError):
                self.suspended[rule.identity] = str(error)
            found.failures.append(Failure(rule, match.binding.names, _message(error), _line(error, rule)))


@dataclass(slots=True)
class _Found:
    """What the bodies yielded, while they are asked."""

    proposals: list[Proposal] = field(default_factory=list)
    vetoes: list[tuple[Never, Rule]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, match: Match, yielded: Sequence[Yielded]) -> None:
        """Take in what one body yielded: its settings are one proposal, each choice one of its own."""
        wishes = tuple(one for one in yielded if isinstance(one, Wish))
        choices = [one for one in yielded if isinstance(one, Choice)]
        vetoes = [one for one in yielded if isinstance(one, Never)]
        if len(wishes) + len(choices) + len(vetoes) < len(yielded):
            bad = next(one for one in yielded if not isinstance(one, Wish | Choice | Never))
            raise RuleError(
                f"it yields {bad!r}",
                place=match.rule.place,
                remedy="Yield settings, such as s.memory.hugepages(workload).",
            )
        evidence = tuple(condition.evidence(match.binding.facts) for condition in match.rule.conditions)
        if wishes:
            self.proposals.append(Proposal(match.rule, match.binding.names, (Option("", wishes),), evidence))
        for one in choices:
            self.proposals.append(Proposal(match.rule, match.binding.names, one.options, evidence, one.name))
        self.vetoes += [(one, match.rule) for one in vetoes]


def arguments(rule: Rule, binding: Binding) -> dict[str, object]:
    """Return what the body of a rule is called with."""
    by_word = {
        "w": binding.workload, "o": binding.other, "m": binding.machine,
        "nic": binding.nic, "disk": binding.disk, "pci": binding.pci,
    }  # fmt: skip
    return {name: by_word[PARAMETERS[name]] for name in rule.parameters}


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, RuleError | TimeoutError) else f"{type(error).__name__}: {error}"


def _line(error: BaseException, rule: Rule) -> Place:
    """Return the last line of the rule's own file that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == rule.place.file and frame.lineno]
    return Place(rule.place.file, lines[-1]) if lines else rule.place


# --- merging


def merged(
    proposals: Iterable[Proposal],
    vetoes: Sequence[tuple[Never, Rule]] = (),
    *,
    failures: Sequence[Failure] = (),
    notes: Sequence[str] = (),
) -> Advice:
    """Return the proposals that go together, those that do not and why, and the configuration that they come to; pure."""
    work = _Merging()
    allowed = [one for proposal in proposals if (one := work.without_vetoed(proposal, vetoes))]
    allowed.sort(key=_rank)
    for _, level in groupby(allowed, key=_rank):
        work.take_level(list(level))
    settings = [setting for proposal in work.taken for setting in proposal.settings()]
    return Advice(
        tuple(work.taken),
        tuple(work.dropped),
        tuple(work.conflicts),
        tuple(failures),
        ServerConfig.of(reversed(settings)),  # of equal settings the weightiest gives the reason
        tuple(notes),
        tuple(work.vetoed),
    )


def _rank(proposal: Proposal) -> tuple[int, int]:
    return -proposal.rule.priority, -proposal.rule.specificity


def _values(option: Option) -> dict[Key, Value]:
    return {(wish.knob, wish.subject): wish.value for wish in option.wishes}


class _Merging:
    """Proposals taken and left, while they are gone through from the weightiest down."""

    def __init__(self) -> None:
        self.taken: list[Proposal] = []
        self.dropped: list[Dropped] = []
        self.conflicts: list[Conflict] = []
        self.vetoed: list[Vetoed] = []
        self._by: dict[Key, tuple[Value, Proposal]] = {}
        self._contested: set[Key] = set()

    def without_vetoed(self, proposal: Proposal, vetoes: Sequence[tuple[Never, Rule]]) -> Proposal | None:
        """Return a proposal with those of its options that no rule forbids, or drop it."""
        found = [(option, _veto(proposal, option, vetoes)) for option in proposal.options]
        forbidden = [veto for _, veto in found if veto is not None]
        self.vetoed += forbidden
        allowed = tuple(option for option, veto in found if veto is None)
        if allowed:
            return replace(proposal, options=allowed)
        self.dropped.append(Dropped(proposal, forbidden[0].because))
        return None

    def take_level(self, level: Sequence[Proposal]) -> None:
        """Take proposals of equal rank: those that neither what is taken nor one another stands against."""
        possible = [one for proposal in level if (one := self._fitting(proposal))]
        quarrels = list(_quarrels(possible))
        for key, quarrelling in quarrels:
            self.conflicts.append(Conflict(*key, quarrelling))
            self._contested.add(key)
        for proposal in possible:
            against = [one for _, both in quarrels if _is_in(proposal, both) for one in both if one is not proposal]
            if against:
                self.dropped.append(Dropped(proposal, f"in conflict with {against[0].rule.identity}, of the same rank"))
            else:
                self._take(proposal)

    def _fitting(self, proposal: Proposal) -> Proposal | None:
        """Return a proposal with the first of its options that what is decided leaves room for, or drop it."""
        because = ""
        for number in range(proposal.taken, len(proposal.options)):
            reason = self._against(proposal, proposal.options[number])
            if not reason:
                return replace(proposal, taken=number)
            because = because or reason
        self.dropped.append(Dropped(proposal, because))
        return None

    def _against(self, proposal: Proposal, option: Option) -> str:
        """Return what stands against an option; "" for nothing."""
        for key, value in _values(option).items():
            if key in self._contested:
                return f"rules that outrank it are in conflict over {key[0]}"
            if key in self._by and self._by[key][0] != value:
                winner = self._by[key][1].rule
                why = "priority" if winner.priority != proposal.rule.priority else "specificity"
                return f"{winner.identity} sets {key[0]} otherwise, with higher {why}"
        return ""

    def _take(self, proposal: Proposal) -> None:
        self.taken.append(proposal)
        for key, value in _values(proposal.option).items():
            self._by.setdefault(key, (value, proposal))


def _is_in(proposal: Proposal, some: Sequence[Proposal]) -> bool:
    return any(one is proposal for one in some)


def _veto(proposal: Proposal, option: Option, vetoes: Sequence[tuple[Never, Rule]]) -> Vetoed | None:
    """Return the first veto against an option; None where there is none."""
    for veto, by in vetoes:
        for wish in option.wishes:
            if veto.subject in (None, wish.subject) and fnmatch.fnmatchcase(wish.knob, veto.knobs):
                return Vetoed(proposal, option, by, veto.knobs, veto.because)
    return None


def _quarrels(level: Sequence[Proposal]) -> Iterator[tuple[Key, tuple[Proposal, ...]]]:
    """Yield each setting that proposals of one rank want otherwise, with these proposals."""
    wanted: dict[Key, list[tuple[Value, Proposal]]] = {}
    for proposal in level:
        for key, value in _values(proposal.option).items():
            wanted.setdefault(key, []).append((value, proposal))
    for key, found in wanted.items():
        if any(value != found[0][0] for value, _ in found):
            yield key, tuple(proposal for _, proposal in found)
