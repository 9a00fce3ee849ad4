"""The runs whose records are there, each from its beginning and its end only: records of weeks are long."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sculpt.records import SCHEMA, is_going
from sculpt.story import number, text

_TAIL = 1 << 17


@dataclass(frozen=True, slots=True)
class Brief:
    """A run, in a line."""

    identity: str
    workload: str = ""
    mode: str = ""
    began: float | None = None
    last: float | None = None
    why: str | None = None
    """Why it ended; None where that is not recorded."""
    going: bool = False
    trouble: str = ""
    """Why it cannot be read; "" where it can."""


def briefs(folder: Path) -> tuple[Brief, ...]:
    """Return the runs in a folder, the oldest first."""
    return tuple(_brief(path) for path in sorted(folder.glob("*.jsonl")))


def _brief(path: Path) -> Brief:
    try:
        with open(path, "rb") as file:
            head = _object(file.readline())
            first = _object(file.readline())
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            tail = [_object(line) for line in file.read().split(b"\n")]
    except OSError as error:
        return Brief(path.stem, trouble=f"cannot be read: {error.strerror}")
    if head.get("schema") != SCHEMA:
        return Brief(path.stem, trouble="no record of a run")
    target = head.get("target")
    target = target if isinstance(target, dict) else {}
    workload = text(target.get("comm")) or text(target.get("value")) or text(first.get("workload"))
    ends = [one["end"] for one in tail if isinstance(one.get("end"), dict)]
    times = [t for one in tail if (t := number(one.get("t"))) is not None]
    began = number(first.get("t"))
    if began is not None:
        began -= number(head.get("interval_s")) or 0.0
    why = text(ends[-1].get("why")) if ends else None
    return Brief(
        path.stem,
        workload,
        text(head.get("mode")),
        began,
        times[-1] if times else None,
        why,
        not ends and is_going(path),
    )


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
