"""Making huge pages of a running process's memory, from outside: process_madvise(MADV_COLLAPSE), Linux 6.1.

The kernel copies each block of small pages into one huge page, at once and whatever the system's mode for huge pages is, and
fills in the pages that are missing. So blocks of which little is there are left out: they would make the process larger.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hal.errors import HostError
from hal.host import Host
from hal.mappings import HUGE_SIZE_FILE, PAGE, Mapping, Window, huge_page_size, own_pages, read_mappings

MADV_COLLAPSE = 25
_AT_ONCE = 8
"""Blocks a call: about 25 ms, so that a process that ends or a person who interrupts need not wait."""
_MOST_FAILURES = 16
"""In a row, for want of memory, before the rest is not tried: each makes the kernel compact memory in vain."""
# madvise_collapse_errno, mm/khugepaged.c
_NO_MEMORY = (errno.ENOMEM, errno.EBUSY)  # no huge page free, or the cgroup's limit is reached
_PASSING = errno.EAGAIN  # a page is locked, or under reclaim
_NOT_THIS_ONE = errno.EINVAL
_SWITCHED_OFF = re.compile(r"^THP_enabled:\s*0", re.MULTILINE)

type Progress = Callable[[int, int], None]
"""Told of the bytes dealt with so far, and of those there are."""


@dataclass(frozen=True, slots=True)
class Collapsed:
    """What collapsing did."""

    bytes: int
    failed: int
    """Bytes for which no huge page could be had, or that the kernel would not collapse."""
    reason: int = 0
    """errno of the last failure."""


@dataclass(frozen=True, slots=True)
class HugeShare:
    """How much of what can be huge pages is."""

    huge: int
    possible: int


def kernel_collapses(host: Host) -> bool:
    """Tell whether this kernel knows the advice, whoever asks: by giving it on none of one's own memory."""
    try:
        return host.exists(HUGE_SIZE_FILE) and host.syscall("madvise", 0, 0, MADV_COLLAPSE) == 0
    except HostError:
        return False


def is_switched_off(host: Host, pid: int) -> bool:
    """Tell whether a process has switched huge pages off for itself: prctl(PR_SET_THP_DISABLE)."""
    return bool(_SWITCHED_OFF.search(host.read_text(f"/proc/{pid}/status")))


def may_be_huge(mapping: Mapping, size: int) -> bool:
    """Tell whether the kernel makes huge pages of a mapping's own anonymous memory when told to."""
    is_anonymous = mapping.private and not mapping.path.startswith("/") and mapping.path != "[stack]"
    refused = mapping.is_device or mapping.is_hugetlb or "nh" in mapping.flags
    return is_anonymous and not refused and mapping.anonymous > 0 and _span(mapping, size)[0] < _span(mapping, size)[1]


def blocks_of(host: Host, pid: int, *, least: float) -> list[int]:
    """Return the addresses of blocks, of a huge page each, of which at least a share is there and the process's own.

    Those that are huge already are among them: what smaps tells of them is not where they are.

    Raises:
        HostError: it is gone, or another user's.
    """
    size = huge_page_size(host)
    if is_switched_off(host, pid):
        return []
    wanted = [m for m in read_mappings(host, pid) if may_be_huge(m, size)]
    pages: dict[int, int] = {}
    for window in own_pages(host, pid, wanted):
        for block, count in _counts(window, size):
            pages[block] = pages.get(block, 0) + count
    return sorted(block for block, count in pages.items() if count * PAGE >= least * size)


def huge_share(host: Host, pid: int, *, least: float) -> HugeShare:
    """Return how much of the blocks of ``blocks_of`` there is, and how much is in huge pages."""
    size = huge_page_size(host)
    huge = sum(m.huge for m in read_mappings(host, pid) if may_be_huge(m, size))
    return HugeShare(huge, len(blocks_of(host, pid, least=least)) * size)


def collapse(
    host: Host,
    pid: int,
    start: int,
    *,
    least: float,
    progress: Progress = lambda _done, _of: None,
) -> Collapsed:
    """Make huge pages of the blocks of ``blocks_of``; those that fail in passing are tried once more.

    Raises:
        HostError: it ended, is another user's, or the kernel refuses the advice.
    """
    size = huge_page_size(host)
    blocks = blocks_of(host, pid, least=least)
    work = _Work(host, pid, start, size)
    for at in range(0, len(blocks), _AT_ONCE):
        work.make(blocks[at : at + _AT_ONCE])
        progress(min(at + _AT_ONCE, len(blocks)) * size, len(blocks) * size)
        if work.in_a_row >= _MOST_FAILURES:
            break
    again, work.again = work.again, []
    work.make(again)
    return Collapsed(work.made * size, (len(blocks) - work.made) * size, work.reason)


class _Work:
    def __init__(self, host: Host, pid: int, start: int, size: int) -> None:
        self.made = 0
        self.in_a_row = 0
        self.reason = 0
        self.again: list[int] = []
        self._host = host
        self._process = pid, start
        self._size = size

    def make(self, blocks: Sequence[int]) -> None:
        """Collapse blocks; the kernel stops at the first that fails, and says why only when it comes first."""
        while blocks and self.in_a_row < _MOST_FAILURES:
            try:
                done = self._host.advise(*self._process, [(b, self._size) for b in blocks], MADV_COLLAPSE) // self._size
            except HostError as error:
                self._failed(blocks[0], error)
                blocks = blocks[1:]
                continue
            self.made += done
            self.in_a_row = 0
            blocks = blocks[max(done, 1) :]

    def _failed(self, block: int, error: HostError) -> None:
        if error.number not in (*_NO_MEMORY, _PASSING, _NOT_THIS_ONE):
            raise error
        self.reason = error.number
        self.in_a_row += error.number in _NO_MEMORY
        if error.number == _PASSING:
            self.again.append(block)


def _counts(window: Window, size: int) -> Iterator[tuple[int, int]]:
    """Return how many pages of each whole block are in a window."""
    first, end = _span(window.mapping, size)
    inside = window.addresses[(window.addresses >= first) & (window.addresses < end)]
    blocks, counts = np.unique(inside // np.uint64(size), return_counts=True)
    return ((int(block) * size, int(count)) for block, count in zip(blocks, counts, strict=True))


def _span(mapping: Mapping, size: int) -> tuple[int, int]:
    """Return the part of a mapping that whole blocks lie in."""
    return -(-mapping.start // size) * size, mapping.end // size * size
