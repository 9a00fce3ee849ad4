"""What differs between two profiles, largest first, and whether each difference is real."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dna.features import DEMAND, FEATURES, Scale
from dna.significance import ALPHA, Test, adjust, rank_test
from dna.vector import Profile


class Verdict(StrEnum):
    """The answer to "is the difference real?"."""

    REAL = "real"
    """The two recordings differ by more than either varies within itself."""
    NOISE = "within noise"
    """Intervals of one recording differ as much among themselves."""
    UNCLEAR = "cannot tell"
    """Too few intervals, or unknown on one side."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One feature (or magnitude of demand) of two profiles."""

    name: str
    unit: str
    meaning: str
    a: float | None
    """Median over the first profile's intervals; None where it was never known."""
    b: float | None
    scaled: float | None
    """Signed difference b - a: for a feature as a share of its scale, for demand as b / max - a / max; -1 to 1."""
    delta: float | None
    """Cliff's delta, -1 to 1: how completely the intervals of the two are apart."""
    p: float | None
    """Adjusted for the number of features compared."""
    verdict: Verdict
    why: str
    """Of the verdict, in words."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    unit: str
    meaning: str
    position: Callable[[float, float], float]
    """Where a value lies on the scale; given the value and the largest of both profiles."""


def _on_scale(scale: Scale) -> Callable[[float, float], float]:
    return lambda value, _: scale.encode(value)


def _of_most(value: float, most: float) -> float:
    return value / most if most else 0.0


_FEATURE_ROWS = tuple(_Row(f.name, f.unit, f.meaning, _on_scale(f.scale)) for f in FEATURES)
_DEMAND_ROWS = tuple(_Row(d.name, d.unit, d.meaning, _of_most) for d in DEMAND)


def compare(a: Profile, b: Profile) -> list[Difference]:
    """Return every feature that is known in either profile, the largest scaled difference first, unknown ones last.

    "Real" is about these two recordings: run one workload twice, and things that change from run to run (where pages
    landed, what else was running) are real differences too.
    """
    series = [[i.features for i in profile.intervals] for profile in (a, b)]
    return _compare(_FEATURE_ROWS, *series)


def compare_demand(a: Profile, b: Profile) -> list[Difference]:
    """Return likewise every magnitude of demand."""
    series = [[i.demand for i in profile.intervals] for profile in (a, b)]
    return _compare(_DEMAND_ROWS, *series)


def _compare(
    rows: Sequence[_Row], a: Sequence[Mapping[str, float | None]], b: Sequence[Mapping[str, float | None]]
) -> list[Difference]:
    found, tests = [], []
    for row in rows:
        x, y = _known(a, row.name), _known(b, row.name)
        if not len(x) and not len(y):
            continue
        difference, test = _difference(row, x, y)
        found.append(difference)
        tests.append(test)
    judged = _judge(found, tests)
    return sorted(judged, key=lambda d: (d.scaled is None, -abs(d.scaled or 0.0), d.name))


def _known(rows: Sequence[Mapping[str, float | None]], name: str) -> NDArray[np.float64]:
    return np.array([value for row in rows if (value := row.get(name)) is not None], dtype=np.float64)


def _difference(row: _Row, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Difference, Test | None]:
    a = float(np.median(x)) if len(x) else None
    b = float(np.median(y)) if len(y) else None
    difference = Difference(row.name, row.unit, row.meaning, a, b, None, None, None, Verdict.UNCLEAR, "")
    if a is None or b is None:
        return replace(difference, why=f"unknown in the {'first' if a is None else 'second'} profile"), None
    most = max(abs(a), abs(b))
    test = rank_test(x, y)
    return replace(difference, scaled=row.position(b, most) - row.position(a, most), delta=test.delta), test


def _judge(differences: Sequence[Difference], tests: Sequence[Test | None]) -> list[Difference]:
    """Adjust p over what could be tested at all, and give each difference its verdict."""
    family = [i for i, test in enumerate(tests) if test is not None and test.least_p < ALPHA]
    adjusted = adjust(np.array([test.p for i in family if (test := tests[i]) is not None], dtype=np.float64))
    p_of = dict(zip(family, adjusted, strict=True))
    judged = []
    for i, (difference, test) in enumerate(zip(differences, tests, strict=True)):
        if test is None:
            judged.append(difference)
            continue
        p = float(p_of[i]) if i in p_of else None
        verdict, why = _verdict(test, p)
        judged.append(replace(difference, p=p, verdict=verdict, why=why))
    return judged


def _verdict(test: Test, p: float | None) -> tuple[Verdict, str]:
    n, m = test.blocks
    if p is None:
        return Verdict.UNCLEAR, f"too few independent intervals ({n} and {m}); 4 and 4 is the least, 8 and 8 good"
    if p < ALPHA:
        return Verdict.REAL, f"p {_p(p)} after adjustment, {n} and {m} independent intervals"
    if test.p < ALPHA and test.p <= test.least_p * 1.01:
        # As far apart as so few intervals can be, yet not enough among so many features.
        return Verdict.UNCLEAR, f"fully apart, but too few independent intervals ({n} and {m}) among so many features"
    return Verdict.NOISE, f"p {_p(p)} after adjustment, {n} and {m} independent intervals"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
