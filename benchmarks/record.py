"""Record the catalogue: profile each workload several times, and pack the result as a data set for ``dna train``.

    python -m benchmarks.record --out recordings --runs 3            # resumable: what is there is not recorded again
    python -m benchmarks.record --out recordings --pack training.npz

Rounds go over all workloads before the next begins, so that runs of one workload are apart in time. One at a time; on a
machine that others use, ``--nice`` below 0 comes closer to having it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.running import MissingProgramError, StartError, Workload
from benchmarks.workloads import CATALOGUE
from dna import dataset
from dna.errors import DnaError
from dna.profiler import Profiler
from dna.target import Target
from dna.vector import Profile

WARM_UP_S = 1.0


def record(workload: Workload, folder: Path, *, run: int, interval: float, count: int) -> Profile:
    """Start a workload, let it warm up, and return ``count`` intervals of it."""
    with workload.start(folder, run=run, shared=folder / "shared") as running:
        time.sleep(WARM_UP_S)
        # half an interval more, so that a slow reading does not cost the last one
        with Profiler(Target.pid(running.pid), interval=interval, duration=(count + 0.5) * interval) as profiler:
            taken = [interval_ for interval_, _ in zip(profiler, range(count), strict=False)]
        profile = profiler.profile(name=workload.label)
    if len(taken) < count:
        raise StartError(f"{workload.label} ended after {len(taken)} intervals")
    return profile


def document(profile: Profile, *, run: int, count: int) -> dict[str, object]:
    """Return what is kept of a recording: features and demand, in the form of an exported profile."""
    intervals = [
        {"t": round(i.t, 3), "features": dict(i.features), "demand": dict(i.demand), "quality": dict(i.quality)}
        for i in profile.intervals[:count]
    ]
    return {
        "schema": profile.SCHEMA,
        "id": f"{profile.name}#{run}",
        "name": profile.name,
        "machine": dict(profile.machine),
        "started": profile.started,
        "interval_s": profile.interval_s,
        "intervals": intervals,
    }


def path_of(out: Path, workload: Workload, run: int) -> Path:
    """Return where a recording is kept."""
    return out / f"{workload.label.replace('/', '_')}.{run}.json"


def wanted(only: str, everything: bool) -> list[Workload]:
    """Return the workloads whose label the pattern matches, by default the core set."""
    return [w for w in CATALOGUE if re.search(only, w.label) and (everything or w.core or only)]


def record_all(arguments: argparse.Namespace) -> int:
    """Record what is not there yet; return how many failed."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    todo = [(run, w) for run in range(arguments.runs) for w in wanted(arguments.only, arguments.all)]
    failed = 0
    for number, (run, workload) in enumerate(todo, 1):
        path = path_of(out, workload, run)
        if path.exists():
            continue
        begin = time.monotonic()
        try:
            profile = record(workload, out, run=run, interval=arguments.interval, count=arguments.count)
        except (MissingProgramError, StartError, DnaError) as error:
            failed += 1
            print(f"{number}/{len(todo)} {workload.label} #{run}: {error}", file=sys.stderr, flush=True)
            continue
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(document(profile, run=run, count=arguments.count)))
        partial.rename(path)
        known = sum(value is not None for value in profile.intervals[0].features.values())
        seconds = time.monotonic() - begin
        print(f"{number}/{len(todo)} {workload.label} #{run}: {known} features known, {seconds:.1f} s", flush=True)
    return failed


def pack(out: Path, target: Path) -> dataset.Dataset:
    """Write all recordings as one data set and return it."""
    paths = sorted(out.glob("*.json"))
    data = dataset.load(paths)
    documents = [json.loads(path.read_text()) for path in paths]
    machine = {key: documents[0]["machine"][key] for key in ("arch", "model", "cpus", "numa_nodes")}
    machine["kernel"] = ".".join(documents[0]["machine"]["kernel"].split(".")[:2])
    date = time.strftime("%Y-%m-%d", time.gmtime(max(d["started"] for d in documents)))
    data.save(target, {"machine": machine, "interval_s": documents[0]["interval_s"], "recorded": date})
    return data


def main(argv: Sequence[str] | None = None) -> int:
    """Record, then pack when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=10, help="intervals a run")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds")
    parser.add_argument("--nice", type=int, default=0, help="scheduling priority of workloads and profiler")
    parser.add_argument("--only", default="", help="regular expression on program/load")
    parser.add_argument("--all", action="store_true", help="the whole catalogue, not just the core set")
    parser.add_argument("--pack", type=Path, help="pack what is recorded into this .npz and record nothing")
    arguments = parser.parse_args(argv)
    if arguments.pack:
        data = pack(arguments.out, arguments.pack)
        print(f"{len(data)} intervals of {len(set(data.workloads.tolist()))} workloads in {arguments.pack}")
        return 0
    os.setpriority(os.PRIO_PROCESS, 0, arguments.nice)
    return int(record_all(arguments) > 0)


if __name__ == "__main__":
    sys.exit(main())
