"""Processes and threads as /proc tells: who is there, whose child, since when.

A process or thread is known by id and start time, so that a reused id is never taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hal.errors import HalError
from hal.glimpse import once
from hal.host import Host

PF_KTHREAD = 0x00200000  # include/linux/sched.h


@dataclass(frozen=True, slots=True)
class Process:
    """What /proc/PID/stat says that does not change, and the parent."""

    pid: int
    comm: str
    parent: int
    start: int
    """Start time in clock ticks after boot."""
    leader_ended: bool = False
    """Whether the first thread ended before the others."""
    is_kernel: bool = False
    """Whether it is a kernel thread."""


def read_process(host: Host, pid: int) -> Process | None:
    """Return a process (or one thread, by its id), None when it is gone or a zombie."""
    try:
        text = host.read_text(f"/proc/{pid}/stat")
    except HalError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) < 20 or fields[0] == "X":
        return None
    ended = fields[0] == "Z"  # the state is the first thread's, others may go on
    if ended and int(fields[17]) <= 1:
        return None
    return Process(pid, name, int(fields[1]), int(fields[19]), ended, bool(int(fields[6]) & PF_KTHREAD))


def start_of(host: Host, tid: int) -> int | None:
    """Return the start time of a process or thread in clock ticks after boot, None when it is gone."""
    process = read_process(host, tid)
    return None if process is None else process.start


def all_pids(host: Host) -> list[int]:
    """Return the ids of all processes that can be seen."""
    return [int(name) for name in host.list_dir("/proc") if name.isdigit()]


def threads_of(host: Host, pid: int) -> tuple[int, ...]:
    """Return the thread ids of a process, sorted; () when it is gone."""
    try:
        return tuple(sorted(int(name) for name in host.list_dir(f"/proc/{pid}/task")))
    except HalError:
        return ()


def descendants(host: Host, roots: Iterable[int]) -> tuple[int, ...]:
    """Return the living descendants of processes, those themselves not among them; parents before their children."""
    children = once(host, "children", lambda: _children(host))
    found: dict[int, None] = {}
    known = set(roots)
    queue = sorted(known)
    while queue:
        for child in children.get(queue.pop(0), []):
            if child not in known:
                known.add(child)
                found[child] = None
                queue.append(child)
    return tuple(found)


def _children(host: Host) -> dict[int, list[int]]:
    """Return the processes by their parent."""
    children: dict[int, list[int]] = {}
    for pid in all_pids(host):
        process = read_process(host, pid)
        if process is not None:
            children.setdefault(process.parent, []).append(pid)
    return children
