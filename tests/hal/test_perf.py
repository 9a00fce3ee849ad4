"""Events, groups, decoding and scaling of hal/perf.py."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.errors import HostError, NotPermittedError, PerfError, translate
from hal.fake import FakeHost
from hal.perf import COVERAGE_FLOOR, EVENTS, Counts, Group, decode, event, scaled, try_events, why_not, zero
from tests.hal.perf_kernel import Opened, PerfKernel

WORD = st.integers(0, (1 << 64) - 1)
COUNT = st.integers(0, 1 << 52)


def counts(size: int = 3) -> st.SearchStrategy[Counts]:
    """Return groups that ran for some part of their time."""
    times = st.tuples(COUNT, COUNT).map(sorted)
    return st.builds(
        lambda t, values: Counts(t[1], t[0], tuple(values)), times, st.lists(COUNT, min_size=size, max_size=size)
    )


# --- events


def test_every_event_has_a_number_of_its_own() -> None:
    assert len(set(EVENTS.values())) == len(EVENTS)


@pytest.mark.parametrize(
    ("name", "kind", "config"),
    [
        ("cycles", 0, 0),
        ("branch-misses", 0, 5),
        ("minor-faults", 1, 5),
        ("L1-dcache-load-misses", 3, 0x10000),
        ("LLC-stores", 3, 0x102),
        ("iTLB-load-misses", 3, 0x10004),
    ],
)
def test_numbers_are_those_of_the_kernel(name: str, kind: int, config: int) -> None:
    assert (event(name).type, event(name).config) == (kind, config)


def test_modifiers() -> None:
    user, kernel, both = event("cycles:u"), event("cycles:k"), event("cycles:uk")
    assert (user.exclude_user, user.exclude_kernel) == (False, True)
    assert (kernel.exclude_user, kernel.exclude_kernel) == (True, False)
    assert (both.exclude_user, both.exclude_kernel) == (False, False)


@pytest.mark.parametrize("name", ["cycle", "", "cycles:", "cycles:x", "cycles:uu", "instructions:ukk"])
def test_misnamed_events_are_refused(name: str) -> None:
    with pytest.raises(PerfError):
        event(name)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(PerfError) as raised:
        event("branch-miss")
    assert "branch-misses" in raised.value.remedy


def test_an_event_is_bound_to_a_pmu_by_the_upper_half_of_its_config() -> None:
    assert event("cache-misses").on(10).config == 10 << 32 | 3
    assert event("cache-misses").on(10).on(4).config == 4 << 32 | 3
    assert event("page-faults").on(10) == event("page-faults")


# --- decoding


@given(WORD, WORD, st.dictionaries(WORD, WORD, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_values_are_found_by_id_in_any_order(
    enabled: int, running: int, values: dict[int, int], random: object
) -> None:
    asked = list(values)
    random.shuffle(asked)  # type: ignore[attr-defined]
    words = [word for identity, value in values.items() for word in (value, identity)]
    data = struct.pack(f"<{3 + len(words)}Q", len(values), enabled, running, *words)
    assert decode(data, tuple(asked)) == Counts(enabled, running, tuple(values[identity] for identity in asked))


@given(st.integers(0, 55))
def test_a_cut_record_is_an_error(size: int) -> None:
    whole = struct.pack("<7Q", 2, 10, 10, 5, 1, 6, 2)
    with pytest.raises(PerfError):
        decode(whole[:size], (1, 2))


def test_a_missing_event_is_an_error() -> None:
    with pytest.raises(PerfError):
        decode(struct.pack("<5Q", 1, 10, 10, 5, 1), (1, 2))


# --- arithmetic


@given(counts(), counts())
def test_differences_are_never_negative(now: Counts, before: Counts) -> None:
    moved = now.since(before)
    assert min(moved.enabled, moved.running, *moved.values) >= 0


@given(counts(), counts())
def test_a_sum_less_one_part_is_the_other(a: Counts, b: Counts) -> None:
    assert a.plus(b).since(b) == a
    assert a.plus(b) == b.plus(a)
    assert a.plus(zero(3)) == a


@given(counts())
def test_scaling_only_adds_and_in_proportion(found: Counts) -> None:
    values = scaled(found)
    if values is None:
        assert found.enabled > 0
        assert found.coverage < COVERAGE_FLOOR or found.running == 0
        return
    factor = found.enabled / found.running if found.running else 1.0
    assert values == pytest.approx([value * factor for value in found.values])
    assert all(value >= raw for value, raw in zip(values, found.values, strict=True))


@given(st.integers(1, 10**12), st.floats(COVERAGE_FLOOR * 1.01, 1.0), st.floats(0.001, 10))
def test_an_even_rate_is_recovered(enabled: int, share: float, rate: float) -> None:
    running = max(round(enabled * share), 1)
    values = scaled(Counts(enabled, running, (round(rate * running),)), floor=0.0)
    assert values is not None
    assert values[0] == pytest.approx(rate * enabled, abs=enabled / running)


def test_too_little_coverage_is_unknown_and_not_running_is_no_zero() -> None:
    assert scaled(Counts(1000, 49, (10,))) is None
    assert scaled(Counts(1000, 51, (10,))) is not None
    assert scaled(Counts(1000, 0, (0,)), floor=0.0) is None
    assert scaled(Counts(0, 0, (0,))) == (0.0,)


# --- groups


def test_a_group_is_read_whole() -> None:
    kernel = PerfKernel()
    with Group(
        FakeHost(syscalls=kernel.syscalls), [event("cycles"), event("instructions:k")], pid=7, inherit=True
    ) as group:
        assert [one.leader for one in kernel.open.values()] == [-1, min(kernel.open)]
        assert not any(one.disabled for one in kernel.open.values())
        assert all(one.inherit and one.pid == 7 and one.cpu == -1 for one in kernel.open.values())
        kernel.run(7, ns=500, share=0.5, cycles=1000, instructions__k=300)
        assert group.read() == Counts(500, 250, (500, 150))
    assert kernel.open == {}


def test_the_leader_starts_last_so_that_all_start_together() -> None:
    kernel = PerfKernel()
    waiting: list[bool] = []

    def look(opened: Opened) -> int:
        waiting.append(kernel.open[min(kernel.open)].disabled if kernel.open else opened.disabled)
        return 0

    kernel.refuse = look
    Group(FakeHost(syscalls=kernel.syscalls), [event("cycles"), event("branches"), event("branch-misses")])
    assert waiting == [True, True, True]
    assert not any(one.disabled for one in kernel.open.values())


def test_a_refused_member_leaves_nothing_open() -> None:
    kernel = PerfKernel()
    kernel.refuse = lambda opened: errno.EACCES if opened.name == "branches" else 0
    with pytest.raises(NotPermittedError):
        Group(FakeHost(syscalls=kernel.syscalls), [event("cycles"), event("branches")])
    assert kernel.open == {}


def test_a_child_with_half_a_group_makes_a_read_unknown_and_other_errors_show() -> None:
    kernel = PerfKernel()
    group = Group(FakeHost(syscalls=kernel.syscalls), [event("cycles")])
    kernel.read_error = errno.ECHILD
    assert group.read() is None
    kernel.read_error = errno.EBADF
    with pytest.raises(HostError):
        group.read()
    group.close()
    group.close()


def test_trying_says_what_the_kernel_said() -> None:
    kernel = PerfKernel()
    host = FakeHost(syscalls=kernel.syscalls)
    assert try_events(host, [event("cycles")]) is None
    kernel.refuse = lambda opened: errno.ENOENT
    refusal = try_events(host, [event("cycles")])
    assert refusal is not None
    assert refusal.number == errno.ENOENT
    assert kernel.open == {}


@pytest.mark.parametrize(
    ("number", "words", "has_remedy"),
    [
        (errno.EACCES, "let this user", True),
        (errno.EMFILE, "descriptors", True),
        (errno.ENOENT, "does not have it", False),
        (errno.EOPNOTSUPP, "does not have it", False),
        (errno.ENOSYS, "perf_event_open", False),
        (errno.EBUSY, "another user", False),
        (errno.EIO, "Input/output", False),
    ],
)
def test_each_refusal_has_its_words(number: int, words: str, has_remedy: bool) -> None:
    refusal = why_not(translate(number, "perf_event_open", "call"))
    assert words in refusal.reason
    assert bool(refusal.remedy) == has_remedy
