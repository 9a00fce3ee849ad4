"""Hold two sets of rules against recorded workloads: what would be proposed otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dna.library import Library
from dna.vector import Profile
from rules.advice import Advice, Advisor, Failure, Proposal
from rules.engine import Engine
from rules.gather_situation import is_of
from rules.gather_workload import elsewhere, workload_of
from rules.rule import Rule
from rules.situation import Machine, Situation

type Key = tuple[str, tuple[str, ...], str]
"""What makes a proposal the same one: its rule, what it is about, and the name of its choice."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A situation that was recorded, and what it is called."""

    label: str
    situation: Situation


@dataclass(frozen=True, slots=True)
class Difference:
    """What other rules propose otherwise for one recorded situation."""

    label: str
    new: tuple[Proposal, ...]
    gone: tuple[tuple[Proposal, str], ...]
    """With why: that the rule does not fire any more, or what it lost against."""
    changed: tuple[tuple[Proposal, Proposal], ...]
    """Before and after: the same rule with other settings."""
    conflicts: int
    """Settings that the rules are in conflict over."""
    failures: tuple[Failure, ...]
    """Rules that came to grief."""

    @property
    def is_empty(self) -> bool:
        """True when nothing is otherwise."""
        return not (self.new or self.gone or self.changed)


def replay(recorded: Iterable[Recorded], *, before: Sequence[Rule], after: Sequence[Rule]) -> Iterator[Difference]:
    """Yield for each situation what the later rules propose otherwise than the earlier ones."""
    old, new = Advisor(Engine(before)), Advisor(Engine(after))
    for one in recorded:
        yield difference(one.label, old.advise(one.situation), new.advise(one.situation))


def difference(label: str, before: Advice, after: Advice) -> Difference:
    """Return what one advice proposes otherwise than another; pure."""
    old = {_key(proposal): proposal for proposal in before.proposals}
    new = {_key(proposal): proposal for proposal in after.proposals}
    why = {_key(dropped.proposal): dropped.because for dropped in after.dropped}
    return Difference(
        label,
        tuple(proposal for key, proposal in new.items() if key not in old),
        tuple((one, why.get(key, "it does not fire any more")) for key, one in old.items() if key not in new),
        tuple((old[key], one) for key, one in new.items() if key in old and _wishes(old[key]) != _wishes(one)),
        len(after.conflicts),
        after.failures,
    )


def recorded_situations(
    profiles: Iterable[Profile], machine: Machine, library: Library | None = None
) -> Iterator[Recorded]:
    """Yield the situation of each profile, alone on a machine; what rested on the machine it was taken on is unknown on another."""
    for profile in profiles:
        workload = workload_of(profile, library)
        there = workload if is_of(profile, machine) else elsewhere(workload)
        label = f"{profile.id} {profile.name}".strip() or workload.name
        yield Recorded(label, Situation(machine, (there,)))


def _key(proposal: Proposal) -> Key:
    return proposal.rule.identity, proposal.about, proposal.choice


def _wishes(proposal: Proposal) -> frozenset[object]:
    return frozenset((wish.knob, wish.subject, wish.value) for wish in proposal.option.wishes)
