"""The kernel's formats for sets of CPUs and nodes: lists (``0-3,8,10-11``) and masks (``ff,0000000f``)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Linux knows at most 8192 CPUs (NR_CPUS) and 1024 nodes; more is damage, and would take memory.
_HIGHEST = 65535
_PART = re.compile(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+)/([1-9][0-9]*))?)?")


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the numbers in a kernel list, sorted, without repeats; empty text is the empty list.

    A range may carry a stride as in ``0-31:2/4`` (Documentation/admin-guide/kernel-parameters.rst).

    Raises:
        ValueError: the text is not such a list.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if part:
            numbers.update(_parse_part(part.strip()))
    return tuple(sorted(numbers))


def _parse_part(part: str) -> Iterable[int]:
    found = _PART.fullmatch(part)
    if not found or len(part) > 40:
        raise ValueError(f"{part!r} is no list of CPUs or nodes")
    first, last, used, group = (int(number) if number else None for number in found.groups())
    first = first or 0
    last = first if last is None else last
    if not first <= last <= _HIGHEST:
        raise ValueError(f"{part!r} in a list of CPUs or nodes: backwards, or above {_HIGHEST}")
    numbers = range(first, last + 1)
    if used is None or group is None:
        return numbers
    return [number for number in numbers if (number - first) % group < used]


def format_cpu_list(numbers: Iterable[int]) -> str:
    """Return numbers in the kernel's list format, ranges merged."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """Return the numbers in a kernel mask, sorted: hexadecimal, in groups of 32 bits, the highest first.

    Raises:
        ValueError: the text is not such a mask.
    """
    groups = text.strip().split(",")
    if any(not re.fullmatch(r"[0-9a-fA-F]{1,8}", group) for group in groups):
        raise ValueError(f"{text.strip()!r} is no mask of CPUs")
    bits = int("".join(group.rjust(8, "0") for group in groups), 16)
    return tuple(number for number in range(bits.bit_length()) if bits >> number & 1)


def format_cpu_mask(numbers: Iterable[int]) -> str:
    """Return numbers in the kernel's mask format."""
    digits = f"{sum(1 << number for number in set(numbers)):x}"
    digits = digits.rjust(-(-len(digits) // 8) * 8, "0") if len(digits) > 8 else digits
    return ",".join(digits[max(0, end - 8) : end] for end in range(len(digits) % 8 or 8, len(digits) + 1, 8))
