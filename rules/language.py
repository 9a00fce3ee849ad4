"""Conditions as data: what a rule file writes with ``w``, ``m`` and their like, and what it comes to.

An expression knows its unit, a condition what it compares; both know how they were written and where, so that they can be explained,
checked without being run, and compiled (``rules.formula``). Truth has three values: a condition over something unknown is itself
unknown (None) unless the rest decides (Kleene). Mistakes are kept as problems of the condition rather than raised, so that one
check of a file finds all of them.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, override

import numpy as np

from rules.errors import NOWHERE, Place, RuleError
from rules.units import grains, parse_amount, show_amount

type Truth = bool | None
"""None: cannot tell."""

OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
LEAST_FOR_TREND = 3
"""Intervals that a trend needs."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at one moment: facts by the name they have in conditions, such as ``"w.memory.random_share"``."""

    now: Mapping[str, object]
    earlier: tuple[Mapping[str, object], ...] = ()
    """Those of the intervals before, oldest first."""
    times: tuple[float, ...] = ()
    """When each of ``earlier`` and ``now`` was seen, in seconds; empty where that is not known."""

    def number(self, name: str) -> float | None:
        """Return a fact that is a number, None where it is unknown or not finite."""
        value = self.now.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        return None

    def at(self, index: int) -> Facts:
        """Return the facts of an earlier interval, with what was known then."""
        return Facts(self.earlier[index], self.earlier[:index], self.times[: index + 1])


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an expression or condition, and what to do about it."""

    message: str
    remedy: str = ""


def here(depth: int = 2) -> Place:
    """Return the line of the rule file that is being run: the first caller outside this package's language."""
    frame = sys._getframe(depth)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        ("rules.language", "rules.vocabulary", "rules.words")
    ):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


# --- numbers


class Number[U](ABC):
    """An expression that is a number with a unit; ``U`` stands for the unit, so that a type checker tells bytes from seconds."""

    __slots__ = ("problems", "text", "unit")
    __hash__ = object.__hash__

    def __init__(self, text: str, unit: str, problems: tuple[Problem, ...] = ()) -> None:
        self.text = text
        self.unit = unit
        self.problems = problems

    @abstractmethod
    def value(self, facts: Facts) -> float | None:
        """Return its value in base units, None when unknown."""

    @abstractmethod
    def names(self) -> frozenset[str]:
        """Return the facts that it is made of."""

    def __repr__(self) -> str:
        return self.text

    def __lt__(self, other: float | str | Number[U]) -> Condition:
        return compare(self, "<", other)

    def __le__(self, other: float | str | Number[U]) -> Condition:
        return compare(self, "<=", other)

    def __gt__(self, other: float | str | Number[U]) -> Condition:
        return compare(self, ">", other)

    def __ge__(self, other: float | str | Number[U]) -> Condition:
        return compare(self, ">=", other)

    def __eq__(self, other: float | str | Number[U]) -> Condition:  # type: ignore[override]
        return compare(self, "==", other)

    def __ne__(self, other: float | str | Number[U]) -> Condition:  # type: ignore[override]
        return compare(self, "!=", other)

    def between(self, low: float | str | Number[U], high: float | str | Number[U]) -> Condition:
        """Return the condition that it is within two limits, both included."""
        return all_of(compare(self, ">=", low), compare(self, "<=", high))

    @property
    def trend(self) -> Number[Any]:
        """How fast it grows: the slope over the intervals known (least squares), per second; unknown before the third."""
        return Trend(self)

    @property
    def is_known(self) -> Condition:
        """The condition that it is known at all; itself never unknown."""
        return Known(self, here())

    def __add__(self, other: Number[U]) -> Number[U]:
        return Arithmetic("+", self, other)

    def __sub__(self, other: Number[U]) -> Number[U]:
        return Arithmetic("-", self, other)

    def __mul__(self, other: float) -> Number[U]:
        return Arithmetic("*", self, Constant(other))

    def __rmul__(self, other: float) -> Number[U]:
        return self * other

    def __truediv__(self, other: float | Number[Any]) -> Number[Any]:
        return Arithmetic("/", self, other if isinstance(other, Number) else Constant(other))


