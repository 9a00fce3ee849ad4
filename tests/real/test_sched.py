"""Scheduling against getrusage, /proc/PID/schedstat and /proc/PID/status."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dna.probes.sched import ProcSchedProbe, SchedProbe
from dna.probes.syscalls import SyscallProbe
from dna.sample import SchedReading
from dna.target import Target
from tests.real.watching import HOST, Watch, actor, bpf_marks, wait_for

pytestmark = bpf_marks()


def schedstat(pid: int) -> tuple[float, float]:
    """Return (seconds on CPU, seconds in the run queue) of a thread."""
    run, wait = HOST.read_text(f"/proc/{pid}/schedstat").split()[:2]
    return int(run) * 1e-9, int(wait) * 1e-9


def switches(pid: int) -> tuple[int, int]:
    """Return (voluntary, involuntary) switches of a process's first thread."""
    status = HOST.read_text(f"/proc/{pid}/status")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["voluntary_ctxt_switches"]), int(fields["nonvoluntary_ctxt_switches"])


def test_cpu_time_is_that_of_schedstat() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe) as watch:
        one("import resource, time")
        before = schedstat(one.pid)[0]
        watch.read()
        one("until = time.thread_time() + 0.5\nwhile time.thread_time() < until: pass")
        reading: SchedReading = watch.read()
        used = schedstat(one.pid)[0] - before
    assert reading.oncpu_s == pytest.approx(used, rel=0.02, abs=0.003)
    assert reading.busiest_thread_s == pytest.approx(reading.oncpu_s, rel=0.01, abs=0.001)
    assert reading.slices is not None
    assert reading.oncpu_by_cpu is not None
    assert reading.oncpu_by_cpu.sum() == pytest.approx(reading.oncpu_s)


def spinner() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", "while True: pass"])


def test_a_thread_that_never_blocks_counts_from_the_first_interval_on() -> None:
    child = spinner()
    try:
        wait_for(lambda: schedstat(child.pid)[0] > 0.05, "it spins")
        with Watch(Target.pid(child.pid), SchedProbe) as watch:
            before = schedstat(child.pid)[0]
            total = 0.0
            for _ in range(4):
                time.sleep(0.15)
                reading: SchedReading = watch.read()
                now = schedstat(child.pid)[0]
                total += reading.oncpu_s
                assert reading.oncpu_s > 0.5 * (now - before) / 4
            used = schedstat(child.pid)[0] - before
    finally:
        child.kill()
        child.wait()
    # It may wait for its first CPU when the start kicks all CPUs: it is seen when it next runs. The slice under way at the
    # end is measured by the clock, so a hypervisor's share of it is in.
    assert total == pytest.approx(used, rel=0.03, abs=0.06)


def test_run_queue_delay_is_that_of_schedstat() -> None:
    with actor() as one:
        one("import time")
        rival = spinner()
        try:
            for pid in (one.pid, rival.pid):
                os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
            with Watch(Target.pid(one.pid), SchedProbe) as watch:
                watch.read()
                before, before_switches = schedstat(one.pid), switches(one.pid)
                one("until = time.thread_time() + 0.2\nwhile time.thread_time() < until: pass")
                reading: SchedReading = watch.read()
                run, wait = (now - then for now, then in zip(schedstat(one.pid), before, strict=True))
                moved = [now - then for now, then in zip(switches(one.pid), before_switches, strict=True)]
        finally:
            rival.kill()
            rival.wait()
    assert wait > 0.1
    assert reading.runq_s == pytest.approx(wait, rel=0.03, abs=0.003)
    assert reading.oncpu_s == pytest.approx(run, rel=0.03, abs=0.003)
    assert reading.runq is not None
    assert int(reading.runq.sum()) == pytest.approx(sum(moved), abs=4)
    assert reading.involuntary == pytest.approx(moved[1], abs=2)
    assert reading.migrations == 0


def test_switches_are_those_of_proc() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe) as watch:
        one("import time")
        watch.read()
        before = switches(one.pid)
        one("for _ in range(200): time.sleep(0.0005)")
        reading: SchedReading = watch.read()
        voluntary, involuntary = (now - then for now, then in zip(switches(one.pid), before, strict=True))
    assert voluntary >= 200
    assert reading.voluntary == pytest.approx(voluntary, abs=1)
    assert reading.involuntary == pytest.approx(involuntary, abs=1)
    assert reading.offcpu_s is not None
    assert reading.offcpu_s > 0.1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: nothing can migrate; give the machine two")
def test_migrations_are_counted() -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe) as watch:
        one(f"os.sched_setaffinity(0, {{{cpus[0]}}})")
        watch.read()
        one(f"for i in range(41): os.sched_setaffinity(0, {{{cpus[0]} if i % 2 else {cpus[1]}}})")
        reading: SchedReading = watch.read()
    assert reading.migrations == 41


