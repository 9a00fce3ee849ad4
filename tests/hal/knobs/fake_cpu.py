"""The CPU family's part of the machine in memory."""

from __future__ import annotations

from hal.fake import FakeHost
from hal.settings import Subject, Value, thread


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


def first_thread(host: FakeHost) -> Subject:
    """Return the server's first thread."""
    return thread(100, host.tasks[100].start)


def cases(host: FakeHost) -> dict[str, tuple[Subject, Value]]:
    """Return for each knob a subject on this machine and a value other than the present one."""
    one = first_thread(host)
    return {"cpu.affinity": (one, "1-2"), "cpu.policy": (one, "batch"), "cpu.nice": (one, 5)}
