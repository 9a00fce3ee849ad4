"""What the benchmark programs share: options, rounds in random order, medians and ratios with their spread, the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TRACEFS = "/sys/kernel/tracing"


@dataclass(frozen=True, slots=True)
class Options:
    """What every program takes."""

    quick: bool
    rounds: int
    seed: int
    json: bool


def options(about: str, *, rounds: int, quick_rounds: int) -> Options:
    """Parse the command line common to all programs."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it works, not to quote")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    return Options(given.quick, given.rounds or (quick_rounds if given.quick else rounds), given.seed, given.json)


@dataclass(slots=True)
class Report:
    """Figures of one program; ``wanted`` holds the limits that it is to be judged by."""

    id: str
    about: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)
    verdicts: list[tuple[str, bool]] = field(default_factory=list)

    def add(self, name: str, values: Sequence[float], unit: str, *, form: str = "{:.3g}") -> float:
        """Add the median of some values with their range; return the median."""
        median = statistics.median(values)
        low, high = form.format(min(values)), form.format(max(values))
        self.rows.append((name, f"{form.format(median)} {unit}  [{low} .. {high}], n={len(values)}"))
        self.data[name] = {"median": median, "values": list(values), "unit": unit}
        return median

    def note(self, name: str, text: str) -> None:
        """Add a line that is no figure."""
        self.rows.append((name, text))
        self.data[name] = text

    def judge(self, text: str, holds: bool) -> None:
        """Add whether a wanted limit held."""
        self.verdicts.append((text, holds))

    def print(self, given: Options) -> int:
        """Print the report; return 1 when a limit did not hold."""
        machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
        if given.json:
            verdicts = [{"limit": text, "holds": holds} for text, holds in self.verdicts]
            print(json.dumps({"id": self.id, "machine": machine, "data": self.data, "verdicts": verdicts}))
        else:
            print(f"{self.id}: {self.about}\n  {machine}; seed {given.seed}, {given.rounds} rounds")
            width = max((len(name) for name, _ in self.rows), default=0)
            for name, text in self.rows:
                print(f"  {name:<{width}}  {text}")
            for text, holds in self.verdicts:
                print(f"  {'holds ' if holds else 'MISSED'}  {text}")
        return 0 if all(holds for _, holds in self.verdicts) else 1


def in_rounds[T](
    conditions: Mapping[str, Callable[[], T]], *, rounds: int, seed: int, warm_up: bool = True
) -> dict[str, list[T]]:
    """Run every condition once a round, each round in another random order, so that drift meets all alike."""
    order = list(conditions)
    draw = random.Random(seed)
    results: dict[str, list[T]] = {name: [] for name in conditions}
    if warm_up:
        conditions[order[0]]()
    for number in range(rounds):
        draw.shuffle(order)
        for name in order:
            results[name].append(conditions[name]())
            print(f"\r  round {number + 1}/{rounds} {name:<24}", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return results


def paired_ratios(results: Mapping[str, Sequence[float]], name: str, base: str) -> list[float]:
    """Return the ratio of one condition to another, round by round."""
    return [value / other for value, other in zip(results[name], results[base], strict=True)]


@contextmanager
def tracefs() -> Iterator[None]:
    """Have tracefs mounted for tools that need it; leave the machine as it was."""
    if os.path.exists(f"{TRACEFS}/events"):
        yield
        return
    subprocess.run(["mount", "-t", "tracefs", "nodev", TRACEFS], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", TRACEFS], check=False)


@contextmanager
def bcc_environment() -> Iterator[dict[str, str]]:
    """Give bcc's own tools headers to compile with, as the profiler does for itself."""
    from hal.bpf.compiler import find_headers, merge_trees
    from hal.host import LinuxHost

    trees = find_headers(LinuxHost(), platform.release())
    with tempfile.TemporaryDirectory(prefix="dna-headers-") as farm:
        environment = dict(os.environ)
        if trees and not trees[0].startswith("/lib/modules/"):
            environment["BCC_KERNEL_SOURCE"] = trees[0] if len(trees) == 1 else merge_trees(trees, Path(farm))
        yield environment


def first_of(*names: str) -> str | None:
    """Return the path of the first of these commands that is installed."""
    return next((path for name in names if (path := shutil.which(name))), None)


def dna_command(*arguments: str) -> list[str]:
    """Return the command line of this checkout's ``dna``."""
    return [sys.executable, "-m", "cli", *arguments]
