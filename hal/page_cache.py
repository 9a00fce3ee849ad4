"""How much of an open file is in the page cache."""

from __future__ import annotations

import ctypes
import mmap

_CACHESTAT = 451
"""Number of cachestat(2) in every table, x86_64's too."""
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def cached_bytes(descriptor: int, offset: int, length: int) -> int:
    """Return how many bytes of a part of an open regular file are cached, counted in pages.

    By cachestat(2), and by mincore(2) where that is missing (before Linux 6.5, cf264e1329fb) or refused.

    Raises:
        OSError: neither works.
    """
    if length <= 0:
        return 0
    pages = _cachestat(descriptor, offset, length)
    return min((_mincore(descriptor, offset, length) if pages is None else pages) * mmap.PAGESIZE, length)


def _cachestat(descriptor: int, offset: int, length: int) -> int | None:
    span, found = (ctypes.c_uint64 * 2)(offset, length), (ctypes.c_uint64 * 5)()
    words = (_CACHESTAT, descriptor, ctypes.addressof(span), ctypes.addressof(found), 0)
    return int(found[0]) if _libc.syscall(*map(ctypes.c_long, words)) == 0 else None


def _mincore(descriptor: int, offset: int, length: int) -> int:
    import numpy as np  # not at the top: hal.host is imported where there is none (make lab-pmu)

    start = offset // mmap.PAGESIZE * mmap.PAGESIZE
    with mmap.mmap(descriptor, offset + length - start, prot=mmap.PROT_READ, offset=start) as view:
        content = np.frombuffer(view, dtype=np.uint8)
        resident = np.zeros(-(-len(content) // mmap.PAGESIZE), dtype=np.uint8)
        where = ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(len(content))
        refused = _libc.mincore(*where, ctypes.c_void_p(resident.ctypes.data))
        del content  # the view cannot be closed while something looks into it
    if refused:
        raise OSError(ctypes.get_errno(), "mincore")
    return int((resident & 1).sum())
