"""Conditions brought to the form that engines evaluate: comparisons of whole numbers, joined by and and or.

Whatever is not a comparison with a fixed amount (words, likeness, what lasted, one expression against another) becomes a column of
its own, worked out beforehand. Negations are pushed inwards to the comparisons. Then a formula in which every comparison over
an unknown column counts as false is true exactly where the condition is: Kleene's and and or are monotone. So an engine
needs two truth values only, and never fires on what is not known; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rules.language import OPPOSITE, Compare, Condition, Facts, Group, Not, Term
from rules.units import counter_of


@dataclass(frozen=True, slots=True)
class Column:
    """A whole number worked out of the facts; two of the same text are the same."""

    text: str
    of: Callable[[Facts], int | None] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Literal:
    """A comparison of a column with a fixed number."""

    column: Column
    op: str
    limit: int


@dataclass(frozen=True, slots=True)
class Junction:
    """All (``every``) or any of some formulas."""

    parts: tuple[Formula, ...]
    every: bool


type Formula = Literal | Junction


def formula_of(condition: Condition, *, negated: bool = False) -> Formula:
    """Return the formula of a condition, or of its contrary."""
    match condition:
        case Not():
            return formula_of(condition.of, negated=not negated)
        case Group():
            parts = tuple(formula_of(part, negated=negated) for part in condition.parts)
            return Junction(parts, condition.every is not negated)
        case Compare():
            return _comparison(condition, negated=negated)
        case _:
            return _truth(condition, negated=negated)


def rule_formula(conditions: Iterable[Condition]) -> Formula:
    """Return the formula of a rule: all its conditions must hold."""
    return Junction(tuple(formula_of(condition) for condition in conditions), every=True)


def columns_of(formulas: Iterable[Formula]) -> list[Column]:
    """Return the columns that formulas compare, each once."""
    return list(dict.fromkeys(literal.column for formula in formulas for literal in literals(formula)))


def literals(formula: Formula) -> Iterator[Literal]:
    """Yield the comparisons of a formula."""
    if isinstance(formula, Literal):
        yield formula
    else:
        for part in formula.parts:
            yield from literals(part)


def _comparison(condition: Compare, *, negated: bool) -> Literal:
    op = OPPOSITE[condition.op] if negated else condition.op
    limit = condition.sides(Facts({}))[1]
    if condition.against_amount and isinstance(condition.left, Term):
        count = counter_of(condition.left.name, condition.left.unit)
        return Literal(Column(condition.left.text, lambda facts: count(facts.now)), op, limit)
    text = condition.left.text if condition.against_amount else f"{condition.left.text} - ({condition.right.text})"
    return Literal(Column(text, lambda facts: condition.sides(facts)[0]), op, limit)


def _truth(condition: Condition, *, negated: bool) -> Literal:
    def value(facts: Facts) -> int | None:
        truth = condition.truth(facts)
        return None if truth is None else int(truth)

    return Literal(Column(condition.text, value), "==", 0 if negated else 1)
