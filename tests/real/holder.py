"""A process that holds memory and does what it is told, line by line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hal.host import LinuxHost
from hal.processes import start_of
from hal.settings import Subject, process

HOST = LinuxHost()
MIB = 1 << 20

_LOOP = """
import ctypes, mmap, os, resource, sys
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MIB = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)
def huge_pages(allowed):
    libc.prctl(41, 0 if allowed else 1, 0, 0, 0)  # PR_SET_THP_DISABLE
huge_pages(False)  # where the system gives them to all, memory is in small ones at first all the same
def policy(mode, nodes):
    mask = ctypes.c_ulong(nodes)
    if libc.syscall(238, mode, ctypes.byref(mask), 65):  # set_mempolicy, x86-64
        raise OSError(ctypes.get_errno(), "set_mempolicy")
def touch(area, step=4096):
    for at in range(0, len(area), step):
        area[at] = 1
def look(area):
    return sum(area[at] for at in range(0, len(area), 4096))
def fork():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    return child, writing
def join(child, writing):
    os.close(writing)
    os.waitpid(child, 0)
def faults():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_majflt + usage.ru_minflt
def address(area):
    return ctypes.addressof(ctypes.c_char.from_buffer(area))
answer = None
for line in sys.stdin:
    exec(line)
    print(answer, flush=True)
"""


class Held:
    """The process, as tests see it."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.pid = child.pid
        self.start = start_of(HOST, child.pid) or 0
        self.subject: Subject = process(self.pid, self.start)

    def do(self, line: str) -> str:
        """Have it execute a line; return what ``answer`` is then."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return self._child.stdout.readline().strip()

    def hold(self, name: str, mib: int, *, step: int = 4096) -> int:
        """Have it map and touch private memory; return where that is."""
        self.do(f"{name} = mmap.mmap(-1, {mib} * MIB, flags=PRIVATE); touch({name}, {step})")
        return int(self.do(f"answer = address({name})"))

    def rollup(self, field: str) -> int:
        """Return a field of smaps_rollup in bytes: the kernel's own sum, which the code under test does not make."""
        found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    def mapped(self, path: Path | str, field: str) -> int:
        """Return a field of smaps, in bytes, summed over the mappings of a file."""
        total, inside = 0, False
        for line in Path(f"/proc/{self.pid}/smaps").read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = line.endswith(str(path))
            elif inside and line.startswith(f"{field}:"):
                total += int(line.split()[1]) * 1024
        return total

    def bytes_by_node(self) -> dict[int, int]:
        """Return its anonymous memory by node, as numa_maps has it."""
        found: dict[int, int] = {}
        for line in Path(f"/proc/{self.pid}/numa_maps").read_text().splitlines():
            size = re.search(r" kernelpagesize_kB=(\d+)", line)
            if " anon=" in line and size:
                for node, pages in re.findall(r" N(\d+)=(\d+)", line):
                    found[int(node)] = found.get(int(node), 0) + int(pages) * int(size[1]) * 1024
        return found

    def kill(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()


@contextmanager
def holder() -> Iterator[Held]:
    """Run the process for a while."""
    words = [sys.executable, "-S", "-E", "-c", _LOOP]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            held = Held(child)
            held.do("pass")
            yield held
        finally:
            child.kill()
