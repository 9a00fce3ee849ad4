"""What is said of conditions without facts holds for all facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rules import all_of, any_of, m, none_of, o, w
from rules.language import Condition, Facts, Flag, Number, Term, Word
from rules.logic import about, always_holds, can_hold, contrary_of, follows, tree_of, trees_of

SHARE, OTHER_SHARE = "w.memory.random_share", "w.memory.hugepage_share"
CORES, NODES, VIRTUAL, GOVERNOR = "w.demand.cores", "m.nodes", "m.virtual", "m.governor"

shares = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
counts = st.sampled_from([0.0, 1.0, 2.0, 3.0, 1e18])
governors = st.sampled_from(["powersave", "performance", "schedutil"])


def unknown_or(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(values, st.none())


moments = st.fixed_dictionaries(
    {
        SHARE: unknown_or(shares),
        OTHER_SHARE: unknown_or(shares),
        CORES: unknown_or(counts),
        NODES: unknown_or(counts),
        VIRTUAL: unknown_or(st.booleans()),
        GOVERNOR: unknown_or(governors),
    }
)
facts = st.builds(lambda now, before: Facts(now, tuple(before)), moments, st.lists(moments, max_size=2))


@st.composite
def comparisons(draw: st.DrawFn) -> Condition:
    share: Number[Any] = Term(draw(st.sampled_from([SHARE, OTHER_SHARE])), "share")
    count: Number[Any] = Term(draw(st.sampled_from([CORES, NODES])), "1")
    number: Number[Any]
    limit: float
    number, limit = draw(
        st.one_of(
            st.tuples(st.sampled_from([share, Term(SHARE, "share") + Term(OTHER_SHARE, "share")]), st.sampled_from([-1.0, 0.0, 0.3, 0.5, 1.0, 2.0])),
            st.tuples(st.just(Term(SHARE, "share") - Term(OTHER_SHARE, "share") * 2.0), st.sampled_from([-2.0, 0.0, 1.0])),
            st.tuples(st.sampled_from([count, count / 2.0, Term(CORES, "1") / Term(NODES, "1")]), st.sampled_from([-1.0, 0.0, 1.0, 2.0, 1e18])),
        )
    )  # fmt: skip
    match draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "between", "known", "other"])):
        case "<":
            return number < limit
        case "<=":
            return number <= limit
        case ">":
            return number > limit
        case ">=":
            return number >= limit
        case "==":
            return number == limit
        case "!=":
            return number != limit
        case "between":
            return number.between(limit, limit + 1.0)
        case "known":
            return number.is_known
        case _:
            return Term(SHARE, "share") > Term(OTHER_SHARE, "share")


words = st.one_of(
    st.lists(governors, min_size=1, max_size=2).map(lambda names: Word(GOVERNOR).is_in(*names)),
    st.sampled_from(["p*", "*e", "*", "x*"]).map(lambda pattern: Word(GOVERNOR).fits(pattern)),
)
simple = st.one_of(comparisons(), words, st.just(Flag(VIRTUAL)))
conditions = st.recursive(
    simple,
    lambda inner: st.one_of(
        inner.map(lambda one: ~one),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: all_of(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: any_of(*parts)),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: none_of(*parts)),
        inner.map(lambda one: one.for_at_least(2)),
    ),
    max_leaves=5,
)
several = st.lists(conditions, min_size=1, max_size=3)


@given(several, facts)
def test_what_can_never_hold_never_does(some: list[Condition], seen: Facts) -> None:
    if all(condition.truth(seen) is True for condition in some):
        assert can_hold(trees_of(some))


@given(conditions, facts)
def test_what_always_holds_never_fails(one: Condition, seen: Facts) -> None:
    if always_holds(one):
        assert one.truth(seen) is not False


@pytest.mark.long
@given(several, several, facts)
def test_what_follows_holds_wherever_the_others_do(some: list[Condition], others: list[Condition], seen: Facts) -> None:
    # Mostly true on these facts, so that there is something to follow.
    others = [one if one.truth(seen) else ~one for one in others]
    assume(all(one.truth(seen) is True for one in others))
    if follows(trees_of(some), trees_of(others)):
        assert all(one.truth(seen) is True for one in some)


@given(several)
def test_what_holds_follows_from_itself_and_excludes_its_contrary(some: list[Condition]) -> None:
    trees = trees_of(some)
    assert follows(trees, trees)
    for tree in trees:
        assert not can_hold([tree, contrary_of(tree)])
        assert can_hold([tree]) or can_hold([contrary_of(tree)])


RANDOM = w.memory.random_share


@pytest.mark.parametrize(
    "never",
    [
        (RANDOM > 0.6, RANDOM < 0.5),
        (RANDOM > 1,),
        (RANDOM < 0,),
        (RANDOM.between(0.4, 0.2),),
        (RANDOM == 0.5, RANDOM != 0.5),
        (RANDOM > 0.6, ~RANDOM.is_known),
        (RANDOM > 0.6, none_of(RANDOM > 0.5)),
        (RANDOM > 0.6, any_of(RANDOM < 0.5, RANDOM > 1)),
        ((RANDOM > 0.6).for_at_least(3), RANDOM < 0.5),
        (RANDOM + w.memory.hugepage_share > 2,),
        (m.governor == "performance", m.governor == "powersave"),
        (m.governor == "performance", m.governor != "performance"),
        (m.governor.is_in("performance", "powersave"), ~m.governor.fits("p*")),
        (m.virtual, ~m.virtual),
        (m.nodes < 0,),
    ],
    ids=str,
)
def test_contradictions_are_seen(never: tuple[Condition, ...]) -> None:
    assert not can_hold(trees_of(never))


@pytest.mark.parametrize(
    "possible",
    [
        (RANDOM > 0.5, RANDOM < 0.6),
        (RANDOM > 0.6, o.memory.random_share < 0.5),
        (any_of(RANDOM > 0.6, RANDOM < 0.5), RANDOM.between(0.1, 0.2)),
        (~(RANDOM > 0.6).for_at_least(3), RANDOM > 0.6),
        (~RANDOM.is_known,),
        (w.demand.resident.trend < 0,),
        (m.governor != "performance", m.governor != "powersave"),
    ],
    ids=str,
)
def test_what_is_possible_is_not_called_never(possible: tuple[Condition, ...]) -> None:
    assert can_hold(trees_of(possible))


def test_unknown_is_not_taken_for_anything() -> None:
    """What always holds when it is known does not follow from others: it may be unknown."""
    assert always_holds(m.nodes >= 0)
    assert not follows(trees_of([m.nodes >= 0]), trees_of([RANDOM > 0.5]))
    assert follows(trees_of([m.nodes >= 0]), trees_of([m.nodes > 1]))


@pytest.mark.long
def test_a_search_without_end_is_given_up_and_taken_as_possible() -> None:
    """Pigeonholes: fifteen pairs that exclude each other, each of which must be one of few."""
    names = [f"w.x{number}" for number in range(12)]
    holes = [any_of(*(Term(name, "1") == hole for hole in range(11))) for name in names]
    apart = [
        any_of(*(all_of(Term(one, "1") == hole, Term(other, "1") != hole) for hole in range(11)))
        for i, one in enumerate(names)
        for other in names[:i]
    ]
    assert can_hold(trees_of([*holes, *apart]))


def test_about_keeps_what_is_said_of_one_word_and_of_the_machine() -> None:
    trees = trees_of([o.memory.random_share > 0.6, m.nodes > 1, w.memory.random_share < 0.1])
    as_w = [about(tree, "o") for tree in trees]
    assert not can_hold([*as_w, tree_of(w.memory.random_share < 0.5)])
    assert not can_hold([*as_w, tree_of(m.nodes == 1)])
    assert can_hold([*as_w, tree_of(w.memory.random_share > 0.6)])


def test_ranges_of_values() -> None:
    seen: Mapping[str, object] = {"w.memory.random_share": 0.5}
    assert (RANDOM <= 1).truth(Facts(seen)) is True
    assert always_holds(RANDOM <= 1)
    assert not always_holds(w.demand.cores <= 1)
