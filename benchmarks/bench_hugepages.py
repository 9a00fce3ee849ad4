"""What collapsing a running program's memory into huge pages gains: random access over it, against a twin that is left alone.

Both programs are measured in turn, each round in another order, first as they are and then after ``memory.hugepages`` was set on
one of them through a plan, as ``dna set`` does it. The ratio of the rounds is the twin's time an access over the collapsed one's.
Run as root: python -m benchmarks.bench_hugepages
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness import Options, Report, in_rounds, options, paired_ratios
from hal.apply import apply
from hal.host import LinuxHost
from hal.journal import Journal
from hal.knobs import knob_of
from hal.knobs.amount import meminfo
from hal.planning import make_plan
from hal.processes import start_of
from hal.settings import Setting, Subject, process

HOST = LinuxHost()
KNOB = knob_of("memory.hugepages")
MOST_MIB = 1024
_WANTED = 1.2
"""Ratio to be judged by; about 1.5 to 2 was seen on machines whose page walks are nested (virtual ones)."""


class Walker:
    """The program, waiting to be told to run a round."""

    def __init__(self, binary: Path, mib: int, steps: int) -> None:
        self.process = subprocess.Popen(
            [binary, str(mib), str(steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    @property
    def subject(self) -> Subject:
        """Return it as what a setting is on."""
        return process(self.process.pid, start_of(HOST, self.process.pid) or 0)

    def round(self) -> float:
        """Return nanoseconds an access."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def huge_mib(self) -> float:
        """Return how much of it the kernel has in huge pages."""
        text = HOST.read_text(f"/proc/{self.process.pid}/smaps_rollup")
        return int(text.partition("AnonHugePages:")[2].split()[0]) / 1024


def size_mib(quick: bool) -> int:
    """Return how much each of the two may have: an eighth of what is available, at most 1 GiB."""
    return min(meminfo(HOST, "MemAvailable") // 8 >> 20, MOST_MIB // 4 if quick else MOST_MIB)


def collapse(walker: Walker, folder: Path) -> float:
    """Make huge pages of its memory; return the seconds that took."""
    plan = make_plan(HOST, [Setting(KNOB.name, walker.subject, KNOB.parse("collapse"))])
    began = HOST.monotonic_ns()
    apply(plan, HOST, Journal(folder))
    return (HOST.monotonic_ns() - began) / 1e9


def measure(given: Options, report: Report, folder: Path, stack: ExitStack) -> None:
    """Run both programs, before and after."""
    binary = folder / "random_access"
    source = Path(__file__).parent / "c" / "random_access.c"
    subprocess.run(["cc", "-O2", "-o", str(binary), str(source)], check=True)
    mib = size_mib(given.quick)
    walkers = {}
    for name in ("twin", "collapsed"):
        walkers[name] = Walker(binary, mib, 500_000 if given.quick else 2_000_000)
        stack.callback(walkers[name].process.kill)
    conditions = {name: walker.round for name, walker in walkers.items()}
    report.note("memory of each", f"{mib} MiB")
    before = in_rounds(conditions, rounds=given.rounds, seed=given.seed)
    report.add("before, twin / other", paired_ratios(before, "twin", "collapsed"), "", form="{:.2f}")
    report.add("collapsing", [collapse(walkers["collapsed"], folder / "journal")], "s", form="{:.2f}")
    after = in_rounds(conditions, rounds=given.rounds, seed=given.seed)
    for name, walker in walkers.items():
        report.add(f"after, {name}", after[name], "ns an access", form="{:.0f}")
        report.note(f"in huge pages, {name}", f"{walker.huge_mib():.0f} MiB")
    ratio = report.add("after, twin / collapsed", paired_ratios(after, "twin", "collapsed"), "", form="{:.2f}")
    report.judge(f"random access is at least {_WANTED:g} times as fast in huge pages", ratio >= _WANTED)


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=15, quick_rounds=3)
    report = Report("hugepages", "a running program's memory collapsed into huge pages")
    support = KNOB.support(HOST)
    if not support.works:
        print(f"hugepages: cannot be measured here: {support.reason}; {support.remedy}", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        measure(given, report, Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
