"""Pages, direction and working set from sampled accesses."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dna.access_patterns import PAGE, PageCounts, direction, page_counts, working_set


def pages(random: np.random.Generator, *, count: int, among: int) -> PageCounts:
    addresses = random.integers(0, among, count).astype(np.uint64) * np.uint64(PAGE)
    return page_counts(np.zeros(count, dtype=np.int32), addresses)


def one_site(addresses: NDArray[np.uint64]) -> float | None:
    count = len(addresses)
    return direction(
        np.ones(count, dtype=np.int32), np.ones(count, dtype=np.uint64), np.arange(count, dtype=np.uint64), addresses
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20 * PAGE)), max_size=200))
def test_page_counts_are_those_of_a_plain_count(accesses: list[tuple[int, int]]) -> None:
    pids = np.array([pid for pid, _ in accesses], dtype=np.int32)
    addresses = np.array([address for _, address in accesses], dtype=np.uint64)
    seen = Counter((pid, address // PAGE) for pid, address in accesses)
    expected = PageCounts(
        len(accesses),
        len(seen),
        sum(count == 1 for count in seen.values()),
        sum(count == 2 for count in seen.values()),
    )
    assert page_counts(pids, addresses) == expected


@pytest.mark.parametrize("among", [100, 5_000, 50_000])
def test_the_working_set_of_uniform_accesses_is_found(among: int) -> None:
    random = np.random.default_rng(1)
    estimates = [working_set(pages(random, count=2000, among=among), None) for _ in range(20)]
    known = [estimate for estimate in estimates if estimate is not None]
    assert len(known) == 20
    assert np.median(known) / (among * PAGE) == pytest.approx(1.0, abs=0.15)


def test_the_working_set_is_a_lower_bound_when_some_pages_are_hot() -> None:
    random = np.random.default_rng(2)
    hot = random.integers(0, 10, 1800)
    cold = random.integers(10, 100_000, 200)
    addresses = np.concatenate([hot, cold]).astype(np.uint64) * np.uint64(PAGE)
    found = working_set(page_counts(np.zeros(2000, dtype=np.int32), addresses), None)
    assert found is not None
    assert 200 * PAGE < found < 200_000 * PAGE


def test_the_working_set_is_unknown_from_few_accesses_and_never_above_what_is_resident() -> None:
    assert working_set(PageCounts(99, 99, 99, 0), 1 << 40) is None
    assert working_set(PageCounts(2000, 2000, 2000, 0), 123456.0) == 123456.0


def test_direction_is_zero_for_shuffled_and_one_for_streaming_addresses() -> None:
    random = np.random.default_rng(3)
    assert one_site(random.integers(0, 1 << 40, 4000).astype(np.uint64)) == pytest.approx(0.0, abs=0.05)
    assert one_site(np.arange(1000, dtype=np.uint64) * np.uint64(64)) == 1.0
    assert one_site(np.arange(1000, dtype=np.uint64)[::-1] * np.uint64(64)) == 1.0


def test_direction_survives_the_start_over_of_a_loop() -> None:
    found = one_site((np.arange(1000) * 640 % 64_000).astype(np.uint64))
    assert found is not None
    assert found > 0.95


def test_direction_follows_each_thread_and_instruction_by_itself() -> None:
    random = np.random.default_rng(4)
    order = random.permutation(1200)
    tids, ips = (order % 3).astype(np.int32), (order % 5).astype(np.uint64)
    base = np.array([0, 1 << 30, 1 << 20])[order % 3]
    addresses = (base + order * 64).astype(np.uint64)
    assert direction(tids, ips, order.astype(np.uint64), addresses) == 1.0


def test_direction_is_unknown_without_enough_evidence() -> None:
    assert one_site(np.arange(17, dtype=np.uint64)) is None
    assert one_site(np.full(1000, 64, dtype=np.uint64)) is None
    assert one_site(np.zeros(0, dtype=np.uint64)) is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=0, max_size=100))
def test_direction_is_a_share_and_the_same_backwards(values: list[int]) -> None:
    addresses = np.array(values, dtype=np.uint64)
    found = one_site(addresses)
    assert found == one_site(addresses[::-1])
    assert found is None or 0.0 <= found <= 1.0
