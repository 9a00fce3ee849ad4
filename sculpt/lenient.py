"""Values out of records that may be of any kind: a later version, or a damaged disk, may have put anything anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LATEST = 2.0**33
"""In the year 2242."""


def number(value: object) -> float | None:
    """Return a finite number, else None: what a record holds may be of any kind."""
    if type(value) is float:  # by far most of them
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def moment(value: object) -> float | None:
    """Return a time in seconds since the epoch, else None: what lies centuries off is none."""
    found = number(value)
    return found if found is not None and 0 <= found <= _LATEST else None


def text(value: object) -> str:
    """Return a text; "" for what is none."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def names(value: object) -> tuple[str, ...]:
    """Return a list of texts; an empty one for what is none."""
    return tuple(text(one) for one in value) if isinstance(value, list) else ()


def pair(value: object) -> tuple[float, float] | None:
    """Return two numbers; None for what are none."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def limits(value: object) -> tuple[float | None, float | None]:
    """Return limits; infinite where the record has a place for them and no number, as before there is enough to tell."""
    if not isinstance(value, list) or len(value) != 2:
        return None, None
    low, high = number(value[0]), number(value[1])
    return -math.inf if low is None else low, math.inf if high is None else high


def or_nan(value: object) -> float:
    """Return a finite number, else NaN."""
    found = number(value)
    return math.nan if found is None else found
