"""How much memory a cgroup may have, and how much of it is kept for it."""

from __future__ import annotations

import errno
import re

from hal.errors import HalError, SettingError
from hal.host import Host
from hal.knobs.cgroup import GroupFile, Place
from hal.knobs.knob import Knob
from hal.settings import Subject, Value

_PAGE = 4096
_PAGES = (4096, 16384, 65536)
"""Sizes of pages that kernels have; they round down to their own."""
_MOST = 1 << 60  # beyond every machine; the kernel calls what comes near 2^63 "max"
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


class MemoryKnob(GroupFile):
    """A number of bytes, in whole pages."""

    controller = "memory"
    values = "max, or bytes such as 536870912, 512M or 1.5G (powers of 1024)"
    example = "536870912"
    least = 0

    def parse(self, text: str) -> Value:
        if text.strip() == "max":
            return "max"
        number = size(text.strip())
        if number is None or not self.least <= number <= _MOST:
            raise self.malformed(text)
        return number // _PAGE * _PAGE

    def decode(self, text: str, version: int) -> Value:
        # v1 has no word for it: the most that its counter of pages holds, or -1 when written.
        return "max" if text == "max" or int(text) > _MOST else int(text)

    def encode(self, value: Value, version: int) -> str:
        return "-1" if value == "max" and version == 1 else str(value)

    def same(self, wanted: Value, found: Value) -> bool:
        if isinstance(wanted, int) and isinstance(found, int):
            return any(wanted // page * page == found for page in _PAGES)
        return wanted == found


class MemoryMax(MemoryKnob):
    """The limit that is kept at any price."""

    name = "cgroup.memory_max"
    title = "Most memory of a cgroup; beyond it the kernel kills"
    file_v2 = "memory.max"
    file_v1 = "memory.limit_in_bytes"
    least = _PAGE

    def check(self, host: Host, subject: Subject, value: Value) -> None:
        super().check(host, subject, value)
        if not isinstance(value, int):
            return
        held = _unreclaimable(host, self.place(host, subject))
        if held > value:
            raise SettingError(
                f"{self.name}: {subject} has {held >> 20} MiB that cannot be dropped, and the kernel would kill for {value >> 20}",
                remedy="Give it more, or set cgroup.memory_high, which slows it down instead.",
            )

    def cost(self, old: Value, new: Value) -> str:
        return (
            "" if new == "max" else "beyond it memory is reclaimed, and a process of the group killed if there is none"
        )

    def refusal(self, host: Host, place: Place, number: int) -> str:
        if place.version == 1 and number == errno.EINVAL:
            return "it would be more than the limit on memory and swap together (memory.memsw.limit_in_bytes)"
        return "it has more, and nothing of it could be reclaimed" if number == errno.EBUSY else ""


class MemoryHigh(MemoryKnob):
    """The limit beyond which it gets slow."""

    name = "cgroup.memory_high"
    title = "Memory of a cgroup beyond which it is slowed down and reclaimed from"
    file_v2 = "memory.high"
    only_v2 = "cgroup v1 has no limit that slows down: its soft limit counts only when the whole machine runs short"
    least = _PAGE

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == "max" else "beyond it the group's threads wait while memory is reclaimed from it"


class MemoryLow(MemoryKnob):
    """Memory that is spared as long as others have some."""

    name = "cgroup.memory_low"
    title = "Memory of a cgroup that is spared while others have some to give"
    file_v2 = "memory.low"
    only_v2 = "cgroup v1 protects no memory"

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == 0 else "others are reclaimed from instead"


class MemoryMin(MemoryKnob):
    """Memory that is never reclaimed."""

    name = "cgroup.memory_min"
    title = "Memory of a cgroup that is never reclaimed"
    file_v2 = "memory.min"
    only_v2 = "cgroup v1 protects no memory"

    def cost(self, old: Value, new: Value) -> str:
        return "" if new == 0 else "when nothing else is left the kernel kills rather than take it"


class MemorySwapMax(MemoryKnob):
    """What may be swapped out."""

    name = "cgroup.memory_swap_max"
    title = "Most swap of a cgroup"
    file_v2 = "memory.swap.max"
    only_v2 = "cgroup v1 limits memory and swap together, not swap by itself"


def size(text: str) -> int | None:
    """Return the bytes that a text such as ``1.5G`` stands for, None when it is none. Units are powers of 1024."""
    found = re.fullmatch(r"(\d{1,19})(?:\.(\d{1,6}))?([KMGTP]?)(?:i?B)?", text, re.ASCII | re.IGNORECASE)
    if not found or (found[2] and not found[3]):
        return None
    whole, fraction, unit = found[1], found[2] or "", 1 << _UNITS[found[3].upper()]
    return int(whole + fraction) * unit // int(f"1{'0' * len(fraction)}")


def _unreclaimable(host: Host, place: Place) -> int:
    """Return the bytes of a group that a lower limit cannot drop: anonymous and shared memory for which there is no swap."""
    try:
        stat = _table(host.read_text(place.file("memory.stat")))
        free_swap = _table(host.read_text("/proc/meminfo")).get("SwapFree:", 0) * 1024
    except HalError:
        return 0
    if place.version == 2:
        held = stat.get("anon", 0) + stat.get("shmem", 0)
    else:
        held = stat.get("total_rss", 0) + stat.get("total_shmem", 0)
    return max(held - free_swap, 0)


def _table(text: str) -> dict[str, int]:
    lines = (line.split() for line in text.splitlines())
    return {fields[0]: int(fields[1]) for fields in lines if len(fields) > 1 and fields[1].isdigit()}


KNOBS: tuple[Knob, ...] = (MemoryMax(), MemoryHigh(), MemoryLow(), MemoryMin(), MemorySwapMax())
