"""Sizes of memory as people and the kernel write them: ``64M``, in powers of 1024."""

from __future__ import annotations

import re

_UNITS = ("", "K", "M", "G", "T")
_MOST = 1 << 52
"""4 PiB: what x86 can address at all."""


def parse_size(text: str) -> int:
    """Return bytes; ``512``, ``64K``, ``64M``, ``1.5G``, ``64MiB`` and ``64MB`` are the same powers of 1024 as to the kernel.

    Raises:
        ValueError: it is no size, nothing, or more than any machine has.
    """
    found = re.fullmatch(r"([0-9]{1,16})(\.[0-9]{1,6})?([KMGT]?)(?:I?B)?", text.strip().upper())
    if found is None or (found[2] and not found[3]):
        raise ValueError(f"{text!r} is no size")
    size = float(found[1] + (found[2] or "")) if found[2] else int(found[1])
    whole = round(size * (1 << 10 * _UNITS.index(found[3])))
    if not 0 < whole <= _MOST:
        raise ValueError(f"{text!r} is no size of memory")
    return whole


def format_size(size: int) -> str:
    """Return bytes in the largest unit that divides them, so that parsing gives them back."""
    unit = 0
    while size and size % 1024 == 0 and unit < len(_UNITS) - 1:
        size, unit = size // 1024, unit + 1
    return f"{size}{_UNITS[unit]}"


def say_size(size: float) -> str:
    """Return bytes for people, three digits: ``1.25 GiB``."""
    unit = 0
    while abs(size) >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {_UNITS[unit]}{'iB' if unit else 'B'}"
