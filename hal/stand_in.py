"""Processes that do not run, on a machine as if they did: so that a plan can be made for what was recorded elsewhere or earlier.

A stand-in has as many threads as the recorded program had, may run on every CPU, and its memory is on all nodes alike: as a program
would be found some time after it was started with no settings made. Its pid is above any that the kernel gives, so that no plan
made for it ever touches a process that is there.
"""

from __future__ import annotations

from typing import Any, cast

from hal import cgroups
from hal.allowed import allowed_cpus, allowed_nodes
from hal.errors import HalError
from hal.fake import FakeHost
from hal.host import Host
from hal.lists import format_cpu_list, parse_cpu_list
from hal.settings import Subject, tree

FIRST_PID = (1 << 22) + 1  # PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h)
MOST_THREADS = 256
_START = 1
_HEAP = 0x10000000
_PAGES = 2048
"""Of its memory a small part stands for all."""
_PAGE = 4096
_APART = {"affinity", "scheduling", "page_nodes", "page_map", "read_memory"}
"""What is asked of a thread or process by its number."""


class StandIns:
    """A host with stand-ins on it; everything else is the machine's. It is only looked at: nothing is written."""

    def __init__(self, base: Host) -> None:
        self._base = base
        self._apart = FakeHost()
        self._next = FIRST_PID
        self._cpus = tuple(sorted(allowed_cpus(base) or ())) or _list(base, "/sys/devices/system/cpu/online")
        self._nodes = tuple(sorted(allowed_nodes(base) or ())) or _list(base, "/sys/devices/system/node/online")

    def start(self, comm: str, *, threads: int = 1) -> Subject:
        """Put a stand-in on the machine and return its process tree as a subject."""
        pid = self._next
        tids = range(pid + 1, pid + min(max(threads, 1), MOST_THREADS))
        self._next = pid + MOST_THREADS
        self._apart.start(pid, comm[:15], start=_START, threads=tids, cgroup=self._groups())
        for tid in (pid, *tids):
            self._apart.tasks[tid].affinity = self._cpus
        self._furnish(pid)
        return tree(pid, self._apart.tasks[pid].start)

    def _groups(self) -> str:
        """Return the file that says it is in the root of every hierarchy."""
        try:
            found = cgroups.hierarchies(self._base)
        except HalError:
            found = []
        return "\n".join(f"{number}:{','.join(one.controllers)}:/" for number, one in enumerate(found)) or "0::/"

    def _furnish(self, pid: int) -> None:
        nodes = self._nodes or (0,)
        length = _PAGES * _PAGE
        self._apart.pages[pid] = {_HEAP + i * _PAGE: nodes[i % len(nodes)] for i in range(_PAGES)}
        self._apart.files |= {
            f"/proc/{pid}/status": f"Cpus_allowed_list:\t{format_cpu_list(self._cpus)}\n"
            f"Mems_allowed_list:\t{format_cpu_list(nodes)}\nTHP_enabled:\t1\n",
            f"/proc/{pid}/smaps": f"{_HEAP:x}-{_HEAP + length:x} rw-p 00000000 00:00 0 [heap]\n"
            f"Size: {length >> 10} kB\nKernelPageSize: 4 kB\nRss: {length >> 10} kB\nReferenced: {length >> 10} kB\n"
            f"Anonymous: {length >> 10} kB\nAnonHugePages: 0 kB\nSwap: 0 kB\nVmFlags: rd wr mr mw me ac \n",
        }

    def _of(self, path: str) -> Host:
        parts = path.split("/")
        is_apart = len(parts) > 2 and parts[1] == "proc" and parts[2].isdigit() and int(parts[2]) in self._apart.tasks
        return cast(Host, self._apart) if is_apart else self._base

    def read_text(self, path: str) -> str:
        """Return the content of a file; see ``Host``."""
        return self._of(path).read_text(path)

    def read_bytes(self, path: str) -> bytes:
        """Return the content of a file; see ``Host``."""
        return self._of(path).read_bytes(path)

    def exists(self, path: str) -> bool:
        """Tell whether a path exists; see ``Host``."""
        return self._of(path).exists(path)

    def list_dir(self, path: str) -> list[str]:
        """Return the names in a directory; see ``Host``."""
        if path.rstrip("/") == "/proc" and self._apart.tasks:
            return sorted([*self._base.list_dir(path), *self._apart.list_dir(path)])
        return self._of(path).list_dir(path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is being made, or copied
            raise AttributeError(name)
        base, apart = getattr(self._base, name), self._apart
        if name not in _APART:
            return base

        def by_number(number: int, *arguments: Any) -> Any:
            return (getattr(apart, name) if number in apart.tasks else base)(number, *arguments)

        return by_number

    @property
    def host(self) -> Host:
        """It, as the host that it is."""
        return cast(Host, self)


def _list(host: Host, path: str) -> tuple[int, ...]:
    try:
        return parse_cpu_list(host.read_text(path))
    except (HalError, ValueError):
        return ()
