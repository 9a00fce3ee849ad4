"""What several workloads of one run share: settings that are not one workload's own are held back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dna.target import Target
from hal.host import Host
from hal.settings import OF_PROCESSES, Setting
from sculpt.guard import Guard
from sculpt.targets import members_of

type Others = Callable[[], Collection[int]]
"""The processes of the other workloads of the run."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another workload of the run."""

    program: str
    members: Collection[int]
    """Its processes."""
    has_a_say: bool
    """A loop of its own makes changes."""


def foreign(settings: Sequence[Setting], others: Mapping[str, Other], guard: Guard) -> str:
    """Return why settings for one workload are not made on the processes of another; "" where none is, or it yields.

    It yields where the guard's list of neighbours names its program, and its own loop changes nothing: else two would set one thing.

    Args:
        others: the other workloads of the run, by name.
    """
    for setting in settings:
        if setting.subject.kind not in ("tree", "process"):
            continue
        for name, other in others.items():
            if int(setting.subject.name) not in other.members:
                continue
            if not guard.yields(other.program):
                return f"{setting.knob} would be set on {name}, and the guard's neighbours do not name {other.program}"
            if other.has_a_say:
                return f"{setting.knob} would be set on {name}, which a loop of its own changes: watch it with mode observe"
    return ""


def shared(host: Host, settings: Sequence[Setting], others: Collection[int], count: int) -> str:
    """Return why settings are not made for one of several workloads; "" when they may be, and where there is but one.

    Args:
        others: the processes of the other workloads.
        count: how many workloads are served, this one included.
    """
    if count < 2:
        return ""
    for setting in settings:
        subject = setting.subject
        if subject.kind in OF_PROCESSES:
            continue
        if subject.kind != "cgroup":
            return f"{setting.knob} of {subject} is the whole machine's, and {count} workloads are served"
        if members_of(host, Target.cgroup(subject.name)) & set(others):
            return f"{subject} holds more than one of the {count} workloads that are served"
    return ""
