"""Programs that are put into cgroups, and what the kernel itself says of them: for the tests of v1 here and of v2 in the lab."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hal import cgroups
from hal.apply import Applied, apply
from hal.groups import group_for
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.planning import make_plan
from hal.processes import start_of
from hal.settings import Setting, Subject, tree

HOST = LinuxHost()
MIB = 1 << 20

PROGRAM = """
import mmap, os, sys, threading, time
kept = []
def spin():
    while True: pass
print("ready", flush=True)
for line in sys.stdin:
    word, _, number = line.strip().partition(" ")
    if word == "spin": threading.Thread(target=spin, daemon=True).start()
    if word == "sleep": threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    if word == "fork" and os.fork() == 0: time.sleep(600); os._exit(0)
    if word == "forks":
        made = 0
        try:
            for _ in range(int(number)):
                if os.fork() == 0: time.sleep(600); os._exit(0)
                made += 1
        except OSError: pass
        print(made, flush=True); continue
    if word == "fill":
        kept.append(mmap.mmap(-1, int(number) << 20))
        for at in range(0, len(kept[-1]), 4096): kept[-1][at] = 1
    if word == "write":
        path, size = number.split(" ")
        at = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        block = mmap.mmap(-1, 1 << 16)
        began = time.monotonic()
        for _ in range(int(size) >> 16): os.write(at, block)
        print(time.monotonic() - began, flush=True); continue
    print("done", flush=True)
"""


class Program:
    """A process that does what it is told, and its children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.answer()

    def tell(self, words: str) -> str:
        """Tell it to do something; return its answer, "" when it did not live to give one."""
        assert self._process.stdin
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    @property
    def subject(self) -> Subject:
        """Return it and its children, as settings name them."""
        start = start_of(HOST, self.pid)
        assert start is not None
        return tree(self.pid, start)

    def end(self) -> int:
        """End it and its children; return how the first one ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


@contextmanager
def program() -> Iterator[Program]:
    """Run the program; all of it is ended in the end."""
    one = Program()
    try:
        yield one
    finally:
        one.end()


def settings(path: str, members: Subject, limits: Mapping[str, str]) -> list[Setting]:
    """Return what puts processes into a group with limits given as on the command line."""
    return group_for(path, members, {name: knob_of(name).parse(text) for name, text in limits.items()})


def make(journal: Journal, wanted: list[Setting]) -> Applied:
    """Plan and apply; nothing may be left out."""
    plan = make_plan(HOST, wanted)
    assert not plan.left_out, plan.left_out
    return apply(plan, HOST, journal)


def directory(controller: str, path: str) -> Path:
    """Return a group's directory in the hierarchy of a controller."""
    return Path(cgroups.homes(HOST)[controller].mount + path)


def everywhere(path: str) -> set[str]:
    """Return the directories of a group, in all hierarchies."""
    mounts = {hierarchy.mount for hierarchy in cgroups.hierarchies(HOST)}
    return {mount + path for mount in mounts if os.path.isdir(mount + path)}


def membership(pid: int) -> str:
    """Return where a process is, in the kernel's words."""
    return Path(f"/proc/{pid}/cgroup").read_text()


def allowed(tid: int) -> str:
    """Return the CPUs that a thread may be on, in the kernel's words."""
    lines = Path(f"/proc/{tid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


def threads(pid: int) -> list[int]:
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process's threads in ns."""
    return sum(int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0]) for tid in threads(pid))


def counted(file: Path, key: str) -> int:
    """Return a number from a file of ``key value`` lines."""
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.split()[0] == key)


def free_swap() -> int:
    """Return how much swap is free, in kB."""
    return counted(Path("/proc/meminfo"), "SwapFree:")


def eventually(happened: Callable[[], bool], *, within_s: float = 60) -> bool:
    """Wait until something is so, looking often; tell whether it came to be."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if happened():
            return True
        time.sleep(0.05)
    return happened()
