"""How many files this process may hold open."""

from __future__ import annotations

import ctypes

from hal.errors import HostError
from hal.host import Host

_RLIMIT_NOFILE = 7
RESERVE = 64
"""Descriptors left for everything else."""


def _prlimit(host: Host, new: ctypes.Array[ctypes.c_uint64] | None) -> tuple[int, int]:
    old = (ctypes.c_uint64 * 2)()
    host.syscall("prlimit64", 0, _RLIMIT_NOFILE, ctypes.addressof(new) if new else 0, ctypes.addressof(old))
    return old[0], old[1]


def descriptor_room(host: Host, wanted: int) -> int:
    """Return how many more files may be opened, at most ``wanted``, raising the soft limit when it is in the way.

    The soft limit goes up no further than needed: programs started later inherit it, and old ones that use select(2)
    want it low.
    """
    try:
        soft, hard = _prlimit(host, None)
        used = len(host.list_dir("/proc/self/fd")) + RESERVE
        needed = used + wanted
        if needed > soft < hard:
            _prlimit(host, (ctypes.c_uint64 * 2)(min(needed, hard), hard))
            soft = min(needed, hard)
    except HostError:
        return wanted  # unknown: the kernel says EMFILE when it is too much
    return max(min(soft - used, wanted), 0)
