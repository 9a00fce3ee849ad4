"""System calls against strace, perf and what the program was told to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from dna.probes.syscalls import SyscallProbe
from dna.sample import SYSCALL_CLASSES, SyscallReading
from dna.target import Target
from tests.real.watching import Watch, actor, bpf_marks

pytestmark = bpf_marks()
CLASS = {name: index for index, name in enumerate(SYSCALL_CLASSES)}
DD = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=5000", "status=none")


def strace_counts(argv: tuple[str, ...], folder: Path) -> tuple[dict[str, int], int]:
    """Return calls by name and errors as strace sees them."""
    if not shutil.which("strace"):
        pytest.skip("strace is the witness: `apt install strace`")
    out = folder / "strace"
    subprocess.run(["strace", "-f", "-c", "-o", str(out), *argv], check=True)
    counts, errors = {}, 0
    for line in out.read_text().splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?([a-z]\w+)$", line)
        if found and found[3] != "total":
            counts[found[3]] = int(found[1])
            errors += int(found[2] or 0)
    return counts, errors


def of_command(*argv: str) -> SyscallReading:
    with Watch(Target.command(argv), SyscallProbe) as watch:
        reading: SyscallReading = watch.finish()
    return reading


# What the launcher itself does between the gate and the exec: it gives SIGPIPE its default back.
BEFORE_EXEC = {"rt_sigaction"}
# Calls that do not return have no line in strace's table.
WITHOUT_RETURN = {"exit_group", "exit"}


def test_counts_by_name_are_those_of_strace(tmp_path: Path) -> None:
    expected, errors = strace_counts(DD, tmp_path)
    reading = of_command(*DD)
    seen = {name: count for name, count in reading.by_name.items() if name not in BEFORE_EXEC | WITHOUT_RETURN}
    assert seen == {name: count for name, count in expected.items() if name not in BEFORE_EXEC}
    assert reading.errors == errors
    assert reading.by_name["read"] > 5000
    assert reading.by_name["execve"] == 1


def test_counts_are_those_of_perf(tmp_path: Path) -> None:
    out = tmp_path / "perf"
    command = ["perf", "stat", "-x,", "-o", str(out), "-e", "raw_syscalls:sys_enter", "--", *DD]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("perf") else None
    line = out.read_text().splitlines()[-1] if done and done.returncode == 0 else ""
    if not line.split(",")[0].isdigit():
        pytest.skip("perf with tracepoints is the witness: `apt install linux-perf`, mount tracefs, be root")
    reading = of_command(*DD)
    seen = sum(count for name, count in reading.by_name.items() if name not in BEFORE_EXEC)
    # Between enabling its counter and the exec, perf's child makes at most a few calls.
    assert abs(seen - int(line.split(",")[0])) <= 5
    assert seen > 10000


def test_commands_that_fork_are_counted_whole(tmp_path: Path) -> None:
    script = ("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; ls / >/dev/null & wait; done; /bin/true")
    expected, _ = strace_counts(script, tmp_path)
    seen = of_command(*script).by_name
    for name in ("execve", "openat", "newfstatat", "clone", "clone3", "vfork", "mmap", "getdents64"):
        assert seen.get(name, 0) == expected.get(name, 0), name
    assert seen["execve"] >= 21


def test_classes_and_errors() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SyscallProbe) as watch:
        one("pass")
        watch.read()
        one("for _ in range(30): os.getppid()")
        quiet: SyscallReading = watch.read()
        one("for _ in range(50):\n try: os.stat('/no/such/thing')\n except OSError: pass")
        failing: SyscallReading = watch.read()
    assert quiet.by_name["getppid"] == 30
    assert quiet.by_class[CLASS["process"]] == 30
    assert quiet.by_class[CLASS["file"]] == 2
    assert quiet.errors == 0
    assert failing.errors == 50
    assert int(failing.by_class.sum()) == sum(failing.by_name.values())


def test_reads_and_writes_of_sockets_are_network() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SyscallProbe) as watch:
        one("import socket; a, b = socket.socketpair(); f = os.open('/dev/zero', 0)")
        watch.read()
        one("for _ in range(500): os.write(a.fileno(), b'x'); os.read(b.fileno(), 9)")
        sockets: SyscallReading = watch.read()
        one("for _ in range(1000): os.read(f, 9)")
        files: SyscallReading = watch.read()
        one("for _ in range(500): os.write(a.fileno(), b'x'); os.read(b.fileno(), 9); os.read(f, 9); os.read(f, 9)")
        mixed: SyscallReading = watch.read()
    assert sockets.by_class[CLASS["network"]] == pytest.approx(1000, abs=30)
    assert files.by_class[CLASS["network"]] == 0
    assert files.by_class[CLASS["file"]] >= 1000
    # Sampled one in `sample_every` in windows of 8: some 30 windows of an even mix.
    assert mixed.by_class[CLASS["network"]] == pytest.approx(1000, rel=0.25)


def test_latency_of_a_sleep_lands_in_its_bucket() -> None:
    with actor() as one, Watch(Target.pid(one.pid), SyscallProbe) as watch:
        one("import time")
        time.sleep(0.05)
        watch.read()  # few calls: from here on all are sampled
        one("for _ in range(10): time.sleep(0.02)")
        reading: SyscallReading = watch.read()
    assert reading.sample_every == 1
    assert reading.latency is not None
    slept = reading.latency[CLASS["time"]]
    assert slept.sum() == 10
    # 20 ms is in [2**24, 2**25) ns; a loaded machine may wake it later, never earlier.
    assert slept[:24].sum() == 0
    assert slept[24:28].sum() == 10


WAITS = {
    "time": "time.sleep(0.4)",
    "poll": "select.poll().poll(400)",
    "file": "os.read(late(), 1)",
    "network": "os.read(late_socket(), 1)",
    "sync": "lock.acquire(timeout=0.4)",
    "process": "os.waitpid(spawn(), 0)",
}
_SETUP = """
import time, select, threading, socket
lock = threading.Lock(); lock.acquire()
def spawn():
    pid = os.fork()
    if pid == 0:
        time.sleep(0.4)
        os._exit(0)
    return pid
