"""Time from start to the first vector, less the interval. Wanted: at most 1.5 s.

Measured from outside: from starting the process `dna profile --interval 1 --no-live` to its first interval's line, less
the interval; with the cache of compiled programs (every start but the first after a kernel or package update) and without.
Run: python -m benchmarks.bench_startup
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Report, dna_command, in_rounds, options

_INTERVAL_S = 1.0


def first_vector(pid: int, cache: str) -> float:
    """Return the seconds from start to the first interval's line, less the interval."""
    command = dna_command(
        "profile", "--pid", str(pid), "--interval", str(_INTERVAL_S), "--duration", "1", "--no-live", "--no-store"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its modules compiled
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True) as run:
        assert run.stdout is not None
        took = next((time.monotonic() - began for line in run.stdout if "cores" in line), None)
        rest = run.stdout.read()
    if took is None:
        raise SystemExit(f"dna profile printed no interval: {rest}")
    return took - _INTERVAL_S


def main() -> int:
    """Run and report."""
    given = options(__doc__ or "", rounds=9, quick_rounds=3)
    report = Report("startup", "start of `dna profile` to its first vector, less the interval")
    with (
        subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"]) as target,
        tempfile.TemporaryDirectory() as kept,
    ):
        try:

            def cold() -> float:
                with tempfile.TemporaryDirectory() as fresh:
                    return first_vector(target.pid, fresh)

            results = in_rounds(
                {"warm": lambda: first_vector(target.pid, kept), "cold": cold}, rounds=given.rounds, seed=given.seed
            )
        finally:
            target.kill()
    warm = report.add("compiled before", results["warm"], "s")
    cold_s = report.add("first start: compiles", results["cold"], "s")
    report.judge(f"at most 1.5 s compiled before: {warm:.2f} s", warm <= 1.5)
    report.judge(f"at most 1.5 s at the first start: {cold_s:.2f} s", cold_s <= 1.5)
    return report.print(given)


if __name__ == "__main__":
    sys.exit(main())
