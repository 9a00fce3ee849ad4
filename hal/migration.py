"""Moving a process's pages between NUMA nodes, no faster than a limit.

The kernel unmaps a page while it copies it, so a process that touches it waits; and the copies take memory bandwidth from
everybody. So pages are moved in batches with pauses between them. ``migrate_pages(2)`` is not used: it moves all of a
process from some nodes to others in one call, that cannot be slowed down, watched or given shares.

Only the process's own pages are moved: private memory that no other process maps. What is shared, and the page cache, stays.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hal.errors import HostError, NotFoundError
from hal.host import Host
from hal.mappings import PAGE, Window, huge_page_size, own_pages, read_mappings, with_own_pages
from hal.processes import start_of

BANDWIDTH = 1 << 30
"""Bytes a second: less than a tenth of what one channel of memory and a link between packages carry (20 GB/s and more), and
half of what one CPU copies this way, so that the process still gets most of both."""

_BATCHES_A_SECOND = 64  # at the limit; each costs a drain of all CPUs' page lists (lru_cache_disable), so not more
_MOST_IN_BATCH = 4096
_PASSES = 4
_NEAR = 0.005
_PAUSE_S = 0.001
_MOST_ASKED = 1 << 17
_PASSING = tuple(-number for number in (errno.EBUSY, errno.EAGAIN, errno.ENOMEM))
_NO_PAGE = tuple(-number for number in (errno.ENOENT, errno.EFAULT))

_STEPS = 4096
_ROOT_2 = np.uint64(0x6A09E667F3BCC909)  # its fractional part, times 2^64
_TRIES = 5

type Shares = Mapping[int, float]
"""By node, what part of the pages; parts add up to 1."""
type Progress = Callable[[int, int], None]
"""Told of the bytes moved so far, and of those there are to move in all."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did."""

    bytes: int
    failed: int
    """Bytes that would not move: pinned for a device, or the node was full."""
    seconds: float
    ended: bool = False
    """The process ended meanwhile."""


