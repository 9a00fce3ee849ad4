"""What memory of a process is resident, from /proc/PID/status and /proc/PID/smaps."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATUS = re.compile(r"^(RssAnon|RssFile|RssShmem|VmSwap|HugetlbPages):\s+(\d+) kB", re.MULTILINE)
# Anchored by the line before, which is much faster than looking at every line's start.
_HEADER = re.compile(r"(?:\A|\nVmFlags:[^\n]*\n)([^\n]+)\nSize:")
_RSS = re.compile(r"\nRss: +(\d+)")
_HUGE = re.compile(r"\n(?:AnonHugePages|ShmemPmdMapped|FilePmdMapped): +([1-9]\d*)")
_ANONYMOUS = re.compile(r"\nAnonymous: +(\d+)")
_FLAGS = re.compile(r"\nVmFlags:([^\n]*)")
_NEVER_HUGE = {"nh", "io", "pf", "mm", "ht"}  # MADV_NOHUGEPAGE, a device's memory, hugetlbfs
_HUGE_PAGE = 2 << 20
_SPECIAL = ("[vvar", "[vsyscall]", "[vdso]")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Residency:
    """Bytes of one process by kind; huge pages of hugetlbfs are in none of the other kinds."""

    anonymous: int = 0
    file: int = 0
    shared: int = 0
    swap: int = 0
    hugetlb: int = 0

    @property
    def resident(self) -> int:
        """Bytes in memory, those of hugetlbfs included."""
        return self.anonymous + self.file + self.shared + self.hugetlb

    def __add__(self, other: Residency) -> Residency:
        return Residency(
            self.anonymous + other.anonymous,
            self.file + other.file,
            self.shared + other.shared,
            self.swap + other.swap,
            self.hugetlb + other.hugetlb,
        )


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of which something is resident and readable."""

    start: int
    end: int
    resident: int


@dataclass(frozen=True, slots=True)
class PageWalk:
    """What a walk over a process's page tables found."""

    mappings: tuple[Mapping, ...]
    huge: int
    """Bytes mapped by transparent huge pages."""
    eligible: int | None = None
    """Bytes of anonymous memory in whole stretches of 2 MiB, which may become huge pages; None where smaps does not say."""
    present: int | None = None
    """How much of those is resident."""


def parse_status(text: str) -> Residency:
    """Return residency from /proc/PID/status (kernels from 4.5); kernel threads have none."""
    kib = {name: int(value) * _KIB for name, value in _STATUS.findall(text)}
    return Residency(
        kib.get("RssAnon", 0),
        kib.get("RssFile", 0),
        kib.get("RssShmem", 0),
        kib.get("VmSwap", 0),
        kib.get("HugetlbPages", 0),
    )


def parse_smaps(text: str) -> PageWalk:
    """Return resident mappings and huge pages from /proc/PID/smaps."""
    headers = _HEADER.findall(text)
    mappings = (
        _mapping(header, int(resident) * _KIB)
        for header, resident in zip(headers, _RSS.findall(text), strict=False)
        if resident != "0"
    )
    huge = sum(map(int, _HUGE.findall(text))) * _KIB
    return PageWalk(tuple(mapping for mapping in mappings if mapping is not None), huge, *_eligible(headers, text))


def _eligible(headers: list[str], text: str) -> tuple[int | None, int | None]:
    """Return the bytes that may become huge pages, and how many of them are resident; see ``hal.collapse.may_be_huge``."""
    anonymous, flags = _ANONYMOUS.findall(text), _FLAGS.findall(text)
    if not len(headers) == len(anonymous) == len(flags):
        return None, None
    eligible = present = 0
    for header, kib, words in zip(headers, anonymous, flags, strict=True):
        if kib == "0" or _NEVER_HUGE.intersection(words.split()):
            continue
        fields = header.split(None, 5)
        if fields[1][3] != "p" or (len(fields) == 6 and fields[5].startswith(("/", "[stack"))):
            continue
        start, _, end = fields[0].partition("-")
        span = int(end, 16) // _HUGE_PAGE * _HUGE_PAGE - -(-int(start, 16) // _HUGE_PAGE) * _HUGE_PAGE
        if span > 0:
            eligible += span
            present += min(int(kib) * _KIB, span)
    return eligible, present


def _mapping(header: str, resident: int) -> Mapping | None:
    """Return the mapping of a header line, None where it cannot be read."""
    fields = header.split(None, 5)
    if len(fields) < 5 or fields[1][0] != "r" or (len(fields) == 6 and fields[5].startswith(_SPECIAL)):
        return None
    start, _, end = fields[0].partition("-")
    return Mapping(int(start, 16), int(end, 16), resident)
