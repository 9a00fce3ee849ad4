"""The runs whose records are there, each from its beginning and its end only: records of weeks are long."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sculpt.lenient import moment, number, text
from sculpt.records import SCHEMA, is_going

_PIECE = 1 << 17
"""Bytes read of each end."""


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
            head, *first = [_object(line) for line in file.read(_PIECE).split(b"\n")]
            file.seek(max(os.fstat(file.fileno()).st_size - _PIECE, 0))
            tail = [_object(line) for line in file.read().split(b"\n")]
    except OSError as error:
        return Brief(path.stem, trouble=f"cannot be read: {error.strerror}")
    if head.get("schema") != SCHEMA:
        return Brief(path.stem, trouble="no record of a run")
    ends = [one["end"] for one in tail if isinstance(one.get("end"), dict)]
    starts, times = ([t for one in part if (t := moment(one.get("t"))) is not None] for part in (first, tail))
    interval_s = number(head.get("interval_s")) or 0.0
    return Brief(
        path.stem,
        _workloads(head, first),
        text(head.get("mode")),
        starts[0] - interval_s if starts else None,
        times[-1] if times else None,
        text(ends[-1].get("why")) if ends else None,
        not ends and is_going(path),
    )


def _workloads(head: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of the workloads that are served from the beginning; of one that had no interval how it was called."""
    named = [one["joined"] for one in first if isinstance(one.get("joined"), dict)] or first
    names = dict.fromkeys(text(one.get("workload")) for one in named if one.get("workload"))
    target = head.get("target")
    target = target if isinstance(target, dict) else {}
    return ", ".join(names) or text(target.get("comm")) or text(target.get("value"))


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
