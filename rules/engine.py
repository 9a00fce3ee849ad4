"""Find the rules that match: all of them, over facts in which something unknown never matches.

Two matchers do the same: ``PlainMatcher`` compiles the conditions to one Python function and needs nothing; ``rules.durable``
hands them to durable-rules. A test holds both equal to evaluating the conditions one by one, on random rules and facts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rules.errors import RuleError
from rules.formula import Column, Formula, Literal, columns_of, rule_formula
from rules.language import Facts
from rules.rule import Rule
from rules.situation import Binding, Situation, Workload, bindings

MATCHERS = ("plain", "durable")


class Matcher(Protocol):
    """Matches one set of rules."""

    def matches(self, facts: Facts) -> list[int]:
        """Return the numbers of the rules whose conditions hold, ascending."""


@dataclass(frozen=True, slots=True)
class Match:
    """A rule whose conditions hold, and for what."""

    rule: Rule
    binding: Binding


class Engine:
    """A set of rules, ready to be held against situations. One decision at a time; other threads wait.

    Args:
        matcher: one of MATCHERS.
    """

    def __init__(self, rules: Sequence[Rule], *, matcher: str = "plain") -> None:
        self.rules = tuple(rules)
        self.matcher = matcher
        self._turn = threading.Lock()
        make = _maker(matcher)
        by_variables: dict[tuple[str, ...], list[Rule]] = {}
        for rule in self.rules:
            by_variables.setdefault(rule.variables, []).append(rule)
        self._sets = [(words, members, make(members)) for words, members in by_variables.items()]
        self._position = {id(rule): number for number, rule in enumerate(self.rules)}

    def matches(self, situation: Situation, *, focus: Workload | None = None) -> tuple[Match, ...]:
        """Return every match, in the order of the rules.

        Args:
            focus: only of rules about this workload.
        """
        with self._turn:
            found = [
                Match(members[number], binding)
                for words, members, matcher in self._sets
                if focus is None or "w" in words
                for binding in bindings(situation, words, focus=focus)
                for number in matcher.matches(binding.facts)
            ]
        return tuple(sorted(found, key=lambda match: self._position[id(match.rule)]))


def _maker(matcher: str) -> Callable[[Sequence[Rule]], Matcher]:
    if matcher == "plain":
        return PlainMatcher
    if matcher == "durable":
        from rules.durable import DurableMatcher

        return DurableMatcher
    raise RuleError(f"there is no matcher {matcher!r}", remedy=f"There is: {', '.join(MATCHERS)}.")


class PlainMatcher:
    """Rules as one Python function. A column is worked out when a rule first comes to it: most fail at their first comparison."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._decide = _compiled([rule_formula(rule.conditions) for rule in rules])

    def matches(self, facts: Facts) -> list[int]:
        """See ``Matcher``."""
        found: list[int] = []
        self._decide(facts, found.append)
        return found


_NAN = float("nan")
"""Unknown, while conditions are evaluated: no comparison holds of it but !=."""


def _compiled(made: Sequence[Formula]) -> Callable[[Facts, Callable[[int], None]], None]:
    """Return a function that appends the number of each formula that holds.

    The source is made of our own names and whole numbers only. One function of thousands of ``if`` statements takes Python's
    compiler no longer than many small ones, and runs faster than anything that walks a tree.
    """
    columns = columns_of(made)
    names = {column: f"c{number}" for number, column in enumerate(columns)}
    unset = "".join(f"{name} = " for name in names.values())
    lines = ["def decide(f, add):", f" {unset}None"]
    for number, formula in enumerate(made):
        lines += [f" if {_source(formula, names)}: add({number})"]
    scope: dict[str, Any] = {f"of_{name}": _known_or_nan(column) for column, name in names.items()}
    exec("\n".join(lines), scope)
    return scope["decide"]  # type: ignore[no-any-return]


def _known_or_nan(column: Column) -> Callable[[Facts], float]:
    of = column.of

    def value(facts: Facts) -> float:
        found = of(facts)
        return _NAN if found is None else found

    return value


def _source(formula: Formula, names: dict[Column, str]) -> str:
    if isinstance(formula, Literal):
        name = names[formula.column]
        value = f"({name} if {name} is not None else ({name} := of_{name}(f)))"
        if formula.op == "!=":  # which holds of NaN
            return f"({value} < {formula.limit} or {name} > {formula.limit})"
        return f"{value} {formula.op} {formula.limit}"
    word = " and " if formula.every else " or "
    return f"({word.join(_source(part, names) for part in formula.parts)})" if formula.parts else "True"
