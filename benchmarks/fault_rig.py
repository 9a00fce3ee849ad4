"""What the fault campaign works with: a real program as the target, a real ``dna sculpt`` as the agent, and what is done to both.

The target is a tree of three tasks: a thread that works, one that sleeps, and a child. What it says it does in a second depends, by
a stated model, on how it is set: half as much again when it may run on one CPU only, a tenth less when it is niced. So there is something to find,
to keep and to take back, on any machine; the settings themselves, the loop, the journal and the faults are real.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hal.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
DNA = (sys.executable, str(ROOT / "cli.py"))
CPUS = sorted(os.sched_getaffinity(0))
INTERVAL_S = 0.3
PATIENCE_S = 120.0
"""How long is waited for what must happen, on a machine with other load."""

PROGRAM = """
import os, random, sys, threading, time
area, done, path = bytearray(16 << 20), 0.0, sys.argv[1]
if os.fork() == 0:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    while True: time.sleep(60)
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
while True:
    for _ in range(2000): area[random.randrange(len(area))]
    time.sleep(0.02)
    pinned, niced = len(os.sched_getaffinity(0)) == 1, os.getpriority(os.PRIO_PROCESS, 0) > 0
    done += 20 * (1.5 if pinned else 1.0) * (0.9 if niced else 1.0) * random.uniform(0.97, 1.03)
    if not os.path.exists(path + ".mute"):
        with open(path + ".new", "w") as file: file.write("%d\\n" % done)
        os.replace(path + ".new", path)
"""

RULES = '''"""Settings that are always due, to be tried and taken back."""

from collections.abc import Iterator

from rules import Option, choice, rule, s, w, when
from rules.rule import Yielded
from rules.situation import Workload


@rule(expect="throughput +10..40 %", source="the fault campaign", limits="none")
@when(w.demand.cores > 0.01)
def pin(workload: Workload) -> Iterator[Yielded]:
    """Pinned to one CPU or another."""
    yield choice(
        "cpu",
        Option("first", (s.cpu.affinity(workload, "FIRST"),)),
        Option("last", (s.cpu.affinity(workload, "LAST"),)),
    )


@rule(expect="throughput +10..20 %", source="the fault campaign", limits="none")
@when(w.demand.cores > 0.01)
def nice(workload: Workload) -> Iterator[Yielded]:
    """Niced."""
    yield s.cpu.nice(workload, 5)


@rule(expect="throughput +5..20 %", source="the fault campaign", limits="none")
@when(w.demand.cores > 0.01)
def batch(workload: Workload) -> Iterator[Yielded]:
    """Batch."""
    yield s.cpu.policy(workload, "batch")
'''

type State = dict[int, tuple[tuple[int, ...], int, int]]
"""CPUs, nice value and policy of each task of a tree: all that these rules can have the loop set."""


class CannotRunError(Exception):
    """This machine lacks what a case needs; the message says what."""


def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something.

    Raises:
        TimeoutError: it did not happen.
    """
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.02)


# --- the target


@dataclass(slots=True)
class Target:
    """The program under the loop."""

    process: subprocess.Popen[str]
    rate: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def state(self) -> State:
        """Return how each of its tasks is set, as the kernel says."""
        return state_of(self.pid)

    def kill(self) -> None:
        """End it and its child, and have their ids free."""
        self.process.kill()
        self.process.wait()


def state_of(pid: int) -> State:
    """Return how each task of a process and its children is set."""
    return {tid: setting_of(tid) for tid in tasks_of(pid)}


def setting_of(tid: int) -> tuple[tuple[int, ...], int, int]:
    """Return how one task is set."""
    cpus = tuple(sorted(os.sched_getaffinity(tid)))
    return cpus, os.getpriority(os.PRIO_PROCESS, tid), os.sched_getscheduler(tid)


