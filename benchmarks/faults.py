"""The fault campaign: a real ``dna sculpt`` on real processes, and everything that can go wrong with it; a count at the end.

``python -m benchmarks.faults [--quick] [--seed N] [--case WORDS]``. Each run begins with a fresh program and a snapshot of all that the loop may set on it;
at the end it must be as found, or as declared for that case, and nothing may stand in the journal. Exit status 0 where all pass.
The machine's own clock, disks and settings are never touched: the clock is another one for the agent only, the disk a small one of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fault_cases import CASES, Case, play
from benchmarks.fault_rig import CannotRunError, target


@dataclass(slots=True)
class Count:
    """What came of one case."""

    case: Case
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skipped: str = ""


def run(case: Case, runs: int, seed: int) -> Count:
    """Run a case so many times, each with a seed of its own."""
    count = Count(case)
    for number in range(runs):
        with tempfile.TemporaryDirectory(prefix="dna-faults-") as folder, target(Path(folder)) as goal:
            try:
                wrong = play(case, Path(folder), goal, seed + number)
            except CannotRunError as error:
                count.skipped = str(error)
                return count
        if wrong:
            count.failures.append(f"seed {seed + number}: {wrong}")
        else:
            count.passed += 1
        print(
            "F" if wrong else ".", end="", file=sys.stderr, flush=True
        )  # how far it is: a run takes a quarter of a minute
    print(file=sys.stderr)
    return count


def line(count: Count) -> str:
    """Return a case's row."""
    total = count.passed + len(count.failures)
    words = f"{count.case.name:<30}{total:>6}{count.passed:>8}{len(count.failures):>8}  {count.case.declared}"
    return f"{words}; not run further: {count.skipped}" if count.skipped else words


def main(words: Sequence[str] | None = None) -> int:
    """Run the campaign; print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of each, two of kill -9")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn by lot")
    parser.add_argument("--case", default="", help="only cases with these words in their names")
    parser.add_argument("--runs", type=int, default=0, help="so many of each, instead of its own number")
    asked = parser.parse_args(words)
    print(f"{'fault':<30}{'cases':>6}{'passed':>8}{'failed':>8}  at the end", flush=True)
    began, counts = time.monotonic(), []
    for case in CASES:
        if asked.case in case.name:
            counts.append(run(case, asked.runs or (case.quick if asked.quick else case.runs), asked.seed))
            print(line(counts[-1]), flush=True)
            for failure in counts[-1].failures:
                print(f"    {failure}", flush=True)
    passed, failed = sum(one.passed for one in counts), sum(len(one.failures) for one in counts)
    print(f"{'all':<30}{passed + failed:>6}{passed:>8}{failed:>8}  in {time.monotonic() - began:.0f} s")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
