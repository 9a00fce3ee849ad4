"""On a machine with four nodes: the loop alone finds a process whose memory is on the wrong node, moves it, and keeps that.

The machine is emulated and all its memory equally far, so a remote access costs nothing. The program under test therefore slows itself by
a stated model: before each unit of work it asks the kernel (move_pages) on which nodes a sample of its pages is, and takes
UNIT_S times their mean distance from its own node, as the machine's own table of distances has it, 1 being local. What it reports is the
count of the units that it really did. The price of distance is modelled; pages, moves, loop, journal and records are real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.guest.test_advise import BALANCING, DNA, share

MIB = 288  # more than what rules hold for large, which is what caches hold
HOME, HERE = 0, 2
"""Nodes, far from each other: where the memory is, and where the thread runs."""
UNIT_S = 0.03
LIMIT_S = 240.0
SILENT_S = 120.0
"""A loop that has not said a word by then is made to tell where it stands, and is started once more: QEMU loses a wake-up now and then."""

PROGRAM = f"""
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
os.sched_setaffinity(0, {{{2 * HOME}, {2 * HOME + 1}}})
area = bytearray({MIB} << 20)
os.sched_setaffinity(0, {{{2 * HERE}, {2 * HERE + 1}}})
far = [int(word) / 10 for word in open("/sys/devices/system/node/node{HERE}/distance").read().split()]
start, count = ctypes.addressof(ctypes.c_char.from_buffer(area)), 64
pages = (ctypes.c_void_p * count)(*(start + number * (len(area) // count) for number in range(count)))
nodes = (ctypes.c_int * count)()
def distance():
    if libc.syscall(279, 0, ctypes.c_ulong(count), pages, None, nodes, 0):  # move_pages, x86-64: where each is
        raise OSError(ctypes.get_errno(), "move_pages")
    return sum(far[node] for node in nodes) / count
worked = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
units, at, step, ready = 0, 0, 1 << 20, time.monotonic()
os.write(worked, b"%20d\\n" % units)
print("ready", flush=True)
while True:
    area.count(1, at, at + step)
    at = (at + step) % len(area)
    ready = max(ready, time.monotonic() - 1) + {UNIT_S} * distance()
    time.sleep(max(ready - time.monotonic(), 0))
    units += 1
    os.pwrite(worked, b"%20d\\n" % units, 0)
"""


@pytest.fixture
def slowed(tmp_path: Path) -> Iterator[int]:
    """A process on one node with its memory on a far one, which the kernel leaves there."""
    before = BALANCING.read_text() if BALANCING.exists() else ""
    if before:
        BALANCING.write_text("0")
    words = [sys.executable, "-S", "-E", "-c", PROGRAM, str(tmp_path / "units")]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        if before:
            BALANCING.write_text(before)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    own = {
        "DNA_JOURNAL": "journal",
        "DNA_STORE": "history.db",
        "DNA_SCULPT": "runs",
        "DNA_LEARNED": "learned.db",
        "DNA_RUN": "run",
    }
    return {**os.environ, **{name: str(tmp_path / path) for name, path in own.items()}, "DNA_RULES": ""}


def run_until_made(pid: int, tmp_path: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run the loop until it says that something was made for good; return its records."""
    for _ in range(2):
        if steps := run_once(pid, tmp_path, environment):
            return steps
        print("the loop said nothing, and stood here:", (tmp_path / "errors").read_text(), sep="\n", flush=True)
    pytest.fail("twice the loop said nothing at all")


def run_once(pid: int, tmp_path: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run the loop once; return its records, none where it never said anything."""
    words = ["--pid", str(pid), "--mode", "apply", "--on-exit", "keep", "--packs", "numa", "--json"]
    metric = f"throughput=rate:file:{tmp_path / 'units'}"
    # Instructions cannot be sampled well in an emulated machine (nine of ten are branches), so every program is unlike any known here.
    (tmp_path / "guard.toml").write_text("most_novelty = 1000\n")
    # And what the loop costs is ten to twenty times what it costs elsewhere: it would slow down for it.
    limits = ["--guard", str(tmp_path / "guard.toml"), "--interval", "1.5", "--own-limit", "100%"]
    command = [*DNA, "sculpt", *words, *limits, "--metric", metric]
    steps: list[dict[str, Any]] = []
    with open(tmp_path / "errors", "w") as errors:
        told = {**environment, "PYTHONFAULTHANDLER": "1"}
        loop = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=errors, text=True)

    def look() -> None:
        if not steps:
            loop.send_signal(signal.SIGABRT)  # faulthandler then writes all stacks

    limits_s = [threading.Timer(SILENT_S, look), threading.Timer(LIMIT_S, loop.terminate)]
    for limit in limits_s:
        limit.start()
    try:
        assert loop.stdout
        for line in loop.stdout:
            print(line, end="", flush=True)  # shown where the test fails
            steps.append(json.loads(line))
            if steps[-1]["decision"]["event"] == "made":
                loop.terminate()  # as a service is ended: what is proven stays, since it was told to keep
        assert loop.wait() == 0 or not steps, (tmp_path / "errors").read_text()
    finally:
        for limit in limits_s:
            limit.cancel()
        loop.kill()
        loop.wait()
    return steps


@pytest.mark.timeout(600)
def test_memory_on_the_wrong_node_is_found_moved_and_kept_by_the_loop_alone(
    compiled: None, slowed: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    assert share(slowed, HOME) > 0.8
    steps = run_until_made(slowed, tmp_path, environment)
    story = [(step["in_force"], step["proposed"], step["held"], step["decision"], step["alerts"]) for step in steps]

    proposed = [
        n for n, step in enumerate(steps) if any("numa.pages_follow_threads" in one for one in step["proposed"])
    ]
    moved = [n for n, step in enumerate(steps) if step["done"] and step["done"]["changed"]]
    made = [n for n, step in enumerate(steps) if step["decision"]["event"] == "made"]
    assert proposed, story
    assert moved, story
    assert made, story
    assert steps[moved[0]]["decision"]["event"] == "trial"
    assert proposed[0] <= moved[0] < made[0]
    kept = steps[made[0]]["decision"]
    assert "numa.pages_follow_threads" in kept["candidate"]
    low, high = kept["interval"]
    assert 0 < low < kept["gain"] < high, kept  # modelled: log(2.1), and the emulation's noise
    assert max(one["reward"] for one in steps[: moved[0]] if one["reward"]) < steps[made[0]]["reward"]

    assert share(slowed, HERE) > 0.9  # the kernel's own word, after the loop has ended
    assert os.sched_getaffinity(slowed) == {2 * HERE, 2 * HERE + 1}

    taken_back = subprocess.run([*DNA, "undo", "--json"], env=environment, capture_output=True, text=True, check=False)
    assert taken_back.returncode == 0, taken_back.stderr
    (result,) = json.loads(taken_back.stdout)
    assert [one["knob"] for one in result["restored"]] == ["memory.placement"]
    assert share(slowed, HOME) > 0.8
