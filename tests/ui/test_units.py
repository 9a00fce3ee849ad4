"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dna.features import DEMAND, FEATURES
from ui.units import clock, fit, percent, plain, seconds, si, size, value_with_unit

_UNITS = sorted(({f.unit for f in FEATURES} | {m.unit for m in DEMAND}) - {"share"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (si(0), "0"),
        (si(999), "999"),
        (si(12_345), "12.3k"),
        (si(0.0034), "0.0034"),
        (si(1e-7), "<0.001"),
        (si(999_900), "1.00M"),
        (size(0), "0 B"),
        (size(1536), "1.50 KiB"),
        (seconds(12.3e-6), "12.3 µs"),
        (seconds(0), "0 s"),
        (seconds(5e-10), "0.50 ns"),
        (percent(0.5), "50 %"),
        (percent(0.004), "0.4 %"),
        (percent(0.0001), "<0.1 %"),
        (percent(0), "0 %"),
        (clock(75), "1:15"),
        (clock(3675), "1:01:15"),
        (value_with_unit(None, "B"), "?"),
        (value_with_unit(2048, "B/s"), "2.00 KiB/s"),
        (value_with_unit(0.98, "1"), "0.98"),
        (plain("a\x1b[31mb\n"), "a.[31mb."),
    ],
)
def test_known_values(text: str, expected: str) -> None:
    assert text == expected


@given(st.sampled_from(_UNITS), st.floats(0, 1e12))
def test_every_unit_has_a_short_form(unit: str, value: float) -> None:
    text = value_with_unit(value, unit)
    assert 0 < len(text) <= 16
    assert "e+" not in text


@given(st.text(max_size=40).map(plain), st.integers(0, 30))
def test_fit_never_exceeds_the_width(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert cell_len(fitted) <= max(width, 0)
    if cell_len(text) <= width:
        assert fitted == text
