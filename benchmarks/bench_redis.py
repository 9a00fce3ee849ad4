"""Redis GET throughput watched by dna with all probes, over unwatched. Wanted: at least 0.95 (median of paired rounds).

Beside it, in the same rounds: bcc's syscount, `perf trace -s` and `strace -c`, which measure a small part of it.
Run as root: python -m benchmarks.bench_redis
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.harness import (
    Report,
    bcc_environment,
    dna_command,
    first_of,
    in_rounds,
    options,
    paired_ratios,
    tracefs,
)
from benchmarks.running import free_port

_ATTACH_S = 2.5
"""Every watcher gets this long to attach before the load begins; no watcher gets none, but the same pause."""


@contextmanager
def redis() -> Iterator[tuple[int, int]]:
    """Start a redis-server on loopback; yield (pid, port)."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                time.sleep(0.5)
                yield server.pid, port
            finally:
                server.terminate()


def throughput(port: int, requests: int) -> float:
    """Return GET requests per second of 50 clients."""
    done = subprocess.run(
        ["redis-benchmark", "-p", str(port), "-t", "get", "-n", str(requests), "-c", "50", "-q"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = re.findall(r"([\d.]+) requests per second", done.stdout)
    return float(found[-1])


@contextmanager
def watcher(command: list[str] | None, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a watcher beside the block; it must still run at the end, or it measured nothing."""
    if command is None:
        time.sleep(_ATTACH_S)
        yield
        return
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as run:
        try:
            time.sleep(_ATTACH_S)
            yield
            if run.poll() is not None:
                raise SystemExit(f"{command[0]} ended early: {log.read_text()[-400:]}")
        finally:
            run.send_signal(signal.SIGINT)
            try:
                run.wait(20)
            except subprocess.TimeoutExpired:
                run.kill()


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=9, quick_rounds=2)
    requests = 60_000 if given.quick else 300_000
    report = Report("redis", f"redis-benchmark GET, 50 clients, {requests} requests a round")
    with ExitStack() as stack:
        pid, port = stack.enter_context(redis())
        stack.enter_context(tracefs())
        environment = stack.enter_context(bcc_environment())
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
        commands: dict[str, list[str] | None] = {
            "unwatched": None,
            "dna": dna_command("profile", "--pid", str(pid), "--duration", "0", "--no-live", "--no-store"),
        }
        if syscount := first_of("syscount-bpfcc", "syscount"):
            commands["syscount"] = [syscount, "-p", str(pid)]
        if perf := shutil.which("perf"):
            commands["perf trace -s"] = [perf, "trace", "-s", "-p", str(pid)]
        if strace := shutil.which("strace"):
            commands["strace -c"] = [strace, "-f", "-c", "-p", str(pid)]

        def condition(command: list[str] | None) -> Callable[[], float]:
            def run() -> float:
                with watcher(command, environment, log):
                    return throughput(port, requests)

            return run

        results = in_rounds(
            {name: condition(command) for name, command in commands.items()}, rounds=given.rounds, seed=given.seed
        )
    report.add("unwatched", results["unwatched"], "requests/s", form="{:.0f}")
    ratios = {name: paired_ratios(results, name, "unwatched") for name in results if name != "unwatched"}
    medians = {name: report.add(f"{name} / unwatched", values, "") for name, values in ratios.items()}
    report.judge(f"dna leaves at least 0.95 of the throughput: {medians['dna']:.3f}", medians["dna"] >= 0.95)
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
