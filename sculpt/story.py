"""What a run came to, told from its records: what was tried and why, what it was worth and cost, what was kept, and how it ended.

Pure, and in one pass: a record of a hundred thousand steps is read line by line. It tells nothing that is not in the records. What they
lack (an older version wrote them, a kill cut them off) is unknown here too, and what they have beyond is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sculpt.errors import SculptError
from sculpt.lenient import moment, number, text
from sculpt.records import SCHEMA
from sculpt.teller import Teller
from sculpt.told import Told


@dataclass(frozen=True, slots=True)
class Story:
    """A run."""

    identity: str
    head: Mapping[str, Any]
    workloads: tuple[Told, ...]
    end: Mapping[str, Any] | None
    """How it ended; None for one that is running, or was killed."""
    broken: int = 0
    """Lines that are no records, such as one that was cut off."""

    @property
    def interval_s(self) -> float:
        """Length of an interval; 0 where the record does not say."""
        return number(self.head.get("interval_s")) or 0.0

    @property
    def began(self) -> float | None:
        """When the first interval began; None for a run without steps."""
        first = min((one.series.t[0] for one in self.workloads if one.series.t), default=None)
        return None if first is None else first - self.interval_s

    @property
    def last(self) -> float | None:
        """The end of the last interval."""
        return max((one.series.t[-1] for one in self.workloads if one.series.t), default=None)


def read_story(path: Path) -> Story:
    """Read a run's records and tell its story.

    Raises:
        SculptError: the file cannot be read, or is none of ours.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return tell(file, name=path.stem)
    except OSError as error:
        raise SculptError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SculptError(f"{path} is no record of a run of dna sculpt", remedy=str(error)) from error


def tell(lines: Iterable[str], *, name: str = "") -> Story:
    """Tell the story of records, one JSON object a line, the head first.

    Raises:
        ValueError: they are no records of a run, or of a version that is not known.
    """
    broken: list[str] = []
    records = _records(lines, broken)
    head = next(records, {})
    if head.get("schema") != SCHEMA:
        raise ValueError(f"It should begin with the schema {SCHEMA}.")
    run = _Run(number(head.get("interval_s")) or 0.0)
    for record in records:
        run.take(record)
    told = tuple(one.told() for one in run.tellers.values())
    return Story(text(head.get("run")) or name, head, told, run.end, len(broken))


@dataclass(slots=True)
class _Run:
    """Takes the records of a run in their order."""

    interval_s: float
    tellers: dict[str, Teller] = field(default_factory=dict)
    end: Mapping[str, Any] | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in one record; one of a kind that is not known is passed over."""
        if isinstance(record.get("decision"), dict) and moment(record.get("t")) is not None:
            self._of(record).take(record)
        elif isinstance(joined := record.get("joined"), dict):
            self._of(joined).joined = joined
        elif isinstance(left := record.get("left"), dict):
            self._of(left).left = left
        elif isinstance(end := record.get("end"), dict):
            self.end = end

    def _of(self, record: Mapping[str, Any]) -> Teller:
        workload = text(record.get("workload"))
        if workload not in self.tellers:
            self.tellers[workload] = Teller(workload, self.interval_s)
        return self.tellers[workload]


def _records(lines: Iterable[str], broken: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield record
        elif line.strip():
            broken.append(line[:40])