def late():
    r, w = os.pipe()
    if os.fork() == 0:
        time.sleep(0.4)
        os.write(w, b"x")
        os._exit(0)
    return r
def late_socket():
    global a, b
    a, b = socket.socketpair()
    if os.fork() == 0:
        time.sleep(0.4)
        os.write(b.fileno(), b"x")
        os._exit(0)
    return a.fileno()
"""


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("kind", WAITS)
def test_time_blocked_is_charged_to_what_was_waited_in(kind: str) -> None:
    with actor() as one, Watch(Target.pid(one.pid), SyscallProbe) as watch:
        one(_SETUP)
        watch.read()
        began = time.monotonic()
        one(WAITS[kind])
        reading: SyscallReading = watch.read()
        took = time.monotonic() - began
    blocked = reading.blocked_s
    assert blocked is not None
    assert 0.38 < blocked[CLASS[kind]] <= took, blocked
    helper = kind in ("file", "network", "process")  # the child it waits for sleeps itself
    others = np.delete(blocked, [CLASS[kind], CLASS["time"], CLASS["file"]] if helper else [CLASS[kind], CLASS["file"]])
    assert others.sum() < 0.05
    if helper:
        assert 0.38 < blocked[CLASS["time"]] <= took


def test_a_wait_that_began_before_the_start_counts_from_the_start() -> None:
    with actor() as one:
        one("import time")
        one.begin("time.sleep(2)")
        time.sleep(0.3)
        began = time.monotonic()
        with Watch(Target.pid(one.pid), SyscallProbe) as watch:
            one.end()
            reading: SyscallReading = watch.read()
            took = time.monotonic() - began
    assert reading.blocked_s is not None
    assert 0.1 < reading.blocked_s[CLASS["time"]] <= took