class Term[U](Number[U]):
    """One fact that is a number."""

    __slots__ = ("name",)

    def __init__(self, name: str, unit: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(name, unit, problems)
        self.name = name

    @override
    def value(self, facts: Facts) -> float | None:
        return facts.number(self.name)

    @override
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))


class Constant(Number[Any]):
    """A plain number in an expression."""

    __slots__ = ("amount",)

    def __init__(self, amount: object) -> None:
        good = isinstance(amount, int | float) and not isinstance(amount, bool) and math.isfinite(amount)
        problems = () if good else (Problem(f"{amount!r} is no number to calculate with"),)
        super().__init__(f"{amount:g}" if good else repr(amount), "1", problems)
        self.amount = float(amount) if good else math.nan  # type: ignore[arg-type]

    @override
    def value(self, facts: Facts) -> float | None:
        return self.amount

    @override
    def names(self) -> frozenset[str]:
        return frozenset()


_CALCULATE: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan,
}
_PLAIN = ("1", "share", "ratio")


class Arithmetic(Number[Any]):
    """A sum, difference, product or quotient."""

    __slots__ = ("left", "operation", "right")

    def __init__(self, operation: str, left: Number[Any], right: object) -> None:
        other = right if isinstance(right, Number) else Constant(right)
        self.operation, self.left, self.right = operation, left, other
        unit, problems = _unit_of_result(operation, left, other)
        text = f"{_bracketed(left)} {operation} {_bracketed(other)}"
        super().__init__(text, unit, (*left.problems, *other.problems, *problems))

    @override
    def value(self, facts: Facts) -> float | None:
        left, right = self.left.value(facts), self.right.value(facts)
        if left is None or right is None:
            return None
        result = _CALCULATE[self.operation](left, right)
        return result if math.isfinite(result) else None

    @override
    def names(self) -> frozenset[str]:
        return self.left.names() | self.right.names()


def _bracketed(part: Number[Any]) -> str:
    return f"({part.text})" if isinstance(part, Arithmetic) else part.text


def _unit_of_result(operation: str, left: Number[Any], right: Number[Any]) -> tuple[str, tuple[Problem, ...]]:
    if operation == "*" or (operation == "/" and isinstance(right, Constant)):
        return left.unit, ()
    if left.unit == right.unit:
        return ("ratio" if operation == "/" else left.unit), ()
    if operation == "/" and right.unit in _PLAIN:
        return left.unit, ()
    return left.unit, (
        Problem(f"{left.text} is in {left.unit} and {right.text} in {right.unit}: {operation} makes no sense"),
    )


class Trend(Number[Any]):
    """How fast an expression grows."""

    __slots__ = ("of",)

    def __init__(self, of: Number[Any]) -> None:
        units = {"B": "B/s", "1": "1/s"}
        super().__init__(f"{_bracketed(of)}.trend", units.get(of.unit, f"{of.unit}/s"), of.problems)
        self.of = of

    @override
    def value(self, facts: Facts) -> float | None:
        if len(facts.times) != len(facts.earlier) + 1:
            return None
        moments = [*(Facts(values) for values in facts.earlier), facts]
        seen = [
            (t, v) for t, moment in zip(facts.times, moments, strict=True) if (v := self.of.value(moment)) is not None
        ]
        if len(seen) < LEAST_FOR_TREND or seen[-1][0] == seen[0][0]:
            return None
        times, values = np.array(seen).T
        return float(np.polyfit(times - times[0], values, 1)[0])

    @override
    def names(self) -> frozenset[str]:
        return self.of.names()


