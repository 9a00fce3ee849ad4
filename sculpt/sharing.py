"""What several workloads of one run share: settings that are not one workload's own are held back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from dna.target import Target
from hal.host import Host
from hal.settings import OF_PROCESSES, Setting
from sculpt.targets import members_of

type Others = Callable[[], Collection[int]]
"""The processes of the other workloads of the run."""


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