@pytest.mark.slow
def test_new_threads_and_children_are_followed() -> None:
    code = """
def burn(s):
    until = time.thread_time() + s
    while time.thread_time() < until: pass
threads = [threading.Thread(target=burn, args=(0.1,)) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
pid = os.fork()
if pid == 0:
    burn(0.1)
    os._exit(0)
os.waitpid(pid, 0)
"""
    # What the kernel itself says of the whole process, threads that have gone included: what threads and children take
    # in the end depends on how often they wait for each other, and that on the machine.
    spent = """
u = resource.getrusage(resource.RUSAGE_CHILDREN)
open('/proc/self/comm', 'w').write(f'{time.process_time() + u.ru_utime + u.ru_stime:.4f}')
"""
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe) as watch:
        one("import resource, threading, time")
        one(spent)
        watch.read()
        before = float(HOST.read_text(f"/proc/{one.pid}/comm"))
        one(code)
        one(spent)
        reading: SchedReading = watch.read()
        took = float(HOST.read_text(f"/proc/{one.pid}/comm")) - before
        assert watch.members.pids() == {one.pid}
        assert watch.members.tids() == {one.pid}
    assert took > 0.4
    assert reading.oncpu_s == pytest.approx(took, rel=0.05)
    assert (reading.processes, reading.threads) == (1, 1)


def test_a_storm_of_forks_is_counted_and_leaves_nothing_behind() -> None:
    code = """
import resource
for _ in range(1500):
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
"""
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe, SyscallProbe) as watch:
        one("import resource, time")
        before = int(watch.programs.members.sum())
        watch.readings()
        own = schedstat(one.pid)[0]
        one(code)
        sched, calls = watch.readings()
        own = schedstat(one.pid)[0] - own
        one("u = resource.getrusage(resource.RUSAGE_CHILDREN); os.write(2, b'')")
        one("open('/proc/self/comm', 'w').write(f'{u.ru_utime + u.ru_stime:.3f}')")
        children = float(HOST.read_text(f"/proc/{one.pid}/comm"))
        watch.follower.update()
        wait_for(lambda: int(watch.programs.members.sum()) == before, "all members are gone again")
        assert int((watch.programs.threads["tid"] != 0).sum()) == 1
        assert watch.members.tids() == {one.pid}
    assert sched.value.oncpu_s == pytest.approx(own + children, rel=0.05)
    assert calls.value.by_name["exit_group"] == 1500
    assert sched.lost == 0


EXEC_FROM_THREAD = """
import os, sys, threading, time
def become():
    os.execv(sys.executable, [sys.executable, "-S", "-E", "-c",
        "import os, sys\\nwhile sys.stdin.buffer.read(1):\\n for _ in range(100): os.getppid()\\n os.write(1, b'k')"])
threading.Thread(target=become).start()
time.sleep(60)
"""


def test_exec_from_a_second_thread_stays_followed() -> None:
    child = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", f"input()\n{EXEC_FROM_THREAD}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin
    assert child.stdout
    try:
        with Watch(Target.pid(child.pid), SyscallProbe, SchedProbe) as watch:
            child.stdin.write(b"\n")
            child.stdin.flush()
            wait_for(
                lambda: b"while sys" in Path(f"/proc/{child.pid}/cmdline").read_bytes()[-200:], "it became another"
            )
            wait_for(lambda: HOST.read_text(f"/proc/{child.pid}/syscall").startswith("0 "), "it waits for orders")
            watch.readings()
            child.stdin.write(b"x")
            child.stdin.flush()
            child.stdout.read(1)
            calls, _ = watch.readings()
            assert calls.value.by_name["getppid"] == 100
            assert watch.members.tids() == {child.pid}
            assert int((watch.programs.members != 0).sum()) == 1
            assert int((watch.programs.threads["tid"] != 0).sum()) == 1
            child.stdin.close()
            wait_for(lambda: not watch.programs.members.any(), "it is gone")
    finally:
        child.kill()
        child.wait()


def test_proc_and_bpf_agree() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe, ProcSchedProbe) as watch:
        one("import time, threading")
        watch.readings()
        one(
            "for _ in range(50):\n time.sleep(0.002)\n until = time.thread_time() + 0.002\n while time.thread_time() < until: pass"
        )
        bpf, proc = (reading.value for reading in watch.readings())
    assert bpf.oncpu_s == pytest.approx(proc.oncpu_s, rel=0.05)
    assert bpf.voluntary == pytest.approx(proc.voluntary, abs=2)
    assert bpf.runq_s == pytest.approx(proc.runq_s, rel=0.1, abs=0.005)


def test_blocked_and_running_fill_the_time_of_a_thread() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe) as watch:
        one("import time")
        for _ in range(3):
            began = time.monotonic()
            watch.read()
            one("for _ in range(20): time.sleep(0.003)")
            reading: SchedReading = watch.read()
            took = time.monotonic() - began
            assert reading.runq_s is not None
            assert reading.offcpu_s is not None
            assert reading.oncpu_s + reading.runq_s + reading.offcpu_s == pytest.approx(took, rel=0.1, abs=0.02)


@pytest.mark.slow
def test_a_thousand_threads() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SchedProbe, SyscallProbe) as watch:
        one(
            "import threading, time\n"
            "threading.stack_size(65536)\n"
            "go = threading.Event(); done = threading.Barrier(1001)\n"
            "def work():\n go.wait()\n done.wait()\n time.sleep(30)\n"
            "[threading.Thread(target=work, daemon=True).start() for _ in range(1000)]"
        )
        sched, _ = watch.readings()
        assert sched.value.threads == 1001
        one("go.set(); done.wait()")
        sched, calls = watch.readings()
        assert sched.lost == 0
        assert calls.value.by_name["futex"] > 1000
        assert sched.value.voluntary > 1000
