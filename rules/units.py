"""Units of what conditions compare: how an amount is written, and how finely it is told apart.

An amount is compared in whole *grains* of its unit, so that the engines, the explanation and a rule's author all see the same
number: rounding is done once, here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MOST_GRAINS = 1 << 53
"""Amounts are held below this, where a float still counts by ones."""

_BYTES = {
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_COUNTS = {"k": 1e3, "M": 1e6, "G": 1e9}
_PER_SECOND = {"/s": 1.0, "k/s": 1e3, "M/s": 1e6, "/min": 1 / 60, "/h": 1 / 3600}
_AMOUNT = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: the least difference that counts, and the suffixes an amount of it may be written with."""

    name: str
    grain: float
    suffixes: Mapping[str, float] = field(default_factory=dict)
    example: str = ""
    bare: bool = True
    """Whether a number alone will do in text; of bytes and seconds it would be a guess."""


_PERCENT = {"%": 0.01}
UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit("share", 1e-6, _PERCENT, "0.6 or 60 %"),
        Unit("ratio", 1e-6, _PERCENT, "0.6"),
        Unit("bit", 1e-6, {"bit": 1.0}, "2.5"),
        Unit("1/kinstr", 1e-6, {}, "3.5"),
        Unit("1", 1e-3, _COUNTS, "8"),
        Unit("s", 1e-9, _SECONDS, "5 ms", bare=False),
        Unit("B", 1.0, _BYTES, "512 MiB", bare=False),
        Unit("B/s", 1.0, {f"{name}/s": scale for name, scale in _BYTES.items()}, "100 MB/s", bare=False),
        Unit("1/s", 1e-3, _PER_SECOND, "1000/s"),
        Unit("W", 1e-3, {"mW": 1e-3, "W": 1.0, "kW": 1e3}, "80 W"),
        Unit("GT/s", 1e-3, {"GT/s": 1.0}, "16 GT/s"),
    )
}
"""Every unit of the tables of features, demand and machine facts."""


def unit_of(name: str) -> Unit:
    """Return a unit; one that is not in the table (of a trend, say) takes plain numbers."""
    return UNITS.get(name) or Unit(name, 1e-6)


def parse_amount(text: str, unit: str) -> float:
    """Return an amount such as ``"512 MiB"`` in its base unit.

    Raises:
        ValueError: it is none of that unit; the message says what one looks like.
    """
    known = unit_of(unit)
    match = _AMOUNT.fullmatch(text)
    suffix = (match[2] or "") if match else ""
    if match is None or (suffix not in known.suffixes and (suffix or not known.bare)):
        such = known.example or "1.5"
        ways = f" ({', '.join(known.suffixes)})" if known.suffixes else ""
        raise ValueError(f"{text!r} is no amount in {unit}: write it as {such}{ways}")
    return float(match[1]) * known.suffixes.get(suffix, 1.0)


def grains(amount: float | None, unit: str) -> int | None:
    """Return an amount in whole grains of its unit; None for unknown, which NaN and infinity count as."""
    if amount is None or not math.isfinite(amount):
        return None
    return round(min(max(amount / unit_of(unit).grain, -MOST_GRAINS), MOST_GRAINS))


def counter_of(name: str, unit: str) -> Callable[[Mapping[str, object]], int | None]:
    """Return a function that gives the fact of this name in grains: ``grains``, made for one fact, in a third of the time."""
    grain = unit_of(unit).grain

    def count(facts: Mapping[str, object]) -> int | None:
        value = facts.get(name)
        if value.__class__ is float or value.__class__ is int:
            whole = value / grain
            if -MOST_GRAINS < whole < MOST_GRAINS:  # which NaN is not
                return round(whole)
        elif value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return grains(float(value), unit)

    return count


def show_amount(amount: float | None, unit: str) -> str:
    """Return an amount for people: ``512 MiB``, ``5 ms``, ``0.6``."""
    if amount is None:
        return "unknown"
    match unit:
        case "B" | "B/s":
            return (
                _scaled(amount, (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)))
                + unit[1:]
            )
        case "s":
            return _scaled(amount, (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)))
        case "1/s":
            return f"{amount:.4g}/s"
        case "share" | "ratio" | "bit" | "1":
            return f"{amount:.4g}"
        case _:
            return f"{amount:.4g} {unit}"


def _scaled(amount: float, steps: tuple[tuple[str, float], ...]) -> str:
    name, scale = next(((n, s) for n, s in steps if abs(amount) >= s), steps[-1])
    return f"{amount / scale:.4g} {name}"
