"""What a run is asked to serve, and how its workloads are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dna.errors import TargetGoneError
from dna.target import Target
from hal.host import Host
from rl.measured import Metric
from rules.gather_running import running, single_targets
from sculpt.errors import SculptError
from sculpt.step import OBSERVE

RESTORE, KEEP = "restore", "keep"


@dataclass(frozen=True, slots=True)
class Asked:
    """One target, and what is to be done about each workload that it is."""

    target: Target
    mode: str = OBSERVE
    metrics: tuple[Metric, ...] = ()
    """What it is judged by; a proxy where there are none."""
    on_exit: str = RESTORE
    wait: bool = False
    """It may not be there yet, and may come back after it ended: it is waited for."""
    unverified: bool = False
    """Where it cannot be judged, what rules alone suggest is applied all the same."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its objective is about, of ``rules.rule.EFFECTS``."""
        return tuple(dict.fromkeys(metric.kind for metric in self.metrics)) or ("throughput",)


def single(host: Host, asked: Asked) -> tuple[Target, ...]:
    """Return the workloads that a target is now; none where it is waited for.

    Raises:
        DnaError: it makes no sense, or is not there and not waited for.
    """
    if asked.target.kind == "command":
        return (asked.target,)
    try:
        found = single_targets(host, asked.target)
    except TargetGoneError:
        if asked.wait:
            return ()
        raise
    return tuple(one for one in found if not asked.wait or running(host, one) is not None)


def hold_apart(host: Host, targets: Iterable[Target]) -> None:
    """Refuse targets that have a process in common: what is set on it would be set twice.

    Raises:
        SculptError: two of them have.
    """
    members: dict[int, Target] = {}
    for target in targets:
        found = running(host, target) if target.kind != "command" else None
        for pid in found.pids if found else ():
            other = members.setdefault(pid, target)
            if other != target:
                raise SculptError(
                    f"{other} and {target} have process {pid} in common", remedy="Name only one of the two."
                )


def members_of(host: Host, target: Target) -> frozenset[int]:
    """Return the processes of a target; none where it has ended."""
    found = running(host, target)
    return frozenset(found.pids) if found else frozenset()


def named(program: str, taken: Iterable[str]) -> str:
    """Return a name for a workload that no other of the run has: its program's, with a number where there are several.

    The lowest free one, so that a program that starts again and again has always the same few names.
    """
    names = set(taken)
    number = 1
    while (name := program if number == 1 else f"{program}-{number}") in names:
        number += 1
    return name


def program_of(info: Mapping[str, object]) -> str:
    """Return the name of the program that a profile's target is."""
    return str(info.get("comm") or info.get("value") or "workload")
