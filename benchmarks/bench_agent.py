"""Cost of the agent itself: CPU and memory at interval 5 s on one process and on 500; 1,000 threads; 5,000 forks a second.

Wanted: at most 1 % of a core and 100 MB resident on one process, at most 5 % of a core on 500. The CPU of BPF programs runs
in the context of whatever is watched and is shown apart. Run as root: python -m benchmarks.bench_agent
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench_redis import redis
from benchmarks.harness import Options, Report, dna_command, options
from benchmarks.running import free_port

_TICKS = os.sysconf("SC_CLK_TCK")

_MANY_PROCESSES = """
import os, time
for _ in range(499):
    if os.fork() == 0:
        while True:
            time.sleep(0.05)
            sum(range(2000))
while True:
    time.sleep(0.1)
"""

_MANY_THREADS = """
import threading, time
def work():
    while True:
        time.sleep(0.1)
for _ in range(1000):
    threading.Thread(target=work, daemon=True).start()
time.sleep(3600)
"""

_FORKS = """
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
  for (;;) {
    struct timespec pause = {0, 10 * 1000 * 1000};
    for (int i = 0; i < 50; i++)
      if (vfork() == 0)
        _exit(0);
    while (waitpid(-1, 0, WNOHANG) > 0)
      ;
    nanosleep(&pause, 0);
  }
}
"""


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    return int(found[1]) / 1000 if found else float("nan")


@contextmanager
def group(command: list[str]) -> Iterator[int]:
    """Run a command in a process group of its own, ended whole."""
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(1.5)
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def watch(pid: int, *, intervals: int, interval: float = 5.0) -> tuple[float, float, dict[str, object]]:
    """Profile a process; return (share of a core after the start, peak resident MB, the profile)."""
    duration = intervals * interval
    command = dna_command(
        "profile", "--pid", str(pid), "--interval", str(interval), "--duration", str(duration), "--no-live", "--no-store",
        "--json", "-",
    )  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        time.sleep(4.0)  # the start is paid once and measured by bench_startup
        began, at = _cpu_s(agent.pid), time.monotonic()
        time.sleep(max(duration - 4.0, interval - 1.0))
        share = (_cpu_s(agent.pid) - began) / (time.monotonic() - at)
        resident = _resident_mb(agent.pid)
        out, err = agent.communicate(timeout=60)
    if agent.returncode:
        raise SystemExit(f"dna profile failed: {err}")
    return share, resident, json.loads(out)


def _quality(document: dict[str, object]) -> str:
    rows = document["intervals"]
    assert isinstance(rows, list)
    lost = {name: count for row in rows for name, count in row["quality"]["lost"].items()}
    coverage = {name: share for row in rows for name, share in row["quality"]["coverage"].items()}
    bpf = [row["quality"]["bpf_cpu_s"] or 0.0 for row in rows]
    threads = rows[-1]["demand"]["threads"]
    return f"threads {threads:.0f}, lost {lost or 'nothing'}, coverage {coverage or 'all'}, BPF {sum(bpf) / len(bpf):.3f} s an interval"


def _measure(report: Report, name: str, pid: int, given: Options) -> tuple[float, float]:
    shares, sizes = [], []
    for _ in range(given.rounds):
        share, size, document = watch(pid, intervals=2 if given.quick else 5)
        shares.append(share * 100)
        sizes.append(size)
        report.note(f"{name}: seen", _quality(document))
    return report.add(f"{name}: CPU", shares, "% of a core"), report.add(f"{name}: peak resident", sizes, "MB")


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=3, quick_rounds=1)
    report = Report("agent", "cost of `dna profile --interval 5`")
    with redis() as (pid, port):
        load = ["redis-benchmark", "-p", str(port), "-t", "get", "-n", "100000000", "-q"]
        with group(load):
            cpu, size = _measure(report, "one process (redis under load)", pid, given)
    report.judge(f"one process: at most 1 % of a core: {cpu:.2f} %", cpu <= 1.0)
    report.judge(f"one process: at most 100 MB resident: {size:.0f} MB", size <= 100.0)
    with group([sys.executable, "-c", _MANY_PROCESSES]) as pid:
        cpu, _ = _measure(report, "500 processes", pid, given)
    report.judge(f"500 processes: at most 5 % of a core: {cpu:.2f} %", cpu <= 5.0)
    with group([sys.executable, "-c", _MANY_THREADS]) as pid:
        _measure(report, "1,000 threads", pid, given)
    binary = f"/tmp/dna-forks-{free_port()}"
    subprocess.run(["cc", "-O2", "-x", "c", "-o", binary, "-"], input=_FORKS, text=True, check=True)
    try:
        with group([binary]) as pid:
            _measure(report, "5,000 forks a second", pid, given)
    finally:
        os.unlink(binary)
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
