"""The catalogue of real programs that benchmarks, tests and training run. ``python -m benchmarks.workloads`` lists it.

::

    with find("redis/get").start(folder) as running:
        ...profile running.pid...
"""

from __future__ import annotations

from benchmarks.programs.batch import BATCH
from benchmarks.programs.servers import SERVERS
from benchmarks.running import MissingProgramError, Running, Session, StartError, Workload

__all__ = ["CATALOGUE", "MissingProgramError", "Running", "Session", "StartError", "Workload", "find"]

CATALOGUE: tuple[Workload, ...] = (*SERVERS, *BATCH)


def find(label: str) -> Workload:
    """Return the workload called ``program/load``; KeyError with what there is otherwise."""
    for candidate in CATALOGUE:
        if candidate.label == label:
            return candidate
    raise KeyError(f"no workload {label}; there are: {', '.join(workload.label for workload in CATALOGUE)}")


def main() -> None:
    """Print the catalogue, with what is missing here."""
    for workload in CATALOGUE:
        print(f"{workload.label:<28} {workload.about}{'' if workload.core else ' (not in the core set)'}")
        if reason := workload.missing():
            print(f"{'':<28} ! {reason}")


if __name__ == "__main__":
    main()