# --- conditions


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one condition found."""

    text: str
    truth: Truth
    actual: str = ""
    """The value found, for people; "unknown" when it is."""
    threshold: str = ""
    margin: float | None = None
    """How far the value is on the right side of the threshold, as a share of the threshold; negative on the wrong side."""
    parts: tuple[Evidence, ...] = ()
    """Of a condition made of others, theirs."""


class Condition(ABC):
    """Something that holds, does not hold, or cannot be told."""

    __slots__ = ("place", "problems", "text")

    def __init__(self, text: str, place: Place = NOWHERE, problems: tuple[Problem, ...] = ()) -> None:
        self.text = text
        self.place = place
        self.problems = problems

    @abstractmethod
    def truth(self, facts: Facts) -> Truth:
        """Tell whether it holds; None when that cannot be told."""

    @abstractmethod
    def names(self) -> frozenset[str]:
        """Return the facts that it looks at."""

    def evidence(self, facts: Facts) -> Evidence:
        """Return what it finds, for an explanation."""
        return Evidence(self.text, self.truth(facts))

    def for_at_least(self, intervals: int) -> Condition:
        """Return the condition that this held in the last ``intervals`` intervals, the present one included."""
        return Lasting(self, intervals, here())

    def __repr__(self) -> str:
        return self.text

    def __and__(self, other: Condition) -> Condition:
        return all_of(self, other)

    def __or__(self, other: Condition) -> Condition:
        return any_of(self, other)

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> bool:
        raise RuleError(
            f"({self.text}) is a condition, not a truth: it is evaluated later",
            place=here(),
            remedy="Combine conditions with &, | and ~ in brackets, not with and, or, not or if; for two limits use .between(low, high).",
        )


class Compare(Condition):
    """A comparison of an expression with an amount or another expression."""

    __slots__ = ("left", "op", "right")

    def __init__(
        self, left: Number[Any], op: str, right: Number[Any], written: str, place: Place, problems: tuple[Problem, ...]
    ) -> None:
        super().__init__(f"{left.text} {op} {written}", place, (*left.problems, *right.problems, *problems))
        self.left, self.op, self.right = left, op, right

    @property
    def against_amount(self) -> bool:
        """True when the right side is a fixed amount."""
        return isinstance(self.right, Constant)

    def sides(self, facts: Facts) -> tuple[int | None, int]:
        """Return both sides in grains of the unit; against another expression the difference, and 0."""
        right = self.right.value(facts)
        if isinstance(self.right, Constant):
            return grains(self.left.value(facts), self.left.unit), grains(right, self.left.unit) or 0
        left = self.left.value(facts)
        return grains(None if left is None or right is None else left - right, self.left.unit), 0

    @override
    def truth(self, facts: Facts) -> Truth:
        found, limit = self.sides(facts)
        return None if found is None else OPERATORS[self.op](found, limit)

    @override
    def names(self) -> frozenset[str]:
        return self.left.names() | self.right.names()

    @override
    def evidence(self, facts: Facts) -> Evidence:
        left, right, unit = self.left.value(facts), self.right.value(facts), self.left.unit
        return Evidence(
            self.text,
            self.truth(facts),
            show_amount(left, unit),
            f"{self.op} {show_amount(right, unit)}",
            _margin(left, self.op, right),
        )


def _margin(left: float | None, op: str, right: float | None) -> float | None:
    if left is None or right is None or op in ("==", "!="):
        return None
    distance = left - right if op in (">", ">=") else right - left
    return distance / abs(right) if right else distance


def compare(left: Number[Any], op: str, other: object) -> Condition:
    """Return the comparison of an expression with an amount (a number, or text such as "512 MiB") or another expression."""
    place = here()
    if isinstance(other, Number):
        problems = (
            ()
            if other.unit == left.unit
            else (Problem(f"{left.text} is in {left.unit}, and {other.text} in {other.unit}"),)
        )
        return Compare(left, op, other, _bracketed(other), place, problems)
    if isinstance(other, str):
        try:
            return Compare(left, op, Constant(parse_amount(other, left.unit)), repr(other), place, ())
        except ValueError as error:
            return Compare(left, op, Constant(0.0), repr(other), place, (Problem(f"{left.text}: {error}"),))
    constant = Constant(other)
    return Compare(left, op, constant, constant.text, place, ())


class Flag(Condition):
    """A fact that is true or false."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    @override
    def truth(self, facts: Facts) -> Truth:
        value = facts.now.get(self.name)
        return value if isinstance(value, bool) else None

    @override
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))

    @override
    def evidence(self, facts: Facts) -> Evidence:
        truth = self.truth(facts)
        return Evidence(self.text, truth, "unknown" if truth is None else "yes" if truth else "no")


