"""Whether what a plan made still holds when all of it is made: settings may contradict one another.

The governor ``performance`` overrides an energy preference that was set before it; a card that is asked for fewer queues gets new
interrupts. Each change was read back when it was made, so only a second look at the end shows it. It costs a read a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hal.errors import HalError
from hal.host import Host
from hal.knobs import knob_of
from hal.knobs.knob import show
from hal.settings import OF_PROCESSES, Change, Value
from hal.subjects import is_gone

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A change that was made and read back, and does not hold any more."""

    index: int
    """Which of the changes made."""
    change: Change
    wrong: str
    """What it is instead, in words."""
    found: Value
    """What it is; None where it cannot be read."""
    later: tuple[Change, ...]
    """What the same plan changed afterwards that may have done it; () where that can only be somebody else."""

    def __str__(self) -> str:
        names = [f"{one.knob} of {one.subject} ({show(one.new)})" for one in self.later[:_SHOWN]]
        more = f" and {len(self.later) - _SHOWN} more" if len(self.later) > _SHOWN else ""
        why = f"in the same plan came after it {', '.join(names)}{more}" if names else "somebody else set it meanwhile"
        return f"{self.change.knob} of {self.change.subject} did not last: {self.wrong}; {why}"


def contradictions(host: Host, made: Sequence[Change]) -> tuple[Contradiction, ...]:
    """Return which of these changes, in the order in which they were made, do not hold any more.

    Left out: what is done rather than set, what is only measured (pages move by themselves), and processes that ended.
    """
    found = []
    for index, change in enumerate(made):
        wrong = _wrong(host, change)
        if wrong and not is_gone(host, change.subject):
            found.append(Contradiction(index, change, wrong, _read(host, change), _related(change, made[index + 1 :])))
    return tuple(found)


def told(found: Sequence[Contradiction]) -> str:
    """Return some contradictions in words."""
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(map(str, found[:_SHOWN])) + more


def _wrong(host: Host, change: Change) -> str:
    knob = knob_of(change.knob)
    if knob.is_action or knob.is_measured:
        return ""
    try:
        return knob.verify(host, change.subject, change.new)
    except HalError as error:
        return str(error)


def _read(host: Host, change: Change) -> Value:
    try:
        return knob_of(change.knob).read(host, change.subject)
    except HalError:
        return None


def _related(change: Change, later: Sequence[Change]) -> tuple[Change, ...]:
    """Return which later changes may have overridden one: those on the same thing, else of the same family, else any.

    A process's settings are moved by none of another's, save by those of cgroups: else it was the program itself, or somebody.
    """
    same = tuple(one for one in later if one.subject == change.subject)
    if change.subject.kind in OF_PROCESSES:
        return same or tuple(one for one in later if _family(one) == "cgroup")
    others = [one for one in later if one.subject.kind not in OF_PROCESSES]
    return same or tuple(one for one in others if _family(one) == _family(change)) or tuple(others)


def _family(change: Change) -> str:
    return change.knob.partition(".")[0]
