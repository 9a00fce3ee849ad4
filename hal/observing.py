"""The whole configuration of a machine, as far as it can be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hal.errors import HalError
from hal.glimpse import glimpse
from hal.host import Host
from hal.knobs import all_knobs
from hal.knobs.knob import Knob
from hal.planning import Observed, observe
from hal.processes import all_pids, read_process, start_of, threads_of
from hal.settings import Subject, process, thread


@dataclass(frozen=True, slots=True)
class KnobReport:
    """What can be said of one knob on this machine."""

    knob: Knob
    works: bool
    reason: str
    remedy: str


def knobs_here(host: Host) -> list[KnobReport]:
    """Return every knob with whether it works here, and why not."""
    reports = []
    for knob in all_knobs().values():
        support = knob.support(host)
        reports.append(KnobReport(knob, support.works, support.reason, support.remedy))
    return reports


def observe_machine(host: Host, prefixes: Iterable[str] = ()) -> Observed:
    """Read all settings of the machine itself: everything but processes.

    Args:
        prefixes: only these families or knobs ("nic", "cpu.affinity"); all where none is given.
    """
    host = glimpse(host)
    return observe(host, [(k.name, s) for k in _chosen(prefixes) for s in _subjects(host, k)])


def observe_processes(host: Host, pids: Iterable[int] | None = None, prefixes: Iterable[str] = ()) -> Observed:
    """Read the settings of processes and their threads; of all that are no kernel threads unless some are named.

    What is costly to read (where a process's pages are) is read of named processes only.
    """
    knobs = [knob for knob in _chosen(prefixes) if not knob.is_action and not (pids is None and knob.is_costly)]
    by_thread = [knob.name for knob in knobs if knob.subject_kind == "thread"]
    by_process = [knob.name for knob in knobs if knob.subject_kind == "process"]
    keys: list[tuple[str, Subject]] = []
    for pid in pids if pids is not None else all_pids(host):
        found = read_process(host, pid)
        if found is None or (pids is None and found.is_kernel):
            continue
        keys += [(name, process(pid, found.start)) for name in by_process]
        if by_thread:
            tids = threads_of(host, pid)
            starts = {pid: found.start} if tids == (pid,) else {tid: start_of(host, tid) for tid in tids}
            keys += [
                (name, thread(tid, start)) for tid, start in starts.items() if start is not None for name in by_thread
            ]
    return observe(glimpse(host), keys)


def _chosen(prefixes: Iterable[str]) -> list[Knob]:
    wanted = tuple(prefixes)
    return [
        knob
        for knob in all_knobs().values()
        if not wanted or any(knob.name == prefix or knob.name.startswith(f"{prefix}.") for prefix in wanted)
    ]


def _subjects(host: Host, knob: Knob) -> list[Subject]:
    if knob.is_action or knob.subject_kind in ("thread", "process"):
        return []
    try:
        return list(knob.subjects(host))
    except HalError:
        return []
