"""What is left of a run now: whether it still goes on, and what of its changes stands in the journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hal.journal import Step, Transaction
from hal.knobs.knob import show
from hal.settings import EXACT, MachineId


@dataclass(frozen=True, slots=True)
class Standing:
    """A transaction of a run that was not taken back, or not wholly."""

    identity: str
    """In the journal, for ``dna undo``."""
    title: str
    """What it was for, as the run called it."""
    settings: tuple[str, ...]
    is_exact: bool
    """It can be taken back exactly."""
    is_of_this_boot: bool


@dataclass(frozen=True, slots=True)
class Now:
    """How things stand at the time of the report."""

    going: bool
    """The run still goes on."""
    standing: tuple[Standing, ...] = ()
    trouble: str = ""
    """Why the journal could not be read; "" where it could."""


def standing_of(run: str, transactions: Iterable[Transaction], machine: MachineId) -> tuple[Standing, ...]:
    """Return what stands of a run's changes on this machine, in their order."""
    beginning = f"sculpt {run} "
    found = []
    for one in transactions:
        steps = [step for _, step in one.standing()]
        if one.title.startswith(beginning) and one.machine.hostname == machine.hostname and steps:
            exact = all(step.change.reversibility == EXACT for step in steps)
            title = one.title.removeprefix(beginning)
            found.append(Standing(one.identity, title, tuple(map(_words, steps)), exact, one.machine == machine))
    return tuple(found)


def _words(step: Step) -> str:
    change = step.change
    found = step.became if step.became is not None else change.new
    return f"{change.knob} of {change.subject} = {show(found)}" + (f" ({step.outcome})" if step.outcome else "")
