"""Plain lines, one an interval, where there is no terminal to draw on."""

from __future__ import annotations

from collections.abc import Mapping

from dna.describe import describe
from dna.features import DEMAND
from dna.vector import Interval
from ui.frame import machine_line, target_line
from ui.units import clock, value_with_unit

_SHOWN = ("cores", "syscalls", "switches", "resident", "read", "written", "messages")
_UNITS = {row.name: row.unit for row in DEMAND}


def head_lines(machine: Mapping[str, object], target: Mapping[str, object]) -> list[str]:
    """Return the lines before the first interval: the target and the machine."""
    return [target_line(target), machine_line(machine)]


def interval_line(interval: Interval, elapsed_s: float) -> str:
    """Return one interval in one line: time, demand, novelty, what kind of workload it is."""
    demand = [
        f"{name} {value_with_unit(value, _UNITS[name])}"
        for name in _SHOWN
        if (value := interval.demand.get(name)) is not None
    ]
    novelty = [] if interval.dna is None else [f"novelty {interval.dna.novelty:.2f}"]
    words = describe(interval.features, interval.demand).headline
    return f"{clock(elapsed_s):>5}  " + "  ".join([*demand, *novelty, words])
