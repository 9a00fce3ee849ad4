"""What conditions allow: which can never hold, always do, follow from others, or cannot hold beside others.

Conditions become a tree of *claims*: this column (see ``rules.formula``) is within these values. Columns are taken as independent
of one another, which they need not be (``w.a > w.b`` beside ``w.a < 1``). So every answer "never", "follows" or "excluded" is
certain, and what cannot be told is taken as possible. Being unknown is a value like others, which no comparison takes.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from rules.language import (
    OPPOSITE,
    Arithmetic,
    Compare,
    Condition,
    Constant,
    Facts,
    Group,
    Known,
    Lasting,
    Not,
    Number,
    OneOf,
    Term,
)
from rules.tables import FACTS
from rules.units import MOST_GRAINS, grains, unit_of

MOST_STEPS = 20_000
"""Steps after which a search for facts that satisfy conditions is given up: they are taken as possible."""


@dataclass(frozen=True, slots=True)
class Span:
    """Whole numbers from low to high, both included, without some; and whether being unknown will do."""

    low: int = -MOST_GRAINS
    high: int = MOST_GRAINS
    without: frozenset[int] = frozenset()
    unknown: bool = False

    @property
    def is_empty(self) -> bool:
        """True when nothing will do."""
        left_out = sum(self.low <= one <= self.high for one in self.without)
        return not self.unknown and self.high - self.low + 1 <= left_out

    def __and__(self, other: Span) -> Span:
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Span(low, high, self.without | other.without, self.unknown and other.unknown)


@dataclass(frozen=True, slots=True)
class Names:
    """Words: one of some (None: any), none of others, fitting patterns or not; and whether being unknown will do."""

    among: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    fit: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()
    unknown: bool = False

    @property
    def is_empty(self) -> bool:
        """True when nothing will do, as far as can be told."""
        if self.unknown:
            return False
        return bool(self.fit & self.unfit) or (self.among is not None and not any(map(self._takes, self.among)))

    def _takes(self, word: str) -> bool:
        return (
            word not in self.without
            and all(fnmatch.fnmatchcase(word, pattern) for pattern in self.fit)
            and not any(fnmatch.fnmatchcase(word, pattern) for pattern in self.unfit)
        )

    def __and__(self, other: Names) -> Names:
        both = [one.among for one in (self, other) if one.among is not None]
        return Names(
            frozenset.intersection(*both) if both else None,
            self.without | other.without,
            self.fit | other.fit,
            self.unfit | other.unfit,
            self.unknown and other.unknown,
        )


type Values = Span | Names


@dataclass(frozen=True, slots=True)
class Claim:
    """A column has one of some values; also what its contrary is."""

    column: str
    values: Values
    contrary: Values
    """The values at which it is not true, being unknown among them."""
    facts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Several:
    """All (``every``) or any of some claims."""

    parts: tuple[Tree, ...]
    every: bool


type Tree = Claim | Several
ANYTHING = Several((), every=True)

_ONE = round(1 / unit_of("1").grain)
COUNTED = frozenset(name for name, fact in FACTS.items() if fact.unit == "1" and ".demand." not in name)
"""Facts that are whole numbers: all counts but those of demand, which are means."""


# --- questions


def can_hold(trees: Iterable[Tree]) -> bool:
    """Tell whether all of these can be true together, as far as that can be told."""
    try:
        return _search(list(trees), {}, [MOST_STEPS])
    except _TooLongError:
        return True


def always_holds(condition: Condition) -> bool:
    """Tell whether a condition is certainly true whenever what it looks at is known."""
    return not can_hold([tree_of(condition, negated=True)])


def follows(trees: Sequence[Tree], of: Iterable[Tree]) -> bool:
    """Tell whether all of some are certainly true where all of others are."""
    return all(not can_hold([*of, contrary_of(tree)]) for tree in trees)


def tree_of(condition: Condition, *, negated: bool = False) -> Tree:
    """Return when a condition, or its contrary, is true."""
    match condition:
        case Not():
            return tree_of(condition.of, negated=not negated)
        case Group():
            parts = tuple(tree_of(part, negated=negated) for part in condition.parts)
            return Several(parts, condition.every is not negated)
        case Lasting() if not negated:  # what lasted holds now
            return Several((_truth(condition, 1), tree_of(condition.of)), every=True)
        case Compare():
            return _comparison(condition, OPPOSITE[condition.op] if negated else condition.op)
        case OneOf():
            return _word(condition, negated=negated)
        case Known():
            return _known(condition, negated=negated)
        case _:
            return _truth(condition, 0 if negated else 1)


def trees_of(conditions: Iterable[Condition]) -> list[Tree]:
    """Return when all of some conditions are true."""
    return [tree_of(condition) for condition in conditions]


def contrary_of(tree: Tree) -> Tree:
    """Return when a tree is not true: false, or unknown."""
    if isinstance(tree, Claim):
        return replace(tree, values=tree.contrary, contrary=tree.values)
    return Several(tuple(map(contrary_of, tree.parts)), not tree.every)


def about(tree: Tree, word: str) -> Tree:
    """Return what a tree says of one word and the machine, that word renamed to "w"; the rest is taken as possible."""
    if isinstance(tree, Several):
        return Several(tuple(about(part, word) for part in tree.parts), tree.every)
    if not {name.partition(".")[0] for name in tree.facts} <= {word, "m"}:
        return ANYTHING
    return replace(tree, column=re.sub(rf"\b{word}\.", "w.", tree.column))


# --- searching


class _TooLongError(Exception):
    """The search takes too long."""


def _search(todo: list[Tree], found: dict[str, Values], steps: list[int]) -> bool:
    """Tell whether there are values for all columns; ``found`` is what those looked at may have."""
    steps[0] -= 1
    if steps[0] < 0:
        raise _TooLongError
    open_: list[Several] = []
    while todo:
        tree = todo.pop()
        if isinstance(tree, Claim):
            values = _meet(found.get(tree.column), tree.values)
            if values.is_empty:
                return False
            found[tree.column] = values
        elif tree.every:
            todo += tree.parts
        else:
            open_.append(tree)
    if not open_:
        return True
    open_.sort(key=lambda tree: -len(tree.parts))  # the one with the fewest ways first
    ways = open_.pop().parts
    return any(_search([*open_, way], dict(found), steps) for way in ways)


def _meet(one: Values | None, other: Values) -> Values:
    if isinstance(one, Span) and isinstance(other, Span):
        return one & other
    if isinstance(one, Names) and isinstance(other, Names):
        return one & other
    return other


# --- claims of single conditions


def _truth(condition: Condition, truth: int) -> Claim:
    other = 1 - truth
    return Claim(condition.text, Span(truth, truth), Span(other, other, unknown=True), condition.names())


def _word(condition: OneOf, *, negated: bool) -> Claim:
    words = frozenset(condition.words)
    if condition.pattern:
        yes, no = Names(fit=words), Names(unfit=words)
    else:
        yes, no = Names(among=words), Names(without=words)
    if negated:
        yes, no = no, yes
    return Claim(condition.word.name, yes, replace(no, unknown=True), condition.names())


def _known(condition: Known, *, negated: bool) -> Claim:
    known, unknown = _whole(condition.number, span_of(condition.number)), Span(0, -1, unknown=True)
    values, contrary = (unknown, known) if negated else (known, unknown)
    return Claim(condition.number.text, values, contrary, condition.names())


def _comparison(condition: Compare, op: str) -> Claim:
    number = condition.left if condition.against_amount else Arithmetic("-", condition.left, condition.right)
    limit = condition.sides(Facts({}))[1]
    possible = span_of(number, condition.left.unit)
    values, contrary = (_whole(number, possible & _compared(one, limit)) for one in (op, OPPOSITE[op]))
    return Claim(number.text, values, replace(contrary, unknown=True), condition.names())


def _whole(number: Number[object], span: Span) -> Span:
    """Return the values of what is counted, and so never between two whole numbers, in ones instead of grains."""
    if not isinstance(number, Term) or number.name not in COUNTED:
        return span
    return Span(
        -(-span.low // _ONE), span.high // _ONE, frozenset(one // _ONE for one in span.without if one % _ONE == 0)
    )


def _compared(op: str, limit: int) -> Span:
    match op:
        case "<":
            return Span(high=limit - 1)
        case "<=":
            return Span(high=limit)
        case ">":
            return Span(low=limit + 1)
        case ">=":
            return Span(low=limit)
        case "==":
            return Span(limit, limit)
        case _:
            return Span(without=frozenset((limit,)))


# --- the values that expressions can have


def span_of(number: Number[object], unit: str = "") -> Span:
    """Return the values that an expression can have when it is known, in grains of a unit (its own by default)."""
    low, high = range_of(number)
    lowest, highest = grains(low, unit or number.unit), grains(high, unit or number.unit)
    return Span(-MOST_GRAINS if lowest is None else lowest, MOST_GRAINS if highest is None else highest)


def range_of(number: Number[object]) -> tuple[float, float]:
    """Return the least and greatest value of an expression in base units."""
    match number:
        case Term():
            fact = FACTS.get(number.name)
            return (fact.low, fact.high) if fact else (-math.inf, math.inf)
        case Constant():
            return number.amount, number.amount
        case Arithmetic():
            return _calculated(number.operation, range_of(number.left), range_of(number.right))
        case _:
            return -math.inf, math.inf


def _calculated(operation: str, left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    """Return the range of a sum, difference, product or quotient; what cannot be told is without limit."""
    match operation:
        case "+":
            found = [left[0] + right[0], left[1] + right[1]]
        case "-":
            found = [left[0] - right[1], left[1] - right[0]]
        case "*":
            found = [a * b for a, b in product(left, right)]
        case _ if right[0] > 0 or right[1] < 0:
            found = [a / b for a, b in product(left, right)]
        case _ if right[0] == 0 and left[0] >= 0:  # a quotient by 0 is unknown
            found = [left[0] / right[1] if right[1] else 0.0, math.inf]
        case _:
            found = [math.nan]
    return (-math.inf, math.inf) if any(map(math.isnan, found)) else (min(found), max(found))
