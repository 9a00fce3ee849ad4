"""A process with 256 MiB placed on NUMA nodes as asked, that then reads of them for ever.

``python placed.py bind|interleave``: binds itself to the CPUs of node 1, and its memory to node 1 or over all nodes. The policy
is set before the interpreter starts anew, so that its own memory follows it too. Prints "ready" when all is in memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

SET_MEMPOLICY = 238  # x86-64
MPOL_BIND, MPOL_INTERLEAVE = 2, 3  # linux/mempolicy.h
CPUS = {2, 3}
NODE, NODES = 1, 4
SIZE = 256 << 20
STEP = 4 << 20


def place(how: str) -> None:
    mode, nodes = (MPOL_BIND, 1 << NODE) if how == "bind" else (MPOL_INTERLEAVE, (1 << NODES) - 1)
    os.sched_setaffinity(0, CPUS)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SET_MEMPOLICY, mode, ctypes.byref(ctypes.c_ulong(nodes)), ctypes.c_ulong(NODES + 1)):
        raise OSError(ctypes.get_errno(), "set_mempolicy")


def read_for_ever() -> None:
    area = bytearray(SIZE)
    print("ready", flush=True)
    while True:
        for at in range(0, SIZE, STEP):
            area.count(1, at, at + STEP)  # in C: what is read is this memory, not the interpreter's
            time.sleep(0.05)  # those who watch share an emulated machine with this


if __name__ == "__main__":
    if sys.argv[1:] == ["now"]:
        read_for_ever()
    place(sys.argv[1])
    os.execv(sys.executable, [sys.executable, "-S", __file__, "now"])
