"""Who is behind a subject that names several: the threads or processes of a process, a tree, a cgroup."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from hal import cgroups
from hal.errors import HostError, NotFoundError, SettingError
from hal.host import Host
from hal.processes import descendants, read_process, start_of, threads_of
from hal.settings import OF_PROCESSES, Subject, process, thread

_MEMBERS = {
    "thread": ("thread", "process", "tree", "cgroup"),
    "process": ("process", "tree", "cgroup"),
}
"""From the kind of a knob's subject to the kinds that may be named for it."""


def accepted(kind: str) -> tuple[str, ...]:
    """Return the kinds of subject that may be named for a knob whose own are of ``kind``."""
    return _MEMBERS.get(kind, (kind,))


def is_gone(host: Host, subject: Subject) -> bool:
    """Tell whether a thread or process has ended; never of anything else, nor where no start time is known."""
    if subject.kind not in OF_PROCESSES:
        return False
    start = start_of(host, int(subject.name))
    return start is None or (subject.start != 0 and start != subject.start)


def hold_same(host: Host, subject: Subject) -> None:
    """Look once more, as the last thing before a write: syncing the journal took long enough for a process id to be reused.

    Raises:
        NotFoundError: the thread or process ended, whoever has its id now.
    """
    if subject.start and is_gone(host, subject):
        raise NotFoundError(f"{subject} ended", number=errno.ESRCH, subject=str(subject))


def resolve(host: Host, subject: Subject, kind: str) -> tuple[Subject, ...]:
    """Return the subjects of ``kind`` ("thread" or "process") that are behind one now; () when it is gone.

    Raises:
        SettingError: a subject of that kind cannot be named for such a knob.
    """
    if subject.kind not in accepted(kind):
        raise SettingError(f"it is set on a {kind}, not on a {subject.kind}")
    if subject.kind == kind and kind not in _MEMBERS:
        return (subject,)
    if is_gone(host, subject):
        return ()
    if subject.kind == "thread":
        return (subject,)
    pids = _processes(host, subject)
    if kind == "process":
        return tuple(process(pid, start) for pid in pids if (start := start_of(host, pid)) is not None)
    tids = (tid for pid in pids for tid in threads_of(host, pid))
    return tuple(thread(tid, start) for tid in tids if (start := start_of(host, tid)) is not None)


def _processes(host: Host, subject: Subject) -> Iterable[int]:
    if subject.kind == "cgroup":
        directory = next(iter(cgroups.directories(host, subject.name).values()), None)
        if directory is None:
            raise NotFoundError(f"there is no cgroup {subject.name}", subject=subject.name)
        return sorted(cgroups.pids_in(host, directory))
    pid = int(subject.name)
    return (pid,) if subject.kind == "process" else (pid, *descendants(host, [pid]))


def untouchable(host: Host, subject: Subject) -> str:
    """Return why a thread or process is left alone unless it is named itself; "" when it is not."""
    if subject.kind not in OF_PROCESSES:
        return ""
    number = int(subject.name)
    found = read_process(host, number)
    if number == 1:
        return "it is pid 1, the init process"
    if found is not None and found.is_kernel:
        return "it is a kernel thread"
    if number in (os.getpid(), *threads_of(host, os.getpid())):
        return "it is dna itself"
    return ""


def label(host: Host, subject: Subject) -> str:
    """Return the name of the process, thread or interrupt behind a subject, for people; "" for others."""
    if subject.kind == "irq":
        return _text(host, f"/sys/kernel/irq/{subject.name}/actions")
    found = read_process(host, int(subject.name)) if subject.kind in OF_PROCESSES else None
    return found.comm if found else ""


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""
