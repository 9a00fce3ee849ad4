"""Knobs that are one file of sysfs, procfs or cgroupfs each."""

from __future__ import annotations

import re
from abc import abstractmethod

from hal.errors import HostError, NotFoundError
from hal.host import Host
from hal.knobs.knob import WORKS, Knob, Support
from hal.settings import Subject, Value


class FileKnob(Knob):
    """A knob whose value is the content of a file; ``decode`` and ``encode`` are the identity unless overridden."""

    absent: str = "this kernel or machine does not have it"
    absent_remedy: str = "nothing to do: what needs it is left out"

    @abstractmethod
    def path(self, subject: Subject) -> str:
        """Return the file."""

    def decode(self, text: str) -> Value:
        """Return the canonical value of the file's content."""
        return text.strip()

    def encode(self, value: Value) -> str:
        """Return what is written for a value."""
        return str(int(value)) if isinstance(value, bool) else str(value)

    def read(self, host: Host, subject: Subject) -> Value:
        return self.decode(host.read_text(self.path(subject)))

    def write(self, host: Host, subject: Subject, value: Value) -> None:
        host.write_text(self.path(subject), self.encode(value))

    def support(self, host: Host) -> Support:
        first = next(iter(self.subjects(host)), None)
        return may_write(host, self.path(first)) if first else Support(False, self.absent, self.absent_remedy)


def may_write(host: Host, path: str) -> Support:
    """Say whether this user may write a file, without opening it: for some files that would be too much already."""
    if _is_read_only(host, path):
        return Support(False, f"{path} is mounted read-only, as in most containers", "set it on the host itself")
    try:
        allowed = host.euid() == 0 or (host.owner(path) == host.euid() and bool(host.mode(path) & 0o200))
    except HostError as error:
        return Support(False, str(error), "see its permissions")
    return WORKS if allowed else Support(False, f"{path} is root's to write", "run it as root: sudo dna ...")


def _is_read_only(host: Host, path: str) -> bool:
    """Tell whether the mount that holds a path is read-only; of several in one place the last one counts."""
    lines = host.read_text("/proc/self/mounts").splitlines() if host.exists("/proc/self/mounts") else []
    holding = [f for f in map(str.split, lines) if len(f) > 3 and f"{path}/".startswith(f[1].rstrip("/") + "/")]
    nearest = max(enumerate(holding), key=lambda item: (len(item[1][1]), item[0]), default=None)
    return nearest is not None and "ro" in nearest[1][3].split(",")


def selected(text: str) -> str:
    """Return the choice in brackets of a selector such as ``always [madvise] never``; the whole text where none is."""
    found = re.search(r"\[([^\]]+)\]", text)
    return found[1] if found else text.strip()


def choices(text: str) -> tuple[str, ...]:
    """Return what a selector offers."""
    return tuple(text.replace("[", " ").replace("]", " ").split())


def readable(host: Host, path: str) -> bool:
    """Tell whether a file is there and can be read: some drivers show files whose read fails."""
    try:
        host.read_text(path)
    except HostError:
        return False
    return True


def names(host: Host, path: str) -> list[str]:
    """Return the names in a directory; none where it is not there."""
    try:
        return host.list_dir(path)
    except NotFoundError:
        return []
