"""The communication graph of programs whose shape is known, and where page faults fall."""

from __future__ import annotations

import os
import subprocess
import time
from itertools import pairwise
from typing import Any

import pytest

from dna.probes.faults import FaultPattern, FaultProbe
from dna.probes.graph import GraphProbe
from dna.sample import CHANNELS, GraphReading
from dna.target import Target
from hal.processes import read_process
from tests.real.watching import HOST, Watch, actor, bpf_marks, wait_for

pytestmark = bpf_marks()

# Each stage takes its input in lines as they come and hands them on at once; the first one paces the chain.
_STAGES = """
import time
def pump(source, sink):
    while data := os.read(source, 100): os.write(sink, data)
    os._exit(0)
def stage(name, work):
    pid = os.fork()
    if pid == 0:
        open('/proc/self/comm', 'w').write(name)
        work()
        os._exit(0)
    return pid
def produce():
    for _ in range(400):
        os.write(w1, b'x')
        time.sleep(0.001)
r1, w1 = os.pipe(); r2, w2 = os.pipe(); hold, release = os.pipe()
def only(*keep):
    for fd in (r1, w1, r2, w2, hold, release):
        if fd not in keep: os.close(fd)
def first(): only(hold, w1); os.read(hold, 1); produce()
def second(): only(r1, w2); pump(r1, w2)
def third():
    only(r2)
    while os.read(r2, 100): pass
pids = [stage('one', first), stage('two', second), stage('three', third)]
for fd in (r1, w1, r2, w2, hold): os.close(fd)
open('/proc/self/comm', 'w').write('idle')
"""


def children(pid: int) -> dict[str, int]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(HOST, int(name))) and process.parent == pid:
            found[process.comm] = process.pid
    return found


def pairs(graph: GraphReading, *, least: int = 1) -> dict[tuple[str, str], str]:
    return {(e.source_name, e.sink_name): e.channel for e in graph.edges if e.count >= least}


def test_a_pipe_of_three_stages_is_that_chain() -> None:
    with actor() as one:
        one(_STAGES)
        wait_for(lambda: set(children(one.pid)) == {"one", "two", "three"}, "the stages run")
        stages = children(one.pid)
        wait_for(
            lambda: HOST.read_text(f"/proc/{stages['three']}/syscall").startswith("0 "),
            "the last stage waits for input",
        )
        with Watch(Target.pid(one.pid), GraphProbe) as watch:
            one("os.write(release, b'x'); time.sleep(0.3)")
            graph: GraphReading = watch.read()
    inside = [e for e in graph.edges if {e.source, e.sink} <= {one.pid, *stages.values()}]
    chain = {(e.source, e.sink): e for e in inside if e.source != one.pid}
    assert set(chain) == {(stages["one"], stages["two"]), (stages["two"], stages["three"])}
    for edge in chain.values():
        assert edge.channel == "pipe"
        assert edge.count > 50
    # The idle parent wakes the first stage when it releases it, and nobody else.
    assert {(e.source, e.sink) for e in inside if e.source == one.pid} == {(one.pid, stages["one"])}
    assert graph.nodes == 4
    assert graph.pairs == 3
    assert graph.reciprocal_pairs == 0
    assert graph.by_channel[CHANNELS.index("pipe")] > 100


def ping_pong(setup: str, this: str, other: str, rounds: int = 200) -> tuple[GraphReading, int]:
    """Return the graph of two threads that take turns."""
    code = f"""
import threading
{setup}
def partner():
    for _ in range({rounds}): {other}
thread = threading.Thread(target=partner)
"""
    with actor() as one, Watch(Target.pid(one.pid), GraphProbe) as watch:
        one(code)
        watch.read()
        one(f"thread.start()\nfor _ in range({rounds}): {this}\nthread.join()")
        reading: GraphReading = watch.read()
    return reading, one.pid


@pytest.mark.parametrize(
    ("setup", "this", "other", "channel"),
    [
        (
            "a = threading.Semaphore(0); b = threading.Semaphore(0)",
            "a.release(); b.acquire()",
            "a.acquire(); b.release()",
            "futex",
        ),
        (
            "import socket; a, b = socket.socketpair()",
            "a.send(b'x'); a.recv(1)",
            "b.recv(1); b.send(b'x')",
            "socket",
        ),
        (
            "import socket; c, d = socket.socketpair(); a, b = c.fileno(), d.fileno()",
            "os.write(a, b'x'); os.read(a, 1)",
            "os.read(b, 1); os.write(b, b'x')",
            "socket",
        ),
        (
            "r, w = os.pipe(); s, x = os.pipe()",
            "os.write(w, b'x'); os.read(s, 1)",
            "os.read(r, 1); os.write(x, b'x')",
            "pipe",
        ),
    ],
    ids=["futex", "send", "write to a socket", "pipe"],
)
def test_threads_that_take_turns_are_a_reciprocal_pair(setup: str, this: str, other: str, channel: str) -> None:
    graph, pid = ping_pong(setup, this, other)
    assert graph.pairs == 2
    assert graph.reciprocal_pairs == 2
    assert graph.nodes == 2
    # Threads of one Python hand the interpreter's lock to each other as well, which is a futex.
    assert graph.by_channel[CHANNELS.index(channel)] > 100
    # Interrupts wake others while one of the two is in a call; that is seldom, and across the target's border.
    ends = [(e.source, e.sink) for e in graph.edges if os.getpid() not in (e.source, e.sink)]
    (partner,) = set(ends[0]) - {pid}
    assert {(pid, partner), (partner, pid)} <= set(ends)


