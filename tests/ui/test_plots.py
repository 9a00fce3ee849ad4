"""Plots: what is thinned keeps what stands out, and nothing lies outside."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from ui.markup import document, el
from ui.plots import Band, Bar, Mark, Plot, Scale, limits_of, means, nice, thin, thin_bands, thin_marks, time_ticks

VALUES = st.floats(-1e9, 1e9)


@given(st.lists(VALUES | st.just(math.nan), min_size=1, max_size=400), st.integers(1, 20))
def test_a_thinned_line_keeps_the_extremes_of_each_column_and_its_holes(values: list[float], columns: int) -> None:
    t = [float(number) for number in range(len(values))]
    x = Scale(0.0, float(len(values)))
    pieces = thin(t, values, x, columns=columns)
    kept = {point for piece in pieces for point in piece}
    for column in range(columns):
        here = [
            (when, one)
            for when, one in zip(t, values, strict=True)
            if int(x.share(when) * columns) == column and one == one
        ]
        if here:
            assert {min(one for _, one in here), max(one for _, one in here)} <= {one for _, one in kept}
    holes = [number for number, one in enumerate(values) if math.isnan(one)]
    assert not any(piece[0][0] < hole < piece[-1][0] for piece in pieces for hole in holes)
    assert len(kept) <= 4 * (columns + 1) + 4 * len(holes)


@given(st.lists(VALUES | st.just(math.nan), min_size=1, max_size=200), st.integers(1, 20))
def test_means_lie_between_the_extremes_of_their_columns(values: list[float], columns: int) -> None:
    x = Scale(0.0, float(len(values)))
    found = means([float(number) for number in range(len(values))], values, x, columns=columns)
    assert len(found) <= columns + 1
    for when, mean in found:
        here = [
            one for number, one in enumerate(values) if int(x.share(number) * columns) == int(x.share(when) * columns)
        ]
        known = [one for one in here if not math.isnan(one)]
        assert min(known) - 1e-3 <= mean <= max(known) + 1e-3


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=300), st.integers(1, 50))
def test_thinned_bands_cover_the_same_time(lengths: list[float], columns: int) -> None:
    bands, at = [], 0.0
    for number, length in enumerate(lengths):
        bands.append(Band(at, at + length, ("baseline", "tried")[number % 2], str(number)))
        at += length
    found = thin_bands(bands, Scale(0.0, at), columns=columns)
    assert (found[0].start, found[-1].end) == (bands[0].start, bands[-1].end)
    assert all(one.end == next_one.start for one, next_one in pairwise(found))
    assert len(found) <= max(columns + 1, 1)


def test_marks_upon_each_other_are_counted() -> None:
    marks = [Mark(float(number) / 100, "alert", f"alert {number}") for number in range(5)]
    (one,) = thin_marks(marks, Scale(0.0, 100.0))
    assert one.label == "alert 4 (and 4 more here)"


@given(VALUES, st.floats(1e-6, 1e9))
def test_ticks_are_few_round_and_within(low: float, span: float) -> None:
    high = low + span
    assume(high - low > 1e-9 * abs(low))
    ticks = nice(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in ticks)


@given(st.floats(0, 4e9), st.floats(0.01, 1e8))
def test_times_of_day_are_few_and_within(start: float, span: float) -> None:
    ticks = time_ticks(start, start + span)
    assert len(ticks) <= 6
    assert all(start - 1e-6 <= tick <= start + span + 1e-6 for tick in ticks)


@given(st.lists(VALUES, max_size=50))
def test_a_scale_has_some_height_and_what_it_must_hold(values: list[float]) -> None:
    scale = limits_of(values, holds=(0.0,))
    assert scale.low < scale.high
    assert not values or scale.low <= 0 <= scale.high


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30))
def test_nothing_is_drawn_outside(points: list[tuple[float, float]]) -> None:
    x, y = Scale(-1e6, 1e6), Scale(-10.0, 10.0)
    plot = Plot("p", "title", "says", x, y, height=100, top=20)
    plot.bands([Band(one, one + 1, "tried", "") for one, _ in points])
    plot.grid(str)
    plot.bars([Bar(one, value, -math.inf, value, "") for one, value in points])
    plot.marks([Mark(one, "kept", "") for one, _ in points])
    text = document(el("body", plot.svg()))
    shares = [float(found) for found in re.findall(r'"(-?[\d.]+)%"', text)]
    assert all(0 <= share <= 100 for share in shares)
    heights = [float(found) for found in re.findall(r' (?:cy|y1|y2)="(-?[\d.]+)"', text)]
    assert all(0 <= height <= 120 for height in heights)
