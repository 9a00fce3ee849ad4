"""Rules that cannot tell: no condition of theirs fails, but some rest on facts that are unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rules.language import Condition, Facts, parts_of
from rules.rule import Rule
from rules.situation import Situation, bindings


@dataclass(frozen=True, slots=True)
class Doubt:
    """A rule that would fire, or not, if more were known."""

    rule: Rule
    about: tuple[str, ...]
    """Names of what it was held against: where there are several, of those that it is nearest to firing for."""
    unknown: tuple[str, ...]
    """Facts that are unknown, and that it turns on."""
    open: int
    """Conditions that cannot be told."""
    conditions: int
    """Conditions that it has."""


def doubts(rules: Iterable[Rule], situation: Situation) -> tuple[Doubt, ...]:
    """Return the rules that cannot tell of anything in a situation, nearest to firing first; none that fires for something."""
    found = [doubt for rule in rules if (doubt := _doubt(rule, situation)) is not None]
    return tuple(sorted(found, key=lambda doubt: (doubt.open, len(doubt.unknown), doubt.rule.identity)))


def _doubt(rule: Rule, situation: Situation) -> Doubt | None:
    best: Doubt | None = None
    for binding in bindings(situation, rule.variables):
        truths = {condition: condition.truth(binding.facts) for condition in rule.conditions}
        if False in truths.values():
            continue
        untold = [condition for condition, truth in truths.items() if truth is None]
        if not untold:
            return None
        if best is None or len(untold) < best.open:
            names = dict.fromkeys(name for condition in untold for name in _unknown(condition, binding.facts))
            best = Doubt(rule, binding.names, tuple(names), len(untold), len(rule.conditions))
    return best


def _unknown(condition: Condition, facts: Facts) -> Iterator[str]:
    """Yield the facts that a condition cannot be told for: those of its parts that are unknown, not of those that are decided."""
    parts = parts_of(condition)
    if not parts:
        yield from sorted(name for name in condition.names() if facts.now.get(name) is None)
        return
    untold = [name for part in parts if part.truth(facts) is None for name in _unknown(part, facts)]
    yield from untold or sorted(condition.names())  # known now, but not for as many intervals as are asked for
