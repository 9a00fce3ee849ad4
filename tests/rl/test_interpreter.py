"""What is made of numbers read again and again: rates, percentiles, and a name for everything that is neither."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rl.measured import ENERGY, LATENCY, THROUGHPUT, Measured, Metric, Problem
from rl.sources.found import Count, Found, Level, Spread
from rl.sources.interpreter import Interpreter, Patience
from rl.sources.quantiles import LEAST_EVENTS, P99, noise_of_quantile, quantile

anything = st.floats(allow_nan=True, allow_infinity=True)
maybe = st.none() | st.floats(-1e12, 1e12)
bucket_counts = st.lists(st.integers(0, 10**6).map(float), min_size=3, max_size=3).map(tuple)
found = (
    st.builds(Level, anything, maybe)
    | st.builds(Count, anything, st.sampled_from(["", "a", "b"]), maybe, st.booleans())
    | st.builds(
        Spread, st.sampled_from([(0.1, 1.0, math.inf), (1.0, 2.0, 4.0)]), bucket_counts, st.sampled_from(["", "a"])
    )
)


def interpreter(kind: str = THROUGHPUT, **patience: int) -> Interpreter:
    return Interpreter(Metric(kind, "test"), Patience(**patience))


def readings(kind: str, *values: Found, every_s: float = 5.0) -> list[Measured]:
    one = interpreter(kind)
    return [one.take(value, every_s, every_s * number) for number, value in enumerate(values)]


def problems(measured: list[Measured]) -> list[Problem | None]:
    return [one.problem for one in measured]


@given(st.sampled_from([THROUGHPUT, LATENCY, ENERGY]), st.lists(st.tuples(found, st.floats(-10, 1e6)), max_size=30))
def test_there_is_a_usable_value_or_a_reason(kind: str, reads: list[tuple[Found, float]]) -> None:
    one = interpreter(kind)
    for number, (value, elapsed_s) in enumerate(reads):
        measured = one.take(value, elapsed_s, float(number))
        assert (measured.value is None) == (measured.problem is not None)
        assert (measured.value is None) == bool(measured.because)
        assert measured.value is None or (measured.value > 0 and math.isfinite(measured.value))
        assert measured.t == number


# --- counters


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.floats(0.1, 1e4))
def test_a_counter_becomes_its_rate(start: int, counted: int, elapsed_s: float) -> None:
    one = interpreter()
    assert one.take(Count(float(start)), elapsed_s, 0.0).problem is Problem.FIRST
    measured = one.take(Count(float(start + counted)), elapsed_s, 1.0)
    assert measured.value == pytest.approx(counted / elapsed_s)
    assert measured.noise is None  # bytes, perhaps: nobody said that these were events


def test_events_say_how_far_their_rate_scatters() -> None:
    measured = readings(THROUGHPUT, Count(0, of_events=True), Count(400, of_events=True))[1]
    assert measured.noise == pytest.approx(0.05)


@pytest.mark.parametrize(
    "after", [Count(3.0, "a"), Count(1e9, "b")], ids=["it fell", "it says that it began again, and grew beyond"]
)
def test_a_counter_that_began_again_is_not_a_rate(after: Count) -> None:
    measured = readings(THROUGHPUT, Count(1000.0, "a"), after, Count(after.value + 50, after.epoch))
    assert problems(measured) == [Problem.FIRST, Problem.RESET, None]
    assert measured[2].value == 10.0


def test_a_counter_that_stands_still_is_named_first_unchanged_then_stale() -> None:
    measured = readings(THROUGHPUT, *[Count(7.0)] * 5, Count(12.0), Count(12.0))
    unchanged, stale = Problem.UNCHANGED, Problem.STALE
    assert problems(measured) == [Problem.FIRST, unchanged, unchanged, stale, stale, None, unchanged]


def test_what_failed_in_between_is_not_charged_to_this_interval() -> None:
    one = interpreter()
    one.take(Count(0.0), 5.0, 0.0)
    assert one.fail(Problem.GONE, "away", 5.0) == Measured(None, 5.0, Problem.GONE, "away")
    assert one.take(Count(1000.0), 5.0, 10.0).problem is Problem.FIRST
    assert one.take(Count(1050.0), 5.0, 15.0).value == 10.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_beginning_either(value: float) -> None:
    measured = readings(THROUGHPUT, Count(0.0), Count(value), Count(100.0), Count(150.0))
    assert problems(measured) == [Problem.FIRST, Problem.NOT_A_NUMBER, Problem.FIRST, None]
    assert measured[3].value == 10.0


def test_a_clock_that_does_not_move_gives_no_rate() -> None:
    one = interpreter()
    one.take(Count(0.0), 5.0, 0.0)
    assert one.take(Count(10.0), 0.0, 0.0).problem is Problem.CLOCK


def test_the_sources_own_clock_counts_unless_it_jumps() -> None:
    one = interpreter()
    assert one.take(Count(0.0, stamp_s=100.0), 5.0, 0.0).problem is Problem.FIRST
    assert one.take(Count(40.0, stamp_s=104.0), 5.0, 0.0).value == 10.0
    assert one.take(Count(40.0, stamp_s=104.0), 5.0, 0.0).problem is Problem.UNCHANGED
    assert one.take(Count(80.0, stamp_s=3704.0), 5.0, 0.0).problem is Problem.CLOCK
    assert one.take(Count(90.0, stamp_s=104.0), 5.0, 0.0).problem is Problem.CLOCK
    assert one.take(Count(140.0, stamp_s=109.0), 5.0, 0.0).value == 10.0


def test_a_counter_is_no_latency_and_a_histogram_no_power() -> None:
    assert problems(readings(LATENCY, Count(1.0), Count(2.0))) == [Problem.UNFIT] * 2
    assert problems(readings(ENERGY, Spread((1.0,), (5.0,)))) == [Problem.UNFIT]


def test_what_reading_adds_is_no_work() -> None:
    counts = [Count(value, own=1.0) for value in (0.0, 1.0, 3.0, 54.0)]
    measured = readings(THROUGHPUT, *counts)
    assert problems(measured) == [Problem.FIRST, Problem.UNCHANGED, Problem.UNCHANGED, None]
    assert measured[3].value == 10.0


# --- levels


def test_a_number_is_taken_as_it_is() -> None:
    measured = readings(LATENCY, Level(0.25), Level(0.5), Level(0.0), Level(-1.0), Level(math.nan))
    assert [one.value for one in measured] == [0.25, 0.5, None, None, None]
    assert problems(measured)[2:] == [Problem.NOT_POSITIVE, Problem.NOT_POSITIVE, Problem.NOT_A_NUMBER]


def test_a_number_that_never_moves_is_stale_in_the_end() -> None:
    one = interpreter(LATENCY, levels=4)
    measured = [one.take(Level(3.0), 5.0, 0.0) for _ in range(6)]
    assert problems(measured) == [None] * 4 + [Problem.STALE] * 2
    assert one.take(Level(3.1), 5.0, 0.0).value == 3.1


def test_what_was_not_written_since_is_no_measurement_of_this_interval() -> None:
    measured = readings(LATENCY, *[Level(3.0, 1.0)] * 3, Level(3.0, 2.0), Level(4.0, 2.0), Level(4.0, 2.0))
    unchanged = Problem.UNCHANGED
    assert problems(measured) == [Problem.FIRST, unchanged, unchanged, None, None, unchanged]


def test_a_source_that_becomes_another_thing_begins_anew() -> None:
    measured = readings(THROUGHPUT, Count(5.0), Level(2.0), Count(10.0), Count(20.0))
    assert problems(measured) == [Problem.FIRST, None, Problem.FIRST, None]


# --- histograms


def test_only_what_the_interval_added_counts() -> None:
    limits = (0.1, 0.2, 0.4, math.inf)
    before, after = Spread(limits, (1e6, 0, 5e5, 5e5)), Spread(limits, (1e6, 1000, 5e5, 5e5))
    measured = readings(LATENCY, before, after)[1]
    assert measured.value == pytest.approx(0.1 + 0.1 * 0.99)
    assert measured.noise is not None
    assert readings(THROUGHPUT, before, after)[1].value == pytest.approx(200.0)


def test_a_percentile_of_few_or_beyond_the_buckets_is_not_known() -> None:
    limits = (0.1, 0.2, math.inf)
    zero = Spread(limits, (0, 0, 0))
    assert problems(readings(LATENCY, zero, Spread(limits, (LEAST_EVENTS - 1, 0, 0))))[1] is Problem.TOO_FEW
    beyond = readings(LATENCY, zero, Spread(limits, (900, 0, 100)))[1]
    assert beyond.problem is Problem.BEYOND
    assert "0.2" in beyond.because
    assert problems(readings(LATENCY, zero, zero))[1] is Problem.UNCHANGED


def test_a_histogram_that_began_again_is_no_percentile() -> None:
    full, empty = Spread((1.0, 2.0), (500, 500)), Spread((1.0, 2.0), (0, 600))
    assert problems(readings(LATENCY, full, empty))[1] is Problem.RESET
    assert problems(readings(LATENCY, full, Spread((1.0, 3.0), (900, 900))))[1] is Problem.RESET
    assert problems(readings(LATENCY, full, Spread((1.0, 2.0), (900, 900), "b")))[1] is Problem.RESET


@given(st.lists(st.floats(1e-6, 10.0), min_size=LEAST_EVENTS, max_size=400), st.integers(0, 1000))
def test_a_percentile_is_in_the_bucket_of_the_true_one(values: list[float], seed: int) -> None:
    limits = np.geomspace(1e-6, 10.0, 60)
    counts = np.bincount(np.searchsorted(limits, values), minlength=len(limits))
    true = np.sort(values)[math.ceil(P99 * len(values)) - 1]
    bucket = int(np.searchsorted(limits, true))
    found = quantile(limits.tolist(), counts.tolist(), P99)
    assert (limits[bucket - 1] if bucket else 0.0) <= found <= limits[bucket] * (1 + 1e-12)


@given(bucket_counts, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_higher_quantile_is_no_less(counts: tuple[float, ...], one: float, other: float) -> None:
    assume(sum(counts) > 0)
    low, high = sorted((one, other))
    assert quantile((1.0, 2.0, 4.0), counts, low) <= quantile((1.0, 2.0, 4.0), counts, high) + 1e-12


def test_the_noise_of_a_percentile_is_about_what_many_samples_show() -> None:
    draw = np.random.default_rng(7)
    limits = np.geomspace(1e-3, 100.0, 400)

    def histogram() -> list[float]:
        return np.bincount(np.searchsorted(limits, draw.exponential(size=4000)), minlength=400).astype(float).tolist()

    samples = [histogram() for _ in range(200)]
    p99 = [quantile(limits.tolist(), counts, P99) for counts in samples]
    claimed = float(np.mean([noise_of_quantile(limits.tolist(), counts, P99) for counts in samples]))
    assert claimed == pytest.approx(np.std(p99) / np.mean(p99), rel=0.35)
