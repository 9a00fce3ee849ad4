"""What a rule is, what its body may yield, and the two decorators that make one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hal.settings import Subject, Value
from rules.errors import NOWHERE, Place, RuleError
from rules.language import Condition, as_condition, here

PARAMETERS = {"workload": "w", "other": "o", "machine": "m", "nic": "nic", "disk": "disk", "pci": "pci"}
"""What a body may ask for, and the word of conditions that stands for the same thing."""
VARIABLES = ("w", "o", "nic", "disk", "pci")
"""Words that stand for one of several: a rule is evaluated for each (for each combination)."""
EFFECTS = ("throughput", "latency-p99", "energy")
LEAST_PRIORITY, MOST_PRIORITY = -100, 100
_EFFECT = re.compile(rf"({'|'.join(EFFECTS)}) ([+-]?\d+(?:\.\d+)?)(?:\.\.([+-]?\d+(?:\.\d+)?))? ?%")


@dataclass(frozen=True, slots=True)
class Wish:
    """One setting that a rule wants."""

    knob: str
    subject: Subject
    value: Value


@dataclass(frozen=True, slots=True)
class Option:
    """One of several ways."""

    name: str
    wishes: tuple[Wish, ...]
    expect: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Ways of which one is to be taken; the first unless something knows better."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Never:
    """Settings that no rule may propose: a subject (None: any) and a pattern of knobs such as ``"cpu.*"``."""

    subject: Subject | None
    knobs: str
    because: str


type Yielded = Wish | Choice | Never


@dataclass(frozen=True, slots=True)
class Effect:
    """An expected effect: relative change, 0.05 for +5 %."""

    kind: str
    low: float
    high: float

    def __str__(self) -> str:
        span = f"{self.low * 100:+g}" if self.low == self.high else f"{self.low * 100:+g}..{self.high * 100:g}"
        return f"{self.kind} {span} %"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as its author wrote it."""

    name: str
    conditions: tuple[Condition, ...]
    body: Callable[..., Iterable[Yielded] | None]
    priority: int
    reason: str
    """The docstring: the mechanism."""
    expect: str
    source: str
    limits: str
    place: Place
    pack: str = ""
    variables: tuple[str, ...] = field(default=())

    @property
    def identity(self) -> str:
        """Its name with that of its pack."""
        return f"{self.pack}.{self.name}" if self.pack else self.name

    @property
    def summary(self) -> str:
        """The first sentence of its reason."""
        return " ".join(self.reason.split("\n\n")[0].split())

    @property
    def parameters(self) -> tuple[str, ...]:
        """What its body asks for."""
        return tuple(inspect.signature(self.body).parameters)

    @property
    def specificity(self) -> int:
        """How many comparisons it makes: of two rules of the same priority the more particular counts."""
        from rules.formula import formula_of, literals

        return sum(1 for condition in self.conditions for _ in literals(formula_of(condition)))

    def __call__(self, *arguments: Any, **named: Any) -> Iterable[Yielded] | None:
        return self.body(*arguments, **named)


def choice(name: str, *options: Option) -> Choice:
    """Return a choice among ways; the first is what the rule itself would do."""
    if len(options) < 2:
        raise RuleError(
            f"choice({name!r}) has {len(options)} option(s)",
            place=here(),
            remedy="Yield a setting where there is no choice.",
        )
    if len({option.name for option in options}) < len(options):
        raise RuleError(f"choice({name!r}) has two options of one name", place=here())
    return Choice(name, options)


def never(on: object, knobs: str, because: str) -> Never:
    """Return a veto: no rule may set these knobs (a pattern) on this subject; None stands for every subject."""
    from rules.subjects import subject_of

    if not because.strip():
        raise RuleError(
            "never() needs a reason", place=here(), remedy='never(workload, "cpu.*", "pinned by the vendor")'
        )
    return Never(None if on is None else subject_of(on), knobs, because)


def when(*conditions: Condition) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """State the conditions of a rule: all of them must hold. Stands below ``@rule``."""
    place = here()
    meant = []
    for condition in conditions:
        if not isinstance(condition, Condition) and not getattr(condition, "problems", ()):
            raise RuleError(
                f"when({condition!r}): that is no condition",
                place=place,
                remedy="Compare a fact: w.memory.random_share > 0.6",
            )
        meant.append(as_condition(condition, place))

    def mark(body: Callable[..., Any]) -> Callable[..., Any]:
        body.__conditions__ = (*meant, *getattr(body, "__conditions__", ()))  # type: ignore[attr-defined]
        return body

    return mark


def rule(
    *, priority: int = 0, expect: str = "", source: str = "", limits: str = ""
) -> Callable[[Callable[..., Any]], Rule]:
    """Make a rule of a function that yields settings; its docstring says why.

    Args:
        priority: of two rules that want the same setting the higher counts; from -100 to 100.
        expect: the effect, such as "throughput +5..30 %" (also latency-p99, energy); several joined by "; ".
        source: where that is known from: a paper, kernel documentation, a vendor's guide, a measurement.
        limits: where the rule stops being true, in words.
    """
    place = here()

    def make(body: Callable[..., Any]) -> Rule:
        line = Place(place.file, body.__code__.co_firstlineno)
        conditions: tuple[Condition, ...] = getattr(body, "__conditions__", ())
        unknown = [name for name in inspect.signature(body).parameters if name not in PARAMETERS]
        if unknown:
            raise RuleError(
                f"{body.__name__} asks for {', '.join(unknown)}",
                place=line,
                remedy=f"A body may take: {', '.join(PARAMETERS)}.",
            )
        if (
            isinstance(priority, bool)
            or not isinstance(priority, int)
            or not LEAST_PRIORITY <= priority <= MOST_PRIORITY
        ):
            raise RuleError(
                f"priority={priority!r}", place=line, remedy=f"A whole number from {LEAST_PRIORITY} to {MOST_PRIORITY}."
            )
        effects(expect, line)
        reason = inspect.cleandoc(body.__doc__ or "")
        made = Rule(body.__name__, conditions, body, priority, reason, expect, source, limits, line)
        return replace(made, variables=_variables(made))

    return make


def effects(text: str, place: Place = NOWHERE) -> tuple[Effect, ...]:
    """Return the effects that ``expect`` states.

    Raises:
        RuleError: it is malformed.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _EFFECT.fullmatch(part)
        if match is None:
            raise RuleError(
                f"expect={part!r}",
                place=place,
                remedy=f'Write it as "throughput +5..30 %"; it is about {", ".join(EFFECTS)}.',
            )
        low = float(match[2]) / 100
        high = float(match[3]) / 100 if match[3] else low
        found.append(Effect(match[1], min(low, high), max(low, high)))
    return tuple(found)


def _variables(made: Rule) -> tuple[str, ...]:
    """Return what the rule is evaluated for each of: what its conditions and its body name."""
    named = {name.split(".")[0] for condition in made.conditions for name in condition.names()}
    named |= {PARAMETERS[name] for name in made.parameters}
    if "pair" in named:
        named |= {"w", "o"}
    return tuple(word for word in VARIABLES if word in named)
