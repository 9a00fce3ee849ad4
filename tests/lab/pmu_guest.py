"""Runs as the first process of the emulated machine of ``make lab-pmu``: counts loops whose length is known.

Standard library and this project's ``hal`` and ``dna`` only. Prints progress, then one line ``LAB-PMU [...]``, and powers off.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

sys.path.insert(0, "/project")

from dna.probes.counting.cpus import CpuCounters
from dna.probes.counting.estimate import estimate
from dna.probes.counting.plan import make_plan
from dna.probes.counting.threads import ThreadCounters
from hal.host import LinuxHost
from hal.perf import Counts, Group, event, scaled
from hal.pmu import core_pmus

HOST = LinuxHost()
LIBC = ctypes.CDLL(None)
POWER_OFF = 0x4321FEDC

# loop: add x1, x1, #1; add x2, x2, #1; add x3, x3, #1; add x4, x4, #1; subs x0, x0, #1; b.ne loop;  ret
CODE = struct.pack("<7I", 0x91000421, 0x91000442, 0x91000463, 0x91000484, 0xF1000400, 0x54FFFF61, 0xD65F03C0)
A_TURN = 6
TURNS = 4_000_000
LOOP = A_TURN * TURNS

_code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
_code.write(CODE)
_loop = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(_code)))


def loop(times: float = 1) -> None:
    """Execute ``times * LOOP`` instructions."""
    _loop(int(TURNS * times))


type Found = tuple[bool, str]
CHECKS: list[Callable[[], Found]] = []


def check(function: Callable[[], Found]) -> Callable[[], Found]:
    CHECKS.append(function)
    return function


def between(found: float, least: float, most: float) -> Found:
    return (
        least <= found <= most,
        f"{found:.0f}, wanted {least:.0f} to {most:.0f} ({found / least - 1:+.3%} of the least)",
    )


def count(names: Sequence[str], work: Callable[[], None], *, inherit: bool = False) -> Counts:
    with Group(HOST, [event(name) for name in names], inherit=inherit) as group:
        before = group.read()
        work()
        after = group.read()
    assert before is not None
    assert after is not None
    return after.since(before)


@check
def machine_has_a_pmu() -> Found:
    pmus = core_pmus(HOST)
    return len(pmus) == 1, f"{pmus}"


@check
def instructions_of_a_known_loop_in_user_space() -> Found:
    return between(count(["instructions:u"], loop).values[0], LOOP, LOOP * 1.004)


@check
def instructions_of_a_known_loop_with_the_kernel() -> Found:
    return between(count(["instructions"], loop).values[0], LOOP, LOOP * 1.05)


@check
def twice_the_loop_is_twice_the_difference() -> Found:
    one, two = (count(["instructions:u"], partial(loop, n)).values[0] for n in (1, 2))
    return between(two - one, LOOP * 0.999, LOOP * 1.001)


@check
def group_is_consistent() -> Found:
    counts = count(["instructions", "cycles", "instructions:u", "instructions:k"], loop)
    total, cycles, user, kernel = counts.values
    right = cycles > 0 and counts.coverage == 1.0 and abs(user + kernel - total) <= 0.001 * total
    return right, f"{total} instructions = {user} + {kernel}, {cycles} cycles, coverage {counts.coverage:.3f}"


@check
def counts_never_go_back() -> Found:
    with Group(HOST, [event("instructions"), event("cycles")]) as group:
        reads = [group.read() for _ in range(200)]
    pairs = [(a, b) for a, b in pairwise(reads) if a is not None and b is not None]
    right = all(b.values[0] > a.values[0] and b.enabled >= a.enabled for a, b in pairs)
    return right and len(pairs) == 199, f"{len(pairs)} steps"


@check
def sharing_the_pmu_is_scaled() -> Found:
    names = ["instructions", "instructions:u", "instructions:k"]  # six counters: two groups of five fit at a time
    groups = [Group(HOST, [event(name) for name in names]) for _ in range(5)]
    befores = [group.read() for group in groups]
    loop(12)
    afters = [group.read() for group in groups]
    for group in groups:
        group.close()
    moved = [now.since(then) for now, then in zip(afters, befores, strict=True) if now is not None and then is not None]
    values = [scaled(counts) for counts in moved]
    worst = max(abs(value[1] / (12 * LOOP) - 1) for value in values if value is not None)
    coverage = [counts.coverage for counts in moved]
    raw = max(counts.values[1] / (12 * LOOP) for counts in moved)
    right = None not in values and worst < 0.10 and max(coverage) < 0.9 and min(coverage) > 0.1 and raw < 0.9
    return (
        right,
        f"coverage {min(coverage):.2f} to {max(coverage):.2f}, worst estimate {worst:.1%} off, unscaled at most {raw:.0%}",
    )


@check
def threads_are_followed() -> Found:
    def work() -> None:
        threads = [threading.Thread(target=loop) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return between(count(["instructions:u"], work, inherit=True).values[0], 3 * LOOP, 3 * LOOP * 1.03)


@check
def children_are_followed_and_kept() -> Found:
    def work() -> None:
        for _ in range(2):
            os.waitpid(started(loop), 0)

    return between(count(["instructions:u"], work, inherit=True).values[0], 2 * LOOP, 2 * LOOP * 1.05)


@check
def without_inheritance_children_are_not_counted() -> Found:
    found = count(["instructions:u"], lambda: void(os.waitpid(started(loop), 0))).values[0]
    return found < 0.1 * LOOP, f"{found}, wanted less than {0.1 * LOOP:.0f}"


@check
def an_ended_thread_keeps_its_count() -> Found:
    tid, go = [0], [threading.Event(), threading.Event()]

    def body() -> None:
        tid[0] = threading.get_native_id()
        go[0].set()
        go[1].wait()
        loop()

    thread = threading.Thread(target=body)
    thread.start()
    go[0].wait()
    with Group(HOST, [event("instructions:u"), event("cycles:u")], pid=tid[0], inherit=True) as group:
        go[1].set()
        thread.join()
        time.sleep(0.05)
        reads = [group.read() for _ in range(2)]
    assert reads[0] is not None
    assert reads[1] == reads[0], f"{reads}"
    return between(reads[0].values[0], LOOP, LOOP * 1.02)


# --- the probe's own parts


class Set:
    """Stands for ``dna.members.Members``: these processes."""

    kind = "processes"
    by_fork = False

    def __init__(self, *pids: int) -> None:
        self.ids = set(pids)

    def pids(self) -> frozenset[int]:
        return frozenset(self.threads())

    def threads(self) -> dict[int, frozenset[int]]:
        tasks = {pid: HOST.list_dir(f"/proc/{pid}/task") for pid in self.ids if HOST.exists(f"/proc/{pid}/task")}
        return {pid: frozenset(int(tid) for tid in tids) for pid, tids in tasks.items() if tids}


def void(_: object) -> None:
    pass


def started(work: Callable[[], None]) -> int:
    """Return a child that does its work and ends."""
    if (pid := os.fork()) == 0:
        work()
        os._exit(0)
    return pid


class Worker:
    """A child that executes what it is told: loop, thread (which loops), child (which loops)."""

    def __init__(self) -> None:
        here, there = os.pipe(), os.pipe()
        if (pid := os.fork()) == 0:
            while True:
                self._do(os.read(here[0], 1))
                os.write(there[1], b".")
        self.pid, self._out, self._in = pid, here[1], there[0]

    @staticmethod
    def _do(order: bytes) -> None:
        if order == b"t":
            thread = threading.Thread(target=loop)
            thread.start()
            thread.join()
        elif order == b"c":
            os.waitpid(started(loop), 0)
        elif order == b"l":
            loop()
        else:
            os._exit(0)

    def tell(self, orders: str) -> None:
        for order in orders.encode():
            os.write(self._out, bytes([order]))
            os.read(self._in, 1)

    def end(self) -> None:
        os.write(self._out, b"q")
        os.waitpid(self.pid, 0)


@contextmanager
def thread_counters(members: Set) -> Iterator[tuple[ThreadCounters, Callable[[], float]]]:
    plan = make_plan(HOST, hardware=[("instructions", "cycles")], software=["task-clock"])
    counters = ThreadCounters(HOST, members, plan)  # type: ignore[arg-type]
    total = [0.0]

    def read() -> float:
        counters.refresh()
        total[0] += estimate([group.names for group in plan.groups], counters.read()).events["instructions"]
        return total[0]

    counters.refresh()
    try:
        yield counters, read
    finally:
        counters.close()


@check
def plan_knows_what_this_pmu_lacks() -> Found:
    plan = make_plan(HOST)
    counted = {name for group in plan.groups for name in group.names}
    right = {
        "instructions",
        "cycles",
        "instructions:k",
        "minor-faults",
    } <= counted and "branch-misses" in plan.unavailable
    return right, f"lacks {', '.join(sorted(plan.unavailable))}"


@check
def what_stands_still_is_unknown() -> Found:
    plan = make_plan(HOST)
    counters = ThreadCounters(HOST, Set(os.getpid()), plan)  # type: ignore[arg-type]
    counters.refresh()
    loop(4)
    result = estimate([group.names for group in plan.groups], counters.read())
    counters.close()
    absent = [name for name in ("stalled-cycles-frontend", "stalled-cycles-backend") if name in result.events]
    per_cycle = result.events["instructions"] / result.events["cycles"]
    right = not absent and result.events["instructions"] >= 4 * LOOP and 0.1 < per_cycle < 10
    return right, ", ".join(f"{name} {value:.0f}" for name, value in result.events.items())


@check
def threads_and_children_of_a_target_once() -> Found:
    worker = Worker()
    members = Set(worker.pid)
    with thread_counters(members) as (_, read):
        worker.tell("ltc")
        read()
        worker.tell("tc")
        found = read()
    worker.end()
    return between(found, 5 * LOOP, 5 * LOOP * 1.2)


@check
def child_that_joins_is_not_counted_twice() -> Found:
    def alive() -> None:
        loop(2)
        time.sleep(30)

    worker = Worker()
    members = Set(os.getpid())
    with thread_counters(members) as (counters, read):
        time.sleep(0.03)
        child = started(alive)
        members.ids.add(child)
        time.sleep(0.3)
        found = read()
        opened = counters.open_threads
    os.kill(child, 9)
    os.waitpid(child, 0)
    worker.end()
    right, words = between(found, 2 * LOOP, 2 * LOOP * 1.6)
    return right and opened == 1, f"{words}; {opened} thread opened"


@check
def newcomer_from_outside_is_counted() -> Found:
    first, second = Worker(), Worker()
    members = Set(first.pid)
    with thread_counters(members) as (counters, read):
        first.tell("l")
        second.tell("l")
        read()
        members.ids.add(second.pid)
        read()
        second.tell("lt")
        found = read()
        opened = counters.open_threads
        first.end()
        members.ids.discard(first.pid)
        after = read()
        left = counters.open_threads
    second.end()
    right, words = between(found, 3 * LOOP, 3 * LOOP * 1.1)
    return right and opened == 2 and left == 1 and after >= found, f"{words}; {opened} then {left} threads opened"


@check
def the_whole_host_is_counted() -> Found:
    plan = make_plan(HOST, hardware=[("instructions", "cycles")], software=["page-faults"])
    counters = CpuCounters(HOST, plan)
    os.waitpid(started(loop), 0)
    loop()
    result = estimate([group.names for group in plan.groups], counters.read())
    counters.close()
    return between(result.events["instructions"], 2 * LOOP, 2 * LOOP * 1.5)


@check
def of_a_cgroup_only_what_runs_in_it() -> Found:
    # The kernel gives new cgroups their part of perf_event only after the root has handed on any controller.
    write("/sys/fs/cgroup/cgroup.subtree_control", "+pids")
    os.makedirs("/sys/fs/cgroup/lab")
    worker = Worker()
    write("/sys/fs/cgroup/lab/cgroup.procs", str(worker.pid))
    plan = make_plan(HOST, hardware=[("instructions", "cycles")], software=["page-faults"])
    counters = CpuCounters(HOST, plan, cgroup="/sys/fs/cgroup/lab")
    loop(3)
    worker.tell("lc")
    result = estimate([group.names for group in plan.groups], counters.read())
    counters.close()
    worker.end()
    return between(result.events["instructions"], 2 * LOOP, 2 * LOOP * 1.2)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def mount(what: str, where: str) -> None:
    os.makedirs(where, exist_ok=True)
    LIBC.mount(what.encode(), where.encode(), what.encode(), 0, None)


def main() -> None:
    for what, where in (("proc", "/proc"), ("sysfs", "/sys"), ("cgroup2", "/sys/fs/cgroup")):
        mount(what, where)
    results = []
    for one in CHECKS:
        began = time.monotonic()
        try:
            right, found = one()
        except Exception as error:
            traceback.print_exc()
            right, found = False, repr(error)
        name = one.__name__.replace("_", " ")
        print(f"{name}: {right} {found} ({time.monotonic() - began:.2f} s)", flush=True)
        results.append({"name": name, "ok": right, "found": found})
    print("\nLAB-PMU " + json.dumps(results), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        time.sleep(0.2)  # the console is a serial line
        LIBC.reboot(POWER_OFF)
