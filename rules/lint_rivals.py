"""Rules that stand in each other's way: both make one setting, and who wins is always the same, or is not decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from hal.errors import SettingError
from rules.findings import Finding, of_rule
from rules.lint_bodies import canonical
from rules.logic import Tree, about, can_hold, follows, trees_of
from rules.rule import Rule
from rules.writes import Write

MOST_RIVALS = 5
"""Findings between a rule and those before it, after which no more are looked for."""
_WORKLOADS = ("w", "o")


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A rule with what it does, and when."""

    rule: Rule
    writes: tuple[Write, ...]
    trees: tuple[Tree, ...]
    rank: tuple[int, int]
    """What the greater of counts."""

    @classmethod
    def of(cls, rule: Rule, writes: Sequence[Write]) -> Side:
        """Return a rule that makes these settings."""
        return cls(rule, tuple(writes), tuple(trees_of(rule.conditions)), (rule.priority, rule.specificity))


def check(own: Sequence[Side], others: Sequence[Side]) -> Iterator[Finding]:
    """Yield what is wrong among rules, and between them and others; nothing is said of the others."""
    by_knob: dict[str, list[Side]] = defaultdict(list)
    checked = {id(side) for side in own}
    for side in others:
        for knob in {write.knob for write in side.writes}:
            by_knob[knob].append(side)
    for side in own:  # each meets those before it, and itself
        knobs = {write.knob for write in side.writes}
        for knob in knobs:
            by_knob[knob].append(side)
        rivals = {id(rival): rival for knob in sorted(knobs) for rival in by_knob[knob]}
        found = (finding for rival in rivals.values() for finding in _between(side, rival, checked))
        yield from islice(found, MOST_RIVALS)


def _between(side: Side, rival: Side, own: Collection[int]) -> Iterator[Finding]:
    if side.rank == rival.rank:
        knobs = sorted({write.knob for write, other in _quarrels(side, rival) if _may_meet(side, write, rival, other)})
        if knobs:
            yield _unordered(side.rule, rival.rule, knobs)
        return
    loser, winner = (side, rival) if side.rank < rival.rank else (rival, side)
    if id(loser) in own and _always_loses(loser, winner):
        yield _unreachable(loser.rule, winner.rule)


def _quarrels(side: Side, rival: Side) -> Iterator[tuple[Write, Write]]:
    """Yield the settings that both make, unless to the same value; of one rule those on both of a pair."""
    for write, other in product(side.writes, rival.writes):
        alike = write.on == other.on or (write.on in _WORKLOADS and other.on in _WORKLOADS)
        other_one = side is not rival or (write.on, other.on) == _WORKLOADS
        if write.knob == other.knob and write.on and alike and other_one and not _same_value(write, other):
            yield write, other


def _may_meet(side: Side, write: Write, rival: Side, other: Write) -> bool:
    """Tell whether both may fire for one subject, by what they ask of it and of the machine."""
    trees = [about(tree, write.on) for tree in side.trees] + [about(tree, other.on) for tree in rival.trees]
    return can_hold(trees)


def _always_loses(loser: Side, winner: Side) -> bool:
    """Tell whether the winner fires whenever the loser does, and then sets something of the loser's otherwise."""
    if not all(write.is_certain for write in loser.writes) or not set(winner.rule.variables) <= set(
        loser.rule.variables
    ):
        return False
    against = (
        write.on == other.on and write.value is not None and other.value is not None and other.is_certain
        for write, other in _quarrels(loser, winner)
    )
    return any(against) and follows(winner.trees, loser.trees)


def _same_value(write: Write, other: Write) -> bool:
    if write.value is None or other.value is None:
        return False
    try:
        return canonical(write.knob, write.value) == canonical(other.knob, other.value)
    except SettingError:
        return False


def _unordered(rule: Rule, rival: Rule, knobs: Sequence[str]) -> Finding:
    who = "it may fire for both of a pair, and" if rival is rule else f"{rival.identity} ({rival.place})"
    message = f"{who} may set {', '.join(knobs)} otherwise, with the same priority and specificity"
    remedy = (
        "Add a condition that tells the two workloads apart."
        if rival is rule
        else "Give one a higher priority, or conditions that exclude the other's."
    )
    return of_rule(rule, "unordered", message, remedy)


def _unreachable(rule: Rule, winner: Rule) -> Finding:
    message = f"whenever {rule.name} fires, {winner.identity} ({winner.place}) does too and wins"
    return of_rule(rule, "unreachable", message, "Give it a higher priority, or narrow the other's conditions.")
