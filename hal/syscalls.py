"""Numbers of the system calls that are made by number, as the C library has no function for them."""

from __future__ import annotations

import platform

# Numbers of the generic table (include/uapi/asm-generic/unistd.h), shared by aarch64, riscv64 and loongarch64,
# and of x86_64, which has its own.
_NUMBERS = {
    "x86_64": {
        "read": 0,
        "close": 3,
        "ioctl": 16,
        "madvise": 28,
        "migrate_pages": 256,
        "sched_setaffinity": 203,
        "sched_getaffinity": 204,
        "openat": 257,
        "move_pages": 279,
        "perf_event_open": 298,
        "sched_setattr": 314,
        "sched_getattr": 315,
        "prlimit64": 302,
        "bpf": 321,
        "pidfd_open": 434,
        "process_madvise": 440,
    },
    "generic": {
        "ioctl": 29,
        "openat": 56,
        "close": 57,
        "read": 63,
        "sched_setaffinity": 122,
        "sched_getaffinity": 123,
        "migrate_pages": 238,
        "move_pages": 239,
        "perf_event_open": 241,
        "madvise": 233,
        "prlimit64": 261,
        "sched_setattr": 274,
        "sched_getattr": 275,
        "bpf": 280,
        "pidfd_open": 434,
        "process_madvise": 440,
    },
}


def syscall_number(name: str) -> int:
    """Return the number of a system call on this architecture."""
    return _NUMBERS.get(platform.machine(), _NUMBERS["generic"])[name]
