"""What is left of a run now: whether it still goes on, and what of its changes stands in the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hal.host import Host
from hal.journal import Step, Transaction
from hal.knobs.knob import show
from hal.processes import start_of
from hal.settings import EXACT, OF_PROCESSES, MachineId, Subject


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
    is_gone: bool
    """All that it was on has ended, and the change with it."""


@dataclass(frozen=True, slots=True)
class Now:
    """How things stand at the time of the report."""

    going: bool
    """The run still goes on."""
    standing: tuple[Standing, ...] = ()
    trouble: str = ""
    """Why the journal could not be read; "" where it could."""


def standing_of(
    run: str, transactions: Iterable[Transaction], machine: MachineId, is_there: Callable[[Subject], bool]
) -> tuple[Standing, ...]:
    """Return what stands of a run's changes on this machine, in their order."""
    beginning = f"sculpt {run} "
    found = []
    for one in transactions:
        steps = [step for _, step in one.standing()]
        if one.title.startswith(beginning) and one.machine.hostname == machine.hostname and steps:
            exact = all(step.change.reversibility == EXACT for step in steps)
            title = one.title.removeprefix(beginning)
            same = one.machine == machine
            gone = same and not any(is_there(step.change.subject) for step in steps)
            found.append(Standing(one.identity, title, tuple(map(_words, steps)), exact, same, gone))
    return tuple(found)


def is_there(host: Host, subject: Subject) -> bool:
    """Tell whether what was changed is still there; of what is no thread or process that is taken for granted."""
    if subject.kind not in OF_PROCESSES:
        return True
    return start_of(host, int(subject.name)) == subject.start


def _words(step: Step) -> str:
    change = step.change
    found = step.became if step.became is not None else change.new
    return f"{change.knob} of {change.subject} = {show(found)}" + (f" ({step.outcome})" if step.outcome else "")
