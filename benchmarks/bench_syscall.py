"""Cost of a system call in a tight getppid loop: unwatched, with an empty raw tracepoint program, with dna, with syscount.

The empty program is what any BPF tool pays at least; dna's cost above it is its own. dna also hooks the return of calls.
Run as root: python -m benchmarks.bench_syscall
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bench_redis import watcher
from benchmarks.harness import Report, bcc_environment, dna_command, first_of, in_rounds, options, tracefs
from hal.bpf.loader import BpfProgram
from hal.bpf.object import ProgramSpec
from hal.host import LinuxHost

# r0 = 0; exit
_EMPTY = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)


@contextmanager
def empty_program(*tracepoints: str) -> Iterator[None]:
    """Attach a program that does nothing."""
    program = BpfProgram(LinuxHost(), ProgramSpec("empty", _EMPTY), "raw_tracepoint", [])
    try:
        for tracepoint in tracepoints:
            program.attach_raw_tracepoint(tracepoint)
        yield
    finally:
        program.close()


class Loop:
    """The loop, waiting to be told to run a round."""

    def __init__(self, folder: Path, calls: int) -> None:
        binary = folder / "getppid"
        source = Path(__file__).parent / "c" / "getppid.c"
        subprocess.run(["cc", "-O2", "-o", str(binary), str(source)], check=True)
        self.process = subprocess.Popen([binary, str(calls)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self) -> float:
        """Return nanoseconds a call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=11, quick_rounds=2)
    report = Report("syscall", "getppid in a tight loop")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loop = Loop(folder, 300_000 if given.quick else 2_000_000)
        stack.callback(loop.process.kill)
        stack.enter_context(tracefs())
        environment = stack.enter_context(bcc_environment())
        pid = str(loop.process.pid)
        log = folder / "log"

        def watched(command: list[str] | None) -> Callable[[], float]:
            def run() -> float:
                with watcher(command, environment, log):
                    return loop.round()

            return run

        def with_empty(*tracepoints: str) -> Callable[[], float]:
            def run() -> float:
                with empty_program(*tracepoints):
                    return loop.round()

            return run

        conditions: dict[str, Callable[[], float]] = {
            "unwatched": loop.round,
            "empty program at entry": with_empty("sys_enter"),
            "empty programs at entry and return": with_empty("sys_enter", "sys_exit"),
            "dna": watched(dna_command("profile", "--pid", pid, "--duration", "0", "--no-live", "--no-store")),
        }
        if syscount := first_of("syscount-bpfcc", "syscount"):
            conditions["syscount"] = watched([syscount, "-p", pid])
            conditions["syscount -L (latency)"] = watched([syscount, "-L", "-p", pid])
        results = in_rounds(conditions, rounds=given.rounds, seed=given.seed)
    base = results["unwatched"]
    report.add("unwatched", base, "ns a call", form="{:.0f}")
    added = {
        name: [value - other for value, other in zip(values, base, strict=True)]
        for name, values in results.items()
        if name != "unwatched"
    }
    for name, values in added.items():
        report.add(f"added by {name}", values, "ns a call", form="{:.0f}")
    empty = added["empty programs at entry and return"]
    ratios = [value / max(other, 1.0) for value, other in zip(added["dna"], empty, strict=True)]
    report.add("dna / empty programs, of what they add", ratios, "")
    if "syscount" in added:
        ratios = [value / max(other, 1.0) for value, other in zip(added["dna"], added["syscount"], strict=True)]
        report.add("dna / syscount, of what they add", ratios, "")
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