def tasks_of(pid: int) -> list[int]:
    """Return the threads of a process and of its children."""
    own = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted([*own, *(task for child in children for task in tasks_of(int(child)))])


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Run the program for a while."""
    rate = folder / "done"
    words = [sys.executable, "-S", "-E", "-c", PROGRAM, str(rate)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            until(rate.exists, "the target's first word")
            yield Target(process, rate)
        finally:
            process.kill()


# --- the agent


@dataclass(slots=True)
class Place:
    """Where one run of a case keeps everything of its own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {
            "DNA_JOURNAL": "journal",
            "DNA_SCULPT": "runs",
            "DNA_STORE": "history.db",
            "DNA_LEARNED": "learned.db",
            "DNA_RUN": "run",
        }
        paths = {name: str(self.folder / path) for name, path in own.items()}
        self.environment = {**os.environ, **paths, "DNA_RULES": "", **self.environment}
        text = RULES.replace("FIRST", str(CPUS[0])).replace("LAST", str(CPUS[-1]))
        (self.folder / "always_due.py").write_text(text)
        (self.folder / "guard.toml").write_text(
            f'kill_switch = "{self.folder / "stop"}"\nmost_novelty = 1000\n'  # whatever it is like here, it is to be tried on
        )

    @property
    def journal(self) -> Journal:
        """The journal of this run."""
        return Journal(self.folder / "journal")

    def dna(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*DNA, *words], env=self.environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )


class Agent:
    """One ``dna sculpt --mode apply``."""

    def __init__(self, place: Place, pid: int, metric: str, *more: str, wrap: tuple[str, ...] = ()) -> None:
        self._place = place
        self.output = place.folder / f"agent-{time.monotonic_ns()}"
        words = ["sculpt", "--pid", str(pid), "--mode", "apply", "--interval", str(INTERVAL_S), "--json", "--no-packs"]
        words += ["--rules", str(place.folder / "always_due.py"), "--guard", str(place.folder / "guard.toml")]
        words += ["--own-limit", "100%", "--metric", metric, *more]  # intervals as short as these cost more than 1 %
        with open(self.output, "w") as out, open(f"{self.output}.errors", "w") as errors:
            self.process = subprocess.Popen(
                [*wrap, *DNA, *words], env=place.environment, stdout=out, stderr=errors, stdin=subprocess.DEVNULL
            )

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The records so far; a line that is not whole yet is left for later."""
        lines = self.output.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def errors(self) -> str:
        """What it said on standard error."""
        return Path(f"{self.output}.errors").read_text()

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return self.process.poll() is None

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], object], what: str) -> None:
        """Wait until its records fulfil a condition.

        Raises:
            TimeoutError: they do not, or it ended.
        """

        def holds() -> bool:
            if condition(self.steps):
                return True
            if not self.is_alive():
                raise TimeoutError(f"the agent ended ({self.process.returncode}) before {what}: {self.errors}")
            return False

        until(holds, what)

    def wait_for_steps(self, more: int) -> None:
        """Wait for so many further steps."""
        there = len(self.steps)
        self.wait_for(lambda steps: len(steps) >= there + more, f"{more} steps")

    def stop(self) -> int:
        """End it as a service is ended; return its exit status."""
        self.process.terminate()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def agent(place: Place, goal: Target, *more: str, metric: str = "", wrap: tuple[str, ...] = ()) -> Iterator[Agent]:
    """Run the agent for a while; it is killed in the end, should it still run."""
    one = Agent(place, goal.pid, metric or f"throughput=rate:file:{goal.rate}", *more, wrap=wrap)
    try:
        yield one
    finally:
        one.kill()


def trying(steps: list[dict[str, Any]]) -> bool:
    """Tell whether something other than the baseline is in force, by the last record."""
    return bool(steps) and bool(steps[-1]["done"]) and steps[-1]["done"]["in_force"] != "baseline"


# --- what is done to them


class _CloneArgs(ctypes.Structure):
    """``struct clone_args`` of linux/sched.h, as far as set_tid."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    ] + [("set_tid", ctypes.c_uint64), ("set_tid_size", ctypes.c_uint64)]


