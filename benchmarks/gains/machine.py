"""A snapshot of what any arm may set, so that after each one it can be checked that the machine is as it was found."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_FILES = (
    "/proc/sys/vm/*",
    "/proc/sys/kernel/*",
    "/proc/sys/net/core/*",
    "/proc/sys/net/ipv4/*",
    "/proc/sys/fs/*",
    "/sys/kernel/mm/transparent_hugepage/*",
    "/sys/kernel/mm/transparent_hugepage/*/*",
    "/sys/kernel/mm/ksm/*",
    "/sys/block/*/queue/*",
    "/sys/class/net/*/queues/*/*",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_*",
    "/sys/devices/system/cpu/cpu*/power/*",
)
_LIVE = (
    *("/proc/sys/fs/dentry-state", "/proc/sys/fs/file-nr", "/proc/sys/fs/inode-nr", "/proc/sys/fs/inode-state"),
    *("/proc/sys/fs/aio-nr", "/proc/sys/fs/quota", "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/pty"),
    *("/proc/sys/kernel/random", "/proc/sys/kernel/usermodehelper", "/proc/sys/vm/stat_refresh", "/runtime_"),
    *(
        "/pages_",
        "/full_scans",
        "/general_profit",
        "/ksm_",
        "/stable_node",
        "/autosuspend_delay_ms",
        "/scaling_cur_freq",
    ),
    "/proc/sys/vm/compact_memory",
)
"""What changes by itself: counters, not settings."""

type Snapshot = Mapping[str, str]


def snapshot() -> dict[str, str]:
    """Return every setting of the machine that can be read, by the path of its file, and the cgroups that there are."""
    found: dict[str, str] = {}
    for pattern in _FILES:
        for path in glob.glob(pattern):
            if os.path.isfile(path) and not any(part in path for part in _LIVE):
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    found[path] = Path(path).read_text()
    found["cgroups"] = " ".join(sorted(glob.glob("/sys/fs/cgroup/cpu/*/") + glob.glob("/sys/fs/cgroup/*.slice/")))
    return found


def scheduling(pids: Iterable[int]) -> dict[str, str]:
    """Return policy, nice values, CPUs and CPU cgroup of each thread of these process trees."""
    found = {}
    for pid in pids:
        for member in members(pid):
            for thread in threads(member):
                with contextlib.suppress(OSError):
                    cpus = sorted(os.sched_getaffinity(thread))
                    nice = os.getpriority(os.PRIO_PROCESS, thread)
                    groups = Path(f"/proc/{member}/cgroup").read_text() + _session(member)
                    found[f"thread {thread}"] = f"{os.sched_getscheduler(thread)} {nice} {cpus} {groups}"
    return found


def _session(pid: int) -> str:
    """Return which scheduling group a process's session is, and how nice; "" where sessions are none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/autogroup").read_text()
    return ""


def members(pid: int) -> list[int]:
    """Return a process and all that come from it."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return [pid, *(one for child in children for one in members(child))]


def threads(pid: int) -> list[int]:
    """Return the threads of a process; none where it has ended."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def difference(before: Snapshot, after: Snapshot) -> dict[str, tuple[str, str]]:
    """Return what is not as it was: path to old and new content, of what is in both."""
    both = before.keys() & after.keys()
    return {name: (before[name].strip(), after[name].strip()) for name in sorted(both) if before[name] != after[name]}
