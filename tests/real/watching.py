"""BPF probes on a target without the profiler around them, and programs to watch that do just what a test says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Self

import pytest

from dna.follow import Follower
from dna.launch import Launched
from dna.members import resolve
from dna.probes.base import Probe, ProbeContext, Reading
from dna.probes.bpf.programs import Programs
from dna.syscalls import table
from dna.target import Target
from hal import topology
from hal.errors import HalError
from hal.host import LinuxHost
from hal.topology import Topology

HOST = LinuxHost()


@cache
def this_machine() -> Topology:
    return topology.live(HOST, devices=False)


@cache
def _why_no_bpf() -> str:
    if os.geteuid() != 0:
        return "loads BPF programs, which needs root: run `sudo make test`"
    try:
        Programs.build(HOST, this_machine(), table()).close()
    except HalError as error:
        return f"{error}; {error.remedy}"
    return ""


def bpf_marks() -> list[pytest.MarkDecorator]:
    """Marks of a module whose tests load BPF programs."""
    why = _why_no_bpf()
    return [pytest.mark.root, pytest.mark.bpf, pytest.mark.skipif(bool(why), reason=why)]


def wait_for(true: Callable[[], object], what: str, *, timeout_s: float = 20.0) -> None:
    """Wait until something is so; fail when it never is."""
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.005)


class Watch:
    """Programs, follower and probes on one target, as the profiler starts them; ``read`` ends an interval."""

    def __init__(self, target: Target, *probes: type[Probe[Any]], **build: Any) -> None:
        self._exit = ExitStack()
        self._target = target
        self._kinds = probes
        self._build = build
        self.launched: Launched | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._exit = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        target = self._target
        if target.kind == "command":
            self.launched = Launched(target.argv)
            stack.callback(self.launched.close)
        self.members = resolve(HOST, target, started=self.launched.pid if self.launched else None)
        whole = target.kind == "host"
        self.programs = Programs.build(HOST, this_machine(), table(), whole_host=whole, **self._build)
        stack.callback(self.programs.close)
        self.follower = Follower(HOST, target, self.members, self.programs)
        self.follower.start()
        self.follower.seed(table())
        context = ProbeContext(HOST, self.members, this_machine(), self.programs)
        self.probes = [kind() for kind in self._kinds]
        for probe in self.probes:
            probe.start(context)
        self.follower.kick(this_machine())
        self._last = time.monotonic()
        if self.launched:
            self.launched.go()

    def readings(self) -> list[Reading[Any]]:
        """End the interval: one reading a probe, in their order."""
        self.follower.update()
        now = time.monotonic()
        elapsed, self._last = now - self._last, now
        return [probe.read(elapsed) for probe in self.probes]

    def read(self) -> Any:
        """End the interval: the value of the only probe."""
        (reading,) = self.readings()
        return reading.value

    def finish(self) -> Any:
        """Wait for the launched command to end, then read."""
        assert self.launched is not None
        wait_for(lambda: self.launched and self.launched.poll() is not None, "the command ends")
        return self.read()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()


_ACTOR = """
import os, sys, ast
names = {"os": os}
os.write(1, b"k")
while line := os.read(0, 1 << 16):
    exec(ast.literal_eval(line.decode()), names)
    os.write(1, b"k")
"""


class Actor:
    """A Python process that runs what it is told, and in between does nothing but wait in a read of a pipe.

    One order costs one read and one write of its own.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _ACTOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self.process.pid
        self._wait()

    def _wait(self) -> None:
        assert self.process.stdout
        answer = os.read(self.process.stdout.fileno(), 1)
        assert answer == b"k", "the program under observation died"

    def __call__(self, code: str) -> None:
        """Have it run some code, and wait until it has."""
        self.begin(code)
        self._wait()
        self._settled()

    def begin(self, code: str) -> None:
        """Have it run some code; ``end`` waits."""
        assert self.process.stdin
        os.write(self.process.stdin.fileno(), repr(code).encode())

    def end(self) -> None:
        """Wait for what was begun."""
        self._wait()
        self._settled()

    def _settled(self) -> None:
        """Wait until it is back in its read, so that all it did has been counted."""
        wait_for(lambda: HOST.read_text(f"/proc/{self.pid}/syscall").startswith("0 "), "the program waits again")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def actor() -> Iterator[Actor]:
    """A program to give orders to; killed at the end."""
    one = Actor()
    try:
        yield one
    finally:
        one.close()