class Word:
    """A fact that is a word, such as the name of a governor."""

    __slots__ = ("name", "problems")
    __hash__ = object.__hash__

    def __init__(self, name: str, problems: tuple[Problem, ...] = ()) -> None:
        self.name = name
        self.problems = problems

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: str) -> Condition:  # type: ignore[override]
        return OneOf(self, (other,), f"{self.name} == {other!r}", here())

    def __ne__(self, other: str) -> Condition:  # type: ignore[override]
        return Not(OneOf(self, (other,), f"{self.name} == {other!r}", here()))

    def is_in(self, *words: str) -> Condition:
        """Return the condition that it is one of these words."""
        return OneOf(self, words, f"{self.name}.is_in({', '.join(map(repr, words))})", here())

    def fits(self, pattern: str) -> Condition:
        """Return the condition that it fits a pattern as of file names, such as ``"postgres*"``."""
        return OneOf(self, (pattern,), f"{self.name}.fits({pattern!r})", here(), pattern=True)


class OneOf(Condition):
    """A word is one of some, or fits a pattern."""

    __slots__ = ("pattern", "word", "words")

    def __init__(self, word: Word, words: tuple[str, ...], text: str, place: Place, *, pattern: bool = False) -> None:
        bad = [one for one in words if not isinstance(one, str)]
        problems = tuple(Problem(f"{word.name} is a word, and {one!r} is none") for one in bad)
        if not words:
            problems = (Problem(f"{word.name}: one of no words is never true"),)
        super().__init__(text, place, (*word.problems, *problems))
        self.word, self.words, self.pattern = word, words, pattern

    @override
    def truth(self, facts: Facts) -> Truth:
        found = facts.now.get(self.word.name)
        if not isinstance(found, str):
            return None
        return fnmatch.fnmatchcase(found, self.words[0]) if self.pattern else found in self.words

    @override
    def names(self) -> frozenset[str]:
        return frozenset((self.word.name,))

    @override
    def evidence(self, facts: Facts) -> Evidence:
        found = facts.now.get(self.word.name)
        return Evidence(
            self.text, self.truth(facts), found if isinstance(found, str) else "unknown", " or ".join(self.words)
        )


class Known(Condition):
    """A number is known."""

    __slots__ = ("number",)

    def __init__(self, number: Number[Any], place: Place) -> None:
        super().__init__(f"{_bracketed(number)}.is_known", place, number.problems)
        self.number = number

    @override
    def truth(self, facts: Facts) -> Truth:
        return self.number.value(facts) is not None

    @override
    def names(self) -> frozenset[str]:
        return self.number.names()


class Like(Condition):
    """A known workload whose label fits a pattern is within a distance."""

    __slots__ = ("label", "name", "within")

    def __init__(self, name: str, label: str, within: float, place: Place) -> None:
        good = isinstance(label, str) and isinstance(within, int | float) and within > 0
        problems = () if good else (Problem("like() takes a label, and a distance above 0 as within="),)
        super().__init__(f"{name.split('.', maxsplit=1)[0]}.like({label!r}, within={within!r})", place, problems)
        self.name, self.label, self.within = name, label, within

    @override
    def truth(self, facts: Facts) -> Truth:
        near = facts.now.get(self.name)
        if not isinstance(near, tuple):
            return None
        return any(fnmatch.fnmatchcase(match.label, self.label) and match.distance <= self.within for match in near)

    @override
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))

    @override
    def evidence(self, facts: Facts) -> Evidence:
        near = facts.now.get(self.name)
        shown = (
            ", ".join(f"{match.label} at {match.distance:.2f}" for match in near[:3])
            if isinstance(near, tuple)
            else "unknown"
        )
        return Evidence(self.text, self.truth(facts), shown or "nothing near", f"{self.label} within {self.within:g}")


