"""Reading the configuration of 1,000 processes with 10,000 threads, and planning for 200 targets on 256 cores.

Reading is held against psutil asked for the same of each thread. Planning is pure: for a machine that is only described, from
the observed and the desired configuration to ordered changes; and whole (resolving trees, finding pins, observing) for the
200 processes with their threads on this machine. Run: ``python -m benchmarks.bench_config``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.harness import Options, Report, in_rounds, options, paired_ratios
from hal.arrange import pack
from hal.host import LinuxHost
from hal.lists import format_cpu_list
from hal.observing import observe_machine, observe_processes
from hal.planning import diff, make_plan
from hal.processes import start_of
from hal.settings import MachineId, ServerConfig, Setting, thread, tree
from hal.topology import from_synthetic

HOST = LinuxHost()
PROCESSES, THREADS = 1000, 10
TARGETS, TARGET_THREADS = 200, 10
MACHINE = "pack:4 numa:2 l3:4 core:8 pu:2"
"""256 cores, 512 CPUs, 8 NUMA nodes, 32 last-level caches."""


@contextmanager
def crowd(processes: int, threads: int) -> Iterator[list[int]]:
    """Run so many processes of so many sleeping threads; yield their pids."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "crowd"
        source = Path(__file__).parent / "c" / "crowd.c"
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(binary), str(source)], check=True)
        command = [str(binary), str(processes), str(threads)]
        leader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert leader.stdout
            if leader.stdout.readline() != "ready\n":
                raise SystemExit("the crowd did not come up: see `ulimit -u` and /proc/sys/kernel/pid_max")
            yield [child.pid for child in psutil.Process(leader.pid).children()]
        finally:
            os.killpg(leader.pid, signal.SIGKILL)
            leader.wait()


def timed_ours() -> float:
    """Return the seconds that everything takes: the machine's settings, and those of each process and thread."""
    began = time.perf_counter()
    observe_machine(HOST)
    observe_processes(HOST)
    return time.perf_counter() - began


def timed_threads(pids: list[int]) -> float:
    """Return the seconds that the crowd's affinities, policies and nice values take."""
    began = time.perf_counter()
    found = observe_processes(HOST, pids, ["cpu"])
    seconds = time.perf_counter() - began
    assert len(found.config) == 3 * PROCESSES * THREADS, len(found.config)
    return seconds


def timed_psutil(pids: list[int]) -> float:
    """Return the seconds that psutil takes for the same."""
    began = time.perf_counter()
    count = 0
    for pid in pids:
        for one in psutil.Process(pid).threads():
            task = psutil.Process(one.id)
            task.cpu_affinity()
            task.nice()
            os.sched_getscheduler(one.id)
            count += 1
    assert count == PROCESSES * THREADS
    return time.perf_counter() - began


def timed_described_plan() -> float:
    """Return the seconds from 200 targets on a described machine to a plan."""
    began = time.perf_counter()
    shape = from_synthetic(MACHINE)
    everywhere = format_cpu_list(cpu.os_index for cpu in shape.cpus)
    threads = [
        [thread(target * 100 + n, target + 1) for n in range(TARGET_THREADS)] for target in range(1, TARGETS + 1)
    ]
    observed = [Setting("cpu.affinity", one, everywhere) for group in threads for one in group]
    nodes = [node.os_index for node in shape.nodes]
    desired = [
        Setting("cpu.affinity", one, format_cpu_list(pack(shape, 4, near=nodes[number % len(nodes)])))
        for number, group in enumerate(threads)
        for one in group[:1]
    ]
    spread = {setting.subject.start: setting.value for setting in desired}
    wanted = [Setting("cpu.affinity", one, spread[one.start]) for group in threads for one in group]
    plan = diff(ServerConfig.of(observed), ServerConfig.of(wanted), machine=MachineId("described", ""))
    assert len(plan.changes) == TARGETS * TARGET_THREADS
    return time.perf_counter() - began


def timed_real_plan(pids: list[int]) -> float:
    """Return the seconds from 200 running processes to a plan for their threads."""
    began = time.perf_counter()
    wanted = [Setting("cpu.nice", tree(pid, start_of(HOST, pid) or 0), 3) for pid in pids[:TARGETS]]
    plan = make_plan(HOST, wanted)
    assert len(plan.changes) == TARGETS * THREADS
    return time.perf_counter() - began


def measure(given: Options, report: Report, pids: list[int]) -> None:
    """Run the rounds and fill the report."""
    results = in_rounds(
        {
            "everything": timed_ours,
            "threads, dna": lambda: timed_threads(pids),
            "threads, psutil": lambda: timed_psutil(pids),
            "plan, described": timed_described_plan,
            "plan, real": lambda: timed_real_plan(pids),
        },
        rounds=given.rounds,
        seed=given.seed,
    )
    report.add("reading everything", results["everything"], "s")
    report.add("the threads' settings, dna", results["threads, dna"], "s")
    report.add("the same by psutil", results["threads, psutil"], "s")
    ratio = report.add("psutil / dna", paired_ratios(results, "threads, psutil", "threads, dna"), "")
    report.add("plan for 200 targets of 2,000 threads, described machine of 256 cores", results["plan, described"], "s")
    report.add("plan for 200 running processes of 2,000 threads", results["plan, real"], "s")
    report.judge("reading the threads costs no more than psutil", ratio >= 1)


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=7, quick_rounds=2)
    report = Report("config", f"{PROCESSES} processes of {THREADS} threads; {TARGETS} targets on {MACHINE}")
    with crowd(PROCESSES, THREADS) as pids:
        measure(given, report, pids)
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
