"""What the loop did, kept: one JSON record a step in a file of its own, and read back for a report."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hal.journal import default_folder as journal_folder
from hal.knobs.knob import show
from rl.decision import HOLD
from sculpt.alert import alert_data
from sculpt.candidates import Candidate
from sculpt.errors import SculptError
from sculpt.step import Record

SCHEMA = "workload-dna/sculpt/1"
KEPT = 100
"""Runs whose records are kept; the oldest go first."""
WHOLE = 5_000
"""Steps of a run that are written whole, each; of later ones those in which something happens."""
EVERY = 4
"""Of later steps in which nothing does, one in so many is written: few enough that none is missed as a gap."""
_ALWAYS = (
    "t",
    "workload",
    "in_force",
    "reward",
    "own_share",
    "interval_s",
    "room_s",
    "novelty",
    "unverified",
    "took_s",
)


def default_folder() -> Path:
    """Return where records are: ``$DNA_SCULPT``, else beside the journal."""
    named = os.environ.get("DNA_SCULPT")
    return Path(named).expanduser() if named else journal_folder().parent / "sculpt"


def record_data(record: Record) -> dict[str, object]:
    """Return a record as JSON data."""
    decision, done = record.decision, record.done
    return {
        "t": record.t,
        "workload": record.workload,
        "in_force": record.in_force,
        "reward": record.judged.reward,
        "why_not": record.judged.why,
        "metrics": dict(record.judged.values),
        "demand": dict(record.demand),
        "proposed": list(record.proposed),
        "held": {held.name: held.because for held in record.held},
        "decision": {
            "arm": decision.arm.name,
            "state": decision.state,
            "event": decision.event,
            "because": decision.because,
            "candidate": decision.candidate,
            "gain": decision.gain,
            "interval": list(decision.interval) if decision.interval else None,
            "blocks": decision.blocks,
            "estimates": {name: list(pair) for name, pair in decision.estimates.items()},
        },
        "done": None
        if done is None
        else {"in_force": done.in_force.name, "changed": done.changed, "took_s": done.took_s, "error": done.error},
        "alerts": list(record.alerts),
        "own_share": record.own_share,
        "interval_s": record.interval_s,
        "unverified": record.unverified,
        "novelty": record.novelty,
        "vector": [round(value, 4) for value in record.vector],
        "lost": list(record.lost),
        "trouble": list(record.trouble),
        "room_s": record.room_s,
        "quarantined": list(record.quarantined),
        "took_s": record.took_s,
        "raised": [alert_data(alert) for alert in record.raised or ()],
        "candidates": {one.name: _candidate_data(one) for one in record.news},
    }


def is_quiet(record: Record) -> bool:
    """Tell whether nothing happened in a step that anybody will ask about: measured, held, unchanged."""
    decision, done = record.decision, record.done
    told = record.alerts or record.raised or record.trouble or record.lost or record.news or decision.event
    changed = done is not None and (done.changed or done.error)
    return not told and not changed and decision.state == HOLD and record.judged.reward is not None


def quiet_data(record: Record) -> dict[str, object]:
    """Return what is worth keeping of a quiet step."""
    data = record_data(record)
    decision = record.decision
    return {
        **{name: data[name] for name in _ALWAYS},
        "decision": {"arm": decision.arm.name, "state": decision.state, "event": ""},
    }


def _candidate_data(candidate: Candidate) -> dict[str, object]:
    """Return what a candidate is, for who reads of it later: its uppermost layer, which is what a trial of it tries."""
    layer = candidate.layers[-1]
    return {
        "because": layer.because,
        "settings": [f"{one.knob} of {one.subject} = {show(one.value)}" for one in layer.settings],
        "one_way": candidate.one_way,
        "expected": layer.expected,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


class Log:
    """The records of one run, written as they come. A disk that is full costs the records, not the loop: it is told once."""

    def __init__(self, folder: Path, head: Mapping[str, object]) -> None:
        self.trouble = ""
        self._steps = 0
        self._quiet: Counter[str] = Counter()
        """Steps in which nothing happened since the last one written, by workload."""
        self.identity = time.strftime("%Y%m%d-%H%M%S") + f"-{os.getpid()}"
        self.path = folder / f"{self.identity}.jsonl"
        self._file: TextIO | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = open(self.path, "x", encoding="utf-8")  # noqa: SIM115 - as long as the run
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by which readers see that it goes on
            _forget_oldest(folder)
        except OSError as error:
            self.trouble = f"no records are kept: {folder}: {error.strerror}"
        self._write({"schema": SCHEMA, "run": self.identity, **head})

    def joined(self, workload: Mapping[str, object]) -> None:
        """Write that a workload is served from now on."""
        self._write({"joined": dict(workload)})

    def left(self, workload: Mapping[str, object]) -> None:
        """Write that one is served no longer, and how that ended."""
        self._write({"left": dict(workload)})

    def add(self, record: Record) -> None:
        """Write one step; in a long run not all in which nothing happens, and of those only what plots need."""
        self._steps += 1
        if self._steps <= WHOLE or not is_quiet(record):
            self._quiet[record.workload] = 0
            self._write(record_data(record))
            return
        self._quiet[record.workload] += 1
        if self._quiet[record.workload] % EVERY == 0:
            self._write({**quiet_data(record), "stands_for": EVERY})

    def close(self, ending: Mapping[str, object]) -> None:
        """Write how it ended."""
        self._write({"end": dict(ending)})
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, data: Mapping[str, object]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_finite(dict(data)), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            self.trouble = f"records end here: {self.path}: {error.strerror}"
            self._file = None


def _forget_oldest(folder: Path) -> None:
    for path in sorted(folder.glob("*.jsonl"))[:-KEPT]:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Run:
    """A run read back."""

    identity: str
    head: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    end: Mapping[str, Any] | None
    """How it ended; None for one that is running, or was killed."""
    joined: tuple[Mapping[str, Any], ...] = ()
    """The workloads that were served, as they came; () in records of runs that served only one."""
    left: tuple[Mapping[str, Any], ...] = ()
    """How the serving of each ended."""

    @property
    def workloads(self) -> tuple[str, ...]:
        """Names of the workloads that have steps, as they came."""
        return tuple(dict.fromkeys(str(step["workload"]) for step in self.steps))


def read_run(path: Path) -> Run:
    """Read the records of a run; a line that was cut off, as by a kill, is left out.

    Raises:
        SculptError: the file cannot be read, or is none of ours.
    """
    try:
        lines = list(_lines(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SculptError(f"{path} cannot be read: {error}") from error
    if not lines or lines[0].get("schema") != SCHEMA:
        raise SculptError(f"{path} is no record of a run of dna sculpt")
    steps = tuple(line for line in lines[1:] if "decision" in line)
    end = next((line["end"] for line in reversed(lines) if "end" in line), None)
    joined, left = (tuple(line[name] for line in lines[1:] if name in line) for name in ("joined", "left"))
    return Run(str(lines[0].get("run", path.stem)), lines[0], steps, end, joined, left)


def is_going(path: Path) -> bool:
    """Tell whether the run that writes these records is still alive: it holds a lock on them, which no kill can leave behind."""
    with suppress(OSError), open(path, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    return path.exists()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                data = json.loads(line)
            except ValueError:
                continue
            if isinstance(data, dict):
                yield data


def find_run(folder: Path, identity: str = "") -> Path:
    """Return the file of a run: by its name's beginning, the last one where none is given.

    Raises:
        SculptError: there is none, or several fit.
    """
    found = sorted(folder.glob("*.jsonl"))
    fitting = [path for path in found if path.stem.startswith(identity)]
    if not fitting:
        there = f"There is {', '.join(path.stem for path in found[-5:])}." if found else "Nothing was recorded yet."
        raise SculptError(f"there is no run {identity!r}" if identity else "there is no run", remedy=there)
    if identity and len(fitting) > 1:
        raise SculptError(
            f"several runs begin with {identity!r}", remedy=f"Such as {fitting[0].stem} and {fitting[1].stem}."
        )
    return fitting[-1]