def test_kernel_threads_are_nobody_s_partner() -> None:
    with actor() as one, Watch(Target.pid(one.pid), GraphProbe) as watch:
        one("import tempfile, time; f, path = tempfile.mkstemp(); os.unlink(path)")
        watch.read()
        one("for _ in range(20): os.write(f, bytes(1 << 16)); os.fsync(f); time.sleep(0.005)")
        graph: GraphReading = watch.read()
    for edge in graph.edges:
        for pid in (edge.source, edge.sink):
            assert pid != 0
            process = read_process(HOST, pid)
            assert process is None or (process.pid != 2 and process.parent != 2), edge


def test_wakeups_across_the_targets_border_are_outside() -> None:
    with actor() as one, actor() as other, Watch(Target.pid(one.pid), GraphProbe) as watch:
        other("pass")
        watch.read()
        for _ in range(20):
            one("pass")
        graph: GraphReading = watch.read()
    assert graph.inside == 0
    assert graph.pairs == 0
    assert graph.outside >= 20
    ends = {(edge.source, edge.sink) for edge in graph.edges}
    assert (os.getpid(), one.pid) in ends
    assert not any(other.pid in pair for pair in ends)


def test_a_timer_that_interrupts_is_nobody_s_message() -> None:
    """Two threads that have nothing to do with each other: one in system calls all the time, the other sleeping often."""
    code = """
import threading, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def sleep(): [time.sleep(0.0005) for _ in range(300)]
if (pid := os.fork()) == 0:
    os.read(go, 1)
    sleep()
    os._exit(0)
"""
    with actor() as one, Watch(Target.pid(one.pid), GraphProbe) as watch:
        one(f"go, start = os.pipe(); f = os.open('/dev/zero', 0)\n{code}")
        one("os.write(start, b'x')")
        watch.read()
        one("for _ in range(200000): os.read(f, 4096)")
        graph: GraphReading = watch.read()
        one("os.kill(pid, 9); os.wait()")
    assert graph.inside <= 2
    assert graph.pairs <= 1


def test_a_full_map_of_edges_is_counted_as_lost() -> None:
    code = "import threading\ngo = threading.Event()\nthreads = [threading.Thread(target=go.wait) for _ in range(60)]"
    with actor() as one, Watch(Target.pid(one.pid), GraphProbe, edges=16) as watch:
        one(f"{code}\n[t.start() for t in threads]")
        watch.readings()
        one("go.set(); [t.join() for t in threads]")
        (reading,) = watch.readings()
        assert reading.lost > 0
        one("pass")
        (quiet,) = watch.readings()
    assert quiet.lost == 0
    assert reading.value.pairs <= 16


# --- page faults

_TOUCH = """
import mmap, random
size = 64 << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
pages = list(range(0, size, 4096))
random.Random(1).shuffle(pages)
"""


def touched(order: str) -> Any:
    with actor() as one, Watch(Target.pid(one.pid), FaultProbe) as watch:
        one(_TOUCH)
        watch.read()
        one(order)
        return watch.read()


@pytest.mark.slow
def test_faults_of_a_sequential_and_a_random_toucher() -> None:
    forward: FaultPattern = touched("for at in range(0, 16 << 20, 4096): memory[at] = 1")
    backward: FaultPattern = touched("for at in range(16 << 20, 0, -4096): memory[at] = 1")
    strided: FaultPattern = touched("for at in range(0, 64 << 20, 1 << 18): memory[at] = 1")
    anywhere: FaultPattern = touched("for at in pages[:4096]: memory[at] = 1")
    for pattern in (forward, backward):
        assert pattern.sequential > 4000
        assert pattern.random < 0.03 * pattern.sequential
    assert strided.near > 0.9 * 256 - 20
    assert strided.sequential < 100
    assert anywhere.random > 0.9 * 4096
    assert anywhere.sequential < 0.05 * 4096


def test_many_processes_in_a_pipe_line_have_as_many_edges() -> None:
    """A shell's pipeline, started before the watch, from the outside in."""
    shell = subprocess.Popen("sleep 0.7; yes | head -c 20000000 | cat | wc -c", shell=True, stdout=subprocess.PIPE)
    try:
        with Watch(Target.pid(shell.pid), GraphProbe) as watch:
            shell.communicate(timeout=60)
            time.sleep(0.05)
            graph: GraphReading = watch.read()
    finally:
        shell.kill()
    # A stage first woken before its exec keeps the name it then had, the shell's.
    found = {pair for pair, channel in pairs(graph, least=5).items() if channel == "pipe"}
    through_pipes = {pair for pair in found if "sh" not in pair}
    line = ["yes", "head", "cat", "wc"]
    neighbours = {frozenset(pair) for pair in pairwise(line)}
    assert through_pipes
    assert {frozenset(pair) for pair in through_pipes} <= neighbours
