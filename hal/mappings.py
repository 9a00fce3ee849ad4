"""What a process has mapped, and how much of it is there: /proc/PID/smaps, and its own pages through /proc/PID/pagemap.

Sizes are in bytes. Reading smaps walks the page tables: about 8 ms for each GiB of small pages.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hal.host import Host

PAGE = mmap.PAGESIZE
HUGE_SIZE_FILE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

# Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _FILE_OR_SHARED, _EXCLUSIVE = (np.uint64(1 << bit) for bit in (63, 61, 56))
_WINDOW = 128 << 20
_HEADER = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])([ps]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ \d+ *(.*)$", re.MULTILINE
)
_FIELD = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)
_FLAGS = re.compile(r"^VmFlags: (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One range of a process's address space."""

    start: int
    end: int
    private: bool
    """Writing to it makes pages of the process's own."""
    path: str = ""
    """File, ``[heap]`` and the like, or empty for anonymous memory."""
    offset: int = 0
    flags: frozenset[str] = frozenset()
    """VmFlags, by the two letters of Documentation/filesystems/proc.rst."""
    page: int = PAGE
    resident: int = 0
    referenced: int = 0
    anonymous: int = 0
    huge: int = 0
    """In transparent huge pages of anonymous memory."""
    own_hugetlb: int = 0
    swapped: int = 0

    @property
    def size(self) -> int:
        """Bytes of address space."""
        return self.end - self.start

    @property
    def is_file(self) -> bool:
        """Tell whether it maps a regular file that still has its name."""
        in_memory = self.path.startswith(("/dev/", "/memfd:", "/SYSV"))
        return self.path.startswith("/") and not in_memory and not self.path.endswith(" (deleted)")

    @property
    def is_device(self) -> bool:
        """Tell whether it is memory of a device, which may act on being touched, or has no pages that could be moved."""
        return bool(self.flags & {"io", "pf", "mm"})

    @property
    def is_hugetlb(self) -> bool:
        """Tell whether it is of hugetlbfs."""
        return "ht" in self.flags


@dataclass(frozen=True, slots=True)
class Window:
    """Pages in a part of a mapping that are there, in private memory, and mapped by this process only."""

    mapping: Mapping
    addresses: NDArray[np.uint64]
    page: int
    """Bytes that each address stands for."""


def read_mappings(host: Host, pid: int) -> tuple[Mapping, ...]:
    """Return what a process has mapped, by address; () for a kernel thread.

    Raises:
        HostError: it is gone, or another user's.
    """
    return parse_smaps(host.read_text(f"/proc/{pid}/smaps"))


def parse_smaps(text: str) -> tuple[Mapping, ...]:
    """Return the mappings in the text of an smaps file."""
    headers = list(_HEADER.finditer(text))
    ends = [*(header.start() for header in headers), len(text)][1:]
    return tuple(_mapping(header, text[header.end() : end]) for header, end in zip(headers, ends, strict=True))


def _mapping(header: re.Match[str], body: str) -> Mapping:
    kilobytes = {name: int(number) for name, number in _FIELD.findall(body)}
    flags = _FLAGS.search(body)

    def size(name: str) -> int:
        return kilobytes.get(name, 0) * 1024

    return Mapping(
        start=int(header[1], 16),
        end=int(header[2], 16),
        private=header[6] == "p",
        path=header[8],
        offset=int(header[7], 16),
        flags=frozenset(flags[1].split()) if flags else frozenset(),
        page=size("KernelPageSize") or PAGE,
        resident=size("Rss"),
        referenced=size("Referenced"),
        anonymous=size("Anonymous"),
        huge=size("AnonHugePages"),
        own_hugetlb=size("Private_Hugetlb"),
        swapped=size("Swap"),
    )


def with_own_pages(mappings: Iterable[Mapping]) -> tuple[Mapping, ...]:
    """Return the mappings that hold private memory of the process: what it wrote, not what it shares or reads from files."""
    return tuple(m for m in mappings if m.private and not m.is_device and (m.anonymous or m.own_hugetlb))


def own_pages(host: Host, pid: int, mappings: Iterable[Mapping]) -> Iterator[Window]:
    """Walk the process's own pages in these mappings, a bounded part of the address space at a time.

    A mapping is left once as much was seen as smaps said, so that reserved address space costs little. Pages shared with
    a child or parent since fork(2) are not the process's own: they can neither be moved nor collapsed without the other.

    Raises:
        HostError: it is gone, or another user's.
    """
    for mapping in mappings:
        left = mapping.own_hugetlb or mapping.anonymous
        for window in range(mapping.start // _WINDOW, -(-mapping.end // _WINDOW)):  # no huge page lies in two of them
            if left <= 0:
                break
            start, end = max(window * _WINDOW, mapping.start), min((window + 1) * _WINDOW, mapping.end)
            entries = host.page_map(pid, start, (end - start) // PAGE)
            there = (entries & (_PRESENT | _FILE_OR_SHARED)) == _PRESENT
            left -= int(there.sum()) * PAGE
            own = np.flatnonzero(there & (entries & _EXCLUSIVE != 0)).astype(np.uint64)
            addresses = np.uint64(start) + own * np.uint64(PAGE)
            page = mapping.page if mapping.is_hugetlb else PAGE
            if page > PAGE:
                addresses = addresses[addresses % np.uint64(page) == 0]
            if len(addresses):
                yield Window(mapping, addresses, page)


def huge_page_size(host: Host) -> int:
    """Return the size of a transparent huge page.

    Raises:
        HostError: the kernel has none.
    """
    return int(host.read_text(HUGE_SIZE_FILE))