CLONE3 = 435
IMPOSTOR = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.fault_rig import become
become({pid})
"""


def become(pid: int) -> None:
    """Have a child with this process id that sleeps, and wait for it; to be run in a process of its own, which has one thread."""
    tid = ctypes.c_int(pid)
    arguments = _CloneArgs(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(tid), set_tid_size=1)
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.syscall(CLONE3, ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments)))
    if child == 0:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.execv("/bin/sleep", ["sleep", "600"])
    if child < 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        return
    print("ready", flush=True)
    os.waitpid(child, 0)


@contextmanager
def impostor(pid: int) -> Iterator[int]:
    """Have another program under a process id that has just become free.

    Raises:
        CannotRunError: the kernel does not allow it here.
    """
    words = [sys.executable, "-c", IMPOSTOR.format(root=str(ROOT), pid=pid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout
            said = parent.stdout.readline().strip()
            if said != "ready":
                raise CannotRunError(f"clone3 with a chosen process id: {said}; run as root")
            until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the impostor")
            yield pid
        finally:
            parent.kill()
            until(lambda: not Path(f"/proc/{pid}").exists(), "the impostor's end")


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """Have a small file system of its own in a folder.

    Raises:
        CannotRunError: it cannot be mounted.
    """
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=700", "dna-faults", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRunError(f"a small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free on a file system of 4 KiB blocks, nor at the ends of its files of lines; return the file that takes it all."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    for lines in folder.glob("*.jsonl"):
        with open(lines, "ab", buffering=0) as file, contextlib.suppress(OSError):
            file.write(b"\n" * (-lines.stat().st_size % 4096))  # an empty line says nothing
    return path


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
  static volatile long *offset;
  if (!offset) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    void *there = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (there == MAP_FAILED) return 0;
    close(file);
    offset = there;
  }
  return *offset;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, now);
  if (!status && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
  return status;
}
time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  now->tv_sec = time.tv_sec;
  now->tv_usec = time.tv_nsec / 1000;
  return 0;
}
"""


@dataclass(frozen=True, slots=True)
class Clock:
    """The wall clock as one process sees it; the machine's own is never touched."""

    library: Path
    offset: Path

    @property
    def environment(self) -> dict[str, str]:
        """What has a process see it."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_OFFSET": str(self.offset)}

    def jump(self, seconds: int) -> None:
        """Set it so much ahead of the machine's, or behind."""
        with open(self.offset, "r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))


def clock(folder: Path) -> Clock:
    """Make a wall clock of its own: a library that answers between the program and the C library.

    Raises:
        CannotRunError: there is no C compiler.
    """
    source, library, offset = folder / "clock.c", folder / "clock.so", folder / "offset"
    source.write_text(CLOCK)
    offset.write_bytes(bytes(8))
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotRunError(f"a C compiler: {error}") from error
    return Clock(library, offset)


@contextmanager
def memory_group(name: str, mib: int) -> Iterator[Path]:
    """Have a control group whose memory is limited.

    Raises:
        CannotRunError: there is no memory controller that this user may use.
    """
    first, limit = (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
        if Path("/sys/fs/cgroup/memory").is_dir()
        else (Path("/sys/fs/cgroup"), "memory.max")
    )
    folder = first / name
    try:
        folder.mkdir()
    except OSError as error:
        raise CannotRunError(f"a memory control group: {error.strerror}; run as root") from error
    try:
        if not (folder / limit).exists():
            raise CannotRunError("a memory control group: the controller is not enabled")
        (folder / limit).write_text(str(mib << 20))
        yield folder
    finally:
        until(lambda: not (folder / "cgroup.procs").read_text().strip(), "the group's processes to end")
        folder.rmdir()
