"""Comparing profiles: what is told apart is apart, what is not is not, and too little is said to be too little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dna.compare import Difference, Verdict, compare, compare_demand
from dna.features import FEATURE_NAMES
from dna.significance import adjust, cliffs_delta, midranks, rank_test
from dna.vector import Profile
from tests.dna.profiles import make_profile

SHARES = [name for name in FEATURE_NAMES if name.endswith("_share")][:30]


def noisy(centres: dict[str, float], n: int, seed: int, spread: float = 0.02) -> Profile:
    random = np.random.default_rng(seed)
    rows: list[dict[str, float | None]] = [
        {name: float(np.clip(centre + random.normal(0, spread), 0, 1)) for name, centre in centres.items()}
        for _ in range(n)
    ]
    return make_profile(rows)


def by_name(differences: list[Difference]) -> dict[str, Difference]:
    return {difference.name: difference for difference in differences}


CENTRES = dict.fromkeys(SHARES, 0.5)


def test_a_planted_difference_comes_first_and_is_real() -> None:
    changed = CENTRES | {"syscall.sync_share": 0.8, "sched.runq_share": 0.6}
    found = compare(noisy(CENTRES, 12, 1), noisy(changed, 12, 2))
    assert [d.name for d in found[:2]] == ["syscall.sync_share", "sched.runq_share"]
    assert {d.verdict for d in found[:2]} == {Verdict.REAL}
    assert found[0].scaled == pytest.approx(0.3, abs=0.03)
    assert found[0].delta == 1.0


@pytest.mark.long
def test_the_same_twice_has_hardly_anything_real() -> None:
    real = 0
    for seed in range(20):
        found = compare(noisy(CENTRES, 12, 2 * seed), noisy(CENTRES, 12, 2 * seed + 1))
        real += any(d.verdict is Verdict.REAL for d in found)
    # Benjamini-Hochberg at 0.05 with nothing to find: any at all in 5 % of 20 comparisons; 5 or more has chance 0.003.
    assert real < 5


def test_a_slow_wave_in_both_is_not_taken_for_a_difference() -> None:
    real = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        walks = 0.5 + 0.02 * _with_memory(random, 2, 40, r=0.9)
        a, b = (make_profile([{"syscall.file_share": float(v)} for v in walk]) for walk in walks)
        real += compare(a, b)[0].verdict is Verdict.REAL
    assert real < 5


def _with_memory(random: np.random.Generator, runs: int, n: int, *, r: float) -> NDArray[np.float64]:
    values = np.zeros((runs, n))
    values[:, 0] = random.normal(size=runs) / np.sqrt(1 - r * r)
    for i in range(1, n):
        values[:, i] = r * values[:, i - 1] + random.normal(size=runs)
    return values


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_intervals_cannot_tell(n: int) -> None:
    found = compare(noisy({"syscall.file_share": 0.1}, n, 1), noisy({"syscall.file_share": 0.9}, n, 2))
    assert found[0].verdict is Verdict.UNCLEAR
    assert "too few" in found[0].why
    assert found[0].scaled == pytest.approx(0.8, abs=0.1)


def test_four_against_four_can_tell() -> None:
    found = compare(noisy({"syscall.file_share": 0.1}, 4, 1), noisy({"syscall.file_share": 0.9}, 4, 2))
    assert found[0].verdict is Verdict.REAL


def test_one_lone_difference_among_many_needs_more_than_four_intervals() -> None:
    found = compare(noisy(CENTRES, 4, 1), noisy(CENTRES | {SHARES[0]: 0.9}, 4, 2))
    assert found[0].name == SHARES[0]
    assert found[0].verdict is Verdict.UNCLEAR
    assert "fully apart" in found[0].why


def test_unknown_on_one_side_is_last_and_cannot_be_told() -> None:
    a = make_profile([{"cpu.ipc": 1.0, "io.read_share": 0.5}] * 5)
    b = make_profile([{"cpu.ipc": None, "io.read_share": 0.5}] * 5)
    found = compare(a, b)
    assert [d.name for d in found] == ["io.read_share", "cpu.ipc"]
    assert (found[1].a, found[1].b, found[1].scaled, found[1].verdict) == (1.0, None, None, Verdict.UNCLEAR)
    assert "second" in found[1].why


def test_equal_constants_are_noise() -> None:
    same = make_profile([{"io.read_share": 0.5}] * 9)
    assert [(d.scaled, d.verdict, d.p) for d in compare(same, same)] == [(0.0, Verdict.NOISE, 1.0)]


def test_demand_is_compared_by_ratio() -> None:
    a, b = make_profile([{}] * 5), make_profile([{}] * 5)
    found = by_name(compare_demand(a, b))
    assert (found["cores"].a, found["cores"].b, found["cores"].scaled) == (1.0, 1.0, 0.0)


def test_a_profile_without_intervals_compares_to_nothing_or_unknown() -> None:
    empty = make_profile([])
    assert compare(empty, empty) == []
    assert {d.verdict for d in compare(empty, noisy(CENTRES, 5, 1))} == {Verdict.UNCLEAR}


def test_comparing_is_repeatable() -> None:
    a, b = noisy(CENTRES, 15, 1), noisy(CENTRES, 15, 2)
    assert compare(a, b) == compare(a, b)


# --- the statistics


values = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=12).map(np.array)


@pytest.mark.long
@given(values, values)
@settings(max_examples=60, deadline=None)
def test_swapping_the_sides_only_turns_the_sign(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    there, back = rank_test(a, b), rank_test(b, a)
    assert there.delta == pytest.approx(-back.delta)
    assert -1 <= there.delta <= 1
    assert 0 < there.p <= 1
    if len(a) + len(b) <= 14:  # all orderings are tried; where they are sampled the two samples differ
        assert there.p == pytest.approx(back.p)


def test_against_the_published_table() -> None:
    # Two-sided exact probabilities of the most extreme arrangement: 2 / C(n + m, n).
    a, b = np.array([3.0, 1.0, 4.0, 2.0, 0.0]), np.array([9.0, 7.0, 8.0, 5.0, 6.0])
    assert rank_test(a, b).p == pytest.approx(2 / 252)
    # Mann-Whitney U = 4 with 5 and 5: P(U <= 4) = 12 / 252 one-sided.
    a, b = np.array([1.0, 6.0, 3.0, 2.0, 5.0]), np.array([10.0, 4.0, 8.0, 9.0, 7.0])
    assert int(midranks(np.concatenate([a, b]))[:5].sum()) - 15 == 2
    assert rank_test(a, b).p == pytest.approx(2 * 4 / 252)


@pytest.mark.long
@pytest.mark.parametrize("n", [20, 30])
def test_small_p_values_are_as_rare_as_they_say(n: int) -> None:
    """Under no difference, p < 0.05 in about 5 % of cases, with sampled orderings (20) as with the normal law (30)."""
    random = np.random.default_rng(n)
    runs = 400
    low = sum(rank_test(random.normal(size=n), random.normal(size=n)).p < 0.05 for _ in range(runs))
    # Blocks (5 % of series are cut up by chance) cost a little; the binomial's 0.999 bound on 400 at 0.05 is 35.
    assert 4 < low < 35


def test_adjustment_is_that_of_the_paper() -> None:
    # Benjamini and Hochberg 1995, section 3.2: at 0.05 the first four of these fifteen are rejected.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.759,
        1.0,
    ]
    assert list(adjust(np.array(p)) < 0.05) == [True] * 4 + [False] * 11


@given(st.lists(st.floats(0, 1), max_size=30).map(lambda p: np.array(p, dtype=np.float64)))
def test_adjustment_raises_and_keeps_order(p: NDArray[np.float64]) -> None:
    adjusted = adjust(p)
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= -1e-12).all()


def test_delta_counts_pairs() -> None:
    assert cliffs_delta(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 0.75
    assert cliffs_delta(np.array([5.0]), np.array([5.0])) == 0.0
