"""From what a person names to settings: which subjects a word means for a knob, and which values a text."""

from __future__ import annotations

import re

from hal.errors import HalError, NotFoundError, SettingError
from hal.host import Host
from hal.knobs.knob import Knob
from hal.processes import start_of
from hal.settings import SYSTEM, Subject, cgroup, process, thread, tree

_FOLDERS = {"nic": "/sys/class/net", "block": "/sys/block", "pci": "/sys/bus/pci/devices"}
_PCI = re.compile(r"([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)


def of_process(host: Host, knob: Knob, pid: int, *, children: bool = True) -> Subject:
    """Return the subject of a process for a knob, with its children where the knob takes them.

    Raises:
        NotFoundError: there is no such process (exit 3).
        SettingError: the knob is not set on processes.
    """
    start = _start(host, pid, "process")
    if not {"tree", "process"} & set(knob.accepts):
        raise _not_on(knob, "processes")
    return tree(pid, start) if children and "tree" in knob.accepts else process(pid, start)


def of_thread(host: Host, knob: Knob, tid: int) -> Subject:
    """Return the subject of one thread; errors as of ``of_process``."""
    start = _start(host, tid, "thread")
    if "thread" not in knob.accepts:
        raise _not_on(knob, "single threads")
    return thread(tid, start)


def of_cgroup(knob: Knob, path: str) -> Subject:
    """Return the subject of a cgroup: the group itself, or the processes in it, as the knob has it."""
    if "cgroup" not in knob.accepts:
        raise _not_on(knob, "cgroups")
    return cgroup(path)


def of_word(host: Host, knob: Knob, word: str) -> Subject:
    """Return the subject that a word names: a device, an interrupt, a file, or ``KIND:NAME`` where that is not clear.

    Raises:
        SettingError: the knob is not set on such a thing.
    """
    kind, colon, name = word.partition(":")
    if colon and kind in knob.accepts:
        return _known(host, knob, Subject(kind, name))
    if knob.subject_kind in ("thread", "process"):
        raise SettingError(
            f"{knob.name} is set on processes, and {word!r} names none", remedy="Give --pid, --tid or --cgroup."
        )
    if knob.subject_kind == "system":
        raise SettingError(
            f"{knob.name} is the whole machine's: it takes a value only", remedy=f"dna set {knob.name} VALUE"
        )
    return _known(host, knob, Subject(_kind(host, knob, word), f"/{word.strip('/')}" if _is_cgroup(knob) else word))


def system(knob: Knob) -> Subject:
    """Return the machine as a subject.

    Raises:
        SettingError: the knob needs to be told on what.
    """
    if "system" not in knob.accepts:
        how = "--pid N" if "process" in knob.accepts else f"a {knob.subject_kind}"
        raise SettingError(f"{knob.name}: on what?", remedy=f"dna set {knob.name} {how} VALUE; see `dna config knobs`")
    return SYSTEM


def _kind(host: Host, knob: Knob, word: str) -> str:
    """Tell what a word names, of the kinds that the knob takes."""
    if len(knob.accepts) == 1 or Subject(knob.subject_kind, word) in set(knob.subjects(host)):
        return knob.subject_kind
    if "pci" in knob.accepts and _PCI.fullmatch(word):
        return "pci"
    if word.isdigit():
        return knob.subject_kind
    devices = [kind for kind in _FOLDERS if kind in knob.accepts]
    there = (kind for kind in devices if host.exists(f"{_FOLDERS[kind]}/{word}"))
    return [*there, *devices, knob.subject_kind][0]


def _known(host: Host, knob: Knob, subject: Subject) -> Subject:
    """Return the subject, or say what there is instead."""
    offered = list(knob.subjects(host))
    own = [known.name for known in offered if known.kind == subject.kind]
    if not own or subject.name in own or knob.creates:
        return subject
    try:
        if knob.members(host, subject):
            knob.read(host, knob.members(host, subject)[0])
            return subject
    except HalError:
        pass
    shown = ", ".join(own[:8]) + (", ..." if len(own) > 8 else "")
    raise SettingError(f"{knob.name}: there is no {subject.kind} {subject.name}", remedy=f"There is {shown}.")


def _is_cgroup(knob: Knob) -> bool:
    return knob.subject_kind == "cgroup"


def _start(host: Host, number: int, kind: str) -> int:
    start = start_of(host, number) if 0 < number < 2**31 else None
    if start is None:
        error = NotFoundError(f"there is no {kind} {number}", remedy="see `dna top` or `ps -e` for those there are")
        error.exit_code = 3
        raise error
    return start


def _not_on(knob: Knob, what: str) -> SettingError:
    return SettingError(
        f"{knob.name} is not set on {what}, but on a {knob.subject_kind}", remedy="See `dna config knobs`."
    )