def nodes_of(host: Host, pid: int) -> dict[int, int]:
    """Return by node how many bytes of a process's own pages are there; of large processes estimated from a sample.

    At most 131,072 pages are asked for, which tells a share to 0.15 % (one standard deviation).

    Raises:
        HostError: it is gone, or another user's.
    """
    mappings = with_own_pages(read_mappings(host, pid))
    pages = sum(m.own_hugetlb // m.page + m.anonymous // PAGE for m in mappings)
    one_in = max(pages // _MOST_ASKED, 1)
    found: dict[int, int] = {}
    for window in own_pages(host, pid, mappings):
        nodes = host.page_nodes(pid, _one_in(window.addresses, one_in, window.page))
        for node, count in zip(*np.unique(nodes[nodes >= 0], return_counts=True), strict=True):
            found[int(node)] = found.get(int(node), 0) + int(count) * window.page * one_in
    return found


def shares(present: Mapping[int, int]) -> dict[int, float]:
    """Return bytes by node as parts of their sum."""
    total = sum(present.values())
    return {node: size / total for node, size in present.items() if size}


def apart(one: Shares, other: Shares) -> float:
    """Return the largest difference of two nodes' shares."""
    return max((abs(one.get(node, 0.0) - other.get(node, 0.0)) for node in {*one, *other}), default=0.0)


def flows(present: Mapping[int, int], wanted: Shares) -> dict[int, dict[int, float]]:
    """Return from each node what part of its pages goes to which others, so that as little as possible is moved."""
    total = sum(present.values())
    spare = {node: size - wanted.get(node, 0.0) * total for node, size in present.items()}
    lacking = {node: share * total - present.get(node, 0) for node, share in wanted.items()}
    lack = {node: size for node, size in lacking.items() if size > 0}
    need = sum(lack.values())
    return {
        node: {to: over / present[node] * size / need for to, size in lack.items()}
        for node, over in spare.items()
        if over > 0 and need > 0
    }


def move(
    host: Host,
    pid: int,
    start: int,
    wanted: Shares,
    *,
    bandwidth: float = BANDWIDTH,
    progress: Progress = lambda _moved, _of: None,
) -> Moved:
    """Bring a process's own pages to nodes, by share, evenly over its memory.

    Args:
        start: since when it runs, in clock ticks after boot; a process that has the same pid later is not touched.
        bandwidth: most bytes a second, in any second; math.inf for no limit.

    Raises:
        HostError: another user's, a node that cannot be used, or one that is full. A process that ends is no error.
    """
    mover = _Mover(host, pid, start, bandwidth, progress)
    began = host.monotonic_ns()
    ended = False
    try:
        mover.run(wanted)
    except NotFoundError:
        ended = True
    return Moved(mover.moved, mover.failed, (host.monotonic_ns() - began) / 1e9, ended)


class _Mover:
    def __init__(self, host: Host, pid: int, start: int, bandwidth: float, progress: Progress) -> None:
        self.moved = 0
        self.failed = 0
        self._host = host
        self._pid = pid
        self._start = start
        self._bandwidth = bandwidth
        self._progress = progress
        self._expected = 0

    def run(self, wanted: Shares) -> None:
        """Move in passes: a later one sees to what was busy or new in the one before."""
        last = math.inf
        for _ in range(_PASSES):
            self._must_be_the_same()
            present = nodes_of(self._host, self._pid)
            distance = apart(shares(present), wanted)
            if distance <= _NEAR or distance >= last:  # no nearer than before: what is left is pinned, or one huge page
                return
            last, self.failed = distance, 0
            self._pass(flows(present, wanted), present)

    def _pass(self, flow: Mapping[int, Mapping[int, float]], present: Mapping[int, int]) -> None:
        self._expected = self.moved + round(sum(present[node] * sum(to.values()) for node, to in flow.items()))
        dealer = Dealer(flow)
        waiting: dict[tuple[int, int], list[NDArray[np.uint64]]] = {}
        for window in own_pages(self._host, self._pid, with_own_pages(read_mappings(self._host, self._pid))):
            nodes = self._host.page_nodes(self._pid, window.addresses)
            targets = dealer.targets(window.addresses, nodes, unit=self._unit(window))
            for node in np.unique(targets[targets >= 0]):
                key = int(node), window.page
                # Small mappings wait for each other: a call costs as much for one page as for hundreds.
                ready = np.concatenate([*waiting.pop(key, []), window.addresses[targets == node]])
                *full, rest = self._batches(ready, window.page)
                waiting[key] = [rest]
                for batch in full:
                    self._batch(batch, *key)
        for key, (rest,) in waiting.items():
            self._batch(rest, *key)

    def _unit(self, window: Window) -> int:
        """Return what moves as one: a huge page goes whole, so its parts must be wanted on the same node."""
        return huge_page_size(self._host) if window.mapping.huge else window.page

    def _batches(self, addresses: NDArray[np.uint64], page: int) -> list[NDArray[np.uint64]]:
        fitting = min(self._bandwidth / _BATCHES_A_SECOND / page, _MOST_IN_BATCH * PAGE / page)
        size = max(int(fitting), 1)
        return [addresses[at : at + size] for at in range(0, len(addresses), size)]

    def _batch(self, addresses: NDArray[np.uint64], node: int, page: int) -> None:
        began, before = self._host.monotonic_ns(), self.moved
        self._try(addresses, node, page)
        self._progress(self.moved, max(self._expected, self.moved))
        # Each batch pays for itself: time lost earlier gives no right to a burst later.
        due = (self.moved - before) / self._bandwidth
        self._host.sleep(max(due - (self._host.monotonic_ns() - began) / 1e9, 0.0))

    def _try(self, addresses: NDArray[np.uint64], node: int, page: int) -> None:
        """Move a batch; what was busy again in smaller and smaller parts, as the kernel stops at what it cannot move."""
        for attempt in range(_TRIES):
            before, size = self.moved, max(len(addresses) // (8 if attempt else 1), 1)
            parts = [self._part(addresses[at : at + size], node, page) for at in range(0, len(addresses), size)]
            addresses = np.concatenate(parts)
            if not len(addresses) or (attempt > 1 and self.moved == before):
                break
            self._host.sleep(_PAUSE_S * 2**attempt)
        self.failed += len(addresses) * page

    def _part(self, addresses: NDArray[np.uint64], node: int, page: int) -> NDArray[np.uint64]:
        """Move some pages; return those that may be moved when tried again."""
        self._must_be_the_same()
        found = self._move(addresses, node)
        passing = np.isin(found, _PASSING) | (found >= 0) & (found != node)
        self.moved += int((found == node).sum()) * page
        self.failed += int((~passing & (found != node) & ~np.isin(found, _NO_PAGE)).sum()) * page
        return addresses[np.flatnonzero(passing)]

    def _move(self, addresses: NDArray[np.uint64], node: int) -> NDArray[np.int32]:
        """Return where each page is then, or why it did not move."""
        full: HostError | None = None
        try:
            found = self._host.move_pages(self._pid, addresses, np.full(len(addresses), node, dtype=np.int32))
        except HostError as error:
            if error.number != errno.ENOMEM:
                raise
            full, found = error, np.full(len(addresses), -errno.EAGAIN, dtype=np.int32)
        unknown = found == -errno.EAGAIN
        if unknown.any():
            found[unknown] = self._host.page_nodes(self._pid, addresses[unknown])
        if full and not (found == node).any():
            raise HostError(
                f"node {node} is full", number=errno.ENOMEM, remedy="see `dna machine`: free memory"
            ) from full
        return found

    def _must_be_the_same(self) -> None:
        if self._start and start_of(self._host, self._pid) != self._start:
            raise NotFoundError(f"process {self._pid} ended", number=errno.ESRCH, subject=str(self._pid))


class Dealer:
    """Says which page goes where, evenly over what it is shown in turn, and to within one page of the shares."""

    def __init__(self, flow: Mapping[int, Mapping[int, float]]) -> None:
        self._patterns = {node: _pattern(to) for node, to in flow.items()}
        self._dealt: dict[tuple[int, int], int] = {}
        """By node and unit: a few huge pages among many small ones are dealt out by themselves."""

    def targets(self, addresses: NDArray[np.uint64], nodes: NDArray[np.int32], *, unit: int) -> NDArray[np.int32]:
        """Return for each page the node to move it to, -1 where it stays; pages of one unit on one node go together.

        Args:
            addresses: ascending, shape (n,).
            nodes: where each is, shape (n,); negative for those that are not there.
        """
        targets = np.full(len(addresses), -1, dtype=np.int32)
        units = addresses // np.uint64(unit)
        for node, pattern in self._patterns.items():
            here = np.flatnonzero(nodes == node)
            if len(here):
                first = np.diff(units[here], prepend=units[here[0]]) != 0
                numbers = self._dealt.get((node, unit), 0) + np.cumsum(first)
                targets[here] = pattern[numbers % _STEPS]
                self._dealt[node, unit] = int(numbers[-1]) + 1
        return targets


def _pattern(to: Mapping[int, float]) -> NDArray[np.int32]:
    """Return targets (-1: stay) for pages in turn, each target as often as its share and evenly spread."""
    bounds = np.rint(np.cumsum([0.0, *to.values()]) * _STEPS).astype(np.int64)
    counts = [*np.diff(bounds), _STEPS - bounds[-1]]
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count])
    names = np.repeat(np.array([*to, -1], dtype=np.int32), counts)
    return names[np.argsort(places, kind="stable")]


def _one_in(addresses: NDArray[np.uint64], count: int, page: int) -> NDArray[np.uint64]:
    """Return about one in ``count`` pages, evenly over any regular layout: by a Weyl sequence, not by a stride."""
    place = (addresses // np.uint64(page) * _ROOT_2) / 2.0**64
    return addresses[place * count < 1.0]
