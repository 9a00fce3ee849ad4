"""What the knobs that give advice on another process's memory share: process_madvise(2)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from hal.checks.situation import situation
from hal.errors import HostError, NotFoundError, UnsupportedError
from hal.host import Host
from hal.knobs.knob import WORKS, Support
from hal.processes import start_of
from hal.settings import Subject

MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT = 3, 20, 21  # include/uapi/asm-generic/mman-common.h
_PIECE = 64 << 20
_PIECES_AT_ONCE = 16
_RANGE_REFUSED = (errno.EINVAL, errno.ENOMEM, errno.EBADF, errno.EIO)


def advice_support(host: Host, advice: int, absent: str) -> Support:
    """Say whether this kernel takes an advice for other processes, by giving it for nothing at all."""
    who = situation(host)
    if not who.has("SYS_NICE"):
        return Support(False, *who.lacking("SYS_NICE"))
    try:
        own = int(host.read_link("/proc/self"))
        host.advise(own, start_of(host, own) or 0, [], advice)
    except NotFoundError:
        return WORKS  # a machine that is only described: nobody to try it on
    except HostError as error:
        is_unknown = isinstance(error, UnsupportedError) or error.number == errno.EINVAL
        return Support(False, absent if is_unknown else str(error), "a newer kernel" if is_unknown else "see `dmesg`")
    return WORKS


def start_time(host: Host, subject: Subject) -> int:
    """Return since when a process runs.

    Raises:
        NotFoundError: it ended, whoever has its pid now.
    """
    since = start_of(host, int(subject.name))
    if since is None or subject.start not in (0, since):
        raise NotFoundError(f"{subject} ended", number=errno.ESRCH, subject=str(subject))
    return since


def advise_all(host: Host, subject: Subject, ranges: Iterable[tuple[int, int]], advice: int) -> int:
    """Give advice on (address, length) ranges of a process; return how many bytes were taken.

    Ranges that went meanwhile, or that the kernel does not want advice on, are passed over: it stops at such a one, and says
    why only when it comes first.

    Raises:
        HostError: the process ended, or it may not be advised.
    """
    pid, since = int(subject.name), start_time(host, subject)
    return sum(_advise(host, pid, since, batch, advice) for batch in _batches(ranges))


def _advise(host: Host, pid: int, since: int, ranges: list[tuple[int, int]], advice: int) -> int:
    taken = 0
    while ranges:
        try:
            done = host.advise(pid, since, ranges, advice)
        except HostError as error:
            if error.number not in _RANGE_REFUSED:
                raise
            ranges = ranges[1:]
            continue
        taken += done
        ranges = _rest(ranges, done)
    return taken


def _batches(ranges: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Return ranges in groups that one call takes: no more than IOV_MAX of them, and below the 2 GiB that it cuts off at."""
    pieces = [
        (at, min(_PIECE, start + length - at))
        for start, length in ranges
        for at in range(start, start + length, _PIECE)
    ]
    for at in range(0, len(pieces), _PIECES_AT_ONCE):
        yield pieces[at : at + _PIECES_AT_ONCE]


def _rest(batch: list[tuple[int, int]], done: int) -> list[tuple[int, int]]:
    """Return the ranges after the first ``done`` bytes, of which the first is the one that the kernel stopped at."""
    for number, (_, length) in enumerate(batch):
        if done < length:
            return batch[number:]
        done -= length
    return []