class Lasting(Condition):
    """A condition that held for some intervals on end."""

    __slots__ = ("intervals", "of")

    def __init__(self, of: Condition, intervals: int, place: Place) -> None:
        good = isinstance(intervals, int) and not isinstance(intervals, bool) and intervals >= 1
        problems = () if good else (Problem(f"for_at_least({intervals!r}): a number of intervals, from 1"),)
        super().__init__(f"({of.text}).for_at_least({intervals!r})", place, (*of.problems, *problems))
        self.of, self.intervals = of, intervals if good else 1

    @override
    def truth(self, facts: Facts) -> Truth:
        before = self.intervals - 1
        first = len(facts.earlier) - before
        seen = [self.of.truth(facts), *(self.of.truth(facts.at(i)) for i in range(max(first, 0), len(facts.earlier)))]
        if False in seen:
            return False
        return None if first < 0 or None in seen else True

    @override
    def names(self) -> frozenset[str]:
        return self.of.names()

    @override
    def evidence(self, facts: Facts) -> Evidence:
        known = min(self.intervals, len(facts.earlier) + 1)
        return Evidence(
            self.text,
            self.truth(facts),
            f"{known} interval{'s' * (known != 1)} known",
            parts=(self.of.evidence(facts),),
        )


class Group(Condition):
    """Several conditions, all or any of which must hold."""

    __slots__ = ("every", "parts")

    def __init__(self, parts: tuple[Condition, ...], *, every: bool) -> None:
        text = (" & " if every else " | ").join(f"({part.text})" for part in parts)
        problems = tuple(problem for part in parts for problem in part.problems)
        super().__init__(text, next((part.place for part in parts if part.place.file), NOWHERE), problems)
        self.parts, self.every = parts, every

    @override
    def truth(self, facts: Facts) -> Truth:
        decides = not self.every
        seen = [part.truth(facts) for part in self.parts]
        if decides in seen:
            return decides
        return None if None in seen else self.every

    @override
    def names(self) -> frozenset[str]:
        return frozenset().union(*(part.names() for part in self.parts))

    @override
    def evidence(self, facts: Facts) -> Evidence:
        return Evidence(self.text, self.truth(facts), parts=tuple(part.evidence(facts) for part in self.parts))


class Not(Condition):
    """The contrary of a condition; of an unknown one it is unknown too."""

    __slots__ = ("of",)

    def __init__(self, of: Condition) -> None:
        super().__init__(f"~({of.text})", of.place, of.problems)
        self.of = of

    @override
    def truth(self, facts: Facts) -> Truth:
        truth = self.of.truth(facts)
        return None if truth is None else not truth

    @override
    def names(self) -> frozenset[str]:
        return self.of.names()

    @override
    def evidence(self, facts: Facts) -> Evidence:
        inner = self.of.evidence(facts)
        return Evidence(
            self.text,
            self.truth(facts),
            inner.actual,
            f"not {inner.threshold}".strip(),
            None if inner.margin is None else -inner.margin,
            inner.parts,
        )


class Mistaken(Condition):
    """What stands where a condition should and is none: kept with what is wrong with it, and never told true or false."""

    __slots__ = ()

    @override
    def truth(self, facts: Facts) -> Truth:
        return None

    @override
    def names(self) -> frozenset[str]:
        return frozenset()


def parts_of(condition: Condition) -> tuple[Condition, ...]:
    """Return the conditions that one is made of."""
    match condition:
        case Group():
            return condition.parts
        case Not() | Lasting():
            return (condition.of,)
        case _:
            return ()


def all_of(*conditions: Condition) -> Condition:
    """Return the condition that all of these hold."""
    return _group(conditions, every=True)


def any_of(*conditions: Condition) -> Condition:
    """Return the condition that at least one of these holds."""
    return _group(conditions, every=False)


def none_of(*conditions: Condition) -> Condition:
    """Return the condition that none of these holds."""
    return Not(_group(conditions, every=False))


def _group(conditions: tuple[Condition, ...], *, every: bool) -> Condition:
    if not conditions:
        raise RuleError("no conditions are combined", place=here(), remedy="Give one or more.")
    meant = [as_condition(one, here()) for one in conditions]
    same = [part.parts if isinstance(part, Group) and part.every is every else (part,) for part in meant]
    return Group(tuple(one for parts in same for one in parts), every=every)


def as_condition(one: object, place: Place) -> Condition:
    """Return a condition, or what is wrong with what is none."""
    if isinstance(one, Condition):
        return one
    known: tuple[Problem, ...] = getattr(one, "problems", ())
    return Mistaken(repr(one), place, known or (Problem(f"{one!r} is no condition"),))
