"""The CPU family's part of the machine in memory."""

from __future__ import annotations

import errno

from hal.fake import FakeHost, WriteHandler
from hal.settings import Subject, Value, process, thread


def furnish(host: FakeHost) -> None:
    """Add eight CPUs and some processes: init, a kernel thread, a server with threads and a child, a bystander."""
    host.files |= {
        "/sys/devices/system/cpu/online": "0-7\n",
        "/sys/devices/system/cpu/possible": "0-7\n",
        "/proc/self/mounts": host.files.get("/proc/self/mounts", ""),
    }
    host.start(1, "init", parent=0)
    host.start(2, "kthreadd", parent=0)
    host.files["/proc/2/stat"] = host.files["/proc/2/stat"].replace("S 0 0 0 0 0 0 ", "S 0 0 0 0 0 2129984 ")
    host.start(100, "server", threads=[101, 102])
    host.start(110, "worker", parent=100)
    host.start(200, "bystander")
    host.files["/proc/sys/kernel/sched_autogroup_enabled"] = "1\n"
    # The server and its worker are of one session, and what one of them is told holds for both.
    for pid, session in ((1, 1), (100, 7), (110, 7), (200, 9)):
        host.files[f"/proc/{pid}/autogroup"] = f"/autogroup-{session} nice 0\n"
        host.handlers[f"/proc/{pid}/autogroup"] = autogroup_of(host, session)


def autogroup_of(host: FakeHost, session: int) -> WriteHandler:
    """Behave like a process's file of a session's weight."""

    def write(_old: str, written: str) -> str:
        if not -20 <= int(written) <= 19:
            raise OSError(errno.EINVAL, "out of bounds")
        now = f"/autogroup-{session} nice {int(written)}\n"
        for path, content in host.files.items():
            if path.endswith("/autogroup") and content.startswith(f"/autogroup-{session} "):
                host.files[path] = now
        return now

    return write


def first_thread(host: FakeHost) -> Subject:
    """Return the server's first thread."""
    return thread(100, host.tasks[100].start)


def cases(host: FakeHost) -> dict[str, tuple[Subject, Value]]:
    """Return for each knob a subject on this machine and a value other than the present one."""
    one = first_thread(host)
    return {
        "cpu.affinity": (one, "1-2"),
        "cpu.policy": (one, "batch"),
        "cpu.nice": (one, 5),
        "cpu.autogroup_nice": (process(100, host.tasks[100].start), 9),
    }
