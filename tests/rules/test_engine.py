"""Matchers agree with the conditions themselves, on random rules and facts, and durable-rules within its limits."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.host import LinuxHost
from hal.machine import read
from hal.settings import tree
from rules.durable import is_installed
from rules.engine import MATCHERS, Engine
from rules.errors import NOWHERE
from rules.language import Condition, Facts, Flag, Number, Term, Word, all_of, any_of, none_of
from rules.rule import Rule
from rules.situation import Machine, Situation, Workload

NUMBERS = [("w.a", "share"), ("w.b", "B"), ("w.c", "s"), ("w.d", "1/s"), ("m.e", "1")]
MACHINE = read(LinuxHost())
needs_durable = pytest.mark.skipif(
    not is_installed(),
    reason="durable-rules is not installed: scripts/setup dev installs it where there is a C compiler",
)
matchers = pytest.mark.parametrize("matcher", ["plain", pytest.param("durable", marks=needs_durable)])


def test_ci_has_durable_rules() -> None:
    if os.environ.get("CI") != "true":
        pytest.skip("only where CI=true must it be there")
    assert is_installed()


def make(number: int, *conditions: Condition) -> Rule:
    return Rule(f"r{number}", conditions, lambda: (), 0, "why", "", "", "", NOWHERE, variables=("w",))


def situation(now: dict[str, object], earlier: tuple[dict[str, object], ...] = ()) -> Situation:
    def of(word: str, values: dict[str, object]) -> dict[str, object]:
        return {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{word}.")}

    workload = Workload(
        "x", tree(1, 1), of("w", now), tuple(of("w", one) for one in earlier), tuple(range(len(earlier) + 1))
    )
    return Situation(Machine(MACHINE, of("m", now)), (workload,))


def fired(engine: Engine, now: dict[str, object], earlier: tuple[dict[str, object], ...] = ()) -> list[str]:
    return [match.rule.name for match in engine.matches(situation(now, earlier))]


# --- random conditions

amounts = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 1e-9, 1e-6, 1e9, 1e16, 5e-5]),
    st.floats(0, 1),
    st.floats(0, 1e17),
    st.floats(-1e6, 1e6),
)


@st.composite
def terms(draw: st.DrawFn) -> Number[Any]:
    name, unit = draw(st.sampled_from(NUMBERS))
    term: Number[Any] = Term(name, unit)
    match draw(st.integers(0, 5)):
        case 0:
            return term * draw(st.floats(0.1, 10))
        case 1:
            return term / Term("m.e", "1")
        case 2:
            return term.trend
        case _:
            return term


@st.composite
def comparisons(draw: st.DrawFn) -> Condition:
    left = draw(terms())
    if draw(st.integers(0, 4)) == 0:
        right = draw(terms().filter(lambda one: one.unit == left.unit))
        return left < right
    limit = draw(amounts)
    op = draw(st.sampled_from(["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"]))
    return getattr(left, op)(limit)  # type: ignore[no-any-return]


leaves = st.one_of(
    comparisons(),
    comparisons(),
    st.builds(Flag, st.sampled_from(["w.f", "m.g"])),
    st.builds(lambda word: Word("w.h") == word, st.sampled_from(["x", "y"])),
    st.builds(lambda word: Word("w.h") != word, st.sampled_from(["x", "y"])),
    st.builds(lambda one, n: one.for_at_least(n), comparisons(), st.integers(1, 4)),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: all_of(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: any_of(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: none_of(*parts)),
        inner.map(lambda one: ~one),
    ),
    max_leaves=6,
)
values = st.one_of(st.none(), amounts, st.just(float("nan")), st.just(float("inf")), st.just("word"), st.just(True))
facts = st.fixed_dictionaries(
    {name: values for name, _ in NUMBERS}
    | {"w.f": st.sampled_from([True, False, None]), "m.g": st.sampled_from([True, False, None, 1.0])}
    | {"w.h": st.sampled_from(["x", "y", None, 0.5])}
)


@matchers
@settings(deadline=None)
@given(
    rules=st.lists(st.lists(conditions, max_size=3), min_size=1, max_size=8),
    moments=st.lists(facts, min_size=1, max_size=4),
)
def test_a_matcher_finds_what_holds(
    matcher: str, rules: list[list[Condition]], moments: list[dict[str, object]]
) -> None:
    made = [make(number, *parts) for number, parts in enumerate(rules)]
    *earlier, now = moments
    engine = Engine(made, matcher=matcher)
    machine = {name: value for name, value in now.items() if name.startswith("m.")}  # which has no history
    known = Facts(now, tuple({**one, **machine} for one in earlier), tuple(map(float, range(len(moments)))))
    holding = [rule.name for rule in made if all(condition.truth(known) is True for condition in rule.conditions)]
    assert fired(engine, now, tuple(earlier)) == holding
    assert fired(engine, now, tuple(earlier)) == holding  # and again: nothing is left of the first time


@needs_durable
def test_alternatives_beyond_what_one_ruleset_can_match() -> None:
    many = any_of(*(Term[Any]("w.a", "share") > number / 1000 for number in range(100)))
    some = any_of(*(Term[Any]("w.a", "share") > number / 1000 for number in range(10)))
    engine = Engine(
        [make(0, many), *(make(number, some) for number in range(1, 30)), make(30, many, many)], matcher="durable"
    )
    assert fired(engine, {"w.a": 0.9}) == [f"r{number}" for number in range(31)]
    assert fired(engine, {"w.a": 0.0}) == fired(engine, {}) == []


# --- limits


@pytest.mark.long
@matchers
def test_two_thousand_rules_of_which_two_hundred_match(matcher: str) -> None:
    rules = [
        make(number, Term[Any]("w.a", "share") > 0.5, Term[Any]("w.b", "B") > (0.0 if number % 10 == 0 else 2e6))
        for number in range(2000)
    ]
    engine = Engine(rules, matcher=matcher)
    assert fired(engine, {"w.a": 0.9, "w.b": 1e6}) == [f"r{number}" for number in range(0, 2000, 10)]
    assert fired(engine, {"w.a": 0.1, "w.b": 1e6}) == []


@matchers
def test_every_rule_of_many_matches(matcher: str) -> None:
    rules = [make(number, Term[Any]("w.a", "share") > number / 1000) for number in range(200)]
    assert len(fired(Engine(rules, matcher=matcher), {"w.a": 0.9})) == 200


@matchers
def test_several_threads_lose_nothing(matcher: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine([make(n, Term[Any]("w.a", "share") > 0.1 * n) for n in range(10)], matcher=matcher)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: len(fired(engine, {"w.a": (i % 10) / 10 + 0.05})), range(400)))
    assert found == [i % 10 + 1 for i in range(400)]


@matchers
def test_a_rule_without_conditions_always_matches(matcher: str) -> None:
    assert fired(Engine([make(0)], matcher=matcher), {}) == ["r0"]


def test_an_unknown_matcher_is_named() -> None:
    from rules.errors import RuleError

    with pytest.raises(RuleError, match="no matcher"):
        Engine([], matcher="rete")
    assert MATCHERS == ("plain", "durable")
