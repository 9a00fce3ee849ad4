"""On a machine with four nodes: processes and their pages come together, and a killed plan is taken back whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hal.apply import apply
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.observing import observe_machine, observe_processes
from hal.plan_json import plan_to_dict
from hal.planning import machine_id, make_plan
from hal.processes import start_of
from hal.settings import SYSTEM, Setting, Subject, Value, cgroup, process, tree
from hal.undo import interrupted, undo

ROOT = Path(__file__).resolve().parents[3]
HOST = LinuxHost()
MIB = 48

SLEEPER = """
import mmap, os, sys, threading, time
os.sched_setaffinity(0, {int(c) for c in sys.argv[1].split(",")})
size = int(sys.argv[2]) << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, size, 4096): memory[at] = 1
for _ in range(2): threading.Thread(target=time.sleep, args=(900,), daemon=True).start()
os.sched_setaffinity(0, range(os.cpu_count())) if len(sys.argv) > 3 else None
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def sleeper(cpus: str, *, unbound: bool = False) -> Iterator[int]:
    """Run a process whose memory was first touched from some CPUs; yield its pid."""
    command = [sys.executable, "-S", "-E", "-c", SLEEPER, cpus, str(MIB), *(["unbound"] if unbound else [])]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()


def pages_by_node(pid: int) -> dict[int, int]:
    """Return the anonymous pages of a process by node, as numa_maps has them."""
    found: dict[int, int] = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if " anon=" in line:
            for node, pages in re.findall(r" N(\d+)=(\d+)", line):
                found[int(node)] = found.get(int(node), 0) + int(pages)
    return found


def share(pid: int, node: int) -> float:
    pages = pages_by_node(pid)
    return pages.get(node, 0) / sum(pages.values())


def start(pid: int) -> int:
    found = start_of(HOST, pid)
    assert found
    return found


def test_a_pair_on_two_nodes_comes_together_and_goes_back(tmp_path: Path) -> None:
    with sleeper("0,1") as server, sleeper("6,7") as client:
        assert share(server, 0) > 0.8  # the rest is what the interpreter took before it was bound
        assert share(client, 3) > 0.8
        wanted = [
            Setting("cpu.affinity", tree(client, start(client)), "0-1"),
            Setting("memory.placement", process(client, start(client)), knob_of("memory.placement").parse("0")),
        ]
        journal = Journal(tmp_path)
        plan = make_plan(HOST, wanted, title="together")
        assert [change.knob for change in plan.changes][-1] == "memory.placement"  # threads first, then their pages
        done = apply(plan, HOST, journal)
        assert share(client, 0) > 0.9
        assert {tuple(sorted(os.sched_getaffinity(int(t)))) for t in os.listdir(f"/proc/{client}/task")} == {(0, 1)}
        result = undo(HOST, journal, done.identity)
        assert not result.failed
        assert share(client, 3) > 0.8
        assert {tuple(sorted(os.sched_getaffinity(int(t)))) for t in os.listdir(f"/proc/{client}/task")} == {(6, 7)}


APPLIER = """
import sys
sys.path.insert(0, sys.argv[1])
from hal.apply import apply
from hal.host import LinuxHost
from hal.journal import Journal, Writer
from hal.plan_json import plan_from_text
until, count = int(sys.argv[4]), 0
real = Writer.append
def append(self, record):
    global count
    count += 1
    if count == until:
        print("here", flush=True)
        sys.stdin.read()
    real(self, record)
Writer.append = append
apply(plan_from_text(open(sys.argv[2]).read()), LinuxHost(), Journal(sys.argv[3]))
print("whole", flush=True)
"""


def everything(pid: int) -> dict[tuple[str, Subject], Value]:
    """Return all settings that can be read: the machine's, and those of one process."""
    machine = observe_machine(HOST).config.values()
    return {**machine, **observe_processes(HOST, [pid]).config.values()}


def plan_of_many_kinds(pid: int) -> list[Setting]:
    """Return settings from as many families as this machine has."""
    root = tree(pid, start(pid))
    group = cgroup("/dna-lab")
    return [
        Setting("cgroup.controller_cpu", cgroup("/"), True),
        Setting("cgroup.exists", group, True),
        Setting("cgroup.cpu_quota", group, "50000/100000"),
        Setting("cgroup.member", process(pid, start(pid)), "/dna-lab"),
        Setting("cpu.affinity", root, "4-5"),
        Setting("cpu.nice", root, 4),
        Setting("memory.thp", SYSTEM, "never"),
        Setting("memory.swappiness", SYSTEM, 11),
        Setting("block.read_ahead", Subject("block", "nvme0n1"), 64),
        Setting("nic.mtu", Subject("nic", "eth0"), 1400),
        Setting("pcie.max_read_request", Subject("pci", "0000:21:00.0"), 256),
    ]


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_kill_9_in_the_middle_of_a_plan_of_many_kinds(tmp_path: Path, part: float) -> None:
    with sleeper("0,1", unbound=True) as pid:
        before = everything(pid)
        plan = make_plan(HOST, plan_of_many_kinds(pid))
        assert {change.knob for change in plan.changes} == {s.knob for s in plan_of_many_kinds(pid)}, plan.left_out
        (tmp_path / "plan.json").write_text(json.dumps(plan_to_dict(plan)))
        folder = tmp_path / "journal"
        at = 1 + round(part * 2 * len(plan.changes))
        words = [sys.executable, "-c", APPLIER, str(ROOT), str(tmp_path / "plan.json"), str(folder), str(at)]
        applier = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert applier.stdout
        assert applier.stdout.readline() == "here\n"
        applier.send_signal(signal.SIGKILL)
        applier.wait()
        assert everything(pid) != before
        (transaction,) = interrupted(Journal(folder), machine_id(HOST))
        result = undo(HOST, Journal(folder), transaction.identity)
        assert not result.failed
        assert not result.kept
        assert everything(pid) == before
