"""What ``dna`` gains on this machine: real programs under the kernel's default, TuneD's profiles, the rules, the loop, and the best found by search.

Run as root, on a machine with nothing else to do: python -m benchmarks.bench_gains --json gains.json
The table of docs/gains.md: python -m benchmarks.bench_gains --table gains.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gains import tuned
from benchmarks.gains.flow import ARMS, TUNED, Plan, run_program
from benchmarks.gains.programs import PROGRAMS, Program
from benchmarks.gains.table import table, verdicts

QUICK = Plan(seconds=1.0, rounds=3, screen_seconds=0.5, screen_rounds=1, loop_s=40.0, watch_s=5.0, warm_up_s=1.0)
QUICK_PROGRAMS = ("random-access", "pair", "beside-batch")


def main() -> int:
    """Measure, or make the table of what was measured."""
    given = _options()
    if given.table:
        try:
            print(table(json.loads(Path(given.table).read_text())))
        except (OSError, ValueError, KeyError) as error:
            print(f"gains: {given.table} is not what --json writes: {error}", file=sys.stderr)
            return 2
        return 0
    if os.geteuid() != 0:
        print("gains: changing the machine takes root: sudo python -m benchmarks.bench_gains", file=sys.stderr)
        return 4
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        report = measure(given)
    except KeyboardInterrupt:
        print("gains: interrupted; everything was taken back", file=sys.stderr)
        return 130
    print(json.dumps(report) if given.json == "-" else table(report))
    return 0 if report["programs"] and all(one["holds"] for one in verdicts(report)) else 1


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure the programs one after the other; what is done is written after each."""
    plan = _plan(given)
    if given.quick:
        os.environ["DNA_GAINS_QUICK"] = "1"
    profiles, note = _profiles(plan)
    report: dict[str, Any] = {
        "schema": "workload-dna/gains/1",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}",
        "nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))),
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python -m benchmarks.bench_gains", *sys.argv[1:]]),
        "quick": given.quick,
        "plan": {name: getattr(plan, name) for name in Plan.__slots__},
        "tuned": [_profile_data(one) for one in profiles],
        "tuned_note": note,
        "programs": [],
        "missing": {},
    }
    for program in _programs(given):
        if why := program.missing():
            report["missing"][program.name] = why
            print(f"gains: {program.name} is left out: {why}", file=sys.stderr)
            continue
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="dna-gains-") as folder:
                os.chmod(folder, 0o755)
                report["programs"].append(run_program(program, profiles, plan, Path(folder)))
        except Exception as error:  # the other programs' figures are worth having all the same
            report["missing"][program.name] = f"{type(error).__name__}: {error}"
        print(f"gains: {program.name}: {_line(report, program)} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
        if given.json and given.json != "-":
            Path(given.json).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="short, three programs: to see that it works, not to quote"
    )
    parser.add_argument("--programs", metavar="NAME,...", help=", ".join(one.name for one in PROGRAMS))
    parser.add_argument("--arms", metavar="NAME,...", help=f"besides the default: {', '.join(ARMS)}")
    parser.add_argument("--rounds", type=int, help="rounds of the final measurement")
    parser.add_argument("--seconds", type=float, help="of one measurement")
    parser.add_argument("--loop-seconds", type=float, help="how long the loop may take to converge")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write all figures there, after each program; without FILE print them",
    )
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the table of such a file")
    return parser.parse_args()


def _plan(given: argparse.Namespace) -> Plan:
    plan = replace(QUICK if given.quick else Plan(), seed=given.seed)
    if given.arms:
        plan = replace(plan, arms=tuple(_chosen(given.arms, ARMS, "arm")))
    if given.rounds:
        plan = replace(plan, rounds=given.rounds)
    if given.seconds:
        plan = replace(plan, seconds=given.seconds)
    return replace(plan, loop_s=given.loop_seconds) if given.loop_seconds else plan


def _programs(given: argparse.Namespace) -> list[Program]:
    names = [one.name for one in PROGRAMS]
    wanted = _chosen(given.programs, names, "program") if given.programs else QUICK_PROGRAMS if given.quick else names
    return [one for one in PROGRAMS if one.name in wanted]


def _chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"gains: there is no {what} {unknown[0]!r}; there are: {', '.join(known)}")
    return names


def _profiles(plan: Plan) -> tuple[list[tuned.Profile], str]:
    if TUNED not in plan.arms:
        return [], "left out by --arms"
    if not tuned.is_installed():
        print(f"gains: TuneD is not installed, its arms are left out: {tuned.INSTALL}", file=sys.stderr)
        return [], f"not installed: {tuned.INSTALL}"
    if tuned.is_running():
        raise SystemExit("gains: TuneD is running already: stop it first (systemctl stop tuned)")
    return tuned.survey(), ""


def _profile_data(profile: tuned.Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "why_not": profile.why_not,
        "same_as": profile.same_as,
        "errors": list(profile.errors),
        "sets": {path: list(values) for path, values in profile.sets.items()},
    }


def _line(report: dict[str, Any], program: Program) -> str:
    if program.name in report["missing"]:
        return f"left out: {report['missing'][program.name]}"
    found = report["programs"][-1]["effects"]
    return ", ".join(f"{name} {one['median']:.3f}" for name, one in found.items() if " / " not in name)


def _interrupted(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
