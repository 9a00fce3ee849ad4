"""Record the example profiles of real programs in ``examples/profiles/``: what rules are tried on where the programs are not at hand.

    python -m benchmarks.record_examples                      # all of them, about half a minute each
    python -m benchmarks.record_examples --only redis --nice -5

Each is an export as ``dna profile --json`` writes it, small: of the detail only what rules look at is kept, numbers have six digits,
and the machine's name is left out. Programs that talk to each other are recorded at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import MissingProgramError, StartError
from benchmarks.workloads import find
from dna.errors import DnaError
from dna.export import Json, plain, to_json
from dna.target import Target
from dna.together import profile_together
from dna.vector import Profile

OUT = Path(__file__).parents[1] / "examples" / "profiles"
INTERVAL_S, INTERVALS = 2.0, 8
_WARM_UP_S = 3.0
_KEPT = ("peers", "pages_by_node", "huge_pages")
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Example:
    """One workload of the catalogue, and what the profiles of it are called."""

    workload: str
    name: str
    client: str = ""
    """Name of the profile of what makes its load, where that is recorded too."""


EXAMPLES = (
    Example("redis/get", "redis-server", client="redis-benchmark"),
    Example("postgresql/select", "postgresql-select", client="pgbench-select"),
    Example("postgresql/tpcb", "postgresql-tpcb"),
    Example("gcc/make-j2", "gcc-make"),
    Example("pointer-chase/1gib", "random-access-1gib"),
    Example("stream-copy/copy", "streaming-copy"),
    Example("pipeline/text", "pipeline"),
    Example("node/http", "node-http"),
)


def record(example: Example, folder: Path) -> dict[str, Profile]:
    """Run a workload and return its profile, and that of what makes its load, by name."""
    with find(example.workload).start(folder) as running:
        time.sleep(_WARM_UP_S)
        targets = [Target.pid(running.pid)]
        names = [example.name]
        if example.client:
            targets.append(Target.pid(running.session.newest))
            names.append(example.client)
        # half an interval more, so that a slow reading does not cost the last one
        taken = profile_together(targets, interval_s=INTERVAL_S, duration_s=(INTERVALS + 0.5) * INTERVAL_S)
    return {name: one.profile for name, one in zip(names, taken, strict=True)}


def document(profile: Profile, name: str) -> Json:
    """Return what is kept of a profile: an export without what only views show."""
    whole = to_json(profile)
    intervals = [
        {
            **{key: _rounded(interval[key]) for key in ("t", "features", "demand", "dna")},
            "detail": {key: value for key, value in interval["detail"].items() if key in _KEPT},
        }
        for interval in whole["intervals"][:INTERVALS]  # type: ignore[index]
    ]
    kernel = ".".join(str(profile.machine["kernel"]).split(".")[:2])
    machine = {**profile.machine, "hostname": "example", "kernel": kernel}
    target = {**profile.target, "cgroup": ""}
    head = {key: whole[key] for key in ("schema", "id", "started", "interval_s")}
    return {
        **head,
        "name": name,
        "tool": "benchmarks.record_examples",
        "machine": plain(machine),
        "target": plain(target),
    } | {"intervals": intervals}


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if abs(value) < 1e8 else round(value, 1)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Record; return how many could not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", default="", help="regular expression on the names")
    parser.add_argument("--nice", type=int, default=0, help="scheduling priority of programs and profiler")
    arguments = parser.parse_args(argv)
    os.setpriority(os.PRIO_PROCESS, 0, arguments.nice)
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for example in (one for one in EXAMPLES if re.search(arguments.only, one.name)):
        try:
            with tempfile.TemporaryDirectory() as folder:
                profiles = record(example, Path(folder))
        except (MissingProgramError, StartError, DnaError) as error:
            failed += 1
            print(f"{example.name}: {error}", file=sys.stderr, flush=True)
            continue
        for name, profile in profiles.items():
            path = arguments.out / f"{name}.json"
            path.write_text(json.dumps(document(profile, name), allow_nan=False) + "\n")
            known = sum(value is not None for value in profile.intervals[-1].features.values())
            print(f"{path}: {len(profile.intervals)} intervals, {known} features known", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
