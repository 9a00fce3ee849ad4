"""Conditions: amounts, three-valued truth, mistakes that are kept, what lasted, trends, and their explanation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.vector import Match
from rules import all_of, any_of, disk, m, nic, none_of, o, pair, pci, w
from rules.errors import RuleError
from rules.language import Condition, Facts
from rules.tables import FACTS
from rules.units import UNITS, counter_of, grains, parse_amount, show_amount


def truth(condition: Condition, **facts: object) -> bool | None:
    """Return the truth over facts written with _ for the dots of w.NAME."""
    return condition.truth(Facts({f"w.{name.replace('__', '.')}": value for name, value in facts.items()}))


# --- amounts


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("512 MiB", "B", 2.0**29),
        ("1.5GB", "B", 1.5e9),
        ("5 ms", "s", 5e-3),
        ("20 µs", "s", 20e-6),
        ("60 %", "share", 0.6),
        ("0.6", "share", 0.6),
        ("10 k/s", "1/s", 1e4),
        ("100 MB/s", "B/s", 1e8),
        ("8", "1", 8.0),
        ("2 k", "1", 2000.0),
    ],
)
def test_amounts_as_people_write_them(text: str, unit: str, value: float) -> None:
    assert parse_amount(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("512", "B"),
        ("5", "s"),
        ("5 MiB", "s"),
        ("5 ms", "B"),
        ("", "1"),
        ("lots", "1"),
        ("1 MiB", "B/s"),
        ("٣", "1"),
        ("1e", "1"),
    ],
)
def test_what_is_no_amount_says_how_one_looks(text: str, unit: str) -> None:
    with pytest.raises(ValueError, match="write it as"):
        parse_amount(text, unit)


@given(st.sampled_from(sorted(UNITS)), st.floats(-1e9, 1e9))
def test_grains_are_whole_and_near(unit: str, amount: float) -> None:
    found = grains(amount, unit)
    assert isinstance(found, int)
    assert abs(found) == 1 << 53 or found * UNITS[unit].grain == pytest.approx(amount, abs=UNITS[unit].grain)


@given(
    st.sampled_from(sorted(UNITS)),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 70), 1 << 70),
        st.floats(),
        st.just("x"),
        st.floats().map(np.float64),
    ),
)
def test_the_quick_way_to_grains_is_the_same(unit: str, value: object) -> None:
    facts = {"w.x": value}
    assert counter_of("w.x", unit)(facts) == grains(Facts(facts).number("w.x"), unit)


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite_is_unknown(amount: float | None) -> None:
    assert grains(amount, "share") is None


def test_amounts_are_shown_with_their_unit() -> None:
    assert [show_amount(2.0**29, "B"), show_amount(0.005, "s"), show_amount(0.61, "share"), show_amount(None, "B")] == [
        "512 MiB",
        "5 ms",
        "0.61",
        "unknown",
    ]
    assert show_amount(1e8, "B/s") == "95.37 MiB/s"
    assert show_amount(0, "B") == "0 B"


# --- truth


def test_comparisons() -> None:
    condition = w.memory.random_share > 0.6
    assert truth(condition, memory__random_share=0.7) is True
    assert truth(condition, memory__random_share=0.6) is False
    assert truth(condition) is None
    assert truth(condition, memory__random_share="0.7") is None
    assert truth(condition, memory__random_share=True) is None


def test_what_rounds_alike_is_equal() -> None:
    assert truth(w.memory.random_share >= 0.3, memory__random_share=0.1 + 0.2) is True
    assert truth(w.memory.random_share <= 0.3, memory__random_share=0.1 + 0.2) is True


def test_kleene() -> None:
    yes, no, unknown = w.demand.cores > 1, w.demand.cores > 3, w.demand.power > 1
    facts = {"demand__cores": 2.0}
    assert truth(yes & unknown, **facts) is None
    assert truth(no & unknown, **facts) is False
    assert truth(yes | unknown, **facts) is True
    assert truth(no | unknown, **facts) is None
    assert truth(~unknown, **facts) is None
    assert truth(none_of(no, unknown), **facts) is None
    assert truth(none_of(yes, unknown), **facts) is False
    assert truth(all_of(yes, ~no), **facts) is True
    assert truth(any_of(no, ~yes), **facts) is False


def test_expressions_against_one_another() -> None:
    facts = Facts({"w.demand.resident": 3e9, "m.free_per_node": 4e9, "w.demand.cores": 3.0, "m.cpus_per_node": 8})
    assert (w.demand.resident < 0.9 * m.free_per_node).truth(facts) is True
    assert (w.demand.resident < 0.5 * m.free_per_node).truth(facts) is False
    assert (w.demand.cores + 2 * w.demand.cores > m.cpus_per_node).truth(facts) is True
    assert (w.demand.resident / m.free_per_node > 0.7).truth(facts) is True
    assert (w.demand.resident / m.nodes > "1 GiB").truth(facts) is None


def test_dividing_by_nothing_is_unknown() -> None:
    assert (w.demand.resident / m.free > 0.1).truth(Facts({"w.demand.resident": 1.0, "m.free": 0})) is None


def test_known_is_never_unknown() -> None:
    assert truth(w.memory.numa_locality.is_known) is False
    assert truth(~w.memory.numa_locality.is_known) is True
    assert truth(w.memory.numa_locality.is_known, memory__numa_locality=0.0) is True


def test_words_and_flags() -> None:
    facts = Facts({"m.governor": "powersave", "m.virtual": False})
    assert (m.governor == "powersave").truth(facts) is True
    assert (m.governor != "powersave").truth(facts) is False
    assert m.governor.is_in("performance", "schedutil").truth(facts) is False
    assert m.governor.fits("power*").truth(facts) is True
    assert (~m.virtual).truth(facts) is True
    assert m.irqbalance.truth(facts) is None
    assert (m.hugepages.mode != "always").truth(facts) is None


def test_likeness() -> None:
    near = Facts({"w.neighbours": (Match("redis-get", 0.4), Match("nginx", 0.9))})
    assert w.like("redis-*", within=0.5).truth(near) is True
    assert w.like("nginx", within=0.5).truth(near) is False
    assert w.like("nginx", within=0.5).truth(Facts({})) is None
    nothing_nearer = w.like("postgres*", within=1.0) | (w.nearest.distance > 2.0)
    assert nothing_nearer.truth(Facts({"w.neighbours": (), "w.nearest.distance": 3.0})) is True


def moments(name: str, *values: float | None, step: float = 5.0) -> Facts:
    rows = [{name: value} for value in values]
    return Facts(rows[-1], tuple(rows[:-1]), tuple(step * i for i in range(len(rows))))


def test_what_lasted() -> None:
    lasting = (w.demand.cores > 1).for_at_least(3)
    assert lasting.truth(moments("w.demand.cores", 0, 2, 2, 2)) is True
    assert lasting.truth(moments("w.demand.cores", 2, 0, 2)) is False
    assert lasting.truth(moments("w.demand.cores", 2, 2)) is None
    assert lasting.truth(moments("w.demand.cores", 0, 2)) is False
    assert lasting.truth(moments("w.demand.cores", 2, None, 2)) is None


def test_trend_is_a_slope_per_second() -> None:
    growing = moments("w.demand.resident", 0, 5e6, 10e6, 15e6)
    assert w.demand.resident.trend.value(growing) == pytest.approx(1e6)
    assert (w.demand.resident.trend > "0.5 MB/s").truth(growing) is True
    assert w.demand.resident.trend.value(moments("w.demand.resident", 0, 1)) is None
    assert w.demand.resident.trend.value(moments("w.demand.resident", 0, None, 10e6, 15e6)) == pytest.approx(1e6)


# --- mistakes


def problems(condition: Condition) -> str:
    return "; ".join(f"{problem.message} {problem.remedy}" for problem in condition.problems)


def unchecked(word: object) -> Any:
    """Return a word without its types, which would not let these mistakes through."""
    return word


def test_a_fact_that_does_not_exist_names_the_nearest() -> None:
    assert "w.memory.random_share" in problems(unchecked(w).memory.randm_share > 0.5)
    assert "w.memory.hugepage_share" in problems(unchecked(w).hugepage_share < 0.5)
    assert "m.nodes" in problems(unchecked(m).node > 1)


def test_units_that_do_not_fit() -> None:
    assert "5 ms" in problems(w.demand.resident > "5 ms")
    assert "in s" in problems(w.sched.runq_p99 > unchecked(w.demand.resident))
    assert "makes no sense" in problems(w.demand.resident + unchecked(w.sched.runq_p99) > "1 MiB")
    assert "True" in problems(w.demand.cores > True)
    assert "inf" in problems(w.demand.cores > math.inf)
    assert "is a word" in problems(m.governor == unchecked(3))
    assert "intervals" in problems((w.demand.cores > 1).for_at_least(0))
    assert "distance" in problems(w.like("x", within=-1))


def test_a_mistake_in_a_part_is_one_of_the_whole() -> None:
    bad = unchecked(w).no_such > 1
    for whole in (bad & m.virtual, m.virtual | bad, ~bad, none_of(bad), bad.for_at_least(2)):
        assert "no_such" in problems(whole)


def test_problems_know_their_line() -> None:
    place = (w.demand.cores > 1).place
    assert place.file == __file__
    assert "test_problems_know_their_line" not in str(place)
    assert place.line == test_problems_know_their_line.__code__.co_firstlineno + 1


def chained() -> object:
    return 0.2 < unchecked(w.memory.random_share) < 0.5


@pytest.mark.parametrize(
    "write",
    [lambda: m.virtual and m.irqbalance, lambda: not m.virtual, chained, lambda: 1 if m.virtual else 2],
)
def test_a_condition_is_no_truth(write: Any) -> None:
    with pytest.raises(RuleError, match="evaluated later") as caught:
        write()
    assert "&" in caught.value.remedy
    assert "test_language.py" in str(caught.value)


# --- explanation


def test_evidence_tells_value_threshold_and_margin() -> None:
    found = (w.demand.resident > "512 MiB").evidence(Facts({"w.demand.resident": 2.0**30}))
    assert (found.truth, found.actual, found.threshold, found.margin) == (True, "1 GiB", "> 512 MiB", 1.0)
    short = (w.memory.random_share > 0.8).evidence(Facts({"w.memory.random_share": 0.6}))
    assert short.truth is False
    assert short.margin == pytest.approx(-0.25)
    missing = (w.memory.random_share > 0.8).evidence(Facts({}))
    assert (missing.truth, missing.actual, missing.margin) == (None, "unknown", None)


def test_evidence_of_a_group_has_that_of_its_parts() -> None:
    found = any_of(w.demand.cores > 1, m.virtual).evidence(Facts({"m.virtual": True}))
    assert found.truth is True
    assert [part.truth for part in found.parts] == [None, True]


@given(st.floats(0, 1), st.floats(0, 1))
def test_margin_is_positive_where_a_comparison_holds(value: float, limit: float) -> None:
    for condition in (w.memory.random_share > limit, w.memory.random_share < limit):
        found = condition.evidence(Facts({"w.memory.random_share": value}))
        assert found.margin is not None
        if abs(value - limit) > 1e-5:
            assert found.truth is (found.margin > 0)


# --- words


@pytest.mark.parametrize("name", sorted(FACTS))
def test_every_fact_can_be_written(name: str) -> None:
    words = {"w": w, "o": o, "pair": pair, "m": m, "nic": nic, "disk": disk, "pci": pci}
    found: Any = words[name.partition(".")[0]]
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert found.name == name
    assert not found.problems
    if FACTS[name].unit not in ("flag", "word"):
        assert found.unit == FACTS[name].unit
